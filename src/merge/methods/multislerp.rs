//! The weighted mean of several directions, by way of the plane that touches the sphere between them.

use serde::Deserialize;

use crate::merge::deltas::fraction;
use crate::merge::given::{Given, read};
use crate::merge::{Merge, MergedWeight, Method};

pub(super) const MULTISLERP: Method = Method {
    name: "multislerp",
    summary: "mean direction of several models on the sphere, times their mean norm",
    source: "mergekit",
    example: "multislerp:0.5",
    from_spec: |parameters| {
        let Line { lambda } = read(parameters)?;
        fraction("λ", lambda)?;
        Ok(Box::new(MultiSlerp {
            weights: vec![1.0 - lambda, lambda],
            epsilon: epsilon(),
            of_updates: false,
        }))
    },
    from_settings: |settings| {
        let All { normalize_weights, eps } = settings.all()?;
        let each: Vec<One> = if settings.base.is_some() {
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
struct Line {
    lambda: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    #[serde(default = "yes")]
    normalize_weights: bool,
    #[serde(default = "epsilon")]
    eps: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    weight: f64,
}

fn yes() -> bool {
    true
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
    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let updates = if self.of_updates { given.updates() } else { Vec::new() };
        let inputs: Vec<&[f32]> = match self.of_updates {
            true => updates.iter().map(Vec::as_slice).collect(),
            false => given.inputs.to_vec(),
        };
        let (values, fell_back) = match inputs.as_slice() {
            // mergekit gives the one input back as it is.
            [_] if self.of_updates => return given.others().next().expect("one input").to_vec().into(),
            [one] => return one.to_vec().into(),
            _ => mean(&inputs, &self.weights, self.epsilon),
        };
        let values = match self.of_updates {
            true => values.iter().zip(given.base()).map(|(x, base)| (x + f64::from(*base)) as f32).collect(),
            false => values.iter().map(|x| *x as f32).collect(),
        };
        MergedWeight { values, fell_back }
    }
}

/// The mean, and whether it had to be the straight one.
fn mean(inputs: &[&[f32]], weights: &[f64], epsilon: f64) -> (Vec<f64>, bool) {
    let n = inputs[0].len();
    let norms: Vec<f64> = inputs.iter().map(|x| norm(x.iter().map(|x| f64::from(*x)))).collect();
    let unit = |which: usize, i: usize| f64::from(inputs[which][i]) / (norms[which] + epsilon);
    let weighted = |i: usize| weights.iter().enumerate().map(|(w, weight)| unit(w, i) * weight).sum::<f64>();
    let mut middle: Vec<f64> = (0..n).map(weighted).collect();
    let length = norm(middle.iter().copied());
    if length < epsilon {
        // Inputs that cancel have no direction between them.
        let line = |i: usize| inputs.iter().zip(weights).map(|(x, w)| f64::from(x[i]) * w).sum();
        return ((0..n).map(line).collect(), true);
    }
    for x in &mut middle {
        *x /= length;
    }
    let along: Vec<f64> =
        (0..inputs.len()).map(|w| (0..n).map(|i| unit(w, i) * middle[i]).sum::<f64>()).collect();
    let tangent = |i: usize| {
        let of = |w: usize| (unit(w, i) - along[w] * middle[i]) * weights[w];
        (0..inputs.len()).map(of).sum::<f64>()
    };
    let tangent: Vec<f64> = (0..n).map(tangent).collect();
    let angle = norm(tangent.iter().copied()) + epsilon;
    let size: f64 = norms.iter().zip(weights).map(|(norm, weight)| norm * weight).sum();
    let point =
        |(middle, tangent): (&f64, &f64)| (middle * angle.cos() + tangent * angle.sin() / angle) * size;
    (middle.iter().zip(&tangent).map(point).collect(), false)
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}
