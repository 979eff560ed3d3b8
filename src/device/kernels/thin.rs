//! Few rows through a linear map on the processor.
//!
//! General matrix products copy both sides into tiles first. With as few rows as a batch that
//! generates has, copying the weight costs more than the product itself; here it is read once,
//! as it lies, in f32 or in 16 bits.

use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use pulp::bytemuck::try_cast_slice;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::held::{Held, is_held, rounded};
use super::product::Inputs;
use super::{fused, numbers, plain, short, slice};

/// With more rows than this the tiles pay.
const MOST_ROWS: usize = 96;
/// With at least so many rows in bf16, and in f32, processors that multiply pairs in bf16 are faster so.
const FEWEST_PAIRED: usize = 8;
const FEWEST_IN_PARTS: usize = 16;
/// Rows of the weight per task.
const TASK: usize = 32;
/// With at least so many rows it pays to copy a tile of the weight to where vectors do not straddle cache lines.
const MANY_ROWS: usize = 16;
/// With at least so many rows it pays to read two rows of a weight in bf16 at once; with fewer, one after the other is
/// what memory reads ahead best.
const SOME_ROWS: usize = 5;
/// Bytes of a cache line.
const LINE: usize = 64;
/// More numbers than any processor's vector holds.
const MOST_LANES: usize = 64;
/// Rows of the weight and of the input that are multiplied together: as many sums as registers hold.
const TILE: (usize, usize) = (4, 3);

/// `x Wᵀ` without gradients, if there are few enough rows for this form; `x` is rounded to what `inputs` says.
///
/// # Shapes
///
/// - `x`: `[n, in]` in f32, `weight`: `[out, in]` in f32, bf16 or f16
/// - result: `[n, out]`
pub fn thin_linear(x: &Tensor<2>, weight: &Tensor<2>, inputs: Inputs) -> Option<Tensor<2>> {
    let ([n, n_in], [n_out, _]) = (x.dims(), weight.dims());
    let most = match inputs {
        Inputs::Bf16 if short::is_native(inputs) => FEWEST_PAIRED - 1,
        Inputs::Exact if short::is_native(inputs) && weight.dtype() == DType::BF16 => FEWEST_IN_PARTS - 1,
        _ => MOST_ROWS,
    };
    if n > most || !(fused(x) && (fused(weight) || is_held(weight))) {
        return None;
    }
    if x.is_autodiff() || weight.is_autodiff() {
        return None;
    }
    let (x, weight) = (numbers(&plain(x.clone())), numbers(&plain(weight.clone())));
    let rounded = (inputs == Inputs::Bf16).then(|| rounded(slice(&x)));
    let x = rounded.as_deref().unwrap_or(slice(&x));
    let y = products(x, Held::of(&weight), [n, n_in, n_out]);
    Some(Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(y, [n, n_out]))))
}

/// Every sum is made in the same order whatever `n` and the number of threads.
fn products(x: &[f32], weight: Held<'_>, [n, n_in, n_out]: [usize; 3]) -> Vec<f32> {
    let arch = Arch::new();
    let mut own = Own::default();
    let words = match weight {
        Held::Bf16(numbers) if n_in.is_multiple_of(2) => try_cast_slice(numbers).ok(),
        _ => None,
    };
    let own = own.room(x.len());
    match words {
        Some(_) => {
            let lanes = arch.dispatch(Lanes);
            let rows = x.chunks_exact(n_in).zip(own.chunks_exact_mut(n_in));
            rows.for_each(|(row, sorted)| by_halves(row, lanes, sorted));
        }
        None => own.copy_from_slice(x),
    }
    let x = &*own;
    let part = |first: usize, y: &mut [f32]| {
        let rows = first..(first + TASK).min(n_out);
        arch.dispatch(Part { x, words, weight, rows, n_in, y });
    };
    let mut y = vec![0.0; n * n_out];
    if n == 1 {
        y.par_chunks_mut(TASK).with_min_len(2).enumerate().for_each(|(i, y)| part(i * TASK, y));
        return y;
    }
    let parts = (0..n_out.div_ceil(TASK)).into_par_iter().with_min_len(2).map(|i| {
        let mut y = vec![0.0; n * TASK.min(n_out - i * TASK)];
        part(i * TASK, &mut y);
        y
    });
    let parts: Vec<Vec<f32>> = parts.collect();
    for (row, y) in y.chunks_mut(n_out).enumerate() {
        for (part, y) in parts.iter().zip(y.chunks_mut(TASK)) {
            y.copy_from_slice(&part[row * y.len()..(row + 1) * y.len()]);
        }
    }
    y
}

