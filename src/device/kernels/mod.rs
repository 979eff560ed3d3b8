//! Operations of a block in one pass each on the processor, with their gradients.
//!
//! burn composes them of elementwise steps, each on one thread and each kept for backward. Here a
//! pass reads its inputs once, on all cores, and keeps only what the gradient needs. On other
//! devices, and in other formats than f32, the composed form is used; both give the same numbers
//! up to rounding.

use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData, activation};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};

use super::is_cpu;
use again::Source;

mod again;
mod attention;
pub mod cached;
mod cross_entropy;
mod dropout;
pub mod dynamic;
mod held;
mod low_rank;
mod math;
mod product;
mod quantised;
mod rows;
mod short;
mod soft_cap;
mod thin;

pub use again::{Again, Input};
pub use attention::{HeadShape, Spans, attend, attends};
pub use cross_entropy::cross_entropy;
pub use dropout::{Mask, dropped};
pub use held::{Weight, held_back, held_linear};
pub use low_rank::low_rank_linear;
pub use product::{Inputs, matmul};
pub use quantised::{BLOCK, Codes, Format, NF4, Quantised};
pub use soft_cap::{soft_cap, soft_cap_backward};
pub use thin::thin_linear;

/// A tensor on the processor that takes part in a gradient.
type Tracked = <Autodiff<Flex> as burn_backend::BackendTypes>::FloatTensorPrimitive;

/// Whether the one-pass form can be used.
fn fused<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_cpu(&x.device())
}

fn tracked<const D: usize>(x: Tensor<D>) -> Tracked {
    let x = x.autodiff().try_into_primitive::<Autodiff<Flex>>();
    x.expect("a tensor on the processor with autodiff")
}

fn plain<const D: usize>(x: Tensor<D>) -> FlexTensor {
    x.try_into_primitive::<Flex>().expect("a tensor on the processor without autodiff")
}

/// The numbers of a tensor in row-major order.
fn numbers(x: &FlexTensor) -> FlexTensor {
    x.to_contiguous()
}

fn slice(x: &FlexTensor) -> &[f32] {
    &x.storage::<f32>()[..x.layout().num_elements()]
}

/// The numbers of a contiguous tensor to write over; a copy of them if something else uses them.
fn own(x: &mut FlexTensor) -> &mut [f32] {
    if !x.is_unique() {
        // The tensor would copy itself on one thread.
        *x = tensor(rows::copy(slice(x)), x);
    }
    x.storage_mut()
}

fn tensor(values: Vec<f32>, like: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, like.layout().shape().clone()))
}

/// What a gate does to its input before it is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `x · σ(x)`.
    Silu,
    /// The tanh form of GELU: Hendrycks and Gimpel, 2016, arXiv 1606.08415.
    GeluTanh,
}

/// `act(gate) · up`, elementwise.
pub fn gated(act: Gate, gate: Tensor<3>, up: Tensor<3>) -> Input {
    if !fused(&gate) {
        let gate = match act {
            Gate::Silu => activation::silu(gate),
            Gate::GeluTanh => activation::gelu_approximate(gate),
        };
        return (gate * up).into();
    }
    if !(gate.is_autodiff() || up.is_autodiff()) {
        let (mut y, up) = (numbers(&plain(gate)), numbers(&plain(up)));
        rows::gated(act, own(&mut y), slice(&up));
        return Tensor::from_primitive::<Flex>(y).into();
    }
    let (gate, up) = (tracked(gate), tracked(up));
    let state = (act, numbers(gate.primitive()), numbers(up.primitive()));
    let mut y = state.1.clone();
    rows::gated(act, own(&mut y), slice(&state.2));
    let again = Again(Source::Gated { act, gate: state.1.clone(), up: state.2.clone() });
    let prepared = Gated.prepare::<NoCheckpointing>([gate.node(), up.node()]).compute_bound().stateful();
    let value = Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(state, y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    });
    Input { value, again: Some(again) }
}

#[derive(Debug)]
struct Gated;

impl Backward<Flex, 2> for Gated {
    type State = (Gate, FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (act, mut gate, up) = ops.state;
        let mut g = numbers(&gradients.consume::<Flex>(&ops.node));
        rows::gated_backward(act, own(&mut gate), slice(&up), own(&mut g));
        let [gate_node, up_node] = ops.parents;
        if let Some(node) = gate_node {
            gradients.register::<Flex>(node.id, gate);
        }
        if let Some(node) = up_node {
            gradients.register::<Flex>(node.id, g);
        }
    }
}

