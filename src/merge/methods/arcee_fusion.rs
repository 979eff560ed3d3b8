//! Only the outliers of the update: numbers that moved far in rows that changed much.

use serde::Deserialize;

use crate::merge::given::{Given, read};
use crate::merge::select::{Key, ranked};
use crate::merge::{Merge, Method, Needs, Rule, Whole};

pub(super) const ARCEE_FUSION: Method = Method {
    name: "arcee_fusion",
    summary: "take over the numbers whose change stands out, keep the base's elsewhere",
    source: "mergekit",
    example: "arcee_fusion",
    needs: Needs::PAIR,
    from_spec: |parameters| Ok(Box::new(read::<Fusion>(parameters)?)),
    of_models: &[],
    from_settings: |settings| {
        settings.with_base(1..=1)?;
        Ok(Box::new(settings.all::<Fusion>()?))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fusion {}

impl Merge for Fusion {
    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        // Over all numbers, where the peer samples a million of a larger weight.
        let places = [0.25, 0.5, 0.75].map(|share| (share * (whole.len - 1) as f64) as usize);
        let found = ranked(whole, Key { compute: &importance, by_rows: true }, &places);
        Box::new(Threshold(found[1] + 1.5 * (found[2] - found[0])))
    }
}

/// From this importance on a number is taken over.
struct Threshold(f32);

impl Rule for Threshold {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        importance(given, out);
        for ((out, base), tuned) in out.iter_mut().zip(given.base()).zip(given.other()) {
            *out = if *out >= self.0 { base + (tuned - base) } else { *base };
        }
    }
}

/// How far each number moved, times how much its row changed.
fn importance(given: &Given<'_>, out: &mut [f32]) {
    let columns = given.columns.max(1);
    let rows = given.base().chunks(columns).zip(given.other().chunks(columns));
    for ((base, tuned), out) in rows.zip(out.chunks_mut(columns)) {
        let divergence = divergence(tuned, base);
        for ((out, base), tuned) in out.iter_mut().zip(base).zip(tuned) {
            *out = (tuned - base).abs() * divergence;
        }
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
