//! Matrix products on the processor, written once.
//!
//! burn's own product clears its result and copies the zeros before it computes, all on one thread: a seventh of the
//! time of a small model that reads questions (`benches/RESULTS.md`).

use std::mem::MaybeUninit;

use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_backend::ops::FloatTensorOps;
use burn_flex::{Flex, FlexTensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::{Tracked, fused, plain, tracked};

/// Multiplications from which a product is worth several threads.
const WORTH_THREADS: usize = 192 * 192 * 192;
/// Multiplications of a batch of products from which each thread gets products of its own.
const WORTH_SPREADING: usize = 128 * 128 * 128;

/// `a b` over the last two dimensions.
///
/// # Shapes
///
/// - `a`: `[…, m, k]`, `b`: `[…, k, n]`
/// - result: `[…, m, n]`
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if !(fused(&a) && fused(&b)) || a.dims()[..D - 2] != b.dims()[..D - 2] {
        return a.matmul(b);
    }
    if !(a.is_autodiff() || b.is_autodiff()) {
        return Tensor::from_primitive::<Flex>(product(&plain(a), &plain(b)));
    }
    let (a, b) = (tracked(a), tracked(b));
    let y = product(a.primitive(), b.primitive());
    let prepared = Product.prepare::<NoCheckpointing>([a.node(), b.node()]).compute_bound().stateful();
    Tensor::from_primitive::<Autodiff<Flex>>(match prepared {
        OpsKind::Tracked(prepared) => {
            // Each side's gradient needs the other side.
            let keep = |x: &Tracked, other: &Tracked| other.is_tracked().then(|| x.primitive().clone());
            prepared.finish([keep(&a, &b), keep(&b, &a)], y)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(y),
    })
}

#[derive(Debug)]
struct Product;

impl Backward<Flex, 2> for Product {
    type State = [Option<FlexTensor>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [a, b] = ops.state;
        let g = gradients.consume::<Flex>(&ops.node);
        let turned = |x: &FlexTensor| {
            let n_dims = x.layout().shape().num_dims();
            x.transpose(n_dims - 2, n_dims - 1)
        };
        let [a_node, b_node] = ops.parents;
        if let (Some(node), Some(b)) = (a_node, b) {
            gradients.register::<Flex>(node.id, product(&g, &turned(&b)));
        }
        if let (Some(node), Some(a)) = (b_node, a) {
            gradients.register::<Flex>(node.id, product(&turned(&a), &g));
        }
    }
}

/// [`matmul`] of numbers in f32, in any order in memory.
pub(super) fn product(a: &FlexTensor, b: &FlexTensor) -> FlexTensor {
    let (left, right) = (Matrices::of(a), Matrices::of(b));
    let ([m, k], n) = (left.size, right.size[1]);
    let dims = [left.batch, &[m, n]].concat();
    let total: usize = dims.iter().product();
    assert_eq!((left.batch, k), (right.batch, right.size[0]), "sizes of a product");
    if total * k == 0 {
        return Flex::float_matmul(a.clone(), b.clone());
    }
    let mut y: Vec<f32> = Vec::with_capacity(total);
    let parts = &mut y.spare_capacity_mut()[..total];
    if total >= 4 * m * n && total * k >= WORTH_SPREADING {
        let parts = parts.par_chunks_mut(m * n).enumerate();
        parts.for_each(|(i, part)| multiply(&left, &right, i, part, Parallelism::None));
    } else {
        let threads = if m * n * k < WORTH_THREADS { Parallelism::None } else { Parallelism::Rayon(0) };
        let parts = parts.chunks_mut(m * n).enumerate();
        parts.for_each(|(i, part)| multiply(&left, &right, i, part, threads));
    }
    #[expect(unsafe_code, reason = "memory that was written through a pointer")]
    // SAFETY: the parts are `total` numbers, and each was written whole.
    unsafe {
        y.set_len(total);
    }
    FlexTensor::from_data(TensorData::new(y, dims))
}

/// What the other side of a product with a weight is rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inputs {
    /// To nothing: it stays in f32.
    #[default]
    Exact,
    /// bf16, as on devices that compute in it; sums stay in f32.
    Bf16,
}

/// How a weight stands in a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    AsItLies,
    Turned,
}

/// A matrix within some numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub numbers: &'a [f32],
    /// Rows and columns.
    pub size: [usize; 2],
    /// From one row, and from one column, to the next.
    pub steps: [usize; 2],
}

impl<'a> Part<'a> {
    /// A matrix whose rows lie one after the other.
    pub fn of(numbers: &'a [f32], size: [usize; 2]) -> Self {
        Self { numbers, size, steps: [size[1], 1] }
    }

    /// Rows as columns.
    pub fn turned(self) -> Self {
        let ([rows, columns], [row, column]) = (self.size, self.steps);
        Self { size: [columns, rows], steps: [column, row], ..self }
    }

    fn holds_all(&self) -> bool {
        let last = self.size.iter().zip(self.steps).map(|(n, step)| (n - 1) * step).sum::<usize>();
        last < self.numbers.len()
    }
}

