//! The product, some columns of the result after the others, and of those some depth after the other.

use std::arch::x86_64::{_mm512_add_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps};

use half::bf16;
use rayon::prelude::*;

use super::super::product::{Inputs, Side};
use super::panels::{COLUMNS, LINE, Right, Words, lanes};
use super::tiles::{self, Tiles};
use super::vectors;

/// Columns whose panels a core keeps in its own cache.
const WIDTH: usize = 384;

/// What multiplies.
#[derive(Clone, Copy)]
enum Unit {
    Vectors,
    Tiles(Inputs),
}

impl Unit {
    /// The faster one of this processor.
    fn of(inputs: Inputs) -> Self {
        if tiles::are_native() { Self::Tiles(inputs) } else { Self::Vectors }
    }

    /// How many numbers in bf16 one of the left side is.
    fn parts(self) -> usize {
        if matches!(self, Self::Tiles(Inputs::Exact)) { 3 } else { 1 }
    }

    /// Rows of a panel of the left side.
    fn rows(self) -> usize {
        match self {
            Self::Vectors => vectors::ROWS,
            Self::Tiles(_) => tiles::ROWS,
        }
    }

    /// Words of a panel that are multiplied at once.
    fn depth(self) -> usize {
        match self {
            Self::Vectors => vectors::DEPTH,
            // A panel of three parts takes the next cache, which is fast enough for three times the products.
            Self::Tiles(_) => tiles::DEPTH,
        }
    }
}

/// The result, of which every task writes columns of its own.
#[derive(Clone, Copy)]
struct Result(*mut f32);

#[expect(unsafe_code, reason = "tasks write to different numbers")]
// SAFETY: what is written through the pointer lies in the columns of the task.
unsafe impl Send for Result {}
#[expect(unsafe_code, reason = "tasks write to different numbers")]
// SAFETY: as above.
unsafe impl Sync for Result {}

pub(super) fn product(x: &[f32], weight: &[bf16], inputs: Inputs, side: Side, sizes: [usize; 3]) -> Vec<f32> {
    product_on(Unit::of(inputs), x, weight, side, sizes)
}

fn product_on(unit: Unit, x: &[f32], weight: &[bf16], side: Side, [m, k, n]: [usize; 3]) -> Vec<f32> {
    assert_eq!((x.len(), weight.len()), (m * k, k * n), "numbers of a product");
    if m * k * n == 0 {
        return vec![0.0; m * n];
    }
    let mut y = Vec::with_capacity(m * n);
    let depth = k.div_ceil(2).next_multiple_of(LINE);
    let panel = depth * unit.rows() * unit.parts();
    let n_words = m.div_ceil(unit.rows()) * panel;
    let mut rows = Words::new(n_words);
    let rows = &mut rows.get_mut()[..n_words];
    let panels = rows.par_chunks_exact_mut(panel).zip(x.par_chunks(unit.rows() * k));
    panels.for_each(|(panel, x)| {
        #[expect(unsafe_code, reason = "instructions that were looked for")]
        // SAFETY: whoever asks for a product has looked for these instructions.
        unsafe {
            match unit {
                Unit::Vectors => vectors::pack(x, k, panel),
                Unit::Tiles(Inputs::Bf16) => tiles::pack::<1>(x, k, panel),
                Unit::Tiles(Inputs::Exact) => tiles::pack::<3>(x, k, panel),
            }
        }
    });
    #[expect(unsafe_code, reason = "words that were packed")]
    // SAFETY: every word of every panel was written.
    let rows = unsafe { rows.assume_init_ref() };
    let result = Result(y.as_mut_ptr());
    let threads = rayon::current_num_threads();
    let n_tasks = n.div_ceil(WIDTH).next_multiple_of(threads).min(n.div_ceil(COLUMNS));
    let width = n.div_ceil(n_tasks).next_multiple_of(COLUMNS);
    (0..n.div_ceil(width)).into_par_iter().for_each(|i| {
        let task = Task { unit, rows, right: Right { weight, side, k, n }, m, depth, result };
        #[expect(unsafe_code, reason = "instructions that were looked for")]
        // SAFETY: as above; the tasks' columns are apart.
        unsafe {
            task.columns(i * width, ((i + 1) * width).min(n));
        }
    });
    #[expect(unsafe_code, reason = "numbers that were written")]
    // SAFETY: the tasks' columns are all columns, and each wrote all rows of its own.
    unsafe {
        y.set_len(m * n);
    }
    y
}

struct Task<'a> {
    unit: Unit,
    /// Panels of the left side.
    rows: &'a [u32],
    right: Right<'a>,
    /// Rows of the result.
    m: usize,
    /// Words of a row, and zeros to a full line.
    depth: usize,
    result: Result,
}

