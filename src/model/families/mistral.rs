//! Mistral 7B and those of its build.
//!
//! Jiang et al., "Mistral 7B", 2023, arXiv 2310.06825.

use serde_json::{Value, json};

use super::{Family, standard, windows};
use crate::model::DecoderShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const MISTRAL: Family =
    Family { name: "mistral", summary: "Mistral 7B, Mistral Nemo, Zephyr, WildGuard", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    config.only("hidden_act", &json!("silu"))?;
    config.count("num_key_value_heads")?;
    config.only("layer_types", &Value::Null)?;
    config.whole_heads()?;
    let shape = standard(config, "mistral", None)?;
    // Every layer slides where the file has a window.
    Ok(DecoderShape { windows: windows(config, shape.n_layers, Some(4096), |_| true)?, ..shape })
}
