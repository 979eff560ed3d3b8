//! A frozen weight in the format that it lies in, on the processor.
//!
//! A number in 16 bits is exact in f32, so a product with a weight that is kept in bf16 or f16 is that with its copy in
//! f32, at half the memory. A part of the weight at a time is made f32 where the nearest memory holds it; few rows of
//! input read it as it lies ([`super::thin_linear`]). On request the input is rounded to bf16 too. Where there are
//! instructions for bf16, [`super::short`] has the products.

use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::{Flex, FlexTensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::product::{Inputs, Part, Side, product, product_into};
use super::quantised::Quantised;
use super::{fused, is_cpu, numbers, plain, short, slice, tracked};
use crate::simd::vectorised;

/// Numbers of a weight that are f32 at once: with what they are multiplied by, they stay in the cache that cores share.
const PART: usize = 1 << 20;
/// Numbers that one task makes f32.
const TASK: usize = 32 * 1024;

/// A weight that is multiplied by and gets no gradient.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    Tensor(&'a Tensor<2>),
    Quantised(&'a Arc<Quantised>),
}

impl Weight<'_> {
    /// Whether it is kept on the processor in a format of its own.
    pub(super) fn is_held(self) -> bool {
        match self {
            Self::Tensor(tensor) => is_held(tensor),
            Self::Quantised(_) => true,
        }
    }

    pub(super) fn frozen(self) -> Frozen {
        match self {
            Self::Tensor(tensor) => Frozen::Tensor(plain(tensor.clone())),
            Self::Quantised(weight) => Frozen::Quantised(weight.clone()),
        }
    }
}

/// The same, kept for the way back.
#[derive(Debug, Clone)]
pub(super) enum Frozen {
    Tensor(FlexTensor),
    Quantised(Arc<Quantised>),
}

/// The numbers of a weight.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
    Quantised(&'a Quantised),
}

impl<'a> Held<'a> {
    /// Of a contiguous tensor.
    pub(super) fn of(weight: &'a FlexTensor) -> Self {
        let n = weight.layout().num_elements();
        match weight.dtype() {
            DType::BF16 => Self::Bf16(&weight.storage()[..n]),
            DType::F16 => Self::F16(&weight.storage()[..n]),
            _ => Self::F32(&weight.storage()[..n]),
        }
    }

    /// As many numbers as `out` takes, from the `start`th on.
    pub(super) fn read(self, start: usize, out: &mut [f32]) {
        let end = start + out.len();
        match self {
            Self::F32(numbers) => out.copy_from_slice(&numbers[start..end]),
            Self::Bf16(numbers) => widen(&numbers[start..end], out),
            Self::F16(numbers) => numbers[start..end].convert_to_f32_slice(out),
            Self::Quantised(weight) => weight.read(start, out),
        }
    }
}

vectorised! {
    fn widen<'a>(short: &'a [bf16], wide: &'a mut [f32]) {
        for (wide, short) in wide.iter_mut().zip(short) {
            *wide = f32::from_bits(u32::from(short.to_bits()) << 16);
        }
    }

    /// To the nearest bf16, ties to even.
    fn round<'a>(x: &'a mut [f32]) {
        for x in x {
            let bits = x.to_bits();
            let up = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
            *x = if x.is_nan() { *x } else { f32::from_bits(up) };
        }
    }
}

/// The nearest numbers in bf16.
pub(super) fn rounded(x: &[f32]) -> Vec<f32> {
    let mut x = x.to_vec();
    round(&mut x);
    x
}

/// Whether the weight is kept on the processor in a format of its own.
pub(super) fn is_held(weight: &Tensor<2>) -> bool {
    matches!(weight.dtype(), DType::BF16 | DType::F16) && is_cpu(&weight.device()) && !weight.is_autodiff()
}