/// Numbers of a vector.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Of every two vectors the numbers at even places, then those at odd ones: the order in which words of two numbers in
/// bf16 become two vectors. What is left at the end stays as it is.
fn by_halves(row: &[f32], lanes: usize, sorted: &mut [f32]) {
    let pairs = row.chunks_exact(2 * lanes);
    let whole = row.len() - pairs.remainder().len();
    for (pair, sorted) in pairs.zip(sorted.chunks_exact_mut(2 * lanes)) {
        let (even, odd) = sorted.split_at_mut(lanes);
        for (i, two) in pair.as_chunks::<2>().0.iter().enumerate() {
            [even[i], odd[i]] = *two;
        }
    }
    sorted[whole..].copy_from_slice(&row[whole..]);
}

/// The columns of the result that belong to some rows of the weight, `[n, rows]`.
struct Part<'a> {
    /// Rows, in the order of [`by_halves`] if there are `words`.
    x: &'a [f32],
    /// The weight as words of two numbers in bf16, if it is in bf16.
    words: Option<&'a [u32]>,
    weight: Held<'a>,
    rows: Range<usize>,
    n_in: usize,
    y: &'a mut [f32],
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Part { x, words, weight, rows, n_in, y } = self;
        let (n, width) = (x.len() / n_in, rows.len());
        let (mut out, mut own) = (0, Own::default());
        while out < width {
            let some = if out + TILE.0 <= width { TILE.0 } else { 1 };
            let (start, len) = ((rows.start + out) * n_in, some * n_in);
            let words = words.map(|words| &words[start / 2..][..len / 2]);
            if let Some(words) = words {
                if some == TILE.0 && n >= SOME_ROWS {
                    for (pair, words) in words.chunks_exact(n_in).enumerate() {
                        all_of_words::<S, 2>(simd, x, words, &mut y[out + 2 * pair..], width);
                    }
                } else {
                    for (row, words) in words.chunks_exact(n_in / 2).enumerate() {
                        all_of_words::<S, 1>(simd, x, words, &mut y[out + row..], width);
                    }
                }
                out += some;
                continue;
            }
            let weight = match weight {
                Held::F32(numbers) if n < MANY_ROWS => &numbers[start..start + len],
                _ => own.read(weight, start, len),
            };
            let mut at = 0;
            while at < n {
                let many = (n - at).min(TILE.1);
                let x = &x[at * n_in..(at + many) * n_in];
                let y = &mut y[at * width + out..];
                match (some, many) {
                    (1, 1) => tile::<S, 1, 1>(simd, x, weight, y, width),
                    (1, 2) => tile::<S, 1, 2>(simd, x, weight, y, width),
                    (1, _) => tile::<S, 1, { TILE.1 }>(simd, x, weight, y, width),
                    (_, 1) => tile::<S, { TILE.0 }, 1>(simd, x, weight, y, width),
                    (_, 2) => tile::<S, { TILE.0 }, 2>(simd, x, weight, y, width),
                    _ => tile::<S, { TILE.0 }, { TILE.1 }>(simd, x, weight, y, width),
                }
                at += many;
            }
            out += some;
        }
    }
}

/// Room for numbers that begin with a cache line.
#[derive(Default)]
struct Own(Vec<f32>);

