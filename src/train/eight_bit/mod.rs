//! AdamW whose two means take 8 bits a number, on the processor and on other devices.
//!
//! Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022, arXiv 2110.02861, by the rules and in the order
//! of operations of torchao 0.18's `AdamW8bit`: means are made f32, moved and used, and rounded to codes only then. On the
//! processor codes, scales and weights are its own, bit for bit; so are the bias corrections, whose β is an f32 there and
//! not an f64 as in PyTorch's AdamW: with a β of 0.999 a step is 6e-6 of it shorter.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::device::is_cpu;
use crate::device::kernels::dynamic::{BLOCK, Codes, SIGNED, UNSIGNED, encode};

mod on_device;
use on_device::OnDevice;

/// Weights with fewer numbers keep both means in f32, as in bitsandbytes and torchao.
const FEWEST: usize = 4096;
/// Blocks that one task updates at least.
const TASK: usize = 32;

/// Whether the means of a weight of `n` numbers take 8 bits each: not of a small one, nor where the blocks do not
/// come out even.
pub fn fits(n: usize) -> bool {
    n >= FEWEST && n.is_multiple_of(BLOCK)
}

/// Bytes of both means of a weight that [`fits`]: codes, and scales in f32.
pub fn bytes(n: usize) -> u64 {
    (2 * (n + n / BLOCK * size_of::<f32>())) as u64
}

/// The settings of one update.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    rate: f32,
    /// The share of the value that decays.
    decay: f32,
    /// 1 − β of each mean.
    shares: [f32; 2],
    /// What the first mean is divided by, and what the root of the second.
    corrections: [f32; 2],
    epsilon: f32,
}

impl Step {
    /// The `nth` update, counted from 1.
    pub fn new(nth: usize, rate: f64, weight_decay: f64, betas: [f64; 2], epsilon: f64) -> Self {
        let nth = i32::try_from(nth).expect("fewer than 2^31 steps");
        let [correction1, correction2] = betas.map(|beta| 1.0 - f64::from(beta as f32).powi(nth) as f32);
        Self {
            rate: rate as f32,
            decay: rate as f32 * weight_decay as f32,
            shares: betas.map(|beta| (1.0 - beta) as f32),
            corrections: [correction1, correction2.sqrt()],
            epsilon: epsilon as f32,
        }
    }
}

/// The means of one weight's gradient and of its square.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one of a weight, whose numbers are thousands")]
pub enum Means {
    /// In this machine's memory, where the processor computes.
    Here([Codes; 2]),
    There(OnDevice),
}

impl Means {
    /// Those of a weight that had no gradient yet.
    pub fn zeros(n: usize, device: &Device) -> Self {
        Self::of([Codes::zeros(n), Codes::zeros(n)], device)
    }

    /// Those that a checkpoint kept.
    pub fn of(codes: [Codes; 2], device: &Device) -> Self {
        match is_cpu(device) {
            true => Self::Here(codes),
            false => Self::There(OnDevice::of(&codes, device)),
        }
    }

    /// What a checkpoint keeps.
    pub fn codes(&self) -> [Codes; 2] {
        match self {
            Self::Here(codes) => codes.clone(),
            Self::There(means) => means.codes(),
        }
    }

    /// Takes a gradient in; returns the weight's new value.
    ///
    /// # Shapes
    ///
    /// - `value`, `gradient` and the result: `[rows, columns]`, of as many numbers as there are means of each
    pub fn update(&mut self, value: Tensor<2>, gradient: Tensor<2>, step: &Step) -> Tensor<2> {
        match self {
            Self::There(means) => means.update(value, gradient, step),
            Self::Here(means) => {
                let (dims, device) = (value.dims(), value.device());
                let [mut value, gradient] = [value, gradient].map(|tensor| {
                    tensor.try_into_vec_as::<f32>().expect("a device that opened gives its results back")
                });
                update(means, &mut value, &gradient, step);
                Tensor::from_data(TensorData::new(value, dims), &device)
            }
        }
    }
}

