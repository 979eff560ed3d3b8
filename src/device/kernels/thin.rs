//! Few rows through a linear map on the processor.
//!
//! General matrix products copy both sides into tiles first. With as few rows as a batch that
//! generates has, copying the weight costs more than the product itself; here it is read once,
//! as it lies.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{fused, numbers, plain, slice};

/// With more rows than this the tiles pay.
const MOST_ROWS: usize = 96;
/// Rows of the weight per task.
const TASK: usize = 32;
/// With at least so many rows it pays to copy a tile of the weight to where vectors do not straddle cache lines.
const MANY_ROWS: usize = 16;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Rows of the weight and of the input that are multiplied together: as many sums as registers hold.
const TILE: (usize, usize) = (4, 3);

/// `x Wᵀ` without gradients, if there are few enough rows for this form.
///
/// # Shapes
///
/// - `x`: `[n, in]`, `weight`: `[out, in]`
/// - result: `[n, out]`
pub fn thin_linear(x: &Tensor<2>, weight: &Tensor<2>) -> Option<Tensor<2>> {
    let ([n, n_in], [n_out, _]) = (x.dims(), weight.dims());
    if n > MOST_ROWS || !(fused(x) && fused(weight)) || x.is_autodiff() || weight.is_autodiff() {
        return None;
    }
    let (x, weight) = (numbers(&plain(x.clone())), numbers(&plain(weight.clone())));
    let y = products(slice(&x), slice(&weight), [n, n_in, n_out]);
    Some(Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(y, [n, n_out]))))
}

/// Every sum is made in the same order whatever `n` and the number of threads.
fn products(x: &[f32], weight: &[f32], [n, n_in, n_out]: [usize; 3]) -> Vec<f32> {
    let arch = Arch::new();
    let mut own = Own::default();
    let x = own.copy(x);
    let part = |weight| arch.dispatch(Part { x, weight, n_in });
    let parts: Vec<Vec<f32>> = weight.par_chunks(TASK * n_in).with_min_len(2).map(part).collect();
    let mut y = vec![0.0; n * n_out];
    for (row, y) in y.chunks_mut(n_out).enumerate() {
        for (part, y) in parts.iter().zip(y.chunks_mut(TASK)) {
            y.copy_from_slice(&part[row * y.len()..(row + 1) * y.len()]);
        }
    }
    y
}

/// The columns of the result that belong to some rows of the weight, `[n, rows]`.
struct Part<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    n_in: usize,
}

impl WithSimd for Part<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Part { x, weight, n_in } = self;
        let (n, width) = (x.len() / n_in, weight.len() / n_in);
        let mut y = vec![0.0; n * width];
        let (mut out, mut own) = (0, Own::default());
        while out < width {
            let some = if out + TILE.0 <= width { TILE.0 } else { 1 };
            let weight = &weight[out * n_in..(out + some) * n_in];
            let weight = if n < MANY_ROWS { weight } else { own.copy(weight) };
            let mut at = 0;
            while at < n {
                let many = if at + TILE.1 <= n { TILE.1 } else { 1 };
                let x = &x[at * n_in..(at + many) * n_in];
                let y = &mut y[at * width + out..];
                match (some, many) {
                    (1, 1) => tile::<S, 1, 1>(simd, x, weight, y, width),
                    (1, _) => tile::<S, 1, { TILE.1 }>(simd, x, weight, y, width),
                    (_, 1) => tile::<S, { TILE.0 }, 1>(simd, x, weight, y, width),
                    _ => tile::<S, { TILE.0 }, { TILE.1 }>(simd, x, weight, y, width),
                }
                at += many;
            }
            out += some;
        }
        y
    }
}

/// Room for numbers that begin with a cache line.
#[derive(Default)]
struct Own(Vec<f32>);

impl Own {
    fn copy(&mut self, numbers: &[f32]) -> &[f32] {
        self.0.resize(numbers.len() + LINE / size_of::<f32>(), 0.0);
        let start = self.0.as_ptr().align_offset(LINE);
        let own = &mut self.0[start..start + numbers.len()];
        own.copy_from_slice(numbers);
        own
    }
}

/// The products of `R` rows of the weight with `C` of the input, to columns and rows of `y`.
#[inline(always)]
fn tile<S: Simd, const R: usize, const C: usize>(
    simd: S,
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    width: usize,
) {
    let n_in = weight.len() / R;
    let w: [_; R] = std::array::from_fn(|r| S::as_simd_f32s(&weight[r * n_in..(r + 1) * n_in]));
    let x: [_; C] = std::array::from_fn(|c| S::as_simd_f32s(&x[c * n_in..(c + 1) * n_in]));
    let n_vectors = w[0].0.len();
    let (w_rest, x_rest) = (w.map(|(_, rest)| rest), x.map(|(_, rest)| rest));
    let (w, x) = (w.map(|(w, _)| &w[..n_vectors]), x.map(|(x, _)| &x[..n_vectors]));
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    for i in 0..n_vectors {
        for r in 0..R {
            for c in 0..C {
                sums[r][c] = simd.mul_add_e_f32s(w[r][i], x[c][i], sums[r][c]);
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            let rest: f32 = w_rest[r].iter().zip(x_rest[c]).map(|(w, x)| w * x).sum();
            y[c * width + r] = simd.reduce_sum_f32s(sums[r][c]) + rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::products;

    #[test]
    fn products_are_those_of_the_definition_for_any_shape() {
        let number = |i: usize, salt: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0;
        for n in [1, 2, 3, 7, 19] {
            for n_in in [1, 5, 16, 67] {
                for n_out in [1, 4, 33, 70] {
                    let x: Vec<f32> = (0..n * n_in).map(|i| number(i, 1)).collect();
                    let weight: Vec<f32> = (0..n_out * n_in).map(|i| number(i, 2)).collect();
                    let y = products(&x, &weight, [n, n_in, n_out]);
                    for (i, y) in y.iter().enumerate() {
                        let (x, w) = (&x[i / n_out * n_in..][..n_in], &weight[i % n_out * n_in..][..n_in]);
                        let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                        assert!((f64::from(*y) - exact).abs() < 1e-5, "{n} × {n_in} × {n_out} at {i}");
                    }
                }
            }
        }
    }
}
