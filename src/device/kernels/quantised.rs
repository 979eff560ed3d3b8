//! Frozen matrices in 4 or 8 bits a number.
//!
//! NF4 in blocks of 64 with scales that are kept in 8 bits themselves: Dettmers et al., "`QLoRA`: Efficient Finetuning of
//! Quantized LLMs", 2023, arXiv 2305.14314, section 3 and appendix E. int8 with a scale for each row: Dettmers et al.,
//! "`LLM.int8()`", 2022, arXiv 2208.07339, section 2.1; what is multiplied with it is not quantised. Levels, blocks and order are
//! those of bitsandbytes 0.50.

use half::bf16;
use rayon::prelude::*;

use super::dynamic::{self, SIGNED, encode};

/// The 16 levels of NF4.
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Numbers that share a scale.
pub const BLOCK: usize = 64;
/// Numbers that one task quantises or reads.
const TASK: usize = 64 * 1024;
/// The code of the largest magnitude of a row in int8.
const MOST: f32 = 127.0;

/// In which form a matrix is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 4 bits a number, and 8 for each block.
    Nf4,
    /// 8 bits a number, and 32 for each row.
    Int8,
}

/// A matrix, `[rows, columns]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised {
    pub dims: [usize; 2],
    pub codes: Codes,
}

/// What is kept of its numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Codes {
    Nf4 {
        /// Two levels a byte, the first in the high half.
        levels: Vec<u8>,
        /// Of each block.
        scales: Scales,
    },
    Int8 {
        codes: Vec<i8>,
        /// By row, the largest magnitude.
        scales: Vec<f32>,
    },
}

/// Scales, themselves in 8 bits: of each its distance from their mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales {
    pub distances: dynamic::Codes,
    pub mean: f32,
}

impl Quantised {
    /// The nearest levels of `values`, `dims` row after row.
    pub fn of(format: Format, values: &[f32], dims: [usize; 2]) -> Self {
        let codes = match format {
            Format::Nf4 => {
                let largest: Vec<f32> = values.par_chunks(BLOCK).map(largest).collect();
                let levels = values.par_chunks(BLOCK).zip(&largest).flat_map_iter(|(block, scale)| {
                    let factor = scale.max(f32::MIN_POSITIVE).recip();
                    let level = move |x: &f32| nearest((x * factor).clamp(-1.0, 1.0));
                    block.chunks(2).map(move |two| level(&two[0]) << 4 | two.get(1).map_or(7, level))
                });
                Codes::Nf4 { levels: levels.collect(), scales: Scales::of(&largest) }
            }
            Format::Int8 => {
                let rows = values.par_chunks(dims[1].max(1));
                let scales: Vec<f32> = rows.clone().map(largest).collect();
                let codes = rows.zip(&scales).flat_map_iter(|(row, scale)| {
                    // The reciprocal first, as the reference does.
                    let factor = scale.max(f32::MIN_POSITIVE).recip() * MOST;
                    row.iter().map(move |x| (x * factor).round_ties_even() as i8)
                });
                Codes::Int8 { codes: codes.collect(), scales }
            }
        };
        Self { dims, codes }
    }

    /// Bytes that a matrix of these sizes takes.
    pub fn bytes(format: Format, [rows, columns]: [usize; 2]) -> usize {
        let n = rows * columns;
        match format {
            Format::Nf4 => {
                let blocks = n.div_ceil(BLOCK);
                n.div_ceil(2) + blocks + size_of::<f32>() * (1 + blocks.div_ceil(dynamic::BLOCK))
            }
            Format::Int8 => n + size_of::<f32>() * rows,
        }
    }

    /// As many numbers as `out` takes, from the `start`th on.
    pub fn read(&self, start: usize, out: &mut [f32]) {
        match &self.codes {
            Codes::Nf4 { levels, scales } => {
                let mut at = 0;
                while at < out.len() {
                    let first = start + at;
                    let some = (BLOCK - first % BLOCK).min(out.len() - at);
                    let scale = scales.get(first / BLOCK);
                    let own = NF4.map(|level| level * scale);
                    let out = &mut out[at..at + some];
                    // A half byte before whole ones, if the part begins with one.
                    let (half, out) = out.split_at_mut(first % 2);
                    if let [out] = half {
                        *out = own[usize::from(levels[first / 2] & 15)];
                    }
                    let levels = &levels[first.div_ceil(2)..];
                    let (pairs, rest) = out.as_chunks_mut::<2>();
                    let n_pairs = pairs.len();
                    for (out, byte) in pairs.iter_mut().zip(levels) {
                        *out = [own[usize::from(byte >> 4)], own[usize::from(byte & 15)]];
                    }
                    if let [out] = rest {
                        *out = own[usize::from(levels[n_pairs] >> 4)];
                    }
                    at += some;
                }
            }
            Codes::Int8 { codes, scales } => {
                let width = self.dims[1];
                let mut at = 0;
                while at < out.len() {
                    let first = start + at;
                    let some = (width - first % width).min(out.len() - at);
                    let scale = scales[first / width] / MOST;
                    for (out, code) in out[at..at + some].iter_mut().zip(&codes[first..]) {
                        *out = f32::from(*code) * scale;
                    }
                    at += some;
                }
            }
        }
    }

    /// All numbers.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.dims[0] * self.dims[1]];
        let parts = all.par_chunks_mut(TASK).enumerate();
        parts.for_each(|(i, part)| self.read(i * TASK, part));
        all
    }

    /// All numbers, rounded to bf16.
    pub(super) fn to_bf16(&self) -> Vec<bf16> {
        let mut all = vec![bf16::ZERO; self.dims[0] * self.dims[1]];
        all.par_chunks_mut(TASK).enumerate().for_each_init(
            || vec![0.0; TASK],
            |wide, (i, part)| {
                let wide = &mut wide[..part.len()];
                self.read(i * TASK, wide);
                part.iter_mut().zip(wide).for_each(|(short, wide)| *short = bf16::from_f32(*wide));
            },
        );
        all
    }
}

impl Scales {
    fn of(scales: &[f32]) -> Self {
        let mean = (scales.iter().map(|x| f64::from(*x)).sum::<f64>() / scales.len().max(1) as f64) as f32;
        let distances: Vec<f32> = scales.iter().map(|x| x - mean).collect();
        let mut codes = vec![0; distances.len()];
        let blocks = distances.chunks(dynamic::BLOCK).zip(codes.chunks_mut(dynamic::BLOCK));
        let scales = blocks.map(|(distances, codes)| encode(distances, &SIGNED, codes)).collect();
        Self { distances: dynamic::Codes { codes, scales }, mean }
    }

    /// The `i`th.
    pub fn get(&self, i: usize) -> f32 {
        let dynamic::Codes { codes, scales } = &self.distances;
        SIGNED[usize::from(codes[i])] * scales[i / dynamic::BLOCK] + self.mean
    }
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// The place of the nearest level; of two that are as near, the lower one's.
fn nearest(x: f32) -> u8 {
    let above = NF4.partition_point(|level| *level < x).min(NF4.len() - 1);
    let below = above.saturating_sub(1);
    let is_below = x - NF4[below] <= NF4[above] - x;
    (if is_below { below } else { above }) as u8
}
