//! Which models are averaged where several are merged.

use serde::{Deserialize, Serialize};

/// Which models are in a mean of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Soup {
    /// All.
    #[default]
    Uniform,
    /// From the best on the task suites for validation on, each with which the mean does not score less there.
    Greedy,
}

/// Which models of a run go into merges over seeds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ingredients {
    /// The one after its last step.
    #[default]
    Last,
    /// Every checkpoint that it keeps, the last one among them.
    Checkpoints,
}

impl Ingredients {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
    pub(super) fn are_last(&self) -> bool {
        *self == Self::Last
    }
}

impl Soup {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
    pub(super) fn is_uniform(&self) -> bool {
        *self == Self::Uniform
    }
}
