//! Select, calculate, erase: what differs most between the tuned models, weighted by its size.

use serde::Deserialize;

use crate::merge::given::{Given, read, whole};
use crate::merge::products::dot;
use crate::merge::select::{Kept, Key};
use crate::merge::{Merge, Method, Needs, Rule, Whole};

pub(super) const SCE: Method = Method {
    name: "sce",
    summary: "of several tuned models, the numbers that vary most, weighted by the size of their updates",
    source: "Wan et al. 2024, arXiv 2408.07990",
    example: "sce,select_topk=0.5",
    needs: Needs::SEVERAL,
    from_spec: |parameters| Ok(Box::new(read::<Sce>(parameters)?)),
    of_models: &[],
    from_settings: |settings| {
        settings.with_base(1..=usize::MAX)?;
        Ok(Box::new(settings.all::<Sce>()?))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sce {
    /// The share of the numbers that vary which is kept.
    #[serde(default = "whole")]
    select_topk: f64,
    #[serde(default, rename = "int8_mask")]
    _int8_mask: bool,
}

impl Merge for Sce {
    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let n = whole.inputs.len() - 1;
        let kept = (self.select_topk < 1.0).then(|| {
            let varying = whole.counts(1, |given, counts| {
                let mut variances = vec![0.0; given.len()];
                variance(given, &mut variances);
                counts[0] += variances.iter().filter(|x| **x != 0.0).count() as u64;
            });
            let k = (varying[0] as f64 * self.select_topk.max(0.0)) as usize;
            Kept::new(whole, Key { compute: &variance, by_rows: false }, whole.len - k..whole.len)
        });
        let mut selected = Selected { kept, piece_len: whole.piece_len(), weights: Vec::new() };
        let sizes = whole.sums(n, |given, sums| {
            for (sum, update) in sums.iter_mut().zip(selected.updates(given)) {
                *sum += dot(&update, &update) / whole.len as f64;
            }
        });
        let sum: f64 = sizes.iter().sum();
        let weight = |size: &f64| if sum.abs() < 1e-6 { 1.0 / n as f64 } else { size / sum };
        selected.weights = sizes.iter().map(|size| weight(size) as f32).collect();
        Box::new(selected)
    }
}

/// How much each number differs between the updates.
fn variance(given: &Given<'_>, out: &mut [f32]) {
    let updates = given.updates();
    let n = updates.len() as f64;
    for (i, out) in out.iter_mut().enumerate() {
        let mean = updates.iter().map(|update| f64::from(update[i])).sum::<f64>() / n;
        let of = |update: &Vec<f32>| (f64::from(update[i]) - mean).powi(2);
        *out = (updates.iter().map(of).sum::<f64>() / n) as f32;
    }
}

struct Selected {
    kept: Option<Kept>,
    piece_len: usize,
    weights: Vec<f32>,
}

impl Selected {
    /// The updates without the numbers that are not kept.
    fn updates(&self, given: &Given<'_>) -> Vec<Vec<f32>> {
        let mut updates = given.updates();
        if let Some(kept) = &self.kept {
            let mut variances = vec![0.0; given.len()];
            variance(given, &mut variances);
            let mut keep = kept.among(given.start / self.piece_len);
            for (i, variance) in variances.iter().enumerate() {
                if !keep(*variance) {
                    for update in &mut updates {
                        update[i] = 0.0;
                    }
                }
            }
        }
        updates
    }
}

impl Rule for Selected {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let updates = self.updates(given);
        for (i, (out, base)) in out.iter_mut().zip(given.base()).enumerate() {
            let positive = updates.iter().map(|update| update[i]).sum::<f32>() >= 0.0;
            let (mut sum, mut divisor) = (0.0f32, 0.0f32);
            for (update, weight) in updates.iter().zip(&self.weights) {
                if update[i] != 0.0 && (update[i] > 0.0) == positive {
                    sum += update[i] * weight;
                    divisor += weight;
                }
            }
            *out = base + sum / divisor.max(1e-6);
        }
    }
}
