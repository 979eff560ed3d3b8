//! Task vectors thinned out, put to a vote of signs and added to the base.
//!
//! Ilharco et al., "Editing models with task arithmetic", 2022, arXiv 2212.04089, and what grew from
//! it: the methods of the family differ in how they thin out and whether they vote.

use std::ops::Range;

use serde::Deserialize;

use super::given::{Settings, fraction, read, whole};
use super::products::l1;
use super::select::{Kept, Key, keep_by_chance};
use super::{Given, Merge, Rule, Whole};
use crate::simd::vectorised;

/// A method of the family with its parameters.
#[derive(Debug, Clone)]
pub struct Deltas {
    pub thin: Thin,
    /// Keep only what agrees with the sign of the weighted sum.
    pub vote: bool,
    /// Divide by the weights that took part.
    pub normalize: bool,
    pub rescale: Rescale,
    /// Multiplies the whole update.
    pub lambda: f64,
    pub each: Vec<Share>,
    pub seed: u64,
}

/// How a task vector is thinned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thin {
    No,
    /// The smallest go.
    Smallest,
    /// The smallest and the very largest go.
    Outliers,
    /// Chance decides.
    Random,
    /// Chance decides, in favour of what is large in its row.
    RandomByRank,
}

/// What makes up for the numbers that chance dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rescale {
    None,
    /// By the inverse of the chance to be kept, which keeps the mean.
    Inverse,
    /// To the sum of magnitudes there was before.
    L1,
}

/// One model's part.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub weight: f64,
    /// The share of its numbers that is kept.
    #[serde(default = "whole")]
    pub density: f64,
    /// The share of its numbers that is dropped as too large.
    #[serde(default = "hundredth")]
    pub gamma: f64,
    /// How far the chance to be kept differs from the density at the ends of a row.
    #[serde(default = "fifteen_hundredths")]
    pub epsilon: f64,
}

fn hundredth() -> f64 {
    0.01
}
fn fifteen_hundredths() -> f64 {
    0.15
}

/// mergekit's settings of the whole merge.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    normalize: Option<bool>,
    rescale: Option<bool>,
    #[serde(default = "whole")]
    lambda: f64,
    /// The type of mergekit's masks in memory; ours takes none.
    #[serde(default, rename = "int8_mask")]
    _int8_mask: bool,
}

/// A spec's parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    lambda: f64,
    density: Option<f64>,
    gamma: Option<f64>,
    epsilon: Option<f64>,
    rescale: Option<Rescale>,
    seed: Option<u64>,
}

impl Deltas {
    /// For a base and one tuned model: `base + λ · thinned update`.
    ///
    /// With one model signs always agree and a weight would do what λ does, so there is neither.
    pub fn from_spec(thin: Thin, parameters: toml::Table) -> Result<Self, String> {
        let p: Parameters = read(parameters)?;
        fraction("λ", p.lambda)?;
        let random = matches!(thin, Thin::Random | Thin::RandomByRank);
        let uses = |used: bool, name: &str, given: bool| match given && !used {
            true => Err(format!("`{name}` would have no effect on this method")),
            false => Ok(()),
        };
        uses(thin != Thin::No, "density", p.density.is_some())?;
        uses(thin == Thin::Outliers, "gamma", p.gamma.is_some())?;
        uses(thin == Thin::RandomByRank, "epsilon", p.epsilon.is_some())?;
        uses(random, "rescale", p.rescale.is_some())?;
        uses(random, "seed", p.seed.is_some())?;
        if thin != Thin::No && p.density.is_none() {
            return Err("`density`, the share of the update that is kept, is missing".to_owned());
        }
        let share = Share {
            weight: 1.0,
            density: p.density.unwrap_or_else(whole),
            gamma: p.gamma.unwrap_or_else(hundredth),
            epsilon: p.epsilon.unwrap_or_else(fifteen_hundredths),
        };
        let rescale = match random {
            true => p.rescale.unwrap_or(Rescale::Inverse),
            false => Rescale::None,
        };
        let merge = Self {
            thin,
            vote: false,
            normalize: false,
            rescale,
            lambda: p.lambda,
            each: vec![share],
            seed: p.seed.unwrap_or(0),
        };
        merge.check()?;
        Ok(merge)
    }

