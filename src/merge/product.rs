//! Matrix products in f32 whose every sum is made in one order, whatever the number of threads and the processor:
//! a merge is the same bytes everywhere.

use rayon::prelude::*;

use crate::simd::vectorised;

/// Rows and columns of the tile that is summed up in the processor's registers.
const ROWS: usize = 6;
const COLUMNS: usize = 16;
/// Terms of each sum that are added up before the next ones are laid ready.
const DEPTH: usize = 256;
/// Rows of the result that one thread works on at a time.
const STRIP: usize = 8 * ROWS;

/// A matrix in row-major order, or its transpose.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    numbers: &'a [f32],
    rows: usize,
    columns: usize,
    /// From one row to the next, and from one column to the next.
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    pub fn new(numbers: &'a [f32], columns: usize) -> Self {
        Self { numbers, rows: numbers.len() / columns.max(1), columns, steps: [columns, 1] }
    }

    pub fn transposed(self) -> Self {
        let Self { numbers, rows, columns, steps: [row, column] } = self;
        Self { numbers, rows: columns, columns: rows, steps: [column, row] }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.numbers[row * self.steps[0] + column * self.steps[1]]
    }

    /// Some of its rows and some terms in the order of tiles, `width` rows each; what is missing is zero.
    fn laid(&self, rows: std::ops::Range<usize>, terms: std::ops::Range<usize>, width: usize) -> Vec<f32> {
        let n_tiles = rows.len().div_ceil(width);
        let mut laid = vec![0.0; n_tiles * width * terms.len()];
        for (tile, laid) in laid.chunks_mut(width * terms.len()).enumerate() {
            let first = rows.start + tile * width;
            for row in first..(first + width).min(rows.end) {
                for (place, term) in laid[row - first..].iter_mut().step_by(width).zip(terms.clone()) {
                    *place = self.at(row, term);
                }
            }
        }
        laid
    }
}

/// `sums += a b`.
///
/// # Shapes
///
/// - `a`: `[m, k]`, `b`: `[k, n]`, `sums`: `[m, n]`
///
/// # Panics
///
/// The sizes do not fit.
pub fn add_product(a: Matrix<'_>, b: Matrix<'_>, sums: &mut [f32]) {
    let (k, n) = (a.columns, b.columns);
    assert_eq!((k, a.rows * n), (b.rows, sums.len()), "sizes of a product");
    if n == 0 {
        return;
    }
    let columns = b.transposed();
    for from in (0..k).step_by(DEPTH) {
        let terms = from..(from + DEPTH).min(k);
        let b: Vec<Vec<f32>> = (0..n.div_ceil(COLUMNS))
            .into_par_iter()
            .map(|tile| columns.laid(tile * COLUMNS..((tile + 1) * COLUMNS).min(n), terms.clone(), COLUMNS))
            .collect();
        sums.par_chunks_mut(STRIP * n).enumerate().for_each(|(strip, sums)| {
            let first = strip * STRIP;
            let a = a.laid(first..first + sums.len() / n, terms.clone(), ROWS);
            add_terms(&a, &b, n, sums);
        });
    }
}

/// `a b`.
pub fn product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let mut sums = vec![0.0; a.rows * b.columns];
    add_product(a, b, &mut sums);
    sums
}

vectorised! {
    /// Adds to the rows of a strip what some terms make of them: `a` in tiles of rows, `b` in tiles of columns.
    fn add_terms<'a>(a: &'a [f32], b: &'a [Vec<f32>], n: usize, sums: &'a mut [f32]) {
        for (tile, b) in b.iter().enumerate() {
            let from = tile * COLUMNS;
            let width = COLUMNS.min(n - from);
            for (rows, a) in a.chunks_exact(b.len() / COLUMNS * ROWS).enumerate() {
                let part = tile_of(a, b);
                for (part, row) in part.iter().zip(rows * ROWS..) {
                    let at = row * n + from;
                    let Some(sums) = sums.get_mut(at..at + width) else { break };
                    for (sum, x) in sums.iter_mut().zip(part) {
                        *sum += x;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn tile_of(a: &[f32], b: &[f32]) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0.0f32; COLUMNS]; ROWS];
    for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b.as_chunks::<COLUMNS>().0) {
        for i in 0..ROWS {
            for j in 0..COLUMNS {
                sums[i][j] = a[i].mul_add(b[j], sums[i][j]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::{Matrix, product};

    fn numbers(n: usize, salt: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    #[test]
    fn products_are_sums_of_products_on_any_number_of_threads() {
        for [m, k, n] in [[1, 1, 1], [3, 5, 7], [6, 256, 16], [50, 300, 33], [97, 513, 17]] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let found = product(Matrix::new(&a, k), Matrix::new(&b, n));
            for (i, found) in found.iter().enumerate() {
                let term = |t: usize| f64::from(a[i / n * k + t]) * f64::from(b[t * n + i % n]);
                let expected: f64 = (0..k).map(term).sum();
                assert!((f64::from(*found) - expected).abs() < 2e-5, "{m} {k} {n} {i}: {found} {expected}");
            }
            let turned = |x: &[f32], columns: usize| -> Vec<f32> {
                let rows = x.len() / columns;
                (0..x.len()).map(|i| x[i % rows * columns + i / rows]).collect()
            };
            let (a_turned, b_turned) = (turned(&a, k), turned(&b, n));
            let (a, b) = (Matrix::new(&a_turned, m).transposed(), Matrix::new(&b_turned, k).transposed());
            let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            assert_eq!(found, alone.install(|| product(a, b)), "{m} {k} {n}");
        }
    }
}
