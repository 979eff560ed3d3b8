//! How far two models are apart, and what became of the way between them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::snapshot::Weight;
use crate::snapshot::files::hex;

/// What a merge did to one weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WeightReport {
    /// ‖tuned − base‖ / ‖base‖.
    pub relative_update: f64,
    /// Between base and tuned as vectors, in degrees.
    pub angle_degrees: f64,
    /// The share of the update that the merged weight holds after rounding, along the update:
    /// what λ came to.
    pub effective_lambda: f64,
    /// The share of the weight's numbers that are the base's after rounding.
    pub unchanged: f64,
    /// The method used a straight line instead of its own rule.
    pub fell_back: bool,
    /// SHA-256 of the weight as written.
    #[serde(skip)]
    sha256: [u8; 32],
    #[serde(skip)]
    sums: Sums,
}

/// What a mean over weights needs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    base: f64,
    update: f64,
    along: f64,
    n: f64,
    same: f64,
}

/// What a merge did to a whole model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeReport {
    /// The candidate, such as `slerp:0.5`.
    pub merge: String,
    /// Weights that tuning touched.
    pub touched: usize,
    /// Weights that tuning left alone; they are the base's bit for bit.
    pub untouched: usize,
    /// Weights where the method used a straight line instead.
    pub fell_back: usize,
    /// Over all touched weights together.
    pub relative_update: f64,
    pub effective_lambda: f64,
    pub unchanged: f64,
    /// The largest angle of a weight, in degrees.
    pub largest_angle_degrees: f64,
    /// SHA-256 over the touched weights as written: equal digests are equal models.
    pub sha256: String,
}

impl WeightReport {
    /// Compares the merged weight, as written, with both ends.
    pub(super) fn new(base: &[f32], tuned: &[f32], merged: &Weight<'_>, fell_back: bool) -> Self {
        let written = merged.to_f32();
        let mut sums = Sums { base: dot(base, base), n: base.len() as f64, ..Sums::default() };
        for ((base, tuned), written) in base.iter().zip(tuned).zip(&written) {
            let update = f64::from(*tuned) - f64::from(*base);
            sums.update += update * update;
            sums.along += update * (f64::from(*written) - f64::from(*base));
            sums.same += f64::from(u8::from(written == base));
        }
        let norms = (sums.base * dot(tuned, tuned)).sqrt();
        let cos = if norms > 0.0 { (dot(base, tuned) / norms).clamp(-1.0, 1.0) } else { 1.0 };
        Self {
            relative_update: ratio(sums.update, sums.base).sqrt(),
            angle_degrees: cos.acos().to_degrees(),
            effective_lambda: ratio(sums.along, sums.update),
            unchanged: ratio(sums.same, sums.n),
            fell_back,
            sha256: Sha256::digest(&merged.bytes).into(),
            sums,
        }
    }
}

impl MergeReport {
    /// Sums up the touched weights of a merge.
    pub(super) fn new(merge: &str, reports: &BTreeMap<String, WeightReport>, untouched: usize) -> Self {
        let mut digest = Sha256::new();
        for (name, report) in reports {
            digest.update(name);
            digest.update(report.sha256);
        }
        let weights = reports.values();
        let total = weights.clone().fold(Sums::default(), |sum, weight| Sums {
            base: sum.base + weight.sums.base,
            update: sum.update + weight.sums.update,
            along: sum.along + weight.sums.along,
            n: sum.n + weight.sums.n,
            same: sum.same + weight.sums.same,
        });
        Self {
            merge: merge.to_owned(),
            touched: weights.clone().count(),
            untouched,
            fell_back: weights.clone().filter(|weight| weight.fell_back).count(),
            relative_update: ratio(total.update, total.base).sqrt(),
            effective_lambda: ratio(total.along, total.update),
            unchanged: ratio(total.same, total.n),
            largest_angle_degrees: weights.map(|weight| weight.angle_degrees).fold(0.0, f64::max),
            sha256: hex(&digest.finalize()),
        }
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// The inner product, summed in f64 in a fixed order.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Eight running sums: independent additions that the processor can overlap, always the same ones.
    let mut sums = [0.0f64; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    sums.iter().sum::<f64>() + rest
}
