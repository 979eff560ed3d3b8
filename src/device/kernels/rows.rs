//! The passes themselves, on slices, row by row and on all cores.
//!
//! Every row is computed whole by one thread in a fixed order: results do not depend on how many
//! threads there are.

use std::ops::Range;

use rayon::prelude::*;

use super::math::exp;
use super::{Angles, Gate};
use crate::simd::vectorised;

/// Elements per task: enough to pay for handing it out.
const TASK: usize = 16 * 1024;

/// Rows per task for rows of `width`.
fn rows_of(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// Both gates are `x · σ(z)`: what `z` is at `x`, and how fast it grows there.
#[inline(always)]
fn slope(act: Gate, x: f32) -> (f32, f32) {
    const C: f32 = 1.595_769_2; // 2 √(2 / π)
    match act {
        Gate::Silu => (x, 1.0),
        // ½ (1 + tanh u) is σ(2u).
        Gate::GeluTanh => {
            (C * x * (0.044_715 * x).mul_add(x, 1.0), C * (3.0 * 0.044_715 * x).mul_add(x, 1.0))
        }
    }
}

/// The same numbers once more.
pub fn copy(x: &[f32]) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len());
    let there = y.spare_capacity_mut().par_chunks_mut(TASK).zip(x.par_chunks(TASK));
    there.for_each(|(y, x)| _ = y[..x.len()].write_copy_of_slice(x));
    #[expect(unsafe_code, reason = "numbers that were written")]
    // SAFETY: as many as there are.
    unsafe {
        y.set_len(x.len());
    }
    y
}

/// In the place of `gate`.
pub fn gated(act: Gate, gate: &mut [f32], up: &[f32]) {
    vectorised! {
        fn pass<'a>(act: Gate, gate: &'a mut [f32], up: &'a [f32]) {
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate = *gate / (1.0 + exp(-slope(act, *gate).0)) * up;
            }
        }
    }
    gate.par_chunks_mut(TASK).zip(up.par_chunks(TASK)).for_each(|(gate, up)| pass(act, gate, up));
}

/// The gradient of `gate` in its place, and that of `up` in the place of `g`.
pub fn gated_backward(act: Gate, gate: &mut [f32], up: &[f32], g: &mut [f32]) {
    vectorised! {
        fn pass<'a>(act: Gate, gate: &'a mut [f32], up: &'a [f32], g: &'a mut [f32]) {
            for ((gate, g), up) in gate.iter_mut().zip(g).zip(up) {
                let (z, dz) = slope(act, *gate);
                let sigmoid = 1.0 / (1.0 + exp(-z));
                let (d_gate, d_up) =
                    (*g * up * sigmoid * (1.0 + *gate * dz * (1.0 - sigmoid)), *g * *gate * sigmoid);
                (*gate, *g) = (d_gate, d_up);
            }
        }
    }
    let outputs = gate.par_chunks_mut(TASK).zip(g.par_chunks_mut(TASK)).zip(up.par_chunks(TASK));
    outputs.for_each(|((gate, g), up)| pass(act, gate, up, g));
}

pub fn soft_cap(x: &[f32], cap: f32) -> Vec<f32> {
    let mut y = x.to_vec();
    y.par_chunks_mut(TASK).for_each(|y| soft_cap_of(y, cap));
    y
}

vectorised! {
    /// In the place of `x`, on one thread.
    pub fn soft_cap_of<'a>(x: &'a mut [f32], cap: f32) {
        let rate = 2.0 / cap;
        for x in x {
            // tanh u is 1 − 2 / (e^2u + 1), which loses a small u to rounding.
            let u = *x / cap;
            let square = u * u;
            let series = (-17.0f32 / 315.0).mul_add(square, 2.0 / 15.0);
            let small = u * series.mul_add(square, -1.0 / 3.0).mul_add(square, 1.0);
            let large = 1.0 - 2.0 / (exp(*x * rate) + 1.0);
            *x = cap * if u.abs() < 0.2 { small } else { large };
        }
    }
}