impl Own {
    /// `len` numbers, from the `start`th on.
    fn read(&mut self, numbers: Held<'_>, start: usize, len: usize) -> &[f32] {
        let own = self.room(len);
        numbers.read(start, own);
        own
    }

    fn room(&mut self, len: usize) -> &mut [f32] {
        self.0.resize(len + LINE / size_of::<f32>(), 0.0);
        let first = self.0.as_ptr().align_offset(LINE);
        &mut self.0[first..first + len]
    }
}

/// The high half of a word of two numbers.
const HIGH: u32 = 0xffff_0000;

/// The first numbers of words of two in bf16, and the second ones.
#[inline(always)]
fn numbers_of<S: Simd>(simd: S, words: S::u32s) -> [S::f32s; 2] {
    let first = simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16));
    let second = simd.and_u32s(words, simd.splat_u32s(HIGH));
    [simd.transmute_f32s_u32s(first), simd.transmute_f32s_u32s(second)]
}

fn numbers_of_one(word: u32) -> [f32; 2] {
    [f32::from_bits(word << 16), f32::from_bits(word & HIGH)]
}

/// The products of `R` rows of the weight, in words, with all rows of the input in the order of [`by_halves`].
#[inline(always)]
fn all_of_words<S: Simd, const R: usize>(simd: S, x: &[f32], words: &[u32], y: &mut [f32], width: usize) {
    let n_in = 2 * words.len() / R;
    let (n, mut at) = (x.len() / n_in, 0);
    while at < n {
        let (x, y) = (&x[at * n_in..], &mut y[at * width..]);
        at += match n - at {
            1 => tile_of_words::<S, R, 1>(simd, x, words, y, width),
            2 | 3 => tile_of_words::<S, R, 2>(simd, x, words, y, width),
            4..8 => tile_of_words::<S, R, 4>(simd, x, words, y, width),
            _ => tile_of_words::<S, R, 8>(simd, x, words, y, width),
        }
    }
}

/// The products of `R` rows of the weight, in words, with `C` of the input; returns `C`.
#[inline(always)]
fn tile_of_words<S: Simd, const R: usize, const C: usize>(
    simd: S,
    x: &[f32],
    words: &[u32],
    y: &mut [f32],
    width: usize,
) -> usize {
    let half = words.len() / R;
    let n_vectors = half / S::U32_LANES;
    // Arrays are filled in loops: what takes a function is not inlined into functions with wider instructions.
    let mut w: [&[S::u32s]; R] = [&[]; R];
    let mut rows: [&[S::f32s]; C] = [&[]; C];
    for r in 0..R {
        w[r] = &S::as_simd_u32s(&words[r * half..(r + 1) * half]).0[..n_vectors];
    }
    for c in 0..C {
        rows[c] = &S::as_simd_f32s(&x[2 * c * half..2 * (c + 1) * half]).0[..2 * n_vectors];
    }
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    for i in 0..n_vectors {
        for r in 0..R {
            if R > 1 {
                fetch(words.as_ptr().wrapping_add((r + R) * half + i * S::U32_LANES));
            }
            let [first, second] = numbers_of(simd, w[r][i]);
            for c in 0..C {
                sums[r][c] = simd.mul_add_e_f32s(first, rows[c][2 * i], sums[r][c]);
                sums[r][c] = simd.mul_add_e_f32s(second, rows[c][2 * i + 1], sums[r][c]);
            }
        }
    }
    let whole = n_vectors * S::U32_LANES;
    for r in 0..R {
        let mut end = [0.0; 2 * MOST_LANES];
        for i in whole..half {
            [end[2 * (i - whole)], end[2 * (i - whole) + 1]] = numbers_of_one(words[r * half + i]);
        }
        let (end, end_rest) = S::as_simd_f32s(&end[..2 * (half - whole)]);
        for c in 0..C {
            let (x, x_rest) = S::as_simd_f32s(&x[2 * (c * half + whole)..2 * (c + 1) * half]);
            for i in 0..end.len() {
                sums[r][c] = simd.mul_add_e_f32s(end[i], x[i], sums[r][c]);
            }
            let rest: f32 = end_rest.iter().zip(x_rest).map(|(w, x)| w * x).sum();
            y[c * width + r] = simd.reduce_sum_f32s(sums[r][c]) + rest;
        }
    }
    C
}

