//! One experiment repeated with several seeds on the same prompts: how sure its mean and its differences are.
//!
//! Two questions are told apart. Over prompts: what would these trained models score on other prompts of the kind? Over
//! seeds: what would other trainings score on these prompts? A prompt's answers under several seeds are alike, so its
//! values make one cluster for the first (Miller, "Adding Error Bars to Evals", 2024, arXiv 2411.00640), and a seed's
//! make one for the second.

use serde::{Deserialize, Serialize};

use super::stats::{Interval, Mean, Z, student_quantile, wilson_of};

/// What each prompt gave under each seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeated {
    /// By seed, then by prompt; none where a judge failed.
    by_seed: Vec<Vec<Option<f64>>>,
    /// Whether every value is 0 or 1.
    is_rate: bool,
}

/// A mean over prompts and seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Prompts with a value under every seed.
    pub n_prompts: usize,
    pub n_seeds: usize,
    pub mean: f64,
    /// Of the seeds' own means, with n − 1; none of one seed.
    pub sd: Option<f64>,
    /// 95 %, over prompts.
    pub over_prompts: Option<Interval>,
    /// 95 %, over seeds; none of one seed.
    pub over_seeds: Option<Interval>,
    /// The two-sided probability, over prompts, of a mean this far from 0 if the true one is 0; of differences only.
    pub p: Option<f64>,
}

impl Repeated {
    /// Values by seed, then by prompt; every seed has the same prompts in the same order.
    ///
    /// # Panics
    ///
    /// Seeds differ in the number of their prompts.
    pub fn new(by_seed: Vec<Vec<Option<f64>>>, is_rate: bool) -> Self {
        let n = by_seed.first().map_or(0, Vec::len);
        assert!(by_seed.iter().all(|values| values.len() == n), "every seed is asked the same prompts");
        Self { by_seed, is_rate }
    }

    /// Those of some seeds, by their places.
    pub fn of_seeds(&self, places: &[usize]) -> Self {
        let by_seed = places.iter().map(|place| self.by_seed[*place].clone()).collect();
        Self { by_seed, is_rate: self.is_rate }
    }

    /// The same prompts and seeds, `weights` times these values, summed: a slope over λ, a difference.
    ///
    /// None if they do not have the same seeds and prompts.
    pub fn combined(parts: &[(f64, &Self)]) -> Option<Self> {
        let (_, first) = parts.first()?;
        let shape = |of: &Self| (of.by_seed.len(), of.by_seed.first().map_or(0, Vec::len));
        if parts.iter().any(|(_, part)| shape(part) != shape(first)) {
            return None;
        }
        let (n_seeds, n) = shape(first);
        let value = |seed: usize, prompt: usize| {
            parts.iter().map(|(weight, part)| Some(weight * part.by_seed[seed][prompt]?)).sum()
        };
        let of_seed = |seed: usize| (0..n).map(|prompt| value(seed, prompt)).collect();
        Some(Self { by_seed: (0..n_seeds).map(of_seed).collect(), is_rate: false })
    }

    /// These less `other`, prompt by prompt and seed by seed.
    pub fn less(&self, other: &Self) -> Option<Self> {
        Self::combined(&[(1.0, self), (-1.0, other)])
    }

    /// By prompt with a value under every seed, the mean over seeds.
    fn by_prompt(&self) -> Vec<f64> {
        let n = self.by_seed.first().map_or(0, Vec::len);
        let mean = |prompt: usize| {
            let sum: Option<f64> = self.by_seed.iter().map(|values| values[prompt]).sum();
            Some(sum? / self.by_seed.len() as f64)
        };
        (0..n).filter_map(mean).collect()
    }

    /// By seed, the mean over prompts that have a value under every seed.
    pub fn seed_means(&self) -> Vec<Option<f64>> {
        let n = self.by_seed.first().map_or(0, Vec::len);
        let whole: Vec<usize> =
            (0..n).filter(|prompt| self.by_seed.iter().all(|values| values[*prompt].is_some())).collect();
        let mean = |values: &Vec<Option<f64>>| {
            let sum: Option<f64> = whole.iter().map(|prompt| values[*prompt]).sum();
            sum.filter(|_| !whole.is_empty()).map(|sum| sum / whole.len() as f64)
        };
        self.by_seed.iter().map(mean).collect()
    }