    /// In mergekit's language, whose defaults differ from method to method.
    pub fn from_settings(
        thin: Thin,
        vote: bool,
        normalize: bool,
        rescale: bool,
        settings: &Settings,
    ) -> Result<Self, String> {
        // Of no model nothing is added to the base, which a slice of layers may hold alone.
        settings.with_base(0..=usize::MAX)?;
        let all: All = settings.all()?;
        let rescale = match all.rescale.unwrap_or(rescale) {
            true => Rescale::L1,
            false => Rescale::None,
        };
        let normalize = all.normalize.unwrap_or(normalize);
        let each = settings.others()?;
        let merge = Self { thin, vote, normalize, rescale, lambda: all.lambda, each, seed: settings.seed };
        merge.check()?;
        Ok(merge)
    }

    fn check(&self) -> Result<(), String> {
        for share in &self.each {
            fraction("density", share.density)?;
            fraction("gamma", share.gamma)?;
            let Share { density, epsilon, .. } = *share;
            if self.thin == Thin::RandomByRank
                && density < 1.0
                && (density - epsilon <= 0.0 || density + epsilon >= 1.0)
            {
                return Err(format!("density ± epsilon, {density} ± {epsilon}, must lie between 0 and 1"));
            }
        }
        Ok(())
    }

    /// Which ranks of magnitude of `n` numbers are kept.
    fn ranks(&self, share: &Share, n: usize) -> Option<Range<usize>> {
        let Share { density, gamma, .. } = *share;
        match self.thin {
            _ if density >= 1.0 => None,
            Thin::Smallest if density <= 0.0 => Some(0..0),
            Thin::Smallest => Some(n - ((density * n as f64) as usize).max(1)..n),
            Thin::Outliers => {
                let kept = (density * n as f64) as usize;
                let from = n.saturating_sub(kept + (gamma * n as f64) as usize);
                Some(from..from + kept)
            }
            Thin::No | Thin::Random | Thin::RandomByRank => None,
        }
    }
}

/// A method of the family that knows one weight's thresholds and scales.
struct Thinned<'a> {
    of: &'a Deltas,
    piece_len: usize,
    /// Of each update: which ranks it keeps, and what makes up for the rest.
    kept: Vec<Option<Kept>>,
    scales: Vec<f32>,
}

impl Thinned<'_> {
    /// One update, thinned out.
    fn update(&self, nth: usize, given: &Given<'_>) -> Vec<f32> {
        let mut update = vec![0.0; given.len()];
        let Share { density, epsilon, .. } = self.of.each[nth];
        match &self.kept[nth] {
            None => given.update(nth, &mut update),
            Some(kept) => {
                let mut whole = vec![0.0; given.len()];
                given.update(nth, &mut whole);
                kept.apply(given.start / self.piece_len, &whole, &mut update);
            }
        }
        let inverse = self.of.rescale == Rescale::Inverse;
        // One stream of draws for each model.
        let name = format!("{}#{nth}", given.name);
        let place = (self.of.seed, name.as_str(), given.start);
        match self.of.thin {
            _ if density >= 1.0 => {}
            Thin::Random => {
                let scale = if inverse { 1.0 / density } else { 1.0 } as f32;
                keep_by_chance(&mut update, place, |_, x| (density as f32, x * scale));
            }
            Thin::RandomByRank => {
                let chances = chances(&update, given.columns, density, epsilon);
                keep_by_chance(&mut update, place, |i, x| {
                    (chances[i], if inverse { x / chances[i] } else { x })
                });
            }
            Thin::No | Thin::Smallest | Thin::Outliers => {}
        }
        update
    }
}

