//! What the base is made into before it is tuned: `[harden]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::helpers::{self, Helpers, looked_at};
use super::model::{Base, DTYPE_OPTION, Model};
use super::sources::Sources;
use crate::merge::{self, Merged, Pair, Resolved, Role, Unmatched};
use crate::recipe::{Harden, Recipe};
use crate::run::failure::Failure;
use crate::snapshot::digest::of_json;
use crate::snapshot::{SharedWeights, SnapshotError, WeightFiles};

/// A merge of the base and what it looks at, before anything is tuned.
pub struct Hardening {
    merge: Resolved,
    helpers: Helpers,
    /// The digest of all that decides the hardened base.
    pub key: String,
}

impl Hardening {
    /// Settles what `[harden]` asks for.
    ///
    /// # Errors
    ///
    /// It is no merge of what there is before a training, or a model that it looks at is missing or of another shape.
    pub fn new(
        harden: &Harden,
        recipe: &Recipe,
        model: &Model,
        base: &Base,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let merge = resolve(harden, recipe)?;
        let helpers = helpers::open(std::slice::from_ref(&merge), recipe, model, base, sources)?;
        merge.methods(base.weights.infos().keys(), model.shape.n_layers)?;
        let besides: Vec<_> = looked_at(&merge, &helpers).collect();
        let key = of_json(&json!([base.key, merge.name(), merge.seed(), besides, base.dtypes]));
        let hardening = Self { merge, helpers, key };
        // One that cannot be made is refused now.
        hardening.merged(base)?;
        Ok(hardening)
    }

    /// What hardens, as the recipe says it.
    pub fn name(&self) -> String {
        self.merge.name()
    }

    /// The hardened base; nothing is computed yet.
    ///
    /// # Errors
    ///
    /// The models do not fit together.
    pub fn merged(&self, base: &Base) -> Result<Merged, Failure> {
        let helpers = self.helpers.iter().map(|(helper, one)| (*helper, one.weights.clone()));
        let pair = Pair {
            base: base.weights.clone(),
            tuned: Vec::new(),
            importance: None,
            helpers: helpers.collect(),
            unmatched: Unmatched::OfBase,
            alignments: None,
        };
        Ok(pair.merged(&self.merge, &base.dtypes, DTYPE_OPTION)?)
    }

    /// The hardened base that a run wrote beside its training.
    ///
    /// # Errors
    ///
    /// It is not there, or broken.
    pub fn opened(&self, folder: &Path, base: &Base) -> Result<Base, SnapshotError> {
        let files = WeightFiles::open(folder)?;
        let paths: Vec<PathBuf> = files.paths().map(Path::to_owned).collect();
        Ok(self.base(base, Arc::new(files), paths))
    }

    /// The hardened base before it is written: what decides it is known.
    ///
    /// # Errors
    ///
    /// As [`Self::merged`].
    pub fn planned(&self, base: &Base) -> Result<Base, Failure> {
        Ok(self.base(base, Arc::new(self.merged(base)?), Vec::new()))
    }

    fn base(&self, base: &Base, weights: SharedWeights, files: Vec<PathBuf>) -> Base {
        let (key, dtypes) = (self.key.clone(), base.dtypes.clone());
        Base { weights, files, digests: BTreeMap::new(), key, dtypes }
    }
}

/// The merge of `[harden]`, its parameters looked at.
///
/// # Errors
///
/// A parameter is wrong, it merges tuned models, or a model that it looks at is not named.
pub fn resolve(harden: &Harden, recipe: &Recipe) -> Result<Resolved, Failure> {
    let merge = merge::resolve(&harden.spec()?, recipe.train.seed)?;
    let needs = &merge.method.needs;
    if needs.count(Role::Tuned) != (0..=0) || merge.of() == Role::Ema {
        let why = "it merges what was tuned, and `[harden]` comes before the training";
        return Err(merge
            .refused_for(why, "harden with a method of the base alone, such as `lox,rank=6,strength=0.5`")
            .into());
    }
    let given = recipe.merge.models.keys().copied().collect();
    needs.given(&given).map_err(|missing| merge::missing_helper(&merge, missing))?;
    Ok(merge)
}
