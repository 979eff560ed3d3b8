//! The point nearest to where many tunings would meet, told from the angle between a few of them.

use serde::Deserialize;

use crate::merge::given::Given;
use crate::merge::report::dot;
use crate::merge::{Merge, MergedWeight, Method};

pub(super) const MODEL_STOCK: Method = Method {
    name: "model_stock",
    summary: "of several tuned models, as near to the base as the angle between their updates says",
    source: "Jang et al. 2024, arXiv 2403.19522",
    example: "",
    from_spec: |_| {
        Err("the angle between updates needs two tuned models, such as two seeds or two checkpoints"
            .to_owned())
    },
    from_settings: |settings| {
        settings.none_of_each()?;
        settings.with_base(2..=usize::MAX)?;
        let All { filter_wise } = settings.all()?;
        Ok(Box::new(ModelStock { filter_wise }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    /// One ratio for each row instead of one for the weight.
    #[serde(default)]
    filter_wise: bool,
}

struct ModelStock {
    filter_wise: bool,
}

impl Merge for ModelStock {
    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let updates = given.updates();
        let width = if self.filter_wise { given.columns } else { given.len() }.max(1);
        let n = updates.len() as f64;
        let mut values = Vec::with_capacity(given.len());
        for (start, base) in given.base().chunks(width).enumerate() {
            let start = start * width;
            let rows: Vec<&[f32]> = updates.iter().map(|update| &update[start..start + base.len()]).collect();
            let t = ratio(&rows);
            for (i, base) in base.iter().enumerate() {
                let mean = given.others().map(|other| f64::from(other[start + i])).sum::<f64>() / n;
                values.push((t * mean + (1.0 - t) * f64::from(*base)) as f32);
            }
        }
        values.into()
    }
}

/// `k cos / (1 + (k - 1) cos)` with the mean cosine between pairs of updates (the paper, equation 5
/// for two models and its extension to k).
fn ratio(updates: &[&[f32]]) -> f64 {
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (i, a) in updates.iter().enumerate() {
        for b in &updates[i + 1..] {
            let norms = (dot(a, a).sqrt() * dot(b, b).sqrt()).max(1e-6);
            sum += (dot(a, b) / norms).clamp(-1.0, 1.0);
            pairs += 1.0;
        }
    }
    let (cos, k) = (sum / pairs, updates.len() as f64);
    let divisor = 1.0 + (k - 1.0) * cos;
    // Updates that oppose each other meet nowhere: the base stays.
    if divisor.abs() < 1e-6 { 0.0 } else { k * cos / divisor }
}
