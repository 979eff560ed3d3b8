//! How far two models are apart, and what became of the way between them.

use std::collections::BTreeMap;

use pulp::{Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::Alignment;
use crate::recipe::layer_of;

/// What a merge did to one weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WeightReport {
    /// ‖tuned − base‖ / ‖base‖.
    pub relative_update: f64,
    /// Between base and tuned as vectors, in degrees.
    pub angle_degrees: f64,
    /// The share of the merge's own change of the base that rounding left, along that change; 1 where
    /// the merge is the base.
    #[serde(rename = "update_kept_after_rounding", alias = "change_kept", alias = "survived")]
    pub survived: f64,
    /// The share of the update that the merged weight holds after rounding, along the update:
    /// what λ came to. Absent where several tuned models are merged, for then there is no one update:
    /// the other figures are of the way from the base to the merge before rounding.
    pub effective_lambda: Option<f64>,
    /// The share of the weight's numbers that are the base's after rounding.
    #[serde(rename = "parameters_unchanged", alias = "unchanged")]
    pub unchanged: f64,
    /// The method used a straight line instead of its own rule.
    #[serde(rename = "fell_back_to_lerp", alias = "fell_back")]
    pub fell_back: bool,
    /// Numbers of the inputs that are NaN or infinite.
    #[serde(default)]
    pub not_finite: u64,
    /// How the update lies to the base's alignment, where the method goes by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<Alignment>,
    /// Whether the method chose this weight, where it chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<bool>,
    /// BLAKE3 over those of the weight's blocks as written.
    #[serde(skip)]
    digest: Option<blake3::Hash>,
    sums: Sums,
}

/// What a mean over weights needs; sums over the numbers of a weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    n: f64,
    /// Numbers that are the base's after rounding.
    same: f64,
    /// Squares of the base, of the update, and their product.
    base: f64,
    update: f64,
    base_update: f64,
    /// The update times what was written of it.
    along: f64,
    /// Squares of the merge's own change before rounding, and times what was written of it.
    change: f64,
    change_written: f64,
    /// Numbers of the inputs that are NaN or infinite.
    #[serde(default)]
    pub not_finite: u64,
    /// BLAKE3 of a block as written.
    #[serde(skip)]
    pub digest: Option<blake3::Hash>,
}

impl Sums {
    /// Adds some numbers of the base, of the tuned model, of the merge before rounding and after.
    pub fn add(&mut self, base: &[f32], tuned: &[f32], exact: &[f32], written: &[f32]) {
        let sums = sums_of(base, tuned, exact, written);
        self.n += base.len() as f64;
        let own = [
            &mut self.same,
            &mut self.base,
            &mut self.update,
            &mut self.base_update,
            &mut self.along,
            &mut self.change,
            &mut self.change_written,
        ];
        own.into_iter().zip(sums).for_each(|(own, sum)| *own += sum);
    }

    /// The same of those places where all four are numbers.
    pub fn add_finite(&mut self, base: &[f32], tuned: &[f32], exact: &[f32], written: &[f32]) {
        let all = [base, tuned, exact, written];
        let finite = |i: &usize| all.iter().all(|x| x[*i].is_finite());
        let kept: Vec<usize> = (0..base.len()).filter(finite).collect();
        let [base, tuned, exact, written] = all.map(|x| kept.iter().map(|i| x[*i]).collect::<Vec<f32>>());
        self.add(&base, &tuned, &exact, &written);
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            n: self.n + other.n,
            same: self.same + other.same,
            base: self.base + other.base,
            update: self.update + other.update,
            base_update: self.base_update + other.base_update,
            along: self.along + other.along,
            change: self.change + other.change,
            change_written: self.change_written + other.change_written,
            not_finite: self.not_finite + other.not_finite,
            digest: self.digest,
        }
    }

    /// All of it where there is no change that rounding could lose.
    fn survived(&self) -> f64 {
        if self.change > 0.0 { self.change_written / self.change } else { 1.0 }
    }

    fn relative_update(&self) -> f64 {
        ratio(self.update, self.base).sqrt()
    }

    /// By the part of the update across the base, which stays exact for small angles.
    fn angle_degrees(&self) -> f64 {
        let across = self.update - ratio(self.base_update * self.base_update, self.base);
        let along = ratio(self.base + self.base_update, self.base.sqrt());
        if self.base > 0.0 { across.max(0.0).sqrt().atan2(along).to_degrees() } else { 0.0 }
    }
}

/// Vectors of numbers that are added up in f32 before the sum goes on in f64: figures of a report need
/// no more than the six digits that this leaves.
const RUN: usize = 64;

/// The sums of [`Sums`] from `same` on, in its order.
fn sums_of(base: &[f32], tuned: &[f32], exact: &[f32], written: &[f32]) -> [f64; 7] {
    pulp::Arch::new().dispatch(SumsOf { base, tuned, exact, written })
}