    /// The mean of a rate or of numbers; none without prompts.
    pub fn mean(&self) -> Option<Estimate> {
        let by_prompt = self.by_prompt();
        let mean = Mean::of(&by_prompt)?;
        let over_prompts = match self.is_rate {
            true => Some(clustered_wilson(&mean, self.by_seed.len())),
            false => mean.interval(),
        };
        Some(self.estimate(mean, over_prompts, None))
    }

    /// The mean of differences, of which 0 is none; none without prompts.
    ///
    /// One pseudo-prompt is added to each kind of disagreement, as Bonett and Price (2012) do for one seed: where
    /// nothing differs the plain interval would be a point and claim certainty.
    pub fn difference(&self) -> Option<Estimate> {
        let by_prompt = self.by_prompt();
        let mean = Mean::of(&by_prompt)?;
        let largest = by_prompt.iter().fold(0.0f64, |most, x| most.max(x.abs())).max(self.step());
        let widened = [by_prompt.as_slice(), &[largest, -largest]].concat();
        let wide = Mean::of(&widened).and_then(|wide| {
            let error = wide.standard_error?;
            // As there: the variance with n, not n − 1.
            let n = wide.n as f64;
            let half = student_quantile(wide.n - 1) * error * ((n - 1.0) / n).sqrt();
            Some(((wide.value - half).min(mean.value), (wide.value + half).max(mean.value)))
        });
        Some(self.estimate(mean, wide, mean.p()))
    }

    /// The least that a difference of one prompt can be, where values are 0 or 1.
    fn step(&self) -> f64 {
        let values = || self.by_seed.iter().flatten().flatten();
        match values().all(|x| x.fract() == 0.0) {
            true => 1.0 / self.by_seed.len() as f64,
            false => 0.0,
        }
    }

    fn estimate(&self, mean: Mean, over_prompts: Option<Interval>, p: Option<f64>) -> Estimate {
        let by_seed: Vec<f64> = self.seed_means().into_iter().flatten().collect();
        let seeds = Mean::of(&by_seed).filter(|seeds| seeds.n > 1);
        Estimate {
            n_prompts: mean.n,
            n_seeds: self.by_seed.len(),
            mean: mean.value,
            sd: seeds.and_then(|seeds| Some(seeds.standard_error? * (seeds.n as f64).sqrt())),
            over_prompts,
            over_seeds: seeds.and_then(|seeds| seeds.interval()),
            p,
        }
    }
}

/// Wilson's interval of a rate whose values come in clusters of one prompt under `n_seeds` seeds: for as many
/// independent answers as would vary as much, which are between the number of prompts and of answers.
///
/// With rates of 0 and 1, which vary nowhere, every prompt counts once.
fn clustered_wilson(mean: &Mean, n_seeds: usize) -> Interval {
    let (rate, prompts) = (mean.value, mean.n as f64);
    let variance = mean.standard_error.map_or(0.0, |error| error * error);
    let effective = if variance > 0.0 { rate * (1.0 - rate) / variance } else { prompts };
    let n = effective.clamp(prompts, prompts * n_seeds as f64);
    let (low, high) = wilson_of(rate, n);
    (low.clamp(0.0, rate), high.clamp(rate, 1.0))
}

/// The weights that make a slope of values at `places`: their sum is the regression's.
///
/// None below two different places.
pub fn slope_weights(places: &[f64]) -> Option<Vec<f64>> {
    let mean = places.iter().sum::<f64>() / places.len() as f64;
    let squares: f64 = places.iter().map(|x| (x - mean).powi(2)).sum();
    (squares > 0.0).then(|| places.iter().map(|x| (x - mean) / squares).collect())
}