pub fn soft_cap_backward(y: &[f32], g: &[f32], cap: f32) -> Vec<f32> {
    vectorised! {
        fn pass<'a>(y: &'a [f32], g: &'a [f32], cap: f32, d_x: &'a mut [f32]) {
            for ((d_x, y), g) in d_x.iter_mut().zip(y).zip(g) {
                let u = y / cap;
                *d_x = g * u.mul_add(-u, 1.0);
            }
        }
    }
    let mut d_x = vec![0.0; y.len()];
    let inputs = y.par_chunks(TASK).zip(g.par_chunks(TASK));
    d_x.par_chunks_mut(TASK).zip(inputs).for_each(|(d_x, (y, g))| pass(y, g, cap, d_x));
    d_x
}

/// Sixteen running sums that a processor can keep apart.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..16 {
            sums[i] = a[i].mul_add(b[i], sums[i]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The normalised rows, and each row's `1 / √(mean(x²) + ε)`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    vectorised! {
        fn row<'a>(x: &'a [f32], weight: &'a [f32], epsilon: f32, y: &'a mut [f32]) -> f32 {
            let scale = (dot(x, x) / x.len() as f32 + epsilon).sqrt().recip();
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * scale * weight;
            }
            scale
        }
    }
    let (m, mut y, mut scales) = (weight.len(), vec![0.0; x.len()], vec![0.0; x.len() / weight.len()]);
    let outputs = y.par_chunks_mut(m).zip(scales.par_iter_mut()).with_min_len(rows_of(m));
    outputs.zip(x.par_chunks(m)).for_each(|((y, scale), x)| *scale = row(x, weight, epsilon, y));
    (y, scales)
}

/// The normalised rows once more, bit for bit.
pub fn normed(x: &[f32], weight: &[f32], scales: &[f32]) -> Vec<f32> {
    vectorised! {
        fn row<'a>(x: &'a [f32], weight: &'a [f32], scale: f32, y: &'a mut [f32]) {
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * scale * weight;
            }
        }
    }
    let (m, mut y) = (weight.len(), vec![0.0; x.len()]);
    let outputs = y.par_chunks_mut(m).with_min_len(rows_of(m));
    outputs.zip(x.par_chunks(m)).zip(scales).for_each(|((y, x), scale)| row(x, weight, *scale, y));
    y
}

pub fn rms_norm_backward(x: &[f32], weight: &[f32], scales: &[f32], g: &[f32]) -> Vec<f32> {
    vectorised! {
        fn row<'a>(x: &'a [f32], weight: &'a [f32], scale: f32, g: &'a [f32], d_x: &'a mut [f32]) {
            for ((d_x, g), weight) in d_x.iter_mut().zip(g).zip(weight) {
                *d_x = g * weight;
            }
            let along = dot(d_x, x) * scale * scale * scale / x.len() as f32;
            for (d_x, x) in d_x.iter_mut().zip(x) {
                *d_x = *d_x * scale - x * along;
            }
        }
    }
    let (m, mut d_x) = (weight.len(), vec![0.0; x.len()]);
    let inputs = x.par_chunks(m).zip(g.par_chunks(m)).zip(scales);
    let outputs = d_x.par_chunks_mut(m).with_min_len(rows_of(m));
    outputs.zip(inputs).for_each(|(d_x, ((x, g), scale))| row(x, weight, *scale, g, d_x));
    d_x
}

/// The gradient of the norm's weight: a sum over rows, in their order.
pub fn rms_norm_weight(x: &[f32], scales: &[f32], g: &[f32], m: usize) -> Vec<f32> {
    let mut sum = vec![0.0; m];
    for ((x, g), scale) in x.chunks(m).zip(g.chunks(m)).zip(scales) {
        for ((sum, x), g) in sum.iter_mut().zip(x).zip(g) {
            *sum += g * x * scale;
        }
    }
    sum
}

