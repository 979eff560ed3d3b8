//! `[harden]`: what is done to the aligned base before it is tuned.

use serde::{Deserialize, Serialize};

use super::{RecipeError, Spec, bad};

/// The base that is tuned is another than the aligned one: drawn out further by a merge that needs no tuned model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Harden {
    /// `lox,rank=6,strength=0.5`; the models that it looks at stand in `[merge.models]`.
    pub method: String,
}

impl Harden {
    /// The merge.
    ///
    /// # Errors
    ///
    /// The text is none, or several.
    pub fn spec(&self) -> Result<Spec, RecipeError> {
        let expected = "one merge of base and unaligned model, such as `lox,rank=6,strength=0.5`";
        let specs =
            Spec::parse_range(&self.method).map_err(|error| bad("harden.method", &error, expected))?;
        match <[Spec; 1]>::try_from(specs) {
            Ok([spec]) => Ok(spec),
            Err(specs) => Err(bad("harden.method", format!("{} merges", specs.len()), expected)),
        }
    }
}
