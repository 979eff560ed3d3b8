//! Scores and logits kept between plus and minus a cap, in one pass.
//!
//! Gemma team, "Gemma 2", 2024, arXiv 2408.00118, section 2.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};

use super::{fused, numbers, plain, rows, slice, tensor, tracked};

/// `cap · tanh(x / cap)`; without a cap, `x`.
pub fn soft_cap<const D: usize>(x: Tensor<D>, cap: Option<f64>) -> Tensor<D> {
    let Some(cap) = cap else { return x };
    if !fused(&x) {
        return (x / cap).tanh() * cap;
    }
    let cap = cap as f32;
    if !x.is_autodiff() {
        let x = numbers(&plain(x));
        return Tensor::from_primitive::<Flex>(tensor(rows::soft_cap(slice(&x), cap), &x));
    }
    let x = tracked(x);
    let values = numbers(x.primitive());
    let y = tensor(rows::soft_cap(slice(&values), cap), &values);
    let prepared = SoftCap.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((y.clone(), cap), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

/// The gradient `g` of [`soft_cap`]'s result `y` carried to what it was of.
pub fn soft_cap_backward<const D: usize>(y: Tensor<D>, g: Tensor<D>, cap: f64) -> Tensor<D> {
    if !(fused(&y) && fused(&g)) {
        return g * ((y / cap).square() * -1.0 + 1.0);
    }
    let (y, g) = (numbers(&plain(y)), numbers(&plain(g)));
    let d_x = rows::soft_cap_backward(slice(&y), slice(&g), cap as f32);
    Tensor::from_primitive::<Flex>(tensor(d_x, &y))
}

#[derive(Debug)]
struct SoftCap;

impl Backward<Flex, 1> for SoftCap {
    type State = (FlexTensor, f32);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (y, cap) = ops.state;
        let g = numbers(&gradients.consume::<Flex>(&ops.node));
        let [node] = ops.parents;
        if let Some(node) = node {
            let d_x = rows::soft_cap_backward(slice(&y), slice(&g), cap);
            gradients.register::<Flex>(node.id, tensor(d_x, &y));
        }
    }
}