/// `x Wᵀ` for a weight that is kept on the processor in another format than f32; `W` gets no gradient.
///
/// # Shapes
///
/// - `x`: `[n, in]` in f32, `weight`: `[out, in]`
/// - result: `[n, out]`
pub fn held_linear(x: &Tensor<2>, weight: Weight<'_>, inputs: Inputs) -> Option<Tensor<2>> {
    if !(fused(x) && weight.is_held()) {
        return None;
    }
    let weight = weight.frozen();
    if !x.is_autodiff() {
        return Some(Tensor::from_primitive::<Flex>(linear(&plain(x.clone()), &weight, inputs)));
    }
    let x = tracked(x.clone());
    let y = linear(x.primitive(), &weight, inputs);
    let prepared = HeldLinear.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful();
    Some(Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => prepared.finish((weight, inputs), y),
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    }))
}

#[derive(Debug)]
struct HeldLinear;

impl Backward<Flex, 1> for HeldLinear {
    type State = (Frozen, Inputs);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (weight, inputs) = ops.state;
        let g = gradients.consume::<Flex>(&ops.node);
        let [node] = ops.parents;
        if let Some(node) = node {
            gradients.register::<Flex>(node.id, linear_back(&g, &weight, inputs));
        }
    }
}

/// `y W` without gradients, for such a weight.
///
/// # Shapes
///
/// - `y`: `[n, out]` in f32, `weight`: `[out, in]`
/// - result: `[n, in]`
pub fn held_back(y: &Tensor<2>, weight: Weight<'_>, inputs: Inputs) -> Option<Tensor<2>> {
    if !(fused(y) && weight.is_held()) || y.is_autodiff() {
        return None;
    }
    let y = linear_back(&plain(y.clone()), &weight.frozen(), inputs);
    Some(Tensor::from_primitive::<Flex>(y))
}

/// `x Wᵀ` for a weight in any format.
pub(super) fn linear(x: &FlexTensor, weight: &Frozen, inputs: Inputs) -> FlexTensor {
    match weight {
        Frozen::Tensor(weight) if weight.dtype() == DType::F32 => product(x, &weight.transpose(0, 1)),
        _ => multiplied(x, weight, Side::Turned, inputs),
    }
}

/// `g W` for a weight in any format.
pub(super) fn linear_back(g: &FlexTensor, weight: &Frozen, inputs: Inputs) -> FlexTensor {
    match weight {
        Frozen::Tensor(weight) if weight.dtype() == DType::F32 => product(g, weight),
        _ => multiplied(g, weight, Side::AsItLies, inputs),
    }
}

fn multiplied(x: &FlexTensor, weight: &Frozen, side: Side, inputs: Inputs) -> FlexTensor {
    let mut x = numbers(x);
    let tensor;
    let (held, [n_out, n_in]) = match weight {
        Frozen::Tensor(weight) => {
            tensor = numbers(weight);
            (Held::of(&tensor), tensor.layout().shape().dims())
        }
        Frozen::Quantised(weight) => (Held::Quantised(weight), weight.dims),
    };
    let [m, k] = x.layout().shape().dims();
    let n = if side == Side::Turned { n_out } else { n_in };
    let sizes = [m, k, n];
    let y = match (held, inputs) {
        (Held::Bf16(weight), _) if short::is_native(inputs) => {
            short::product(slice(&x), weight, inputs, side, sizes)
        }
        (Held::Quantised(weight), Inputs::Bf16) if short::is_native(inputs) => {
            short::product(slice(&x), &weight.to_bf16(), inputs, side, sizes)
        }
        (_, Inputs::Exact) => exact(slice(&x), held, side, sizes),
        (_, Inputs::Bf16) => {
            x.storage_mut::<f32>().par_chunks_mut(TASK).for_each(round);
            exact(slice(&x), held, side, sizes)
        }
    };
    FlexTensor::from_data(TensorData::new(y, [m, n]))
}

