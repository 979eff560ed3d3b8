//! A matrix in 4 or 8 bits on a device that is not the processor: words that are taken apart by the device for each product.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::device::kernels::dynamic::{self, SIGNED};
use crate::device::kernels::{BLOCK, Codes, NF4, Quantised};

/// Bits of a word.
const WORD: usize = 32;

/// The codes of a [`Quantised`] matrix as words, and its scales.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    /// `[rows, columns]`.
    pub(super) dims: [usize; 2],
    codes: Form,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "it is kept in a box")]
enum Form {
    Nf4 {
        /// Eight levels a word, the first in the lowest bits.
        levels: Words,
        /// Four scales a word.
        scales: Words,
        /// By as many scales as share one.
        largest: Tensor<1>,
        mean: f32,
    },
    Int8 {
        /// Four codes a word, each above the least.
        codes: Words,
        /// `[rows, 1]`.
        scales: Tensor<2>,
    },
}

/// Whole numbers of a few bits each.
#[derive(Debug, Clone)]
struct Words {
    words: Tensor<1, Int>,
    bits: usize,
    n: usize,
}

impl Words {
    fn new(codes: impl Iterator<Item = u8>, bits: usize, device: &Device) -> Self {
        let codes: Vec<u8> = codes.collect();
        let word = |some: &[u8]| {
            let place = |(i, code): (usize, &u8)| u32::from(*code) << (i * bits);
            some.iter().enumerate().map(place).fold(0, |word, code| word | code).cast_signed()
        };
        let words: Vec<i32> = codes.chunks(WORD / bits).map(word).collect();
        let n_words = words.len();
        let words = Tensor::from_data(TensorData::new(words, [n_words]), (device, DType::I32));
        Self { words, bits, n: codes.len() }
    }

    /// All of them, `[n]`.
    fn apart(&self) -> Tensor<1, Int> {
        let (n_words, each) = (self.words.dims()[0], WORD / self.bits);
        let mask = (1i32 << self.bits) - 1;
        let places = (0..each).map(|i| {
            let shifted = self.words.clone().bitwise_right_shift_scalar((i * self.bits) as i32);
            shifted.bitwise_and_scalar(mask).reshape([n_words, 1])
        });
        let all = Tensor::cat(places.collect(), 1).reshape([n_words * each]);
        all.narrow(0, 0, self.n)
    }
}

impl Blocks {
    pub(super) fn new(weight: &Quantised, device: &Device) -> Self {
        let floats = |values: &[f32]| TensorData::new(values.to_vec(), [values.len()]);
        let on = (device, DType::F32);
        let codes = match &weight.codes {
            Codes::Nf4 { levels, scales } => Form::Nf4 {
                levels: Words::new(levels.iter().flat_map(|two| [two >> 4, two & 15]), 4, device),
                scales: Words::new(scales.distances.codes.iter().copied(), 8, device),
                largest: Tensor::from_data(floats(&scales.distances.scales), on),
                mean: scales.mean,
            },
            Codes::Int8 { codes, scales } => Form::Int8 {
                codes: Words::new(codes.iter().map(|code| code.cast_unsigned() ^ 128), 8, device),
                scales: Tensor::<1>::from_data(floats(scales), on).reshape([weight.dims[0], 1]),
            },
        };
        Self { dims: weight.dims, codes }
    }

    /// The numbers, in f32 and then in the format `dtype`.
    pub(super) fn numbers(&self, dtype: DType) -> Tensor<2> {
        let [rows, columns] = self.dims;
        let numbers = match &self.codes {
            Form::Nf4 { levels, scales, largest, mean } => {
                let on = (&largest.device(), DType::F32);
                let map = |levels: &[f32], at: Tensor<1, Int>| {
                    let map = Tensor::<1>::from_data(TensorData::new(levels.to_vec(), [levels.len()]), on);
                    map.select(0, at)
                };
                let own = spread(largest.clone(), dynamic::BLOCK, scales.n);
                let scales = map(&*SIGNED, scales.apart()) * own + *mean;
                let all = map(&NF4, levels.apart()).narrow(0, 0, rows * columns);
                let scales = spread(scales, BLOCK, rows * columns);
                (all * scales).reshape([rows, columns])
            }
            Form::Int8 { codes, scales } => {
                let codes = codes.apart().float().cast(DType::F32) - 128.0;
                codes.reshape([rows, columns]) * (scales.clone() / 127.0)
            }
        };
        numbers.cast(dtype)
    }
}

/// The first `n` of numbers that stand `times` each.
fn spread(x: Tensor<1>, times: usize, n: usize) -> Tensor<1> {
    let some = x.dims()[0];
    x.reshape([some, 1]).repeat_dim(1, times).reshape([some * times]).narrow(0, 0, n)
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::Blocks;
    use crate::device::cpu;
    use crate::device::kernels::{Format, Quantised};

    #[test]
    fn a_device_takes_words_apart_into_the_numbers_of_the_processor() {
        for dims in [[3, 7], [16, 64], [137, 124], [5, 3300]] {
            let number = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0;
            let values: Vec<f32> = (0..dims[0] * dims[1]).map(number).collect();
            for format in [Format::Nf4, Format::Int8] {
                let matrix = Quantised::of(format, &values, dims);
                let found = Blocks::new(&matrix, &cpu()).numbers(DType::F32);
                assert_eq!(found.dims(), dims);
                let found = found.into_data_as::<f32>();
                for (found, wanted) in found.as_slice::<f32>().unwrap().iter().zip(matrix.to_f32()) {
                    assert!((found - wanted).abs() <= 1e-6 * wanted.abs().max(0.1), "{format:?} {dims:?}");
                }
            }
        }
    }
}