impl Merge for Deltas {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        let plain = self.thin == Thin::No && !self.normalize;
        match self.each.as_slice() {
            [] => base,
            _ if self.lambda == 0.0 => base,
            [one] if plain && self.lambda * one.weight == 1.0 => base.map(|base| 1 - base),
            _ => None,
        }
    }

    fn of_update(&self) -> Option<f64> {
        match self.each.as_slice() {
            [one] if self.thin == Thin::No && !self.normalize => Some(self.lambda * one.weight),
            _ => None,
        }
    }

    fn remark(&self) -> Option<String> {
        match self.each.as_slice() {
            [one] if self.normalize && one.weight != 1.0 => Some(
                "`weight` cancels with one tuned model under `normalize: true`; `lambda` scales the update"
                    .to_owned(),
            ),
            each if self.thin == Thin::No && each.iter().any(|one| one.density < 1.0) => {
                Some("`density` has no effect on this method".to_owned())
            }
            _ => None,
        }
    }

    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let kept = |(nth, share): (usize, &Share)| {
            let ranks = self.ranks(share, whole.len)?;
            let update = |given: &Given<'_>, out: &mut [f32]| given.update(nth, out);
            Some(Kept::new(whole, Key { compute: &update, by_rows: false }, ranks))
        };
        let kept = self.each.iter().enumerate().map(kept).collect();
        let n = self.each.len();
        let mut thinned = Thinned { of: self, piece_len: whole.piece_len(), kept, scales: vec![1.0; n] };
        if self.rescale == Rescale::L1 && self.thin != Thin::No {
            // The magnitudes of each update before and after.
            let sums = whole.sums(2 * n, |given, sums| {
                for (nth, update) in given.updates().iter().enumerate() {
                    sums[2 * nth] += l1(update);
                    sums[2 * nth + 1] += l1(&thinned.update(nth, given));
                }
            });
            let scale = |sums: &[f64]| match sums {
                [before, after] if *before >= 1e-7 && *after >= 1e-7 => (before / after) as f32,
                _ => 1.0,
            };
            thinned.scales = sums.chunks(2).map(scale).collect();
        }
        Box::new(thinned)
    }
}

impl Rule for Thinned<'_> {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let Deltas { vote, normalize, .. } = *self.of;
        let lambda = self.of.lambda as f32;
        let weights: Vec<f32> = self.of.each.iter().map(|share| share.weight as f32).collect();
        let mut updates: Vec<Vec<f32>> = (0..weights.len()).map(|nth| self.update(nth, given)).collect();
        for ((update, scale), weight) in updates.iter_mut().zip(&self.scales).zip(&weights) {
            if [*scale, *weight] != [1.0, 1.0] {
                for x in update.iter_mut() {
                    *x = *x * scale * weight;
                }
            }
        }
        let all = Some(weights.iter().sum::<f32>()).filter(|all| all.abs() >= 1e-8).unwrap_or(1.0);
        let divisor = if normalize { all } else { 1.0 };
        match updates.as_slice() {
            // One update always agrees with its own sign.
            [update] => add(given.base(), update, divisor, lambda, out),
            _ => {
                for (i, (out, base)) in out.iter_mut().zip(given.base()).enumerate() {
                    let (mut sum, mut divisor) =
                        (updates.iter().map(|update| update[i]).sum::<f32>(), divisor);
                    if vote {
                        let positive = sum >= 0.0;
                        let mut agreeing = 0.0;
                        sum = 0.0;
                        for (update, weight) in updates.iter().zip(&weights) {
                            if update[i] != 0.0 && (update[i] > 0.0) == positive {
                                sum += update[i];
                                agreeing += weight;
                            }
                        }
                        divisor = if normalize && agreeing != 0.0 { agreeing } else { 1.0 };
                    }
                    *out = base + sum / divisor * lambda;
                }
            }
        }
    }
}

vectorised! {
    fn add<'a>(base: &'a [f32], update: &'a [f32], divisor: f32, lambda: f32, out: &'a mut [f32]) {
        for ((out, base), update) in out.iter_mut().zip(base).zip(update) {
            *out = base + update / divisor * lambda;
        }
    }
}

/// The chance of each number to be kept: rising with its rank in its row, `density ± epsilon`.
fn chances(update: &[f32], columns: usize, density: f64, epsilon: f64) -> Vec<f32> {
    let mut chances = vec![0.0; update.len()];
    let mut order: Vec<usize> = Vec::with_capacity(columns);
    for (row, chances) in update.chunks(columns).zip(chances.chunks_mut(columns)) {
        order.clear();
        order.extend(0..row.len());
        order.sort_by(|a, b| row[*a].abs().total_cmp(&row[*b].abs()));
        for (rank, i) in order.iter().enumerate() {
            let place = rank as f64 / (row.len() - 1).max(1) as f64;
            chances[*i] = (density - epsilon + place * 2.0 * epsilon) as f32;
        }
    }
    chances
}
