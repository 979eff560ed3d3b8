//! Gemma, the first generation.
//!
//! Gemma team, "Gemma: Open Models Based on Gemini Research and Technology", 2024,
//! arXiv 2403.08295.

use serde_json::json;

use super::{Family, standard_gemma};
use crate::model::DecoderShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const GEMMA: Family = Family { name: "gemma", summary: "Gemma 1", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    // The first files said `gelu` and meant its tanh form, as the reference reads them.
    if config.only("hidden_act", &json!("gelu")).is_err() {
        config.only("hidden_act", &json!("gelu_pytorch_tanh"))?;
    }
    config.only("hidden_activation", &json!("gelu_pytorch_tanh"))?;
    config.count("num_key_value_heads")?;
    standard_gemma(config, "gemma")
}
