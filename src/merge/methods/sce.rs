//! Select, calculate, erase: what differs most between the tuned models, weighted by its size.

use serde::Deserialize;

use crate::merge::given::Given;
use crate::merge::report::dot;
use crate::merge::select::keep_largest;
use crate::merge::{Merge, MergedWeight, Method};

pub(super) const SCE: Method = Method {
    name: "sce",
    summary: "of several tuned models, the numbers that vary most, weighted by the size of their updates",
    source: "Wan et al. 2024, arXiv 2408.07990",
    example: "",
    from_spec: |_| Err("it compares tuned models with each other, and there is one".to_owned()),
    from_settings: |settings| {
        settings.none_of_each()?;
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

fn whole() -> f64 {
    1.0
}

impl Merge for Sce {
    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let mut updates = given.updates();
        let n = updates.len() as f64;
        if self.select_topk < 1.0 {
            let variance = |i: usize| {
                let mean = updates.iter().map(|update| f64::from(update[i])).sum::<f64>() / n;
                let of = |update: &Vec<f32>| (f64::from(update[i]) - mean).powi(2);
                (updates.iter().map(of).sum::<f64>() / n) as f32
            };
            let mut variances: Vec<f32> = (0..given.len()).map(variance).collect();
            let varying = variances.iter().filter(|x| **x != 0.0).count();
            keep_largest(&mut variances, (varying as f64 * self.select_topk.max(0.0)) as usize);
            for update in &mut updates {
                for (x, variance) in update.iter_mut().zip(&variances) {
                    *x = if *variance == 0.0 { 0.0 } else { *x };
                }
            }
        }
        let sizes: Vec<f64> = updates.iter().map(|update| dot(update, update) / given.len() as f64).collect();
        let sum: f64 = sizes.iter().sum();
        let weights: Vec<f32> =
            sizes.iter().map(|size| if sum.abs() < 1e-6 { 1.0 / n } else { size / sum } as f32).collect();
        let number = |(i, base): (usize, &f32)| {
            let positive = updates.iter().map(|update| update[i]).sum::<f32>() >= 0.0;
            let (mut sum, mut divisor) = (0.0f32, 0.0f32);
            for (update, weight) in updates.iter().zip(&weights) {
                if update[i] != 0.0 && (update[i] > 0.0) == positive {
                    sum += update[i] * weight;
                    divisor += weight;
                }
            }
            base + sum / divisor.max(1e-6)
        };
        given.base().iter().enumerate().map(number).collect::<Vec<_>>().into()
    }
}