struct SumsOf<'a> {
    base: &'a [f32],
    tuned: &'a [f32],
    exact: &'a [f32],
    written: &'a [f32],
}

impl WithSimd for SumsOf<'_> {
    type Output = [f64; 7];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f64; 7] {
        let ((b, b_rest), (t, t_rest)) = (S::as_simd_f32s(self.base), S::as_simd_f32s(self.tuned));
        let ((e, e_rest), (w, w_rest)) = (S::as_simd_f32s(self.exact), S::as_simd_f32s(self.written));
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let mut totals = [0.0f64; 7];
        for (((b, t), e), w) in b.chunks(RUN).zip(t.chunks(RUN)).zip(e.chunks(RUN)).zip(w.chunks(RUN)) {
            let [mut same, mut bb, mut uu, mut bu, mut us, mut cc, mut cs] = [zero; 7];
            for (((b, t), e), w) in b.iter().zip(t).zip(e).zip(w) {
                let update = simd.sub_f32s(*t, *b);
                let change = simd.sub_f32s(*e, *b);
                let step = simd.sub_f32s(*w, *b);
                let equal = simd.equal_f32s(*w, *b);
                same = simd.add_f32s(same, simd.select_f32s(equal, one, zero));
                bb = simd.mul_add_f32s(*b, *b, bb);
                uu = simd.mul_add_f32s(update, update, uu);
                bu = simd.mul_add_f32s(*b, update, bu);
                us = simd.mul_add_f32s(update, step, us);
                cc = simd.mul_add_f32s(change, change, cc);
                cs = simd.mul_add_f32s(change, step, cs);
            }
            for (total, sum) in totals.iter_mut().zip([same, bb, uu, bu, us, cc, cs]) {
                *total += f64::from(simd.reduce_sum_f32s(sum));
            }
        }
        for (((b, t), e), w) in b_rest.iter().zip(t_rest).zip(e_rest).zip(w_rest) {
            let [b, t, e, w] = [*b, *t, *e, *w].map(f64::from);
            let (update, change, step) = (t - b, e - b, w - b);
            let own = [
                if w == b { 1.0 } else { 0.0 },
                b * b,
                update * update,
                b * update,
                update * step,
                change * change,
                change * step,
            ];
            totals.iter_mut().zip(own).for_each(|(total, own)| *total += own);
        }
        totals
    }
}

/// What a merge did to a whole model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeReport {
    /// The candidate, such as `slerp:0.5`.
    pub merge: String,
    /// What drew the numbers that a random method dropped; absent where chance plays no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Weights that tuning touched.
    #[serde(rename = "tensors_changed", alias = "touched")]
    pub touched: usize,
    /// Weights that tuning left alone; they are the base's bit for bit.
    #[serde(rename = "tensors_unchanged", alias = "untouched")]
    pub untouched: usize,
    /// Weights where the method used a straight line instead.
    #[serde(rename = "fell_back_to_lerp", alias = "fell_back")]
    pub fell_back: usize,
    /// Over all touched weights together.
    pub relative_update: f64,
    #[serde(rename = "update_kept_after_rounding", alias = "change_kept", alias = "survived")]
    pub survived: f64,
    /// Absent where several tuned models are merged.
    pub effective_lambda: Option<f64>,
    #[serde(rename = "parameters_unchanged", alias = "unchanged")]
    pub unchanged: f64,
    /// Numbers of the inputs that are NaN or infinite.
    #[serde(default)]
    pub not_finite: u64,
    /// The largest angle of a weight, in degrees.
    pub largest_angle_degrees: f64,
    /// What a method that chooses matrices chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<ChoiceReport>,
    /// Of each layer, rising; empty in what older versions wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerReport>,
    /// BLAKE3 over the touched weights as written: equal digests are equal models. Absent where the
    /// files have digests of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// What a merge did to the touched weights of one layer, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    pub layer: usize,
    pub relative_update: f64,
    #[serde(rename = "change_kept")]
    pub survived: f64,
}

impl LayerReport {
    fn each(reports: &BTreeMap<String, WeightReport>) -> Vec<Self> {
        let mut layers: BTreeMap<usize, Sums> = BTreeMap::new();
        for (name, report) in reports {
            if let Some((layer, ..)) = layer_of(name) {
                let sums = layers.entry(layer).or_default();
                *sums = sums.plus(&report.sums);
            }
        }
        let of = |(layer, sums): (usize, Sums)| Self {
            layer,
            relative_update: sums.relative_update(),
            survived: sums.survived(),
        };
        layers.into_iter().map(of).collect()
    }
}

