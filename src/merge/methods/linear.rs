//! The straight line between two models, and the weighted mean of several.
//!
//! Wortsman et al., "Model soups", 2022, arXiv 2203.05482, and "Robust fine-tuning of zero-shot
//! models" (WiSE-FT), 2021, arXiv 2109.01903; Farn et al., arXiv 2412.19512, section 3.

use serde::Deserialize;

use crate::merge::deltas::fraction;
use crate::merge::given::{Given, read};
use crate::merge::{Merge, MergedWeight, Method};

pub(super) const LINEAR: Method = Method {
    name: "linear",
    summary: "walk the straight line from the base to the tuned model",
    source: "Wortsman et al. 2021, arXiv 2109.01903",
    example: "linear:0.5",
    from_spec: |parameters| {
        let Line { lambda } = read(parameters)?;
        fraction("λ", lambda)?;
        Ok(Box::new(Linear { weights: vec![1.0 - lambda, lambda], divide: false }))
    },
    from_settings: |settings| {
        let All { normalize } = settings.all()?;
        let each: Vec<One> = settings.each()?;
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
struct Line {
    /// How far along the line, from 0 (base) to 1 (tuned).
    lambda: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    #[serde(default = "yes")]
    normalize: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    weight: f64,
}

fn yes() -> bool {
    true
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

    fn keeps_equals(&self) -> bool {
        self.divide || self.weights.iter().sum::<f64>() == 1.0
    }

    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let mut values = vec![0.0f32; given.len()];
        for (input, weight) in given.inputs.iter().zip(&self.weights) {
            // One rounding for product and sum, as a fused multiplication has.
            let weight = f64::from(*weight as f32);
            let add =
                |(value, x): (&mut f32, &f32)| *value = (weight * f64::from(*x) + f64::from(*value)) as f32;
            values.iter_mut().zip(*input).for_each(add);
        }
        let sum = self.weights.iter().sum::<f64>() as f32;
        if self.divide && sum != 1.0 {
            for value in &mut values {
                *value /= sum;
            }
        }
        values.into()
    }
}
