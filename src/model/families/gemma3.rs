//! Gemma 3, text only: norms of queries and keys, and another rotary base where a layer slides.
//!
//! Gemma team, "Gemma 3 Technical Report", 2025, arXiv 2503.19786.

use serde_json::Value;

use super::{Family, standard_gemma2};
use crate::model::DecoderShape;
use crate::model::rope::RopeShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const GEMMA3: Family =
    Family { name: "gemma3_text", summary: "Gemma 3 text models (270M, 1B)", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    config.count("num_key_value_heads")?;
    // The reference reads neither: it would compute something else than the file says.
    config.only("attn_logit_softcapping", &Value::Null)?;
    let flat = |key: &str, is_flat: fn(&Value) -> bool| match config.json().get(key) {
        Some(value) if is_flat(value) => Err(config.wrong(key, "settings for each kind of layer")),
        _ => Ok(()),
    };
    flat("rope_parameters", |value| value.get("rope_theta").is_some() || value.get("rope_type").is_some())?;
    flat("rope_scaling", |value| value.get("type").is_some() && value.get("rope_type").is_none())?;
    let pattern = config.optional_count("sliding_window_pattern")?.unwrap_or(6);
    let is_sliding = |layer: usize| !(layer + 1).is_multiple_of(pattern);
    let shape = standard_gemma2(config, "gemma3_text", is_sliding, [None, None])?;
    let [full, sliding] = config.ropes_by_layer()?;
    Ok(DecoderShape {
        head_norms: true,
        rope: RopeShape::read(&full, 1_000_000.0, shape.head_dim)?,
        sliding_rope: RopeShape::read(&sliding, 10_000.0, shape.head_dim)?,
        ..shape
    })
}
