//! How far two models are apart, and what became of the way between them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::simd::vectorised;

/// What a merge did to one weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WeightReport {
    /// ‖tuned − base‖ / ‖base‖.
    pub relative_update: f64,
    /// Between base and tuned as vectors, in degrees.
    pub angle_degrees: f64,
    /// The share of the merge's own change of the base that rounding left, along that change.
    pub survived: f64,
    /// The share of the update that the merged weight holds after rounding, along the update:
    /// what λ came to.
    pub effective_lambda: f64,
    /// The share of the weight's numbers that are the base's after rounding.
    pub unchanged: f64,
    /// The method used a straight line instead of its own rule.
    pub fell_back: bool,
    /// BLAKE3 over those of the weight's blocks as written.
    #[serde(skip)]
    digest: [u8; 32],
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
    /// BLAKE3 of a block as written.
    #[serde(skip)]
    pub digest: [u8; 32],
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
            digest: self.digest,
        }
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

const LANES: usize = 8;

vectorised! {
    /// The sums of [`Sums`] from `same` on, in its order.
    fn sums_of<'a>(base: &'a [f32], tuned: &'a [f32], exact: &'a [f32], written: &'a [f32]) -> [f64; 7] {
        let same: u32 = base.iter().zip(written).map(|(base, written)| u32::from(base == written)).sum();
        let mut sums = [[0.0f64; LANES]; 6];
        let ((b, b_rest), (t, t_rest)) = (base.as_chunks::<LANES>(), tuned.as_chunks::<LANES>());
        let ((e, e_rest), (w, w_rest)) = (exact.as_chunks::<LANES>(), written.as_chunks::<LANES>());
        for (((b, t), e), w) in b.iter().zip(t).zip(e).zip(w) {
            sums = with_lanes(sums, b, t, e, w);
        }
        // Lanes filled up with zeros add nothing.
        let fill = |rest: &[f32]| std::array::from_fn(|i| rest.get(i).copied().unwrap_or(0.0));
        let sums = with_lanes(sums, &fill(b_rest), &fill(t_rest), &fill(e_rest), &fill(w_rest));
        let [a, b, c, d, e, f] = sums.map(|lanes| lanes.iter().sum::<f64>());
        [f64::from(same), a, b, c, d, e, f]
    }
}

/// Written lane by lane of each sum, which compilers turn into one instruction each.
#[inline(always)]
fn with_lanes(
    sums: [[f64; LANES]; 6],
    base: &[f32; LANES],
    tuned: &[f32; LANES],
    exact: &[f32; LANES],
    written: &[f32; LANES],
) -> [[f64; LANES]; 6] {
    let [mut bb, mut uu, mut bu, mut us, mut cc, mut cs] = sums;
    let mut base_wide = [0.0f64; LANES];
    let (mut update, mut change, mut step) = ([0.0f64; LANES], [0.0f64; LANES], [0.0f64; LANES]);
    for i in 0..LANES {
        base_wide[i] = f64::from(base[i]);
    }
    for i in 0..LANES {
        update[i] = f64::from(tuned[i]) - base_wide[i];
    }
    for i in 0..LANES {
        change[i] = f64::from(exact[i]) - base_wide[i];
    }
    for i in 0..LANES {
        step[i] = f64::from(written[i]) - base_wide[i];
    }
    for (sums, a, b) in [
        (&mut bb, &base_wide, &base_wide),
        (&mut uu, &update, &update),
        (&mut bu, &base_wide, &update),
        (&mut us, &update, &step),
        (&mut cc, &change, &change),
        (&mut cs, &change, &step),
    ] {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    [bb, uu, bu, us, cc, cs]
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
    pub survived: f64,
    pub effective_lambda: f64,
    pub unchanged: f64,
    /// The largest angle of a weight, in degrees.
    pub largest_angle_degrees: f64,
    /// BLAKE3 over the touched weights as written: equal digests are equal models.
    pub blake3: String,
}

impl WeightReport {
    /// Adds up the blocks of a weight, in order.
    pub(super) fn new(blocks: &[Sums], fell_back: bool) -> Self {
        let mut hasher = blake3::Hasher::new();
        for block in blocks {
            hasher.update(&block.digest);
        }
        let sums = blocks.iter().fold(Sums::default(), Sums::plus);
        Self {
            relative_update: sums.relative_update(),
            angle_degrees: sums.angle_degrees(),
            survived: ratio(sums.change_written, sums.change),
            effective_lambda: ratio(sums.along, sums.update),
            unchanged: ratio(sums.same, sums.n),
            fell_back,
            digest: hasher.finalize().into(),
            sums,
        }
    }
}

impl MergeReport {
    /// Sums up the touched weights of a merge.
    pub(super) fn new(merge: &str, reports: &BTreeMap<String, WeightReport>, untouched: usize) -> Self {
        let mut digest = blake3::Hasher::new();
        for (name, report) in reports {
            digest.update(name.as_bytes()).update(&report.digest);
        }
        let weights = reports.values();
        let total = weights.clone().fold(Sums::default(), |sum, weight| sum.plus(&weight.sums));
        Self {
            merge: merge.to_owned(),
            touched: weights.clone().count(),
            untouched,
            fell_back: weights.clone().filter(|weight| weight.fell_back).count(),
            relative_update: total.relative_update(),
            survived: ratio(total.change_written, total.change),
            effective_lambda: ratio(total.along, total.update),
            unchanged: ratio(total.same, total.n),
            largest_angle_degrees: weights.map(|weight| weight.angle_degrees).fold(0.0, f64::max),
            blake3: digest.finalize().to_hex().to_string(),
        }
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
