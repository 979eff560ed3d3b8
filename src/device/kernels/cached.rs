//! A few queries against a cache of keys and values, on the processor.
//!
//! General products copy both sides into tiles and, before that, a cache with room to grow into one piece. Here keys and
//! values are read once, as they lie.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{fused, numbers, plain, slice};

/// With more queries to a head of keys than this the tiles pay.
const MOST_QUERIES: usize = 16;
/// Numbers of keys or values per task, at least.
const TASK: usize = 16 * 1024;
/// Vectors of a sum of values that are kept in registers.
const BLOCK: usize = 4;

/// `q kᵀ` for each head without gradients, if there are few enough queries and the keys of a head lie together.
///
/// # Shapes
///
/// - `q`: `[b, g, r, d]`, `k`: `[b, g, s, d]`
/// - result: `[b, g, r, s]`
pub fn scores(q: &Tensor<4>, k: &Tensor<4>) -> Option<Tensor<4>> {
    let [_, _, r, d] = q.dims();
    let keys = Heads::of(k, q)?;
    let q = numbers(&plain(q.clone()));
    let queries = slice(&q);
    Some(keys.map([r, keys.s], |i, keys, y| {
        Arch::new().dispatch(Scores { queries: &queries[i * r * d..(i + 1) * r * d], keys, d, y });
    }))
}

/// `shares v` for each head without gradients, under the same conditions.
///
/// # Shapes
///
/// - `shares`: `[b, g, r, s]`, `v`: `[b, g, s, d]`
/// - result: `[b, g, r, d]`
pub fn mixed(shares: &Tensor<4>, v: &Tensor<4>) -> Option<Tensor<4>> {
    let [_, _, r, s] = shares.dims();
    let values = Heads::of(v, shares)?;
    let shares = numbers(&plain(shares.clone()));
    let all = slice(&shares);
    let d = values.d;
    Some(values.map([r, d], |i, values, y| {
        Arch::new().dispatch(Mixed { shares: &all[i * r * s..(i + 1) * r * s], values, d, y });
    }))
}

/// The heads of a cache, each in one piece of `s` rows of `d` numbers.
struct Heads {
    tensor: FlexTensor,
    b: usize,
    g: usize,
    s: usize,
    d: usize,
    /// From one row of the batch, and from one head, to the next.
    steps: [usize; 2],
}

impl Heads {
    /// Of keys or values, if they can be used with these queries or shares.
    fn of(x: &Tensor<4>, by: &Tensor<4>) -> Option<Self> {
        let usable = |x: &Tensor<4>| fused(x) && !x.is_autodiff();
        let [b, g, s, d] = x.dims();
        if by.dims()[2] > MOST_QUERIES || !usable(x) || !usable(by) {
            return None;
        }
        let tensor = plain(x.clone());
        let [batch, head, row, 1] = *tensor.layout().strides() else { return None };
        let steps = [usize::try_from(batch).ok()?, usize::try_from(head).ok()?];
        (row == d.cast_signed()).then_some(Self { tensor, b, g, s, d, steps })
    }

    /// What `make` writes for each head into its part of `[b, g, rows, width]`.
    fn map(&self, [rows, width]: [usize; 2], make: impl Fn(usize, &[f32], &mut [f32]) + Sync) -> Tensor<4> {
        let Self { tensor, b, g, s, d, steps: [by_batch, by_head] } = self;
        let all = &tensor.storage::<f32>()[tensor.layout().start_offset()..];
        let mut y = vec![0.0; b * g * rows * width];
        let heads = y.par_chunks_mut(rows * width).with_min_len((TASK / (s * d)).max(1)).enumerate();
        heads.for_each(|(i, y)| make(i, &all[i / g * by_batch + i % g * by_head..][..s * d], y));
        Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(y, [*b, *g, rows, width])))
    }
}

/// Each query with each key of one head.
struct Scores<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    d: usize,
    /// `[r, s]`
    y: &'a mut [f32],
}