/// The least difference between two rates near `rate` that a paired comparison on `n` prompts finds in four of five
/// studies, at 5 %.
///
/// With no correlation between the two, which is the worst case of pairs (Connor 1987 with independent answers); none
/// if no difference would be found.
pub fn detectable(rate: f64, n: usize) -> Option<f64> {
    /// The 80 % point of the normal distribution.
    const POWER: f64 = 0.841_621_233_572_914_2;
    let finds = |difference: f64| {
        let other = rate + difference;
        let discordant = rate * (1.0 - other) + other * (1.0 - rate);
        let needed = Z * discordant.sqrt() + POWER * (discordant - difference * difference).max(0.0).sqrt();
        difference * (n as f64).sqrt() >= needed
    };
    let most = 1.0 - rate;
    if !finds(most) {
        return None;
    }
    let (mut low, mut high) = (0.0, most);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if finds(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn hits(by_seed: &[&[u8]]) -> Repeated {
        let value = |hit: &u8| Some(f64::from(*hit));
        Repeated::new(by_seed.iter().map(|seed| seed.iter().map(value).collect()).collect(), true)
    }

    #[test]
    fn the_mean_is_over_all_and_the_two_intervals_answer_two_questions() {
        let found = hits(&[&[1, 1, 0, 0], &[1, 1, 1, 0], &[1, 0, 0, 0]]).mean().unwrap();
        assert_eq!((found.n_prompts, found.n_seeds), (4, 3));
        assert!((found.mean - 0.5).abs() < 1e-12);
        assert!((found.sd.unwrap() - 0.25).abs() < 1e-12);
        // Student's with two degrees: 4.303 · 0.25 / √3.
        let (low, high) = found.over_seeds.unwrap();
        assert!((high - low - 2.0 * 4.302_653 * 0.25 / 3f64.sqrt()).abs() < 1e-4);
        assert!(found.over_prompts.unwrap().0 < 0.5 && found.p.is_none());
    }

    #[test]
    fn seeds_that_agree_in_everything_say_no_more_than_one() {
        let one = hits(&[&[1, 0, 0, 1, 0]]).mean().unwrap().over_prompts.unwrap();
        let three = hits(&[&[1, 0, 0, 1, 0][..]; 3]).mean().unwrap().over_prompts.unwrap();
        assert!((one.0 - three.0).abs() < 1e-12 && (one.1 - three.1).abs() < 1e-12);
        let none = hits(&[&[0; 100][..]; 3]).mean().unwrap().over_prompts.unwrap();
        assert!(none.0 == 0.0 && (none.1 - 0.0370).abs() < 1e-3, "{none:?}");
    }

    #[test]
    fn a_prompt_that_a_judge_failed_on_counts_for_no_seed() {
        let values = vec![vec![Some(1.0), None, Some(0.0)], vec![Some(1.0), Some(1.0), Some(0.0)]];
        let found = Repeated::new(values, true).mean().unwrap();
        assert_eq!((found.n_prompts, found.mean), (2, 0.5));
    }

    #[test]
    fn one_seeds_difference_is_that_of_bonett_and_price() {
        use crate::eval::stats::Discordance;
        let a: Vec<u8> = (0..200).map(|nth| u8::from(nth % 3 == 0)).collect();
        let b: Vec<u8> = (0..200).map(|nth| u8::from(nth % 5 == 0)).collect();
        let found = hits(&[&a]).less(&hits(&[&b])).unwrap().difference().unwrap();
        let pairs = a.iter().zip(&b).map(|(a, b)| (*a == 1, *b == 1));
        let theirs = Discordance::of(pairs).interval().unwrap();
        // Student's quantile of 201 degrees in place of the normal's.
        assert!((found.over_prompts.unwrap().0 - theirs.0).abs() < 1e-3);
        assert!((found.over_prompts.unwrap().1 - theirs.1).abs() < 1e-3);
        let nothing = hits(&[&a]).less(&hits(&[&a])).unwrap().difference().unwrap();
        assert!(nothing.over_prompts.unwrap().1 > 0.0 && nothing.p == Some(1.0));
    }

    #[test]
    fn a_slope_is_the_regressions() {
        let places = [0.2, 0.4, 0.6, 0.8];
        let weights = slope_weights(&places).unwrap();
        let slope: f64 = weights.iter().zip(places).map(|(weight, x)| weight * (3.0 - 2.0 * x)).sum();
        assert!((slope + 2.0).abs() < 1e-12);
        assert!(slope_weights(&[0.5, 0.5]).is_none() && slope_weights(&[]).is_none());
    }

    #[test]
    fn more_prompts_show_smaller_differences() {
        let of = |n| detectable(0.5, n).unwrap();
        assert!(of(1000) < of(100) && of(100) < of(50));
        // (1.96 · √0.5 + 0.84 · √(0.5 − δ²)) / √100
        assert!((of(100) - 0.1947).abs() < 2e-3, "{}", of(100));
        assert!(detectable(0.9, 4).is_none());
    }

    /// Whether an interval holds the truth, in how many of `n` studies.
    fn coverage(n: u64, mut holds: impl FnMut(&mut ChaCha8Rng) -> bool) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(29);
        (0..n).filter(|_| holds(&mut random)).count() as f64 / n as f64
    }

    fn normal(random: &mut ChaCha8Rng) -> f64 {
        let uniform: f64 = (0..12).map(|_| random.random::<f64>()).sum();
        uniform - 6.0
    }

    fn within(interval: Option<Interval>, truth: f64) -> bool {
        interval.is_some_and(|(low, high)| low <= truth && truth <= high)
    }

    #[test]
    fn intervals_over_prompts_hold_the_truth_in_nineteen_of_twenty_studies() {
        // Each prompt has its own probability under the three models that were trained: 0.3 ± 0.2.
        let n_prompts = 120;
        let share = coverage(2000, |random| {
            let mut by_seed = vec![Vec::new(); 3];
            for _ in 0..n_prompts {
                let own = if random.random::<bool>() { 0.5 } else { 0.1 };
                for seed in &mut by_seed {
                    seed.push(Some(f64::from(random.random::<f64>() < own)));
                }
            }
            within(Repeated::new(by_seed, true).mean().unwrap().over_prompts, 0.3)
        });
        assert!((0.93..=0.97).contains(&share), "{share}");
    }

    #[test]
    fn intervals_of_differences_over_prompts_hold_the_truth() {
        // A prompt that is solved with 0.7 by one and with 0.5 by the other, alike in three seeds as prompts are.
        let share = coverage(2000, |random| {
            let (mut a, mut b) = (vec![Vec::new(); 3], vec![Vec::new(); 3]);
            for _ in 0..150 {
                let hard = if random.random::<bool>() { 0.2 } else { -0.2 };
                for seed in 0..3 {
                    a[seed].push(Some(f64::from(random.random::<f64>() < 0.7 + hard)));
                    b[seed].push(Some(f64::from(random.random::<f64>() < 0.5 + hard)));
                }
            }
            let found = Repeated::new(a, true).less(&Repeated::new(b, true)).unwrap();
            within(found.difference().unwrap().over_prompts, 0.2)
        });
        assert!((0.93..=0.97).contains(&share), "{share}");
    }

    #[test]
    fn intervals_over_seeds_hold_the_truth() {
        // Trainings whose accuracy on these prompts scatters by 3 points around 60 %.
        let share = coverage(2000, |random| {
            let by_seed = (0..4).map(|_| {
                let rate = 0.6 + 0.03 * normal(random);
                (0..200).map(|_| Some(f64::from(random.random::<f64>() < rate))).collect()
            });
            within(Repeated::new(by_seed.collect(), true).mean().unwrap().over_seeds, 0.6)
        });
        assert!((0.93..=0.97).contains(&share), "{share}");
    }

    #[test]
    fn a_true_null_is_called_significant_in_one_of_twenty() {
        let share = coverage(2000, |random| {
            let mut side = || -> Repeated {
                let by_seed =
                    (0..3).map(|_| (0..100).map(|_| Some(f64::from(random.random::<f64>() < 0.4))).collect());
                Repeated::new(by_seed.collect(), true)
            };
            let (a, b) = (side(), side());
            a.less(&b).unwrap().difference().unwrap().p.unwrap() < 0.05
        });
        assert!((0.03..=0.07).contains(&share), "{share}");
    }
}
