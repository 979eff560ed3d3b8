//! Gemma 2: norms behind each part, soft caps, and every other layer sliding.
//!
//! Gemma team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024,
//! arXiv 2408.00118.

use super::{Family, standard_gemma2};
use crate::model::DecoderShape;
use crate::snapshot::{Config, SnapshotError};

pub(super) const GEMMA2: Family = Family { name: "gemma2", summary: "Gemma 2, ShieldGemma", shape };

fn shape(config: &Config) -> Result<DecoderShape, SnapshotError> {
    config.count("num_key_value_heads")?;
    standard_gemma2(config, "gemma2", |layer| layer % 2 == 0, [Some(50.0), Some(30.0)])
}
