//! The straight line between two models, and the weighted mean of several.
//!
//! Wortsman et al., "Model soups", 2022, arXiv 2203.05482, and "Robust fine-tuning of zero-shot
//! models" (WiSE-FT), 2021, arXiv 2109.01903; Farn et al., arXiv 2412.19512, section 3.

use serde::Deserialize;

use crate::merge::between::Between;
use crate::merge::given::{Given, Line, Share, fraction, read, yes};
use crate::merge::{Merge, Method, Needs, Rule, Whole};
use crate::simd::vectorised;

pub(super) const LINEAR: Method = Method {
    name: "linear",
    summary: "walk the straight line from the base to the tuned model",
    source: "Wortsman et al. 2021, arXiv 2109.01903",
    example: "linear:0.5",
    needs: Needs::PAIR,
    from_spec: |parameters| {
        let Line { lambda } = read(parameters)?;
        fraction("λ", lambda)?;
        Ok(Box::new(Linear { weights: vec![1.0 - lambda, lambda], divide: false }))
    },
    of_models: &["weight"],
    from_settings: |settings| {
        let All { normalize } = settings.all()?;
        let each: Vec<Share> = settings.each()?;
        settings.inputs(1..=usize::MAX)?;
        let weights: Vec<f64> = each.iter().map(|one| one.weight).collect();
        if normalize && weights.iter().sum::<f64>() == 0.0 {
            return Err("the weights add up to 0, and the result is divided by that".to_owned());
        }
        Ok(Box::new(Linear { weights, divide: normalize }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    #[serde(default = "yes")]
    normalize: bool,
}

pub(super) const EXTRAPOLATE: Method = Method {
    name: "extrapolate",
    summary: "go on along the straight line, past the tuned model (ExPO)",
    source: "Zheng et al. 2024, arXiv 2404.16792",
    example: "extrapolate:1.3",
    needs: Needs::PAIR,
    from_spec: |parameters| {
        let Line { lambda } = read(parameters)?;
        if lambda <= 1.0 {
            return Err(format!("λ is {lambda}, expected more than 1; up to there it is `linear`"));
        }
        Ok(Box::new(Linear { weights: vec![1.0 - lambda, lambda], divide: false }))
    },
    of_models: &[],
    from_settings: |_| {
        Err("mergekit has no such method; use `linear` with weights below 0 and above 1".to_owned())
    },
};

/// The method that adds up its inputs, each times its weight; the first alone, with weight 1, is left as it is.
pub fn weighted_by(weights: Vec<f64>) -> Box<dyn Merge> {
    Box::new(Linear { weights, divide: false })
}

struct Linear {
    /// Of each input.
    weights: Vec<f64>,
    /// By the sum of the weights.
    divide: bool,
}

impl Merge for Linear {
    fn end(&self, _base: Option<usize>) -> Option<usize> {
        let mut used = self.weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
        match (used.next(), used.next()) {
            (Some((i, weight)), None) if self.divide || *weight == 1.0 => Some(i),
            _ => None,
        }
    }

    fn of_update(&self) -> Option<f64> {
        match *self.weights.as_slice() {
            [base, tuned] if base == 1.0 - tuned => Some(tuned),
            _ => None,
        }
    }

    fn keeps_equals(&self) -> bool {
        self.divide || self.weights.iter().sum::<f64>() == 1.0
    }

    fn prepare(&self, _whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let divided = self.divide && self.weights.iter().sum::<f64>() as f32 != 1.0;
        match *self.weights.as_slice() {
            [a, b] if !divided => Box::new(Between { weights: [a as f32, b as f32], fell_back: false }),
            _ => Box::new(self),
        }
    }
}

impl Rule for &Linear {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let weights: Vec<f32> = self.weights.iter().map(|weight| *weight as f32).collect();
        let sum = self.weights.iter().sum::<f64>() as f32;
        sum_of(given.inputs, &weights, out);
        if self.divide && sum != 1.0 {
            for out in out {
                *out /= sum;
            }
        }
    }
}

vectorised! {
    /// One rounding for each product and sum.
    fn sum_of<'a>(inputs: &'a [&'a [f32]], weights: &'a [f32], out: &'a mut [f32]) {
        out.fill(0.0);
        for (input, weight) in inputs.iter().zip(weights) {
            for (out, x) in out.iter_mut().zip(*input) {
                *out = weight.mul_add(*x, *out);
            }
        }
    }
}
