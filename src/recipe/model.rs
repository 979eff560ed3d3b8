//! `[model]`: the aligned base.

use serde::{Deserialize, Serialize};

use crate::dtype::Dtype;

/// Which checkpoint is tuned, and in which number format models are written and evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A folder in the Hugging Face layout, or a hub's repository: `org/name`, `org/name@revision`.
    pub source: String,
    /// Weights tuned from it elsewhere: a model folder, an adapter, a run folder or a hub's repository. Nothing is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<String>,
    /// The format in which every candidate is rounded, evaluated and written; the base's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// `checkpoint` reads the weights; `random` draws them (normal, σ = `initializer_range`) from `train.seed`.
    #[serde(default)]
    pub init: Init,
}

/// Where the weights come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    #[default]
    Checkpoint,
    Random,
}
