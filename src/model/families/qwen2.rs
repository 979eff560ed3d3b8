//! Qwen 2 and 2.5.
//!
//! Qwen team, "Qwen2 Technical Report", 2024, arXiv 2407.10671.

use serde_json::json;

use super::{Family, qwen_windows, standard};
use crate::model::DecoderShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const QWEN2: Family = Family { name: "qwen2", summary: "Qwen 2 and 2.5", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    config.only("hidden_act", &json!("silu"))?;
    config.whole_heads()?;
    config.count("num_key_value_heads")?;
    let shape = standard(config, "qwen2", None)?;
    Ok(DecoderShape { windows: qwen_windows(config, shape.n_layers)?, qkv_bias: true, ..shape })
}
