//! Qwen 3, the dense ones.
//!
//! Qwen team, "Qwen3 Technical Report", 2025, arXiv 2505.09388.

use serde_json::json;

use super::{Family, qwen_windows, standard};
use crate::model::DecoderShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const QWEN3: Family = Family { name: "qwen3", summary: "Qwen 3 (dense)", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    config.only("hidden_act", &json!("silu"))?;
    config.whole_heads()?;
    config.count("num_key_value_heads")?;
    let shape = standard(config, "qwen3", Some(128))?;
    let bias = config.switch("attention_bias", false)?;
    Ok(DecoderShape {
        windows: qwen_windows(config, shape.n_layers)?,
        head_norms: true,
        qkv_bias: bias,
        o_bias: bias,
        ..shape
    })
}
