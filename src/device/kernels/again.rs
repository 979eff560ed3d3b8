//! Inputs of linear maps that are made again on the way back.
//!
//! The gradient of an adapter needs what its map read. Of a gate or a norm that is a pass over numbers which these keep
//! for gradients of their own: of a block of Qwen2.5-0.5B a third of what would be kept otherwise.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::{Gate, own, rows, slice, tensor};

/// What linear maps read.
#[derive(Debug, Clone)]
pub struct Input {
    /// `[b, t, in]`.
    pub value: Tensor<3>,
    /// How its numbers are made again, where somebody keeps what they are made of.
    pub again: Option<Again>,
}

impl From<Tensor<3>> for Input {
    fn from(value: Tensor<3>) -> Self {
        Self { value, again: None }
    }
}

/// How numbers are made again, bit for bit.
#[derive(Debug, Clone)]
pub struct Again(pub(super) Source);

/// What they are made of.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Gated { act: Gate, gate: FlexTensor, up: FlexTensor },
    Normed { x: FlexTensor, weight: FlexTensor, scales: Arc<Vec<f32>> },
}

impl Again {
    /// `[n, n_in]`.
    pub(super) fn rows(self, n_in: usize) -> FlexTensor {
        let y = match self.0 {
            Source::Gated { act, mut gate, up } => {
                rows::gated(act, own(&mut gate), slice(&up));
                gate
            }
            Source::Normed { x, weight, scales } => {
                tensor(rows::normed(slice(&x), slice(&weight), &scales), &x)
            }
        };
        let n = y.layout().num_elements() / n_in;
        y.reshape([n, n_in].into())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::super::{Gate, Inputs, Mask, Weight, gated, low_rank_linear, rms_norm};
    use super::{Again, Input};

    /// Numbers between −1 and 1 that look like no pattern.
    fn numbers<const D: usize>(dims: [usize; D], salt: usize) -> Tensor<D> {
        let number = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0;
        let values = (0..dims.iter().product()).map(number).collect();
        Tensor::from_data(TensorData::new(values, dims), &Device::flex())
    }

    /// What two maps with adapters make of what is `made` of leaves, and the gradients of leaves and factors.
    fn found(
        leaves: &[Tensor<3>; 2],
        made: impl Fn(&[Tensor<3>; 2]) -> Input,
        keep: impl Fn(Option<Again>) -> Option<Again>,
        mask: Option<&Mask>,
    ) -> Vec<Vec<f32>> {
        let leaves = leaves.clone().map(|leaf| leaf.autodiff().require_grad());
        let Input { value, again } = made(&leaves);
        assert!(again.is_some());
        let rows = value.reshape([6, 33]);
        let (mut out, mut factors) = (Tensor::<1>::zeros([1], &Device::flex()).autodiff(), Vec::new());
        for salt in [5, 6] {
            let weight = numbers([7, 33], salt);
            let [a, b] = [numbers([3, 33], salt + 2), numbers([7, 3], salt + 4)];
            let [a, b] = [a, b].map(|factor| factor.autodiff().require_grad());
            let y = low_rank_linear(
                &rows,
                keep(again.clone()),
                Weight::Tensor(&weight),
                [&a, &b],
                0.5,
                (mask, Inputs::Exact),
            );
            out = out + (y.unwrap() * numbers([6, 7], salt + 7)).sum();
            factors.extend([a, b]);
        }
        let mut gradients = out.clone().backward();
        let of_leaves =
            leaves.iter().filter_map(|leaf| leaf.grad_remove(&mut gradients)).map(Tensor::into_data);
        let mut found = vec![out.into_data()];
        found.extend(of_leaves);
        found.extend(factors.iter().map(|factor| factor.grad_remove(&mut gradients).unwrap().into_data()));
        found.into_iter().map(|data| data.try_to_vec().unwrap()).collect()
    }

    #[test]
    fn what_is_made_again_gives_the_same_bits() {
        let leaves = [numbers([2, 3, 33], 1), numbers([2, 3, 33], 2)];
        let mask = Mask::new(0.4, (0..2).map(|row| (crate::seed::rng(1, &row.to_string()), 3)).collect());
        for mask in [None, Some(&mask)] {
            let both = |made: &dyn Fn(&[Tensor<3>; 2]) -> Input, n: usize| {
                let again = found(&leaves, made, |again| again, mask);
                assert_eq!(again, found(&leaves, made, |_| None, mask));
                assert_eq!(again.len(), 1 + n + 4);
            };
            for act in [Gate::Silu, Gate::GeluTanh] {
                both(&|[gate, up]| gated(act, gate.clone(), up.clone()), 2);
            }
            let weight = numbers([1, 33], 3);
            both(&|[x, _]| rms_norm(x, &weight, 1e-5).unwrap(), 1);
        }
    }
}
