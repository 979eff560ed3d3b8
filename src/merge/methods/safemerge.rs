//! A safety adapter's update is blended in where the tuned model's lies off what alignment used.
//!
//! Djuhera et al., "SafeMERGE: Preserving Safety Alignment in Fine-Tuned Large Language Models via Selective Layer-Wise
//! Model Merging", 2025, arXiv 2503.17239. The authors' program blends adapters with PEFT's arithmetic: A and B each
//! weighted by √(weight · scale) and added, so that the product has terms of one adapter's A with the other's B.
//! `arithmetic = exact`, which is usual here, blends the updates; `peft` does as the program does.

use serde::Deserialize;

use crate::merge::alignment::add_low_rank;
use crate::merge::choice::{By, Choice};
use crate::merge::given::{Given, fraction, read, whole};
use crate::merge::keep::Keep;
use crate::merge::needs::{ONE_BASE, ONE_TUNED, one, perhaps};
use crate::merge::{Merge, Method, Needs, Rule, Whole};
use crate::recipe::Helper;
use crate::snapshot::Factors;

pub(super) const SAFEMERGE: Method = Method {
    name: "safemerge",
    summary: "blend a safety model in where the update lies off the alignment direction",
    source: "Djuhera et al. 2025, arXiv 2503.17239",
    example: "safemerge,tau=0.35",
    needs: Needs::of(&[
        ONE_BASE,
        ONE_TUNED,
        one(Helper::Unaligned),
        one(Helper::Safety),
        perhaps(Helper::Mask),
    ])
    .with_chance(),
    from_spec: |mut parameters| {
        let choice = Choice::take(&mut parameters, Some(By::Tau(0.35)), false)?;
        let parameters: Parameters = read(parameters)?;
        parameters.check()?;
        Ok(Box::new(SafeMerge { choice, of: parameters }))
    },
    of_models: &[],
    from_settings: |_| Err("mergekit has no such method; it merges `--pre` and `--post`".to_owned()),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// What the whole update is multiplied with.
    #[serde(default = "whole")]
    lambda: f64,
    /// Of the tuned model's update in the matrices that are chosen.
    #[serde(default = "most")]
    weight: f64,
    /// Of the safety model's update there; what is left to one if absent.
    safety_weight: Option<f64>,
    #[serde(default)]
    arithmetic: Arithmetic,
    /// With PEFT's arithmetic: the share of the factors' numbers that is kept, of all matrices.
    #[serde(default = "whole")]
    density: f64,
    /// Whether what is kept is scaled up by the inverse of the density; PEFT 0.14 does not, 0.21 does.
    #[serde(default = "crate::merge::given::yes")]
    rescale: bool,
    #[serde(default)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Arithmetic {
    #[default]
    Exact,
    Peft,
}

fn most() -> f64 {
    0.8
}

impl Parameters {
    fn safety_weight(&self) -> f64 {
        self.safety_weight.unwrap_or(1.0 - self.weight)
    }

    fn check(&self) -> Result<(), String> {
        fraction("λ", self.lambda)?;
        fraction("density", self.density)?;
        for (name, weight) in [("weight", self.weight), ("safety_weight", self.safety_weight())] {
            if !weight.is_finite() || weight < 0.0 {
                return Err(format!("{name} is {weight}, expected at least 0"));
            }
        }
        match self.arithmetic {
            Arithmetic::Exact if self.density < 1.0 => {
                Err("`density` drops numbers of factors, which only `arithmetic=peft` adds".to_owned())
            }
            _ if self.density == 0.0 => Err("density is 0, and nothing would be left".to_owned()),
            _ => Ok(()),
        }
    }
}

struct SafeMerge {
    choice: Choice,
    of: Parameters,
}

impl Merge for SafeMerge {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        base.filter(|_| self.of.lambda == 0.0)
    }

    fn choice(&self) -> Option<&Choice> {
        Some(&self.choice)
    }

    fn of_adapters(&self) -> bool {
        self.of.arithmetic == Arithmetic::Peft
    }

    fn prepare<'w>(&'w self, whole: &'w Whole<'_>) -> Box<dyn Rule + 'w> {
        let is_chosen = whole.chosen == Some(true);
        let lambda = self.of.lambda as f32;
        let [tuned, safety] = [1, 3].map(|input| whole.inputs[input].factors());
        match (tuned, safety) {
            (Some(tuned), Some(safety)) if self.of_adapters() && whole.chosen.is_some() => {
                let [weight, safety_weight] =
                    if is_chosen { [self.of.weight, self.of.safety_weight()] } else { [1.0, 0.0] };
                let [mut a, mut b] = self.factors(whole, "task", tuned, weight);
                let added = self.factors(whole, "safety", safety, safety_weight);
                for (sum, more) in [&mut a, &mut b].into_iter().zip(added).filter(|_| is_chosen) {
                    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                }
                Box::new(Product { lambda, a, b })
            }
            _ if is_chosen => {
                let [tuned, safety] = [self.of.weight, self.of.safety_weight()].map(|weight| weight as f32);
                Box::new(Blend { tuned: lambda * tuned, safety: lambda * safety })
            }
            _ => Box::new(Blend { tuned: lambda, safety: 0.0 }),
        }
    }
}

impl SafeMerge {
    /// The factors of one adapter as PEFT adds them: `√(weight · scale)` of each, thinned out.
    fn factors(&self, whole: &Whole<'_>, which: &str, factors: Factors<'_>, weight: f64) -> [Vec<f32>; 2] {
        let scale = (weight * factors.scale).sqrt() as f32;
        let density = self.of.density;
        let kept = if self.of.rescale { (1.0 / density) as f32 } else { 1.0 };
        [("A", factors.a), ("B", factors.b)].map(|(factor, numbers)| {
            let name = format!("{}.{which}.{factor}", whole.name);
            let keep = Keep::new(whole, Helper::Mask, name, (density, self.of.seed));
            let mut numbers = numbers.to_vec();
            keep.apply(0, if keep.is_all() { scale } else { scale * kept }, &mut numbers);
            numbers
        })
    }
}

/// `base + tuned · (tuned − base) + safety · (safety − base)`.
struct Blend {
    tuned: f32,
    safety: f32,
}

impl Rule for Blend {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        if self.tuned == 1.0 && self.safety == 0.0 {
            return out.copy_from_slice(given.other());
        }
        let inputs = given.base().iter().zip(given.other()).zip(given.inputs[3]);
        for (out, ((base, tuned), safety)) in out.iter_mut().zip(inputs) {
            *out = base + (self.tuned * (tuned - base) + self.safety * (safety - base));
        }
    }
}

/// `base + λ · B A`.
struct Product {
    lambda: f32,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Rule for Product {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        add_low_rank(&self.b, &self.a, 1.0, (given.start, given.columns), out);
        for (out, base) in out.iter_mut().zip(given.base()) {
            *out = base + self.lambda * *out;
        }
    }
}
