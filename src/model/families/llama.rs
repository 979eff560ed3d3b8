//! Llama 2, 3, 3.1 and 3.2, SmolLM and SmolLM2.
//!
//! Touvron et al., "Llama 2", 2023, arXiv 2307.09288; Llama team, "The Llama 3 Herd of Models",
//! 2024, arXiv 2407.21783.

use serde_json::{Value, json};

use super::{Family, standard};
use crate::model::DecoderShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const LLAMA: Family =
    Family { name: "llama", summary: "Llama 2, 3, 3.1 and 3.2, SmolLM and SmolLM2", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    config.only("hidden_act", &json!("silu"))?;
    for key in ["sliding_window", "partial_rotary_factor", "layer_types"] {
        config.only(key, &Value::Null)?;
    }
    let bias = config.switch("attention_bias", false)?;
    let mlp_bias = config.switch("mlp_bias", false)?;
    Ok(DecoderShape { qkv_bias: bias, o_bias: bias, mlp_bias, ..standard(config, "llama", None)? })
}