/// `y + low · factor` in place, for a `factor` of few rows: `y` is `[n, width]`, `low` is `[n, rank]`.
pub fn add_product(y: &mut [f32], low: &[f32], factor: &[f32], [rank, width]: [usize; 2]) {
    vectorised! {
        fn row<'a>(y: &'a mut [f32], low: &'a [f32], factor: &'a [f32]) {
            let width = y.len();
            let (fours, ones) = low.split_at(low.len() / 4 * 4);
            for (low, factor) in fours.chunks_exact(4).zip(factor.chunks_exact(4 * width)) {
                let (f0, rest) = factor.split_at(width);
                let (f1, rest) = rest.split_at(width);
                let (f2, f3) = rest.split_at(width);
                for i in 0..width {
                    let (even, odd) = (low[0].mul_add(f0[i], y[i]), low[1] * f1[i]);
                    y[i] = low[2].mul_add(f2[i], even) + low[3].mul_add(f3[i], odd);
                }
            }
            for (low, factor) in ones.iter().zip(factor[fours.len() * width..].chunks_exact(width)) {
                for (y, f) in y.iter_mut().zip(factor) {
                    *y = low.mul_add(*f, *y);
                }
            }
        }
    }
    let rows = y.par_chunks_mut(width).zip(low.par_chunks(rank)).with_min_len(rows_of(width));
    rows.for_each(|(y, low)| row(y, low, factor));
}

vectorised! {
    /// Turns the first numbers of a head, as many pairs as there are cosines; back for a `direction` of −1.
    pub fn turn<'a>(x: &'a mut [f32], cos: &'a [f32], sin: &'a [f32], direction: f32) {
        let half = cos.len();
        let (x1, rest) = x.split_at_mut(half);
        let x2 = &mut rest[..half];
        for i in 0..half {
            let (sin, a, b) = (sin[i] * direction, x1[i], x2[i]);
            x1[i] = a * cos[i] - b * sin;
            x2[i] = b * cos[i] + a * sin;
        }
    }
}

/// Turns every head by its position, forward for `direction` 1 and back for −1.
pub fn rotate(x: &mut [f32], [_, heads, t, d]: [usize; 4], angles: &Angles, direction: f32) {
    let half = d / 2;
    // One list of positions for all rows, or one for each.
    let n_lists = angles.cos.len() / (t * half);
    let rows = x.par_chunks_mut(d).with_min_len(rows_of(d)).enumerate();
    rows.for_each(|(i, x)| {
        let (batch, position) = (i / (heads * t), i % t);
        let at = ((batch % n_lists) * t + position) * half;
        turn(x, &angles.cos[at..at + half], &angles.sin[at..at + half], direction);
    });
}

vectorised! {
    /// In the place of scores that are all seen; returns the logarithm of their exponentials' sum.
    fn softmax_of<'a>(y: &'a mut [f32]) -> f32 {
        let mut largest = [f32::NEG_INFINITY; 16];
        let chunks = y.chunks_exact(16);
        let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for chunk in chunks {
            for i in 0..16 {
                largest[i] = if chunk[i] > largest[i] { chunk[i] } else { largest[i] };
            }
        }
        let largest = largest.into_iter().fold(rest, f32::max);
        for y in y.iter_mut() {
            *y = exp(*y - largest);
        }
        let mut sums = [0.0f32; 16];
        let chunks = y.chunks_exact(16);
        let rest: f32 = chunks.remainder().iter().sum();
        for chunk in chunks {
            for i in 0..16 {
                sums[i] += chunk[i];
            }
        }
        let sum = sums.iter().sum::<f32>() + rest;
        let scale = sum.recip();
        for y in y.iter_mut() {
            *y *= scale;
        }
        largest + sum.ln()
    }

    fn add<'a>(y: &'a mut [f32], more: &'a [f32]) {
        for (y, more) in y.iter_mut().zip(more) {
            *y += more;
        }
    }

    /// From scores their shares again, and in the place of the shares' gradient that of the scores before `cap`.
    fn shares_of<'a>(y: &'a mut [f32], g: &'a mut [f32], log: f32, cap: Option<f32>) {
        let slope = cap.map_or(0.0, |cap| (cap * cap).recip());
        let mut sums = [0.0f32; 16];
        let chunks = y.chunks_exact(16).zip(g.chunks_exact(16));
        for (y, g) in chunks {
            for i in 0..16 {
                sums[i] = exp(y[i] - log).mul_add(g[i], sums[i]);
            }
        }
        let whole = y.len() / 16 * 16;
        let rest: f32 = y[whole..].iter().zip(&g[whole..]).map(|(y, g)| exp(y - log) * g).sum();
        let sum = sums.iter().sum::<f32>() + rest;
        for (y, g) in y.iter_mut().zip(g.iter_mut()) {
            let share = exp(*y - log);
            *g = share * (*g - sum) * (1.0 - *y * *y * slope);
            *y = share;
        }
    }
}

