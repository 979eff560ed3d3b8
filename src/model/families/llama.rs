//! Llama 2, 3, 3.1 and 3.2, SmolLM and SmolLM2.
//!
//! Touvron et al., "Llama 2", 2023, arXiv 2307.09288; Llama team, "The Llama 3 Herd of Models",
//! 2024, arXiv 2407.21783.

use serde_json::json;

use super::{Family, standard};
use crate::model::DecoderShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const LLAMA: Family =
    Family { name: "llama", summary: "Llama 2, 3, 3.1 and 3.2, SmolLM and SmolLM2", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    config.only("hidden_act", &json!("silu"))?;
    // A window it does not know: transformers' Llama reads none either.
    config.whole_heads()?;
    config.full_layers()?;
    let bias = config.switch("attention_bias", false)?;
    let mlp_bias = config.switch("mlp_bias", false)?;
    Ok(DecoderShape { qkv_bias: bias, o_bias: bias, mlp_bias, ..standard(config, "llama", None)? })
}