/// What a method that chooses matrices chose, over all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceReport {
    pub chosen: usize,
    pub matrices: usize,
    /// Means over the matrices of ρ, its chance baseline, and the contraction ‖C Δ‖ / ‖Δ‖.
    pub rho: f64,
    pub baseline: f64,
    pub contraction: f64,
    /// The mean of 1 / (1 + ‖Δ' − C Δ‖), Δ' being C Δ where a matrix is chosen and Δ elsewhere: Pdst of SafeLoRA's
    /// program, of the update.
    pub pdst: f64,
    /// The same of the factor B, as the program has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdst_of_b: Option<f64>,
    /// Of each matrix.
    pub weights: BTreeMap<String, Chosen>,
}

/// One matrix that a method could choose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    pub chosen: bool,
    #[serde(flatten)]
    pub alignment: Alignment,
}

impl ChoiceReport {
    fn new(reports: &BTreeMap<String, WeightReport>) -> Option<Self> {
        let of =
            |report: &WeightReport| Some(Chosen { chosen: report.chosen?, alignment: report.alignment? });
        let weights: BTreeMap<String, Chosen> =
            reports.iter().filter_map(|(name, report)| Some((name.clone(), of(report)?))).collect();
        if weights.is_empty() {
            return None;
        }
        let mean = |of: &dyn Fn(&Chosen) -> Option<f64>| {
            Some(weights.values().map(of).sum::<Option<f64>>()? / weights.len() as f64)
        };
        let near = |distance: f64, chosen: bool| if chosen { 1.0 } else { 1.0 / (1.0 + distance) };
        Some(Self {
            chosen: weights.values().filter(|one| one.chosen).count(),
            matrices: weights.len(),
            rho: mean(&|one| Some(one.alignment.rho))?,
            baseline: mean(&|one| Some(one.alignment.baseline))?,
            contraction: mean(&|one| Some(one.alignment.contraction))?,
            pdst: mean(&|one| Some(near(one.alignment.distance(), one.chosen)))?,
            pdst_of_b: mean(&|one| Some(near(one.alignment.factor_distance?, one.chosen))),
            weights,
        })
    }
}

/// Less of the merge's own change than this kept after rounding is worth a warning.
const MOSTLY_LOST: f64 = 0.8;

impl MergeReport {
    /// Whether rounding took so much of the merge's change that its λ is another.
    pub fn is_mostly_lost(&self) -> bool {
        self.touched > 0 && self.survived < MOSTLY_LOST
    }
}

impl WeightReport {
    /// Adds up the blocks of a weight, in order.
    pub(super) fn new(blocks: &[Sums], fell_back: bool, one_update: bool) -> Self {
        let digests: Option<Vec<_>> = blocks.iter().map(|block| block.digest).collect();
        let digest = digests.map(|digests| {
            let mut hasher = blake3::Hasher::new();
            for digest in &digests {
                hasher.update(digest.as_bytes());
            }
            hasher.finalize()
        });
        let sums = blocks.iter().fold(Sums::default(), Sums::plus);
        Self {
            relative_update: sums.relative_update(),
            angle_degrees: sums.angle_degrees(),
            survived: sums.survived(),
            effective_lambda: one_update.then(|| ratio(sums.along, sums.update)),
            unchanged: ratio(sums.same, sums.n),
            fell_back,
            not_finite: sums.not_finite,
            alignment: None,
            chosen: None,
            digest,
            sums,
        }
    }
}

impl MergeReport {
    /// Sums up the touched weights of a merge.
    pub(super) fn new(
        merge: &str,
        seed: Option<u64>,
        reports: &BTreeMap<String, WeightReport>,
        untouched: usize,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (name, report) in reports {
            hasher.update(name.as_bytes());
            if let Some(digest) = &report.digest {
                hasher.update(digest.as_bytes());
            }
        }
        let one_update = reports.values().all(|report| report.effective_lambda.is_some());
        let known = reports.values().all(|report| report.digest.is_some());
        let weights = reports.values();
        let total = weights.clone().fold(Sums::default(), |sum, weight| sum.plus(&weight.sums));
        Self {
            merge: merge.to_owned(),
            seed,
            touched: weights.clone().count(),
            untouched,
            fell_back: weights.clone().filter(|weight| weight.fell_back).count(),
            relative_update: total.relative_update(),
            survived: total.survived(),
            effective_lambda: one_update.then(|| ratio(total.along, total.update)),
            unchanged: ratio(total.same, total.n),
            not_finite: total.not_finite,
            choice: ChoiceReport::new(reports),
            layers: LayerReport::each(reports),
            largest_angle_degrees: weights.map(|weight| weight.angle_degrees).fold(0.0, f64::max),
            blake3: known.then(|| hasher.finalize().to_hex().to_string()),
        }
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