/// In the place of scores, of which only those within `seen` count; returns the logarithm of their exponentials' sum.
pub fn softmax_within(scores: &mut [f32], seen: Range<usize>) -> f32 {
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    softmax_of(&mut scores[seen])
}

/// From scores their shares again by the logarithm of their sum, and in the place of the shares' gradient that of the
/// scores before they were capped.
pub fn shares_again(scores: &mut [f32], g: &mut [f32], seen: Range<usize>, log: f32, cap: Option<f32>) {
    for x in [&mut *scores, &mut *g] {
        x[..seen.start].fill(0.0);
        x[seen.end..].fill(0.0);
    }
    shares_of(&mut scores[seen.clone()], &mut g[seen], log, cap);
}

/// In the place of the scores `y`.
pub fn softmax(y: &mut [f32], mask: Option<&[f32]>, [b, h, t, s]: [usize; 4]) {
    let n_masks = mask.map_or(1, |mask| mask.len() / (t * s));
    let rows = y.par_chunks_mut(s).with_min_len(rows_of(s)).enumerate();
    rows.for_each(|(i, y)| {
        let at = ((i / (h * t)) % n_masks.min(b.max(1)) * t + i % t) * s;
        if let Some(mask) = mask {
            add(y, &mask[at..at + s]);
        }
        softmax_of(y);
    });
}

pub fn softmax_backward(y: &[f32], g: &[f32], width: usize) -> Vec<f32> {
    vectorised! {
        fn row<'a>(y: &'a [f32], g: &'a [f32], d_x: &'a mut [f32]) {
            let sum = dot(y, g);
            for ((d_x, y), g) in d_x.iter_mut().zip(y).zip(g) {
                *d_x = y * (g - sum);
            }
        }
    }
    let mut d_x = vec![0.0; y.len()];
    let inputs = y.par_chunks(width).zip(g.par_chunks(width));
    let outputs = d_x.par_chunks_mut(width).with_min_len(rows_of(width));
    outputs.zip(inputs).for_each(|(d_x, (y, g))| row(y, g, d_x));
    d_x
}

#[cfg(test)]
mod tests {
    use super::{Gate, gated, gated_backward, soft_cap};

    #[test]
    fn a_soft_cap_is_the_hyperbolic_tangent() {
        let x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.05).collect();
        for (x, y) in x.iter().zip(soft_cap(&x, 30.0)) {
            let exact = 30.0 * (f64::from(*x) / 30.0).tanh();
            assert!((f64::from(y) - exact).abs() <= 1e-5 + 1e-6 * exact.abs(), "{x}: {y}, not {exact}");
        }
    }

    #[test]
    fn gates_and_their_slopes_are_those_of_their_formulas() {
        let gelu = |x: f64| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        };
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let x: Vec<f32> = (-80..80).map(|i| i as f32 * 0.1).collect();
        let ones = vec![1.0; x.len()];
        let acts: [(Gate, &dyn Fn(f64) -> f64); 2] = [(Gate::Silu, &silu), (Gate::GeluTanh, &gelu)];
        for (act, exact) in acts {
            let (mut y, mut slope) = (x.clone(), x.clone());
            gated(act, &mut y, &ones);
            gated_backward(act, &mut slope, &ones, &mut ones.clone());
            for ((x, y), slope) in x.iter().zip(y).zip(slope) {
                let at = f64::from(*x);
                assert!((f64::from(y) - exact(at)).abs() < 1e-6, "{act:?} {x}");
                let expected = (exact(at + 1e-4) - exact(at - 1e-4)) / 2e-4;
                assert!(
                    (f64::from(slope) - expected).abs() < 1e-5,
                    "{act:?} at {x}: {slope}, not {expected}"
                );
            }
        }
    }
}
