//! Dropout whose masks are drawn where they are used, and kept for the way back as a bit for each number.

use std::sync::Arc;

use burn::tensor::{Bool, Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{fused, numbers, own, plain, slice, tensor, tracked};
use crate::simd::vectorised;

/// Numbers per task: enough to pay for finding the place in a stream.
const TASK: usize = 16 * 1024;

/// Rows of `n_in` per task.
fn rows_of(n_in: usize) -> usize {
    (TASK / n_in).max(1)
}

/// Which inputs of a linear map are dropped.
#[derive(Debug, Clone)]
pub struct Mask {
    /// A number is dropped whose draw is below this.
    below: u32,
    /// What is left is multiplied by this, so that the sum is expected to stay.
    keep: f32,
    /// One for each sample, which draws once for each number of its positions, one after the other; and how many
    /// positions it has.
    streams: Arc<[(ChaCha8Rng, usize)]>,
}

impl Mask {
    /// Drops the share `share`, below 1, by the draws of these streams, each for so many positions.
    pub fn new(share: f64, streams: Vec<(ChaCha8Rng, usize)>) -> Self {
        let below = (share * f64::from(u32::MAX)).ceil() as u32;
        Self { below, keep: (1.0 / (1.0 - share)) as f32, streams: streams.into() }
    }

    /// For inputs of `n_in` numbers.
    pub(super) fn draw(&self, n_in: usize) -> Drawn {
        let (rows, words) = (rows_of(n_in), n_in.div_ceil(32));
        let mut bits = vec![0; self.streams.iter().map(|(_, n)| n * words).sum()];
        let (mut tasks, mut rest) = (Vec::new(), bits.as_mut_slice());
        for (stream, n) in self.streams.iter() {
            let (sample, others) = rest.split_at_mut(n * words);
            tasks.extend(
                sample.chunks_mut(rows * words).enumerate().map(|(i, part)| (stream, i * rows, part)),
            );
            rest = others;
        }
        tasks.into_par_iter().for_each(|(stream, first, part)| {
            let mut stream = stream.clone();
            stream.set_word_pos((first * n_in) as u128);
            let mut drawn = vec![0; 4 * n_in];
            for row in part.chunks_exact_mut(words) {
                stream.fill_bytes(&mut drawn);
                kept(&drawn, self.below, row);
            }
        });
        Drawn { n_in, bits, keep: self.keep }
    }
}

vectorised! {
    /// Sets the bits of what is kept of a row, whose draws are these little-endian numbers.
    fn kept<'a>(drawn: &'a [u8], below: u32, bits: &'a mut [u32]) {
        for (word, drawn) in bits.iter_mut().zip(drawn.chunks(4 * 32)) {
            *word = 0;
            for (i, drawn) in drawn.as_chunks().0.iter().enumerate() {
                *word |= u32::from(u32::from_le_bytes(*drawn) >= below) << i;
            }
        }
    }

    /// Of a row `x`, what is left.
    fn left_of<'a>(x: &'a [f32], bits: &'a [u32], keep: f32, y: &'a mut [f32]) {
        for ((y, x), word) in y.chunks_mut(32).zip(x.chunks(32)).zip(bits) {
            for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                *y = left(*x, *word, i, keep);
            }
        }
    }

    /// Of a row `x`, what is left, added to `y`.
    fn add_left_of<'a>(x: &'a [f32], bits: &'a [u32], keep: f32, y: &'a mut [f32]) {
        for ((y, x), word) in y.chunks_mut(32).zip(x.chunks(32)).zip(bits) {
            for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                *y += left(*x, *word, i, keep);
            }
        }
    }
}

/// `x · keep` where bit `i` is set, else 0, even of what is no number.
#[inline(always)]
fn left(x: f32, word: u32, i: usize, keep: f32) -> f32 {
    f32::from_bits((x * keep).to_bits() & ((word >> i) & 1).wrapping_neg())
}

/// What a mask drew.
#[derive(Debug, Clone)]
pub(super) struct Drawn {
    n_in: usize,
    /// A bit for each number, set where it is kept; each row begins with a word of its own.
    bits: Vec<u32>,
    keep: f32,
}

impl Drawn {
    /// What is left of `x`, `[n, in]`; a gradient on its way back is treated as what went forward.
    pub(super) fn left(&self, x: &FlexTensor) -> FlexTensor {
        let x = numbers(x);
        let mut y = vec![0.0; slice(&x).len()];
        self.rows(slice(&x), &mut y).for_each(|(y, x, bits)| left_of(x, bits, self.keep, y));
        tensor(y, &x)
    }

    /// Adds what is left of `x`, `[n, in]`, in the place of `y`, which is as large.
    pub(super) fn add_left(&self, y: &mut FlexTensor, x: &FlexTensor) {
        self.rows(slice(&numbers(x)), own(y)).for_each(|(y, x, bits)| add_left_of(x, bits, self.keep, y));
    }

