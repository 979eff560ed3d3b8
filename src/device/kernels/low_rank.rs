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

use super::again::Again;
use super::dropout::{Drawn, Mask};
use super::held::{Frozen, Weight, linear, linear_back};
use super::product::{Inputs, product};
use super::{fused, numbers, plain, rows, slice, tracked};

/// `x Wᵀ + s · drop(x) Aᵀ Bᵀ`, if the one-pass form can be used; `W` gets no gradient. What can be made again is not kept.
///
/// # Shapes
///
/// - `x`: `[n, in]`, `weight`: `[out, in]`, `a`: `[r, in]`, `b`: `[out, r]`
/// - result: `[n, out]`
pub fn low_rank_linear(
    x: &Tensor<2>,
    again: Option<Again>,
    weight: Weight<'_>,
    [a, b]: [&Tensor<2>; 2],
    scale: f64,
    (mask, inputs): (Option<&Mask>, Inputs),
) -> Option<Tensor<2>> {
    let is_here = match weight {
        Weight::Tensor(tensor) => (fused(tensor) || weight.is_held()) && !tensor.is_autodiff(),
        Weight::Quantised(_) => true,
    };
    if !(fused(x) && fused(a) && is_here) {
        return None;
    }
    let (map, scale) = (Map { weight: weight.frozen(), inputs }, scale as f32);
    let drawn = mask.map(|mask| mask.draw(x.dims()[1]));
    if !(x.is_autodiff() || a.is_autodiff() || b.is_autodiff()) {
        let (x, a, b) = (plain(x.clone()), plain(a.clone()), plain(b.clone()));
        return Some(Tensor::from_primitive::<Flex>(forward(&x, &map, &a, &b, scale, drawn.as_ref()).0));
    }
    let (x, a, b) = (tracked(x.clone()), tracked(a.clone()), tracked(b.clone()));
    let (y, low) = forward(x.primitive(), &map, a.primitive(), b.primitive(), scale, drawn.as_ref());
    let prepared = LowRankLinear.prepare::<NoCheckpointing>([x.node(), a.node(), b.node()]);
    Some(Tensor::from_primitive::<Autodiff<Flex>>(match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let [x, a, b] = [x, a, b].map(|tensor| tensor.primitive().clone());
            let x = again.map_or(Read::Kept(x), Read::Again);
            prepared.finish(State { x, map, a, b, low, scale, drawn }, y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }))
}

/// The frozen weight, and what its inputs are rounded to.
#[derive(Debug, Clone)]
struct Map {
    weight: Frozen,
    inputs: Inputs,
}

/// What the map read, `[n, in]`.
#[derive(Debug, Clone)]
enum Read {
    Kept(FlexTensor),
    Again(Again),
}

impl Read {
    fn rows(self, n_in: usize) -> FlexTensor {
        match self {
            Self::Kept(x) => x,
            Self::Again(again) => again.rows(n_in),
        }
    }
}

#[derive(Debug)]
struct LowRankLinear;

#[derive(Debug, Clone)]
struct State {
    x: Read,
    map: Map,
    a: FlexTensor,
    b: FlexTensor,
    /// `s · drop(x) Aᵀ`, `[n, r]`.
    low: FlexTensor,
    scale: f32,
    drawn: Option<Drawn>,
}

impl Backward<Flex, 3> for LowRankLinear {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let State { x, map, a, b, low, scale, drawn } = ops.state;
        let g = numbers(&gradients.consume::<Flex>(&ops.node)); // [n, out]
        let [x_node, a_node, b_node] = ops.parents;
        let d_low = scaled(product(&g, &b), scale); // [n, r]
        if let Some(node) = b_node {
            gradients.register::<Flex>(node.id, product(&g.transpose(0, 1), &low)); // [out, r]
        }
        if let Some(node) = a_node {
            let [_, n_in] = a.layout().shape().dims();
            let x = left(&x.rows(n_in), drawn.as_ref());
            gradients.register::<Flex>(node.id, product(&d_low.transpose(0, 1), &x)); // [r, in]
        }
        if let Some(node) = x_node {
            let d_x = linear_back(&g, &map.weight, map.inputs); // [n, in]
            let d_x = match &drawn {
                None => plus_product(d_x, &d_low, &a),
                Some(drawn) => {
                    let mut d_x = d_x;
                    drawn.add_left(&mut d_x, &product(&d_low, &a));
                    d_x
                }
            };
            gradients.register::<Flex>(node.id, d_x);
        }
    }
}

/// The result, and `s · drop(x) Aᵀ`.
fn forward(
    x: &FlexTensor,
    map: &Map,
    a: &FlexTensor,
    b: &FlexTensor,
    scale: f32,
    drawn: Option<&Drawn>,
) -> (FlexTensor, FlexTensor) {
    let low = scaled(product(&left(x, drawn), &a.transpose(0, 1)), scale); // [n, r]
    (plus_product(linear(x, &map.weight, map.inputs), &low, &b.transpose(0, 1)), low)
}

/// What dropout leaves of `x`: a copy that lives as long as the product it is made for.
fn left(x: &FlexTensor, drawn: Option<&Drawn>) -> FlexTensor {
    drawn.map_or_else(|| x.clone(), |drawn| drawn.left(x))
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

    use super::super::dropout::{Mask, dropped};
    use super::{Inputs, Weight, low_rank_linear};

    /// Numbers between −1 and 1 that look like no pattern.
    fn matrix(rows: usize, columns: usize, salt: usize, device: &Device) -> Tensor<2> {
        let number = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0;
        Tensor::from_data(TensorData::new((0..rows * columns).map(number).collect(), [rows, columns]), device)
    }

    #[test]
    fn values_and_gradients_are_those_of_the_composed_form() {
        let device = crate::device::open(&"cpu".parse().unwrap()).unwrap().device;
        let mask = Mask::new(0.4, (0..3).map(|row| (crate::seed::rng(1, &row.to_string()), 2)).collect());
        for (rank, mask) in [(1, None), (3, Some(&mask)), (4, None), (9, Some(&mask))] {
            let weight = matrix(7, 33, 1, &device);
            let leaf = |rows, columns, salt| matrix(rows, columns, salt, &device).autodiff().require_grad();
            let (x, a, b) = (leaf(6, 33, 2), leaf(rank, 33, 3), leaf(7, rank, 4));
            let seed = matrix(6, 7, 5, &device);
            let one_pass =
                low_rank_linear(&x, None, Weight::Tensor(&weight), [&a, &b], 0.5, (mask, Inputs::Exact))
                    .unwrap();
            let left = mask.map_or_else(|| x.clone(), |mask| dropped(x.clone(), mask));
            let low = left.matmul(a.clone().transpose());
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
