//! Angles between weights, the arc between two of them, and combinations of several.

use super::{Given, Rule};

/// A shorter vector has no direction to speak of.
const NO_DIRECTION: f64 = 1e-8;

/// The cosine of the angle between two vectors by their inner products; one without direction
/// counts as having length 1.
pub fn cosine(aa: f64, bb: f64, ab: f64) -> f64 {
    let norm = |xx: f64| Some(xx.sqrt()).filter(|norm| *norm > NO_DIRECTION).unwrap_or(1.0);
    (ab / (norm(aa) * norm(bb))).clamp(-1.0, 1.0)
}

/// What the two ends of an arc of this angle are multiplied with, `t` of the way along.
pub fn arc(angle: f64, t: f64) -> [f64; 2] {
    [((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()]
}

/// `Σ aᵢ bᵢ`.
pub fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The length of a combination of vectors whose inner products with each other are known.
pub fn norm(products: &[Vec<f64>], scales: &[f64]) -> f64 {
    let squared: f64 = products.iter().zip(scales).map(|(row, scale)| scale * inner(row, scales)).sum();
    squared.max(0.0).sqrt()
}

/// The sum of all inputs, each times its number, in f64.
pub struct Combination {
    pub scales: Vec<f64>,
    pub fell_back: bool,
}

impl Combination {
    /// Of the updates, added to the base.
    pub fn of_updates(mut scales: Vec<f64>, base: usize, fell_back: bool) -> Self {
        scales.insert(base, 1.0 - scales.iter().sum::<f64>());
        Self { scales, fell_back }
    }
}

impl Rule for Combination {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        for (i, out) in out.iter_mut().enumerate() {
            let terms =
                given.inputs.iter().zip(&self.scales).map(|(input, scale)| f64::from(input[i]) * scale);
            *out = terms.sum::<f64>() as f32;
        }
    }

    fn fell_back(&self) -> bool {
        self.fell_back
    }
}
