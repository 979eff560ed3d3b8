//! The head's softmax and its gradient in place, on the processor.

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use rayon::prelude::*;

use super::math::exp;
use super::{fused, numbers, plain, slice};
use crate::simd::vectorised;

/// Each row's cross-entropy and, if `scale` is given, `scale · (softmax − onehot)`; nothing if the
/// one-pass form cannot be used.
///
/// # Shapes
///
/// - `logits`: `[n, v]` in f32, without autodiff
/// - `targets`: `n` token ids
pub fn cross_entropy(
    logits: &Tensor<2>,
    targets: &[u32],
    scale: Option<f64>,
) -> Option<(Vec<f32>, Option<Tensor<2>>)> {
    if !fused(logits) {
        return None;
    }
    let [n, v] = logits.dims();
    let logits = numbers(&plain(logits.clone()));
    let mut losses = vec![0.0; n];
    let rows = losses.par_iter_mut().zip(slice(&logits).par_chunks(v)).zip(targets);
    let Some(scale) = scale else {
        rows.for_each(|((loss, logits), target)| {
            let (largest, sum) = sum_of_exponentials(logits);
            *loss = sum.ln() + largest - logits[*target as usize];
        });
        return Some((losses, None));
    };
    let scale = scale as f32;
    let mut gradient = vec![0.0; n * v];
    rows.zip(gradient.par_chunks_mut(v)).for_each(|(((loss, logits), target), gradient)| {
        let (largest, sum) = sum_of_exponentials(logits);
        *loss = sum.ln() + largest - logits[*target as usize];
        scaled_exponentials(logits, largest, scale / sum, gradient);
        gradient[*target as usize] -= scale;
    });
    let gradient = burn_flex::FlexTensor::from_data(TensorData::new(gradient, [n, v]));
    Some((losses, Some(Tensor::from_primitive::<Flex>(gradient))))
}

vectorised! {
    fn sum_of_exponentials<'a>(x: &'a [f32]) -> (f32, f32) {
        let mut largest = [f32::NEG_INFINITY; 16];
        let chunks = x.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks.clone() {
            for i in 0..16 {
                largest[i] = if chunk[i] > largest[i] { chunk[i] } else { largest[i] };
            }
        }
        let largest = largest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sums = [0.0f32; 16];
        for chunk in chunks {
            for i in 0..16 {
                sums[i] += exp(chunk[i] - largest);
            }
        }
        let rest: f32 = rest.iter().map(|x| exp(x - largest)).sum();
        (largest, sums.iter().sum::<f32>() + rest)
    }
}

vectorised! {
    fn scaled_exponentials<'a>(x: &'a [f32], largest: f32, scale: f32, y: &'a mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = exp(x - largest) * scale;
        }
    }
}
