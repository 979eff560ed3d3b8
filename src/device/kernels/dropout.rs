//! Dropout whose masks are drawn where they are used, and drawn again on the way back: none is kept.

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

use super::{fused, numbers, own, plain, tracked};

/// Numbers per task: enough to pay for finding the place in a stream.
const TASK: usize = 16 * 1024;

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

    /// Tells `change` of each number of `[b·t, in]` whether it is dropped.
    fn each<T: Send>(&self, numbers: &mut [T], n_in: usize, change: impl Fn(&mut T, bool) + Sync) {
        let task = (TASK / n_in).max(1) * n_in;
        let mut samples = Vec::with_capacity(self.streams.len());
        let mut rest = numbers;
        for (stream, n) in self.streams.iter() {
            let (sample, others) = rest.split_at_mut(n * n_in);
            samples.push((sample, stream));
            rest = others;
        }
        assert!(rest.is_empty(), "every position belongs to a sample");
        samples.into_par_iter().for_each(|(sample, stream)| {
            sample.par_chunks_mut(task).enumerate().for_each(|(i, part)| {
                let mut stream = stream.clone();
                stream.set_word_pos((i * task) as u128);
                for number in part {
                    change(number, stream.next_u32() < self.below);
                }
            });
        });
    }

    /// In the place of `x`, `[b·t, in]`; a gradient on its way back is treated as what went forward.
    pub(super) fn apply(&self, x: &mut FlexTensor) {
        let [_, n_in] = x.layout().shape().dims();
        self.each(own(x), n_in, |x, dropped| *x = if dropped { 0.0 } else { *x * self.keep });
    }

    /// Of every number of `[n, in]`, whether it is dropped.
    fn dropped(&self, [n, n_in]: [usize; 2]) -> TensorData {
        let mut dropped = vec![false; n * n_in];
        self.each(&mut dropped, n_in, |number, dropped| *number = dropped);
        TensorData::new(dropped, [n, n_in])
    }
}

/// `x` without what is dropped, the rest multiplied so that its sum is expected to stay.
///
/// # Shapes
///
/// - `x`: `[b·t, in]`, with as many positions as `mask`'s streams; the result has the same.
pub fn dropped(x: Tensor<2>, mask: &Mask) -> Tensor<2> {
    if !fused(&x) {
        let device = x.device().without_autodiff();
        let dropped = Tensor::<2, Bool>::from_data(mask.dropped(x.dims()), &device);
        return x.mask_fill(dropped, 0.0) * mask.keep;
    }
    if !x.is_autodiff() {
        let mut y = numbers(&plain(x));
        mask.apply(&mut y);
        return Tensor::from_primitive::<Flex>(y);
    }
    let x = tracked(x);
    let mut y = numbers(x.primitive());
    mask.apply(&mut y);
    let prepared = Dropped.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(mask.clone(), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

#[derive(Debug)]
struct Dropped;

impl Backward<Flex, 1> for Dropped {
    type State = Mask;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let mut g = numbers(&gradients.consume::<Flex>(&ops.node));
        let [node] = ops.parents;
        if let Some(node) = node {
            ops.state.apply(&mut g);
            gradients.register::<Flex>(node.id, g);
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