/// `x / √(mean(x²) + ε) · weight` over the last dimension, if the one-pass form can be used.
///
/// # Shapes
///
/// - `x`: `[b, t, m]`, `weight`: `[1, m]`
pub fn rms_norm(x: &Tensor<3>, weight: &Tensor<2>, epsilon: f64) -> Option<Input> {
    if !fused(x) || weight.dtype() != DType::F32 {
        return None;
    }
    let (x, weight, epsilon) = (x.clone(), weight.clone(), epsilon as f32);
    if !(x.is_autodiff() || weight.is_autodiff()) {
        let (x, weight) = (numbers(&plain(x)), numbers(&plain(weight)));
        let (y, _) = rows::rms_norm(slice(&x), slice(&weight), epsilon);
        return Some(Tensor::from_primitive::<Flex>(tensor(y, &x)).into());
    }
    let (x, weight) = (tracked(x), tracked(weight));
    let (values, weights) = (numbers(x.primitive()), numbers(weight.primitive()));
    let (y, scales) = rows::rms_norm(slice(&values), slice(&weights), epsilon);
    let (y, scales) = (tensor(y, &values), Arc::new(scales));
    let source = Source::Normed { x: values.clone(), weight: weights.clone(), scales: scales.clone() };
    let prepared = RmsNorm.prepare::<NoCheckpointing>([x.node(), weight.node()]).compute_bound().stateful();
    let value = Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((values, weights, scales), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    });
    Some(Input { value, again: Some(Again(source)) })
}

#[derive(Debug)]
struct RmsNorm;

impl Backward<Flex, 2> for RmsNorm {
    type State = (FlexTensor, FlexTensor, Arc<Vec<f32>>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight, scales) = ops.state;
        let g = numbers(&gradients.consume::<Flex>(&ops.node));
        let [x_node, weight_node] = ops.parents;
        if let Some(node) = weight_node {
            let d_weight = rows::rms_norm_weight(slice(&x), &scales, slice(&g), slice(&weight).len());
            gradients.register::<Flex>(node.id, tensor(d_weight, &weight));
        }
        if let Some(node) = x_node {
            let d_x = rows::rms_norm_backward(slice(&x), slice(&weight), &scales, slice(&g));
            gradients.register::<Flex>(node.id, tensor(d_x, &x));
        }
    }
}

/// Rotary embedding of every head, `composed` where the one-pass form cannot be used.
///
/// # Shapes
///
/// - `x`: `[b, heads, t, d]`
/// - `angles`: cosines and sines of `[b or 1, t, d / 2]`, flattened
pub fn rotate(x: Tensor<4>, angles: &Angles, composed: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    if !fused(&x) {
        return composed(x);
    }
    let dims = x.dims();
    if !x.is_autodiff() {
        let mut y = numbers(&plain(x));
        rows::rotate(own(&mut y), dims, angles, 1.0);
        return Tensor::from_primitive::<Flex>(y);
    }
    let x = tracked(x);
    let mut y = numbers(x.primitive());
    rows::rotate(own(&mut y), dims, angles, 1.0);
    let prepared = Rotate.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((angles.clone(), dims), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

/// Cosines and sines of a batch's positions, on the processor.
#[derive(Debug, Clone)]
pub struct Angles {
    pub cos: Arc<Vec<f32>>,
    pub sin: Arc<Vec<f32>>,
    /// Pairs of a head that turn.
    pub half: usize,
}

#[derive(Debug)]
struct Rotate;

impl Backward<Flex, 1> for Rotate {
    type State = (Angles, [usize; 4]);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (angles, dims) = ops.state;
        let mut g = numbers(&gradients.consume::<Flex>(&ops.node));
        let [node] = ops.parents;
        if let Some(node) = node {
            // A rotation's gradient is the rotation back.
            rows::rotate(own(&mut g), dims, &angles, -1.0);
            gradients.register::<Flex>(node.id, g);
        }
    }
}

/// Softmax over the last dimension of scores to which a mask is added.
///
/// # Shapes
///
/// - `scores`: `[b, h, t, s]` in f32
/// - `mask`: `[b or 1, 1, t, s]`
pub fn masked_softmax(scores: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<4> {
    if !fused(&scores) {
        let scores = match mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        return activation::softmax(scores, 3);
    }
    let mask = mask.map(|mask| numbers(&plain(mask.clone().inner())));
    let mask = mask.as_ref().map(slice);
    let [b, h, t, s] = scores.dims();
    if !scores.is_autodiff() {
        let mut y = numbers(&plain(scores));
        rows::softmax(own(&mut y), mask, [b, h, t, s]);
        return Tensor::from_primitive::<Flex>(y);
    }
    let x = tracked(scores);
    let mut y = numbers(x.primitive());
    rows::softmax(own(&mut y), mask, [b, h, t, s]);
    let prepared = Softmax.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish(y.clone(), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

#[derive(Debug)]
struct Softmax;

impl Backward<Flex, 1> for Softmax {
    type State = FlexTensor;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let y = ops.state;
        let g = numbers(&gradients.consume::<Flex>(&ops.node));
        let [node] = ops.parents;
        if let Some(node) = node {
            let width = y.layout().shape().dims::<4>()[3];
            gradients
                .register::<Flex>(node.id, tensor(rows::softmax_backward(slice(&y), slice(&g), width), &y));
        }
    }
}
