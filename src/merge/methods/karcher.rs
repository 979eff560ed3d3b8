//! The Karcher mean: the point of the sphere with the least squared distance to several models.
//!
//! Karcher, "Riemannian center of mass and mollifier smoothing", 1977; on weights arXiv 2603.04972.

use serde::Deserialize;

use crate::merge::given::read;
use crate::merge::sphere::{Combination, inner, norm};
use crate::merge::{Merge, Method, Needs, Rule, Whole};

pub(super) const KARCHER: Method = Method {
    name: "karcher",
    summary: "mean direction of the models by least squares on the sphere, times their mean norm",
    source: "arXiv 2603.04972",
    example: "karcher",
    needs: Needs::ANY,
    from_spec: |parameters| Ok(Box::new(read::<Karcher>(parameters)?)),
    of_models: &[],
    from_settings: |settings| {
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
    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let scales = match whole.inputs.len() {
            1 => vec![1.0],
            _ => self.mean(&whole.products(false)),
        };
        Box::new(Combination { scales, fell_back: false })
    }
}

impl Karcher {
    /// What each input is multiplied with, told from their inner products.
    ///
    /// All vectors on the way are combinations of the inputs' directions: their numbers are enough.
    fn mean(&self, products: &[Vec<f64>]) -> Vec<f64> {
        let norms: Vec<f64> = products.iter().enumerate().map(|(i, row)| row[i].sqrt()).collect();
        let used: Vec<usize> = (0..norms.len()).filter(|i| norms[*i] > self.tol).collect();
        let mut scales = vec![0.0; norms.len()];
        if used.is_empty() {
            return scales;
        }
        let unit = |i: &usize, j: &usize| products[*i][*j] / (norms[*i] * norms[*j]);
        let units: Vec<Vec<f64>> = used.iter().map(|i| used.iter().map(|j| unit(i, j)).collect()).collect();
        let share = 1.0 / used.len() as f64;
        let mut mean = vec![share; used.len()];
        let length = norm(&units, &mean);
        if length < self.tol {
            mean.fill(0.0);
            mean[0] = 1.0;
        } else {
            for x in &mut mean {
                *x /= length;
            }
        }
        for _ in 0..self.max_iter {
            let mut tangent = vec![0.0; mean.len()];
            for (i, row) in units.iter().enumerate() {
                let cos = inner(row, &mean).clamp(-1.0, 1.0);
                let angle = cos.acos();
                if angle < self.tol {
                    continue;
                }
                let scale = share * angle / angle.sin();
                tangent[i] += scale;
                tangent.iter_mut().zip(&mean).for_each(|(tangent, mean)| *tangent -= scale * cos * mean);
            }
            let step = norm(&units, &tangent);
            if step < self.tol {
                break;
            }
            for (mean, tangent) in mean.iter_mut().zip(&tangent) {
                *mean = step.cos() * *mean + step.sin() * tangent / step;
            }
            let length = norm(&units, &mean);
            for x in &mut mean {
                *x /= length;
            }
        }
        let size = norms.iter().sum::<f64>() / norms.len() as f64;
        for (i, mean) in used.iter().zip(mean) {
            scales[*i] = mean * size / norms[*i];
        }
        scales
    }
}
