//! Angles between weights, and the arc between two of them.

use super::report::dot;

/// A shorter vector has no direction to speak of.
const NO_DIRECTION: f64 = 1e-8;

/// The cosine of the angle between two weights; one without direction counts as having length 1.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let norm = |x: &[f32]| Some(dot(x, x).sqrt()).filter(|norm| *norm > NO_DIRECTION).unwrap_or(1.0);
    (dot(a, b) / (norm(a) * norm(b))).clamp(-1.0, 1.0)
}

/// What the two ends of an arc of this angle are multiplied with, `t` of the way along.
pub fn arc(angle: f64, t: f64) -> [f64; 2] {
    [((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()]
}

/// `a · scale_a + b · scale_b`.
pub fn combine(a: &[f32], b: &[f32], [of_a, of_b]: [f64; 2]) -> Vec<f32> {
    let (of_a, of_b) = (of_a as f32, of_b as f32);
    a.iter().zip(b).map(|(a, b)| of_a * a + of_b * b).collect()
}