    /// Each row of `y` and of `x` with its bits.
    fn rows<'a>(
        &'a self,
        x: &'a [f32],
        y: &'a mut [f32],
    ) -> impl ParallelIterator<Item = (&'a mut [f32], &'a [f32], &'a [u32])> {
        let (n_in, words) = (self.n_in, self.n_in.div_ceil(32));
        assert_eq!(x.len() * words, self.bits.len() * n_in, "every position belongs to a sample");
        let inputs = x.par_chunks(n_in).zip(self.bits.par_chunks(words));
        let rows = y.par_chunks_mut(n_in).zip(inputs).with_min_len(rows_of(n_in));
        rows.map(|(y, (x, bits))| (y, x, bits))
    }

    /// Of every number of `[n, in]`, whether it is dropped.
    fn dropped(&self) -> TensorData {
        let rows = self.bits.chunks(self.n_in.div_ceil(32));
        let dropped = rows.flat_map(|bits| (0..self.n_in).map(|i| (bits[i / 32] >> (i % 32)) & 1 == 0));
        let dropped: Vec<bool> = dropped.collect();
        let n = dropped.len() / self.n_in;
        TensorData::new(dropped, [n, self.n_in])
    }
}

/// `x` without what is dropped, the rest multiplied so that its sum is expected to stay.
///
/// # Shapes
///
/// - `x`: `[b·t, in]`, with as many positions as `mask`'s streams; the result has the same.
pub fn dropped(x: Tensor<2>, mask: &Mask) -> Tensor<2> {
    let drawn = mask.draw(x.dims()[1]);
    if !fused(&x) {
        let device = x.device().without_autodiff();
        let dropped = Tensor::<2, Bool>::from_data(drawn.dropped(), &device);
        return x.mask_fill(dropped, 0.0) * drawn.keep;
    }
    if !x.is_autodiff() {
        return Tensor::from_primitive::<Flex>(drawn.left(&plain(x)));
    }
    let x = tracked(x);
    let y = drawn.left(x.primitive());
    let prepared = Dropped.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(drawn, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

#[derive(Debug)]
struct Dropped;

impl Backward<Flex, 1> for Dropped {
    type State = Drawn;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let g = gradients.consume::<Flex>(&ops.node);
        let [node] = ops.parents;
        if let Some(node) = node {
            gradients.register::<Flex>(node.id, ops.state.left(&g));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Tensor};
    use rand::Rng;

    use super::{Mask, dropped};
    use crate::seed::rng;

    fn mask(share: f64, n_rows: usize, n_positions: usize) -> Mask {
        Mask::new(share, (0..n_rows).map(|row| (rng(3, &row.to_string()), n_positions)).collect())
    }

    /// What is left of ones.
    fn left(mask: &Mask, dims: [usize; 2]) -> Vec<f32> {
        dropped(Tensor::ones(dims, &Device::flex()), mask).try_into_vec_as().unwrap()
    }

    #[test]
    fn each_number_has_the_draw_of_its_place() {
        // Wider than a task, and several positions in one.
        for n_in in [7, 1000, 40_000] {
            let found = left(&mask(0.3, 2, 5), [2 * 5, n_in]);
            for (row, found) in found.chunks(5 * n_in).enumerate() {
                let mut stream = rng(3, &row.to_string());
                let below = 0.3 * f64::from(u32::MAX);
                let expected = found.iter().map(|_| f64::from(stream.next_u32()) < below);
                assert!(expected.eq(found.iter().map(|x| *x == 0.0)), "{n_in}");
            }
        }
    }

    #[test]
    fn the_share_is_dropped_and_the_mean_stays() {
        for share in [0.0, 0.05, 0.5, 0.9] {
            let found = left(&mask(share, 4, 100), [400, 100]);
            let zeros = found.iter().filter(|x| **x == 0.0).count() as f64 / 40_000.0;
            // Five standard deviations of a binomial.
            assert!((zeros - share).abs() <= 5.0 * (share * (1.0 - share) / 40_000.0).sqrt(), "{zeros}");
            let kept = (1.0 / (1.0 - share)) as f32;
            assert!(found.iter().all(|x| *x == 0.0 || *x == kept));
        }
    }

    #[test]
    fn padding_to_another_width_drops_the_same() {
        let (narrow, wide) = (left(&mask(0.5, 3, 4), [3 * 4, 11]), left(&mask(0.5, 3, 9), [3 * 9, 11]));
        for (narrow, wide) in narrow.chunks(4 * 11).zip(wide.chunks(9 * 11)) {
            assert_eq!(narrow, &wide[..4 * 11]);
        }
    }

    #[test]
    fn a_gradient_is_dropped_as_the_input_was_in_every_format() {
        let mask = mask(0.4, 2, 3);
        let expected = left(&mask, [2 * 3, 50]);
        for dtype in [DType::F32, DType::BF16] {
            let ones = || Tensor::<2>::ones([2 * 3, 50], (&Device::flex(), dtype));
            let x = ones().autodiff().require_grad();
            let y = dropped(x.clone(), &mask);
            let mut gradients = (y.clone() * ones()).sum().backward();
            let gradient = x.grad_remove(&mut gradients).unwrap();
            for found in [y.inner(), gradient] {
                let found = found.cast(DType::F32).try_into_vec_as::<f32>().unwrap();
                // 8 bits of bf16.
                assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= b / 256.0));
            }
        }
    }
}
