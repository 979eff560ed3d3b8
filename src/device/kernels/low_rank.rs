//! A linear map with a low-rank adapter as one operation on the processor.
//!
//! Composed, the adapter's update is a matrix as large as the map's output: multiplied, scaled,
//! added, and all of it again on the way back. Here it is added row by row to what is there.

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};

use super::product::product;
use super::{fused, numbers, plain, rows, slice, tracked};

/// `x Wᵀ + s · x Aᵀ Bᵀ`, if the one-pass form can be used; `W` gets no gradient.
///
/// # Shapes
///
/// - `x`: `[n, in]`, `weight`: `[out, in]`, `a`: `[r, in]`, `b`: `[out, r]`
/// - result: `[n, out]`
pub fn low_rank_linear(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    [a, b]: [&Tensor<2>; 2],
    scale: f64,
) -> Option<Tensor<2>> {
    if !(fused(x) && fused(weight) && fused(a)) || weight.is_autodiff() {
        return None;
    }
    let (weight, scale) = (plain(weight.clone()), scale as f32);
    if !(x.is_autodiff() || a.is_autodiff() || b.is_autodiff()) {
        let (x, a, b) = (plain(x.clone()), plain(a.clone()), plain(b.clone()));
        return Some(Tensor::from_primitive::<Flex>(forward(&x, &weight, &a, &b, scale).0));
    }
    let (x, a, b) = (tracked(x.clone()), tracked(a.clone()), tracked(b.clone()));
    let (y, low) = forward(x.primitive(), &weight, a.primitive(), b.primitive(), scale);
    let prepared = LowRankLinear.prepare::<NoCheckpointing>([x.node(), a.node(), b.node()]);
    Some(Tensor::from_primitive::<Autodiff<Flex>>(match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let [x, a, b] = [x, a, b].map(|tensor| tensor.primitive().clone());
            prepared.finish(State { x, weight, a, b, low, scale }, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }))
}

#[derive(Debug)]
struct LowRankLinear;

#[derive(Debug, Clone)]
struct State {
    x: FlexTensor,
    weight: FlexTensor,
    a: FlexTensor,
    b: FlexTensor,
    /// `s · x Aᵀ`, `[n, r]`.
    low: FlexTensor,
    scale: f32,
}

impl Backward<Flex, 3> for LowRankLinear {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let State { x, weight, a, b, low, scale } = ops.state;
        let g = numbers(&gradients.consume::<Flex>(&ops.node)); // [n, out]
        let [x_node, a_node, b_node] = ops.parents;
        let d_low = scaled(product(&g, &b), scale); // [n, r]
        if let Some(node) = b_node {
            gradients.register::<Flex>(node.id, product(&g.transpose(0, 1), &low)); // [out, r]
        }
        if let Some(node) = a_node {
            gradients.register::<Flex>(node.id, product(&d_low.transpose(0, 1), &x)); // [r, in]
        }
        if let Some(node) = x_node {
            gradients.register::<Flex>(node.id, plus_product(product(&g, &weight), &d_low, &a)); // [n, in]
        }
    }
}

/// The result, and `s · x Aᵀ`.
fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    a: &FlexTensor,
    b: &FlexTensor,
    scale: f32,
) -> (FlexTensor, FlexTensor) {
    let low = scaled(product(x, &a.transpose(0, 1)), scale); // [n, r]
    (plus_product(product(x, &weight.transpose(0, 1)), &low, &b.transpose(0, 1)), low)
}

fn scaled(mut x: FlexTensor, scale: f32) -> FlexTensor {
    x.storage_mut::<f32>().iter_mut().for_each(|x| *x *= scale);
    x
}

/// `y + low · factor`; `y`, a product of its own, is changed in place.
fn plus_product(mut y: FlexTensor, low: &FlexTensor, factor: &FlexTensor) -> FlexTensor {
    let (low, factor) = (numbers(low), numbers(factor));
    let [rank, width] = factor.layout().shape().dims();
    rows::add_product(y.storage_mut::<f32>(), slice(&low), slice(&factor), [rank, width]);
    y
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use burn_backend::Tolerance;

    use super::low_rank_linear;

    /// Numbers between −1 and 1 that look like no pattern.
    fn matrix(rows: usize, columns: usize, salt: usize, device: &Device) -> Tensor<2> {
        let number = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0;
        Tensor::from_data(TensorData::new((0..rows * columns).map(number).collect(), [rows, columns]), device)
    }

    #[test]
    fn values_and_gradients_are_those_of_the_composed_form() {
        let device = crate::device::open(&"cpu".parse().unwrap()).unwrap().device;
        for rank in [1, 3, 4, 9] {
            let weight = matrix(7, 33, 1, &device);
            let leaf = |rows, columns, salt| matrix(rows, columns, salt, &device).autodiff().require_grad();
            let (x, a, b) = (leaf(5, 33, 2), leaf(rank, 33, 3), leaf(7, rank, 4));
            let seed = matrix(5, 7, 5, &device);
            let one_pass = low_rank_linear(&x, &weight, [&a, &b], 0.5).unwrap();
            let low = x.clone().matmul(a.clone().transpose());
            let composed = x.clone().matmul(weight.transpose()) + low.matmul(b.clone().transpose()) * 0.5;
            let close = Tolerance::<f32>::rel_abs(1e-5, 1e-5);
            one_pass.clone().into_data().assert_approx_eq(&composed.clone().into_data(), close);
            let mut ours = (one_pass * seed.clone()).sum().backward();
            let mut theirs = (composed * seed).sum().backward();
            for leaf in [&x, &a, &b] {
                let (ours, theirs) = (leaf.grad_remove(&mut ours), leaf.grad_remove(&mut theirs));
                ours.unwrap().into_data().assert_approx_eq(&theirs.unwrap().into_data(), close);
            }
        }
    }
}
