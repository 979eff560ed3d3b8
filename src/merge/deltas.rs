//! Task vectors thinned out, put to a vote of signs and added to the base.
//!
//! Ilharco et al., "Editing models with task arithmetic", 2022, arXiv 2212.04089, and what grew from
//! it: the methods of the family differ in how they thin out and whether they vote.

use serde::Deserialize;

use super::given::{Given, Settings, read};
use super::select::{keep_by_chance, keep_largest, keep_ranks};
use super::{Merge, MergedWeight};

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

fn whole() -> f64 {
    1.0
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
        settings.with_base(1..=usize::MAX)?;
        for key in settings.each.iter().flat_map(toml::Table::keys) {
            // mergekit takes a density for task arithmetic too, and does nothing with it.
            let used = match key.as_str() {
                "gamma" => thin == Thin::Outliers,
                "epsilon" => thin == Thin::RandomByRank,
                "density" => thin != Thin::No,
                _ => true,
            };
            if !used {
                return Err(format!("`{key}` has no effect on this method"));
            }
        }
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

    fn thin(&self, update: &mut [f32], share: &Share, nth: usize, given: &Given<'_>) {
        let n = update.len();
        let Share { density, gamma, epsilon, .. } = *share;
        if self.thin == Thin::No || density >= 1.0 || n == 0 {
            return;
        }
        let l1 = |x: &[f32]| x.iter().map(|x| f64::from(x.abs())).sum::<f64>();
        let before = l1(update);
        // One stream of draws for each model.
        let name = format!("{}#{nth}", given.name);
        match self.thin {
            Thin::No => {}
            Thin::Smallest if density <= 0.0 => update.fill(0.0),
            Thin::Smallest => keep_largest(update, ((density * n as f64) as usize).max(1)),
            Thin::Outliers => {
                let kept = (density * n as f64) as usize;
                let from = n.saturating_sub(kept + (gamma * n as f64) as usize);
                keep_ranks(update, from, from + kept);
            }
            Thin::Random => {
                let scale = if self.rescale == Rescale::Inverse { 1.0 / density } else { 1.0 } as f32;
                keep_by_chance(update, self.seed, &name, |_, x| (density as f32, x * scale));
            }
            Thin::RandomByRank => {
                let chances = chances(update, given.columns, density, epsilon);
                let inverse = self.rescale == Rescale::Inverse;
                keep_by_chance(update, self.seed, &name, |i, x| {
                    (chances[i], if inverse { x / chances[i] } else { x })
                });
            }
        }
        if self.rescale == Rescale::L1 {
            let after = l1(update);
            if before >= 1e-7 && after >= 1e-7 {
                let scale = (before / after) as f32;
                for x in update.iter_mut() {
                    *x *= scale;
                }
            }
        }
    }
}

impl Merge for Deltas {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        let plain = self.thin == Thin::No && !self.normalize;
        match self.each.as_slice() {
            _ if self.lambda == 0.0 => base,
            [one] if plain && self.lambda * one.weight == 1.0 => base.map(|base| 1 - base),
            _ => None,
        }
    }

    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let mut updates = given.updates();
        for (nth, (update, share)) in updates.iter_mut().zip(&self.each).enumerate() {
            self.thin(update, share, nth, given);
            let weight = share.weight as f32;
            if weight != 1.0 {
                for x in update.iter_mut() {
                    *x *= weight;
                }
            }
        }
        let weights: Vec<f32> = self.each.iter().map(|share| share.weight as f32).collect();
        let all: f32 = weights.iter().sum();
        let all = if all.abs() < 1e-8 { 1.0 } else { all };
        let lambda = self.lambda as f32;
        let number = |(i, base): (usize, &f32)| {
            let (mut sum, mut divisor) = (updates.iter().map(|update| update[i]).sum::<f32>(), all);
            if self.vote {
                let positive = sum >= 0.0;
                (sum, divisor) = (0.0, 0.0);
                for (update, weight) in updates.iter().zip(&weights) {
                    if update[i] != 0.0 && (update[i] > 0.0) == positive {
                        sum += update[i];
                        divisor += weight;
                    }
                }
                divisor = if divisor == 0.0 { 1.0 } else { divisor };
            }
            let update = if self.normalize { sum / divisor } else { sum };
            base + update * lambda
        };
        given.base().iter().enumerate().map(number).collect::<Vec<_>>().into()
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

/// That a share is one.
pub(super) fn fraction(name: &str, value: f64) -> Result<(), String> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false => Err(format!("{name} is {value}, expected 0 to 1")),
    }
}