impl Task<'_> {
    /// Writes some columns of the result.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn columns(&self, from: usize, to: usize) {
        let all = self.depth;
        let n_rows = self.unit.rows();
        // Parts of one size: a short one would write the result again for little.
        let most = all.div_ceil(all.div_ceil(self.unit.depth())).next_multiple_of(LINE);
        let mut packed = Words::new(most * (to - from).next_multiple_of(COLUMNS));
        let mut sums = [0.0; tiles::ROWS * COLUMNS];
        let mut tiles = matches!(self.unit, Unit::Tiles(_)).then(Tiles::begin);
        let parts = self.unit.parts();
        for start in (0..all).step_by(most) {
            let depth = most.min(all - start);
            let packed = &mut packed.get_mut()[..depth * (to - from).next_multiple_of(COLUMNS)];
            self.right.pack([from, to], start, depth, packed);
            #[expect(unsafe_code, reason = "words that were packed")]
            // SAFETY: every word of every panel was written.
            let packed = unsafe { packed.assume_init_ref() };
            for first_row in (0..self.m).step_by(n_rows) {
                let rows = &self.rows[(first_row * all + start * n_rows) * parts..][..depth * n_rows * parts];
                let panels = packed.chunks_exact(depth * COLUMNS);
                for (columns, first) in panels.zip((from..to).step_by(COLUMNS)) {
                    match &mut tiles {
                        Some(tiles) => tiles.multiply(rows, parts, columns, &mut sums),
                        None => vectors::multiply(rows, columns, &mut sums),
                    }
                    self.write(&sums, [first_row, first], COLUMNS.min(to - first), start > 0);
                }
            }
        }
    }

    /// Writes the sums of a panel of rows with one of columns into the result, or adds them to what it has.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn write(&self, sums: &[f32], [first_row, first]: [usize; 2], width: usize, add: bool) {
        let n_rows = self.unit.rows().min(self.m - first_row);
        for (row, sums) in (first_row..).zip(sums.chunks_exact(COLUMNS).take(n_rows)) {
            let at = self.result.0.wrapping_add(row * self.right.n + first);
            for (half, sums) in sums.chunks_exact(LINE).enumerate() {
                let (at, mask) = (at.wrapping_add(half * LINE), lanes(width.saturating_sub(half * LINE)));
                #[expect(unsafe_code, reason = "only this task's numbers are touched")]
                // SAFETY: the mask holds what lies in the row before the task's last column.
                unsafe {
                    let mut sum = _mm512_loadu_ps(sums.as_ptr());
                    // Memory that was only asked for is not read first: it would be mapped twice.
                    if add {
                        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum);
                    }
                    _mm512_mask_storeu_ps(at, mask, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::{Inputs, Side, Unit, product_on, tiles};
    use crate::device::kernels::short::is_native;

    const SIZES: [[usize; 3]; 5] = [[1, 1, 1], [33, 37, 45], [50, 900, 1000], [32, 64, 32], [31, 1030, 33]];

    fn numbers(n: usize, salt: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + salt) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    #[test]
    fn tiles_and_vectors_give_the_same_products() {
        if !(is_native(Inputs::Bf16) && tiles::are_native()) {
            return;
        }
        for [m, k, n] in SIZES {
            let (x, weight) = (numbers(m * k, 1), numbers(k * n, 2).into_iter().map(bf16::from_f32));
            let weight: Vec<bf16> = weight.collect();
            for side in [Side::Turned, Side::AsItLies] {
                let [vectors, tiles] = [Unit::Vectors, Unit::Tiles(Inputs::Bf16)]
                    .map(|unit| product_on(unit, &x, &weight, side, [m, k, n]));
                let apart = vectors.iter().zip(&tiles).map(|(a, b)| (a - b).abs());
                assert!(apart.fold(0.0, f32::max) <= 1e-6 * k as f32, "{m} x {k} x {n}, {side:?}");
            }
        }
    }

    #[test]
    fn three_parts_are_the_number() {
        if !is_native(Inputs::Exact) {
            return;
        }
        let products = |x: &[f32]| {
            product_on(Unit::Tiles(Inputs::Exact), x, &[bf16::ONE], Side::Turned, [x.len(), 1, 1])
        };
        let mut x = numbers(1000, 3);
        x.extend(x.clone().iter().map(|x| x * 1e-20));
        x.extend([0.0, 1e30, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY]);
        assert!(products(&x) == x);
        assert!(products(&[f32::NAN])[0].is_nan());
        // Sums are no worse than those of f32.
        for [m, k, n] in SIZES {
            let (x, weight) = (numbers(m * k, 1), numbers(k * n, 2).into_iter().map(bf16::from_f32));
            let weight: Vec<bf16> = weight.collect();
            let y = product_on(Unit::Tiles(Inputs::Exact), &x, &weight, Side::Turned, [m, k, n]);
            for (i, y) in y.into_iter().enumerate() {
                let pairs = x[i / n * k..].iter().zip(&weight[i % n * k..]).take(k);
                let products = pairs.map(|(x, w)| f64::from(*x) * w.to_f64());
                let (exact, size) = products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
                assert!((f64::from(y) - exact).abs() <= 1e-6 * size, "{m} x {k} x {n}: {y}, not {exact}");
            }
        }
    }
}