/// Writes `a b` into `y`, whose rows begin `step` numbers apart, or `y + a b` where it is to `add`.
pub(super) fn product_into(y: &mut [f32], step: usize, a: Part<'_>, b: Part<'_>, add: bool, threads: bool) {
    let ([m, k], n) = (a.size, b.size[1]);
    assert_eq!(k, b.size[0], "sizes of a product");
    if m * k * n == 0 {
        return;
    }
    let is_inside = a.holds_all() && b.holds_all() && n <= step && (m - 1) * step + n <= y.len();
    assert!(is_inside, "a product's numbers");
    let threads = match threads && m * n * k >= WORTH_THREADS {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    };
    let [[a_row, a_column], [b_row, b_column]] =
        [a.steps, b.steps].map(|steps| steps.map(usize::cast_signed));
    #[expect(unsafe_code, reason = "the function takes pointers")]
    // SAFETY: the last number of each matrix lies within its slice.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            step.cast_signed(),
            add,
            a.numbers.as_ptr(),
            a_column,
            a_row,
            b.numbers.as_ptr(),
            b_column,
            b_row,
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

/// The matrices of a tensor.
struct Matrices<'a> {
    numbers: &'a [f32],
    start: usize,
    batch: &'a [usize],
    /// Steps in memory of the dimensions in `batch`.
    batch_steps: &'a [isize],
    /// Rows and columns.
    size: [usize; 2],
    steps: [isize; 2],
}

impl<'a> Matrices<'a> {
    fn of(x: &'a FlexTensor) -> Self {
        let layout = x.layout();
        let (batch, size) = layout.shape().as_slice().split_at(layout.shape().num_dims() - 2);
        let (batch_steps, steps) = layout.strides().split_at(batch.len());
        Self {
            numbers: x.storage(),
            start: layout.start_offset(),
            batch,
            batch_steps,
            size: [size[0], size[1]],
            steps: [steps[0], steps[1]],
        }
    }

    /// The first number of the `nth` matrix, as a pointer that may reach all the others.
    fn first(&self, mut nth: usize) -> *const f32 {
        let mut at = self.start.cast_signed();
        for (n, step) in self.batch.iter().zip(self.batch_steps).rev() {
            at += (nth % n).cast_signed() * step;
            nth /= n;
        }
        let at = at.cast_unsigned();
        assert!(at < self.numbers.len(), "a matrix begins within its tensor");
        self.numbers.as_ptr().wrapping_add(at)
    }
}

/// Writes the product of the `nth` matrices to every number of `y`.
fn multiply(a: &Matrices, b: &Matrices, nth: usize, y: &mut [MaybeUninit<f32>], threads: Parallelism) {
    let ([m, k], n) = (a.size, b.size[1]);
    assert_eq!((b.size[0], y.len()), (k, m * n), "a product's numbers");
    let ([a_row, a_column], [b_row, b_column]) = (a.steps, b.steps);
    #[expect(unsafe_code, reason = "the function takes pointers")]
    // SAFETY: a tensor's layout stays within its numbers, all of which the pointers may reach, and `y` holds the
    // `m · n` numbers that are written.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr().cast::<f32>(),
            1,
            n.cast_signed(),
            false,
            a.first(nth),
            a_column,
            a_row,
            b.first(nth),
            b_column,
            b_row,
            0.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::matmul;

    fn numbers<const D: usize>(dims: [usize; D], salt: usize) -> Tensor<D> {
        let number = |i: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0;
        let n = dims.iter().product();
        Tensor::from_data(TensorData::new((0..n).map(number).collect(), dims), &Device::flex())
    }

    fn check<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
        let expected = a.clone().matmul(b.clone());
        let found = matmul(a, b);
        assert_eq!(found.dims(), expected.dims());
        let [found, expected] = [found, expected].map(|x| x.try_into_vec_as::<f32>().unwrap());
        assert_eq!(found, expected);
    }

    #[test]
    fn gradients_are_those_of_burn() {
        let leaf = |dims, salt| numbers::<3>(dims, salt).autodiff().require_grad();
        let (a, b, seed) = (leaf([3, 5, 7], 1), leaf([3, 4, 7], 2), numbers([3, 5, 4], 3));
        let mut ours = (matmul(a.clone(), b.clone().swap_dims(1, 2)) * seed.clone()).sum().backward();
        let mut theirs = (a.clone().matmul(b.clone().swap_dims(1, 2)) * seed).sum().backward();
        for leaf in [a, b] {
            let (ours, theirs) = (leaf.grad_remove(&mut ours), leaf.grad_remove(&mut theirs));
            ours.unwrap().into_data().assert_eq(&theirs.unwrap().into_data(), true);
        }
    }

    #[test]
    fn products_are_those_of_burn_bit_by_bit() {
        for [m, k, n] in [[1, 1, 1], [3, 5, 7], [64, 33, 100], [257, 192, 193]] {
            check(numbers([m, k], 1), numbers([k, n], 2));
            check(numbers([m, k], 1), numbers([n, k], 2).transpose());
            check(numbers([k, m], 1).transpose(), numbers([k, n + 4], 2).narrow(1, 2, n));
        }
        for [b, h, m, k, n] in [[1, 2, 3, 4, 5], [2, 3, 33, 65, 40], [3, 9, 64, 64, 64]] {
            check(numbers([b, h, m, k], 1), numbers([b, h, k, n], 2));
            let apart = numbers([b, m, h, k], 1).swap_dims(1, 2);
            check(apart, numbers([b, h, n + 1, k], 2).narrow(2, 1, n).swap_dims(2, 3));
            // One matrix for all, and nothing to sum.
            check(numbers([b, h, m, k], 1), numbers([1, 1, k, n], 2));
        }
        check(numbers([3, 0], 1), numbers([0, 2], 2));
    }
}