impl WithSimd for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { queries, keys, d, y } = self;
        let s = keys.len() / d;
        for (at, key) in keys.chunks_exact(d).enumerate() {
            let (key, key_rest) = S::as_simd_f32s(key);
            for (query, y) in queries.chunks_exact(d).zip(y.chunks_exact_mut(s)) {
                let (query, query_rest) = S::as_simd_f32s(query);
                let mut sum = simd.splat_f32s(0.0);
                for (q, k) in query.iter().zip(key) {
                    sum = simd.mul_add_e_f32s(*q, *k, sum);
                }
                let rest: f32 = query_rest.iter().zip(key_rest).map(|(q, k)| q * k).sum();
                y[at] = simd.reduce_sum_f32s(sum) + rest;
            }
        }
    }
}

/// The values of one head, mixed by each query's shares.
struct Mixed<'a> {
    shares: &'a [f32],
    values: &'a [f32],
    d: usize,
    /// `[r, d]`
    y: &'a mut [f32],
}

impl WithSimd for Mixed<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shares, values, d, y } = self;
        let s = values.len() / d;
        for (shares, y) in shares.chunks_exact(s).zip(y.chunks_exact_mut(d)) {
            let (y, y_rest) = S::as_mut_simd_f32s(y);
            let n_vectors = y.len();
            let (blocks, single) = y.as_chunks_mut::<BLOCK>();
            let n_blocks = blocks.len();
            for (nth, y) in blocks.iter_mut().enumerate() {
                *y = mix::<S, BLOCK>(simd, shares, values, d, nth * BLOCK);
            }
            for (nth, y) in single.iter_mut().enumerate() {
                [*y] = mix::<S, 1>(simd, shares, values, d, n_blocks * BLOCK + nth);
            }
            for (nth, y) in y_rest.iter_mut().enumerate() {
                let column = values[n_vectors * S::F32_LANES + nth..].iter().step_by(d);
                *y = shares.iter().zip(column).map(|(share, value)| share * value).sum();
            }
        }
    }
}

/// Some vectors of the mix, from the `first`th on.
#[inline(always)]
fn mix<S: Simd, const N: usize>(
    simd: S,
    shares: &[f32],
    values: &[f32],
    d: usize,
    first: usize,
) -> [S::f32s; N] {
    let mut sums = [simd.splat_f32s(0.0); N];
    for (share, value) in shares.iter().zip(values.chunks_exact(d)) {
        let (share, value) = (simd.splat_f32s(*share), &S::as_simd_f32s(value).0[first..first + N]);
        for (sum, value) in sums.iter_mut().zip(value) {
            *sum = simd.mul_add_e_f32s(share, *value, *sum);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};

    use super::{mixed, scores};
    use crate::device;

    fn some(dims: [usize; 4], salt: usize) -> Tensor<4> {
        let n = dims.iter().product::<usize>();
        let values: Vec<f32> =
            (0..n).map(|i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0).collect();
        Tensor::from_data(TensorData::new(values, dims), &device::cpu())
    }

    #[test]
    fn a_view_of_a_cache_gives_what_the_general_products_give() {
        for d in [64, 5, 83] {
            let cache = some([2, 3, 20, d], 1);
            let seen = cache.narrow(2, 0, 17).narrow(0, 1, 1);
            let (q, shares) = (some([1, 3, 2, d], 2), some([1, 3, 2, 17], 3));
            let close = |ours: Option<Tensor<4>>, general: Tensor<4>| {
                let worst = (ours.unwrap() - general).abs().max().into_scalar::<f32>();
                assert!(worst < 1e-4, "{worst} for {d}");
            };
            close(scores(&q, &seen), q.matmul(seen.clone().swap_dims(2, 3)));
            close(mixed(&shares, &seen), shares.matmul(seen));
        }
    }

    #[test]
    fn heads_whose_rows_lie_apart_are_left_to_the_general_products() {
        let k = some([1, 5, 3, 4], 1).swap_dims(1, 2);
        assert!(scores(&some([1, 3, 2, 4], 2), &k).is_none());
    }
}