fn update([first, second]: &mut [Codes; 2], value: &mut [f32], gradient: &[f32], step: &Step) {
    let blocks = value.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
    let means = first.blocks_mut().zip(second.blocks_mut());
    blocks.zip(means).with_min_len(TASK).for_each(|((value, gradient), (first, second))| {
        block([first, second], value, gradient, step);
    });
}

/// One block: its codes and scales, its numbers of the value and of the gradient.
fn block(means: [(&mut [u8], &mut f32); 2], value: &mut [f32], gradient: &[f32], step: &Step) {
    let [(first_codes, first_scale), (second_codes, second_scale)] = means;
    let (mut firsts, mut seconds) = ([0.0; BLOCK], [0.0; BLOCK]);
    for nth in 0..BLOCK {
        let g = gradient[nth];
        let first = SIGNED[usize::from(first_codes[nth])] * *first_scale;
        let second = UNSIGNED[usize::from(second_codes[nth])] * *second_scale;
        let (first, second) = (moved(first, g, step.shares[0]), moved(second, g * g, step.shares[1]));
        let decayed = value[nth] - step.decay * value[nth];
        let denominator = second.sqrt() / step.corrections[1] + step.epsilon;
        value[nth] = decayed - step.rate * (first / step.corrections[0]) / denominator;
        (firsts[nth], seconds[nth]) = (first, second);
    }
    *first_scale = encode(&firsts, &SIGNED, first_codes);
    *second_scale = encode(&seconds, &UNSIGNED, second_codes);
}

/// The mean moved by a share of the way to `to`, from the nearer end as PyTorch's `lerp` computes it.
fn moved(mean: f32, to: f32, share: f32) -> f32 {
    if share < 0.5 { share * (to - mean) + mean } else { (share - 1.0) * (to - mean) + to }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};

    use super::{BLOCK, Codes, FEWEST, Means, OnDevice, Step, bytes, fits};
    use crate::device::cpu;

    #[test]
    fn small_and_uneven_weights_stay_in_f32() {
        assert!(fits(FEWEST) && fits(FEWEST + BLOCK));
        assert!(!fits(FEWEST - BLOCK) && !fits(FEWEST + 1) && !fits(65 * 64));
        // A byte for each number of both, and a scale of four for each block of both.
        assert_eq!(bytes(FEWEST), 2 * 4096 + 2 * 16 * 4);
    }

    fn matrix(salt: f32) -> Tensor<2> {
        let number = |i: usize| (salt + i as f32).sin() * 10f32.powi(-((i % 6) as i32));
        Tensor::from_data(TensorData::new((0..64 * 128).map(number).collect::<Vec<_>>(), [64, 128]), &cpu())
    }

    #[test]
    fn through_operations_of_burn_it_is_the_same_as_in_one_pass() {
        // Operations of the processor round as plain Rust does: to the bit.
        for betas in [[0.9, 0.999], [0.3, 0.4]] {
            let zeros = || [Codes::zeros(64 * 128), Codes::zeros(64 * 128)];
            let mut here = Means::Here(zeros());
            // In parts of 13 blocks, of which the last has fewer.
            let mut there = Means::There(OnDevice::in_parts(&zeros(), &cpu(), 13));
            let mut values = [matrix(0.5), matrix(0.5)];
            for nth in 1..=6 {
                let (gradient, step) = (matrix(nth as f32 * 7.0), Step::new(nth, 1e-2, 0.1, betas, 1e-8));
                values = {
                    let [a, b] = values;
                    [here.update(a, gradient.clone(), &step), there.update(b, gradient, &step)]
                };
                assert_eq!(here.codes(), there.codes(), "step {nth}");
                let [a, b] = values.clone().map(Tensor::into_data);
                a.assert_eq(&b, true);
            }
            // What is read back goes on as if it had never left.
            let again = OnDevice::of(&there.codes(), &cpu());
            assert_eq!(again.codes(), there.codes());
        }
    }
}
