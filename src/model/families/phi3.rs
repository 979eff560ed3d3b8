//! Phi-3, Phi-3.5-mini and Phi-4-mini: fused maps and LongRoPE.
//!
//! Microsoft, "Phi-3 Technical Report", 2024, arXiv 2404.14219.

use serde_json::{Value, json};

use super::{Family, standard, windows};
use crate::model::DecoderShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const PHI3: Family =
    Family { name: "phi3", summary: "Phi-3 and Phi-3.5 mini and medium, Phi-4 and Phi-4-mini", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    config.only("hidden_act", &json!("silu"))?;
    for key in ["layer_types", "attention_bias", "mlp_bias"] {
        config.only(key, &Value::Null).or_else(|_| config.only(key, &json!(false)))?;
    }
    let rope = config.rope()?;
    match rope.kind.as_str() {
        "default" => {}
        "longrope" | "su" => drop(config.count("original_max_position_embeddings")?),
        _ => return Err(rope.values.wrong("rope_type", "`default` or `longrope`")),
    }
    let shape = standard(config, "phi3", None)?;
    Ok(DecoderShape {
        norm_epsilon: config.number("rms_norm_eps", 1e-5)?,
        windows: windows(config, shape.n_layers, None, |_| true)?,
        fused: true,
        ..shape
    })
}
