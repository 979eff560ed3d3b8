//! The Karcher mean: the point of the sphere with the least squared distance to several models.
//!
//! Karcher, "Riemannian center of mass and mollifier smoothing", 1977; on weights arXiv 2603.04972.

use serde::Deserialize;

use crate::merge::given::{Given, read};
use crate::merge::{Merge, MergedWeight, Method};

pub(super) const KARCHER: Method = Method {
    name: "karcher",
    summary: "mean direction of the models by least squares on the sphere, times their mean norm",
    source: "arXiv 2603.04972",
    example: "karcher",
    from_spec: |parameters| Ok(Box::new(read::<Karcher>(parameters)?)),
    from_settings: |settings| {
        settings.none_of_each()?;
        settings.inputs(1..=usize::MAX)?;
        Ok(Box::new(settings.all::<Karcher>()?))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Karcher {
    #[serde(default = "ten")]
    max_iter: u32,
    #[serde(default = "small")]
    tol: f64,
}

fn ten() -> u32 {
    10
}
fn small() -> f64 {
    1e-5
}

impl Merge for Karcher {
    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let [one] = given.inputs else { return self.mean(given.inputs).into() };
        one.to_vec().into()
    }
}

impl Karcher {
    fn mean(&self, inputs: &[&[f32]]) -> Vec<f32> {
        let norms: Vec<f64> = inputs.iter().map(|x| norm(x.iter().map(|x| f64::from(*x)))).collect();
        let units: Vec<Vec<f64>> = inputs
            .iter()
            .zip(&norms)
            .filter(|(_, norm)| **norm > self.tol)
            .map(|(x, norm)| x.iter().map(|x| f64::from(*x) / norm).collect())
            .collect();
        let Some(first) = units.first() else { return vec![0.0; inputs[0].len()] };
        let share = 1.0 / units.len() as f64;
        let mut mean: Vec<f64> = (0..first.len()).map(|i| units.iter().map(|u| u[i] * share).sum()).collect();
        let length = norm(mean.iter().copied());
        match length < self.tol {
            true => mean.clone_from(first),
            false => mean.iter_mut().for_each(|x| *x /= length),
        }
        for _ in 0..self.max_iter {
            let mut tangent = vec![0.0; mean.len()];
            for unit in &units {
                let cos = mean.iter().zip(unit).map(|(m, u)| m * u).sum::<f64>().clamp(-1.0, 1.0);
                let angle = cos.acos();
                if angle < self.tol {
                    continue;
                }
                let scale = share * angle / angle.sin();
                for ((tangent, unit), mean) in tangent.iter_mut().zip(unit).zip(&mean) {
                    *tangent += scale * (unit - cos * mean);
                }
            }
            let step = norm(tangent.iter().copied());
            if step < self.tol {
                break;
            }
            for (mean, tangent) in mean.iter_mut().zip(&tangent) {
                *mean = step.cos() * *mean + step.sin() * tangent / step;
            }
            let length = norm(mean.iter().copied());
            for x in &mut mean {
                *x /= length;
            }
        }
        let size = norms.iter().sum::<f64>() / norms.len() as f64;
        mean.iter().map(|x| (x * size) as f32).collect()
    }
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}