/// Asks for the cache line of a word that is read soon: the next rows of the weight come while these are multiplied.
#[inline(always)]
fn fetch(word: *const u32) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "a hint to the processor")]
    // SAFETY: any address may be asked for; nothing is read from it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(word.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = word;
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
    let n_vectors = n_in / S::F32_LANES;
    let mut w: [&[S::f32s]; R] = [&[]; R];
    let mut columns: [&[S::f32s]; C] = [&[]; C];
    for r in 0..R {
        w[r] = &S::as_simd_f32s(&weight[r * n_in..(r + 1) * n_in]).0[..n_vectors];
    }
    for c in 0..C {
        columns[c] = &S::as_simd_f32s(&x[c * n_in..(c + 1) * n_in]).0[..n_vectors];
    }
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    for i in 0..n_vectors {
        for r in 0..R {
            for c in 0..C {
                sums[r][c] = simd.mul_add_e_f32s(w[r][i], columns[c][i], sums[r][c]);
            }
        }
    }
    let end = n_vectors * S::F32_LANES;
    for r in 0..R {
        for c in 0..C {
            let (w, x) = (&weight[r * n_in + end..(r + 1) * n_in], &x[c * n_in + end..(c + 1) * n_in]);
            let rest: f32 = w.iter().zip(x).map(|(w, x)| w * x).sum();
            y[c * width + r] = simd.reduce_sum_f32s(sums[r][c]) + rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{Held, products};

    #[test]
    fn products_are_those_of_the_definition_for_any_shape_and_format() {
        let number = |i: usize, salt: usize| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0;
        for n in [1, 2, 3, 7, 19] {
            for n_in in [1, 5, 16, 67, 130] {
                for n_out in [1, 4, 33, 70] {
                    let x: Vec<f32> = (0..n * n_in).map(|i| number(i, 1)).collect();
                    let weight: Vec<f32> = (0..n_out * n_in).map(|i| number(i, 2)).collect();
                    let in_bf16: Vec<bf16> = weight.iter().map(|w| bf16::from_f32(*w)).collect();
                    let in_f16: Vec<f16> = weight.iter().map(|w| f16::from_f32(*w)).collect();
                    for held in [Held::F32(&weight), Held::Bf16(&in_bf16), Held::F16(&in_f16)] {
                        let mut weight = vec![0.0; n_in * n_out];
                        held.read(0, &mut weight);
                        let y = products(&x, held, [n, n_in, n_out]);
                        for (i, y) in y.iter().enumerate() {
                            let (x, w) =
                                (&x[i / n_out * n_in..][..n_in], &weight[i % n_out * n_in..][..n_in]);
                            let exact: f64 =
                                x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                            assert!((f64::from(*y) - exact).abs() < 1e-5, "{n} × {n_in} × {n_out} at {i}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_sums_whatever_rows_are_beside_it() {
        for n_in in [2, 30, 67, 130, 576] {
            let number = |i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0;
            let (x, weight): (Vec<f32>, Vec<f32>) =
                ((0..19 * n_in).map(number).collect(), (0..37 * n_in).map(number).collect());
            let in_bf16: Vec<bf16> = weight.iter().map(|w| bf16::from_f32(*w)).collect();
            for held in [Held::F32(&weight), Held::Bf16(&in_bf16)] {
                let all = products(&x, held, [19, n_in, 37]);
                for n in [1, 2, 3, 4, 18] {
                    assert_eq!(products(&x[..n * n_in], held, [n, n_in, 37]), all[..n * 37]);
                }
            }
        }
    }
}
