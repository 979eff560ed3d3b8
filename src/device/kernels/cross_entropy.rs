//! The head's softmax and its gradient in place, on the processor.

use burn::tensor::Tensor;
use burn_flex::Flex;
use rayon::prelude::*;

use super::math::exp;
use super::{fused, numbers, own, plain, slice};
use crate::simd::vectorised;

/// Each row's cross-entropy and, if `scale` is given, `scale · (softmax − onehot)` in the place of the logits.
///
/// # Shapes
///
/// - `logits`: `[n, v]` in f32, without autodiff
/// - `targets`: `n` token ids
///
/// # Errors
///
/// The logits as they came, if the one-pass form cannot be used.
pub fn cross_entropy(
    logits: Tensor<2>,
    targets: &[u32],
    scale: Option<f64>,
) -> Result<(Vec<f32>, Option<Tensor<2>>), Box<Tensor<2>>> {
    if !fused(&logits) {
        return Err(Box::new(logits));
    }
    let [n, v] = logits.dims();
    let mut logits = numbers(&plain(logits));
    let mut losses = vec![0.0; n];
    let rows = losses.par_iter_mut().zip(targets);
    let loss = |logits: &[f32], target: u32| {
        let (largest, sum) = sum_of_exponentials(logits);
        (sum.ln() + largest - logits[target as usize], largest, sum)
    };
    let Some(scale) = scale else {
        let rows = rows.zip(slice(&logits).par_chunks(v));
        rows.for_each(|((out, target), logits)| *out = loss(logits, *target).0);
        return Ok((losses, None));
    };
    let scale = scale as f32;
    rows.zip(own(&mut logits).par_chunks_mut(v)).for_each(|((out, target), logits)| {
        let (nats, largest, sum) = loss(logits, *target);
        *out = nats;
        scaled_exponentials(logits, largest, scale / sum);
        logits[*target as usize] -= scale;
    });
    Ok((losses, Some(Tensor::from_primitive::<Flex>(logits))))
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
    fn scaled_exponentials<'a>(x: &'a mut [f32], largest: f32, scale: f32) {
        for x in x {
            *x = exp(*x - largest) * scale;
        }
    }
}
