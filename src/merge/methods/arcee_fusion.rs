//! Only the outliers of the update: numbers that moved far in rows that changed much.

use serde::Deserialize;

use crate::merge::given::{Given, read};
use crate::merge::select::quantile;
use crate::merge::{Merge, MergedWeight, Method};

pub(super) const ARCEE_FUSION: Method = Method {
    name: "arcee_fusion",
    summary: "take over the numbers whose change stands out, keep the base's elsewhere",
    source: "mergekit",
    example: "arcee_fusion",
    from_spec: |parameters| Ok(Box::new(read::<Fusion>(parameters)?)),
    from_settings: |settings| {
        settings.none_of_each()?;
        settings.with_base(1..=1)?;
        Ok(Box::new(settings.all::<Fusion>()?))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fusion {}

impl Merge for Fusion {
    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let base = given.base();
        let Some(tuned) = given.others().next() else { return base.to_vec().into() };
        let mut importance = Vec::with_capacity(base.len());
        let columns = given.columns.max(1);
        for (base, tuned) in base.chunks(columns).zip(tuned.chunks(columns)) {
            let divergence = divergence(tuned, base);
            importance.extend(base.iter().zip(tuned).map(|(base, tuned)| (tuned - base).abs() * divergence));
        }
        if importance.is_empty() {
            return Vec::new().into();
        }
        // Over all numbers, where the peer samples a million of a larger weight.
        let place = |share: f64| quantile(&importance, (share * (importance.len() - 1) as f64) as usize);
        let threshold = place(0.5) + 1.5 * (place(0.75) - place(0.25));
        let number = |((base, tuned), importance): ((&f32, &f32), &f32)| match *importance >= threshold {
            true => base + (tuned - base),
            false => *base,
        };
        base.iter().zip(tuned).zip(&importance).map(number).collect::<Vec<_>>().into()
    }
}

/// The Kullback–Leibler divergence of two rows' softmaxes, never below 0.
fn divergence(p: &[f32], q: &[f32]) -> f32 {
    const FLOOR: f64 = 1e-8;
    let softmax = |row: &[f32]| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f64> = row.iter().map(|x| f64::from(x - largest).exp()).collect();
        let sum: f64 = shares.iter().sum();
        shares.into_iter().map(move |share| share / sum + FLOOR)
    };
    let divergence: f64 = softmax(p).zip(softmax(q)).map(|(p, q)| p * (p / q).ln()).sum();
    divergence.max(0.0) as f32
}
