//! The weighted mean of several directions, by way of the plane that touches the sphere between them.

use serde::Deserialize;

use crate::merge::given::{Line, Share, fraction, read, yes};
use crate::merge::sphere::{Combination, inner, norm};
use crate::merge::{Merge, Method, Needs, Rule, Whole};

pub(super) const MULTISLERP: Method = Method {
    name: "multislerp",
    summary: "mean direction of several models on the sphere, times their mean norm",
    source: "mergekit",
    example: "multislerp:0.5",
    needs: Needs::PAIR,
    from_spec: |parameters| {
        let Line { lambda } = read(parameters)?;
        fraction("λ", lambda)?;
        Ok(Box::new(MultiSlerp {
            weights: vec![1.0 - lambda, lambda],
            epsilon: epsilon(),
            of_updates: false,
        }))
    },
    of_models: &["weight"],
    from_settings: |settings| {
        let All { normalize_weights, eps } = settings.all()?;
        let each: Vec<Share> = if settings.base.is_some() {
            settings.with_base(1..=usize::MAX)?;
            settings.others()?
        } else {
            settings.inputs(1..=usize::MAX)?;
            settings.each()?
        };
        let mut weights: Vec<f64> = each.iter().map(|one| one.weight).collect();
        if normalize_weights {
            let sum: f64 = weights.iter().sum();
            if sum == 0.0 {
                return Err("the weights add up to 0, and they are divided by that".to_owned());
            }
            for weight in &mut weights {
                *weight /= sum;
            }
        }
        Ok(Box::new(MultiSlerp { weights, epsilon: eps, of_updates: settings.base.is_some() }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    #[serde(default = "yes")]
    normalize_weights: bool,
    #[serde(default = "epsilon")]
    eps: f64,
}

fn epsilon() -> f64 {
    1e-8
}

struct MultiSlerp {
    /// Of each input that is not the origin.
    weights: Vec<f64>,
    epsilon: f64,
    /// The base is the origin of the sphere.
    of_updates: bool,
}

impl Merge for MultiSlerp {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        match (self.of_updates, self.weights.as_slice()) {
            (false, [1.0, 0.0]) => base,
            _ => None,
        }
    }

    fn keeps_equals(&self) -> bool {
        self.of_updates || self.weights.len() == 1 || (self.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12
    }

    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let base = whole.base.filter(|_| self.of_updates);
        // mergekit gives one input back as it is.
        let (scales, fell_back) = match self.weights.as_slice() {
            [_] => (vec![1.0], false),
            weights => mean(&whole.products(self.of_updates), weights, self.epsilon),
        };
        match base {
            Some(base) => Box::new(Combination::of_updates(scales, base, fell_back)),
            None => Box::new(Combination { scales, fell_back }),
        }
    }
}

/// What each input is multiplied with, told from their inner products, and whether the mean had to
/// be the straight one.
///
/// All vectors on the way are combinations of the inputs' directions: their numbers are enough.
fn mean(products: &[Vec<f64>], weights: &[f64], epsilon: f64) -> (Vec<f64>, bool) {
    let norms: Vec<f64> = (0..weights.len()).map(|i| products[i][i].sqrt()).collect();
    let unit = |i: usize, j: usize| products[i][j] / ((norms[i] + epsilon) * (norms[j] + epsilon));
    let directions: Vec<Vec<f64>> =
        (0..norms.len()).map(|i| (0..norms.len()).map(|j| unit(i, j)).collect()).collect();
    let length = norm(&directions, weights);
    if length < epsilon {
        // Inputs that cancel have no direction between them.
        return (weights.to_vec(), true);
    }
    let middle: Vec<f64> = weights.iter().map(|weight| weight / length).collect();
    // The parts of the inputs that touch the sphere at the middle, weighted.
    let along: f64 = directions.iter().zip(weights).map(|(row, weight)| weight * inner(row, &middle)).sum();
    let tangent: Vec<f64> =
        weights.iter().zip(&middle).map(|(weight, middle)| weight - along * middle).collect();
    let angle = norm(&directions, &tangent) + epsilon;
    let size: f64 = norms.iter().zip(weights).map(|(norm, weight)| norm * weight).sum();
    let scale = |(i, norm): (usize, &f64)| {
        (middle[i] * angle.cos() + tangent[i] * angle.sin() / angle) * size / (norm + epsilon)
    };
    (norms.iter().enumerate().map(scale).collect(), false)
}
