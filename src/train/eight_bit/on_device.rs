//! The means in a device's memory, moved by burn's operations.
//!
//! Four codes lie in one number of 32 bits, for WGSL has no bytes. A large weight is updated part by part, so that what
//! is f32 on the way does not take the memory that the codes save. Devices may round divisions another way than the
//! processor: then a code may be its neighbour.

use burn::tensor::{DType, Device, Int, IntDType, Tensor, TensorData};

use super::Step;
use crate::device::kernels::dynamic::{BLOCK, Codes, SIGNED, SMALLEST_SCALE, Table, UNSIGNED};

/// Codes in a word.
const IN_WORD: usize = 4;
/// Words of a block.
const WORDS: usize = BLOCK / IN_WORD;
/// Blocks that are f32 at once: 4 million numbers.
const PART: usize = 1 << 14;

/// Some blocks of a mean.
#[derive(Debug, Clone)]
struct Part {
    /// `[blocks, 64]`, the first code in the lowest bits.
    words: Tensor<2, Int>,
    /// `[blocks, 1]` in f32.
    scales: Tensor<2>,
}

/// Both means of one weight.
#[derive(Debug, Clone)]
pub struct OnDevice {
    /// What the codes of each stand for.
    tables: [Tensor<1>; 2],
    parts: Vec<[Part; 2]>,
}

impl OnDevice {
    pub(super) fn of(codes: &[Codes; 2], device: &Device) -> Self {
        Self::in_parts(codes, device, PART)
    }

    /// The same in parts of so many blocks.
    pub(super) fn in_parts(codes: &[Codes; 2], device: &Device, blocks: usize) -> Self {
        let table =
            |table: &Table| Tensor::from_data(TensorData::new(table.to_vec(), [256]), (device, DType::F32));
        let parts_of = |codes: &Codes| {
            let parts = codes.codes.chunks(blocks * BLOCK).zip(codes.scales.chunks(blocks));
            let part = |(codes, scales)| Part::of(codes, scales, device);
            parts.map(part).collect::<Vec<_>>()
        };
        let [first, second] = codes.each_ref().map(parts_of);
        let parts = first.into_iter().zip(second).map(|(first, second)| [first, second]).collect();
        Self { tables: [table(&SIGNED), table(&UNSIGNED)], parts }
    }

    pub(super) fn codes(&self) -> [Codes; 2] {
        [0, 1].map(|mean| {
            let mut all = Codes::zeros(0);
            for part in &self.parts {
                part[mean].read_into(&mut all);
            }
            all
        })
    }

    pub(super) fn update(&mut self, value: Tensor<2>, gradient: Tensor<2>, step: &Step) -> Tensor<2> {
        let dims = value.dims();
        let n_blocks = dims[0] * dims[1] / BLOCK;
        let [value, gradient] = [value, gradient].map(|tensor| tensor.reshape([n_blocks, BLOCK]));
        let (mut start, mut values) = (0, Vec::with_capacity(self.parts.len()));
        for means in &mut self.parts {
            let n = means[0].scales.dims()[0];
            let [value, gradient] = [&value, &gradient].map(|tensor| tensor.clone().narrow(0, start, n));
            values.push(update(means, &self.tables, value, gradient, step));
            start += n;
        }
        Tensor::cat(values, 0).reshape(dims)
    }
}

/// Some blocks: their value after the step.
fn update(
    means: &mut [Part; 2],
    tables: &[Tensor<1>; 2],
    value: Tensor<2>,
    gradient: Tensor<2>,
    step: &Step,
) -> Tensor<2> {
    let first = moved(means[0].numbers(&tables[0]), gradient.clone(), step.shares[0]);
    let second = moved(means[1].numbers(&tables[1]), gradient.clone() * gradient, step.shares[1]);
    *means = [Part::nearest(first.clone(), &tables[0]), Part::nearest(second.clone(), &tables[1])];
    let denominator = second.sqrt() / step.corrections[1] + step.epsilon;
    let decayed = value.clone() - value * step.decay;
    decayed - first / step.corrections[0] * step.rate / denominator
}

/// As on the processor.
fn moved(mean: Tensor<2>, to: Tensor<2>, share: f32) -> Tensor<2> {
    let way = to.clone() - mean.clone();
    if share < 0.5 { way * share + mean } else { way * (share - 1.0) + to }
}

impl Part {
    fn of(codes: &[u8], scales: &[f32], device: &Device) -> Self {
        let words: Vec<i32> = codes.as_chunks().0.iter().map(|codes| i32::from_le_bytes(*codes)).collect();
        let n = scales.len();
        Self {
            words: Tensor::from_data(TensorData::new(words, [n, WORDS]), (device, DType::I32)),
            scales: Tensor::from_data(TensorData::new(scales.to_vec(), [n, 1]), (device, DType::F32)),
        }
    }

    /// Adds its codes and scales to `all`.
    fn read_into(&self, all: &mut Codes) {
        const GIVES: &str = "a device that opened gives its results back";
        let words = self.words.clone().try_into_vec_as::<i32>().expect(GIVES);
        all.codes.extend(words.into_iter().flat_map(i32::to_le_bytes));
        all.scales.extend(self.scales.clone().try_into_vec_as::<f32>().expect(GIVES));
    }

    /// What its codes stand for, `[blocks, 256]`.
    fn numbers(&self, table: &Tensor<1>) -> Tensor<2> {
        let [n, _] = self.words.dims();
        let of = |nth: usize| {
            let word = self.words.clone().bitwise_right_shift_scalar((8 * nth) as i32);
            word.bitwise_and_scalar(0xff).reshape([n, WORDS, 1])
        };
        let codes = Tensor::cat((0..IN_WORD).map(of).collect(), 2); // [blocks, 64, 4]
        table.clone().select(0, codes.reshape([n * BLOCK])).reshape([n, BLOCK]) * self.scales.clone()
    }

    /// The codes nearest to numbers, `[blocks, 256]`.
    fn nearest(numbers: Tensor<2>, table: &Tensor<1>) -> Self {
        let [n, _] = numbers.dims();
        let scales = numbers.clone().abs().max_dim(1).clamp_min(SMALLEST_SCALE); // [blocks, 1]
        let codes =
            nearest((numbers / scales.clone()).reshape([n * BLOCK]), table).reshape([n, WORDS, IN_WORD]);
        let of = |nth: usize| {
            codes.clone().narrow(2, nth, 1).reshape([n, WORDS]).bitwise_left_shift_scalar((8 * nth) as i32)
        };
        let words = (1..IN_WORD).fold(of(0), |words, nth| words.bitwise_or(of(nth)));
        Self { words, scales }
    }
}

/// The codes of the table's nearest, found by halves; of two as near the higher.
fn nearest(x: Tensor<1>, table: &Tensor<1>) -> Tensor<1, Int> {
    let value_of = |codes: Tensor<1, Int>| table.clone().select(0, codes);
    let mut low = Tensor::<1, Int>::zeros(x.dims(), (&x.device(), DType::I32));
    for bit in [128, 64, 32, 16, 8, 4, 2, 1] {
        let is_above = x.clone().greater_equal(value_of(low.clone() + bit));
        low = low + is_above.int().cast(IntDType::I32) * bit;
    }
    let high = (low.clone() + 1).clamp_max(255);
    let (value, next) = (value_of(low.clone()), value_of(high.clone()));
    let is_high = (x - value.clone()).greater_equal((next - value) * 0.5);
    low.mask_where(is_high, high)
}