/// The product with the weight's numbers made f32, some of its rows after the others.
fn exact(x: &[f32], held: Held<'_>, side: Side, [m, k, n]: [usize; 3]) -> Vec<f32> {
    let (n_rows, width) = if side == Side::Turned { (n, k) } else { (k, n) };
    let mut y = vec![0.0; m * n];
    let some = (PART / width.max(1)).clamp(1, n_rows.max(1));
    let mut wide = vec![0.0; some * width];
    for first in (0..n_rows).step_by(some) {
        let rows = some.min(n_rows - first);
        let wide = &mut wide[..rows * width];
        let parts = wide.par_chunks_mut(TASK).enumerate();
        parts.for_each(|(i, part)| held.read(first * width + i * TASK, part));
        match side {
            Side::Turned => {
                let (x, w) = (Part::of(x, [m, k]), Part::of(wide, [rows, k]).turned());
                product_into(&mut y[first..], n, x, w, false, true);
            }
            Side::AsItLies => {
                let x = Part { numbers: &x[first..], size: [m, rows], steps: [k, 1] };
                product_into(&mut y, n, x, Part::of(wide, [rows, n]), first > 0, true);
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Tensor, TensorData};

    use super::super::thin_linear;
    use super::{Inputs, Weight, held_back, held_linear};

    fn some(dims: [usize; 2], salt: usize) -> Tensor<2> {
        let number = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0;
        let n = dims.iter().product();
        Tensor::from_data(TensorData::new((0..n).map(number).collect(), dims), &Device::flex())
    }

    fn worst(a: Tensor<2>, b: Tensor<2>) -> f32 {
        (a - b).abs().max().into_scalar::<f32>()
    }

    const SIZES: [[usize; 3]; 6] =
        [[1, 1, 1], [3, 5, 7], [13, 33, 65], [97, 130, 48], [1, 64, 200], [250, 7, 1100]];

    #[test]
    fn products_with_weights_in_16_bits_are_those_with_their_copies_in_f32() {
        for format in [DType::BF16, DType::F16] {
            for [n, n_in, n_out] in SIZES {
                let (x, y) = (some([n, n_in], 1), some([n, n_out], 2));
                let weight = some([n_out, n_in], 3).cast(format);
                let wide = weight.clone().cast(DType::F32);
                let forward = held_linear(&x, Weight::Tensor(&weight), Inputs::Exact).unwrap();
                assert!(worst(forward, x.clone().matmul(wide.clone().transpose())) < 1e-4);
                let back = held_back(&y, Weight::Tensor(&weight), Inputs::Exact).unwrap();
                assert!(worst(back, y.matmul(wide)) < 1e-4);
            }
        }
    }

    #[test]
    fn inputs_are_rounded_to_bf16_and_sums_are_not() {
        for [n, n_in, n_out] in SIZES {
            let (x, y) = (some([n, n_in], 1), some([n, n_out], 2));
            let weight = some([n_out, n_in], 3).cast(DType::BF16);
            let wide = weight.clone().cast(DType::F32);
            let rounded = |x: &Tensor<2>| x.clone().cast(DType::BF16).cast(DType::F32);
            let forward = held_linear(&x, Weight::Tensor(&weight), Inputs::Bf16).unwrap();
            assert!(worst(forward, rounded(&x).matmul(wide.clone().transpose())) < 1e-4);
            let back = held_back(&y, Weight::Tensor(&weight), Inputs::Bf16).unwrap();
            assert!(worst(back, rounded(&y).matmul(wide)) < 1e-4);
        }
    }

    #[test]
    fn few_rows_and_many_are_multiplied_alike() {
        for n in [1, 2, 5, 7, 8, 9, 40, 97] {
            let x = some([n, 66], 1);
            let weight = some([70, 66], 3).cast(DType::BF16);
            for inputs in [Inputs::Exact, Inputs::Bf16] {
                let many = held_linear(&x, Weight::Tensor(&weight), inputs).unwrap();
                if let Some(few) = thin_linear(&x, &weight, inputs) {
                    assert!(worst(few, many) < 1e-5, "{n} rows");
                }
            }
        }
    }

    #[test]
    fn the_gradient_of_the_input_is_the_product_back() {
        let weight = some([9, 21], 3).cast(DType::BF16);
        let (x, seed) = (some([5, 21], 1).autodiff().require_grad(), some([5, 9], 2));
        let y = held_linear(&x, Weight::Tensor(&weight), Inputs::Exact).unwrap();
        let mut gradients = (y * seed.clone()).sum().backward();
        let found = x.grad_remove(&mut gradients).unwrap();
        assert!(worst(found, seed.matmul(weight.cast(DType::F32))) < 1e-5);
    }
}
