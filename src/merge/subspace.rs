//! The strongest directions of a matrix that is read row by row.

use rand::Rng;

use super::whole::Whole;
use crate::seed;
use crate::simd::vectorised;

/// Directions that are sought beyond those asked for: the last ones asked for are found the sooner.
const MORE: usize = 8;
/// Passes over the matrix at the most.
const PASSES: usize = 24;

/// Some orthonormal directions in the space of a matrix's rows.
pub struct Subspace {
    rank: usize,
    /// `[columns, rank]`.
    directions: Vec<f32>,
}

impl Subspace {
    /// The `rank` directions that hold most of a weight's update: its right singular vectors, sought until another pass
    /// over the matrix adds less than the share `enough` to what they hold.
    pub fn of_update(whole: &Whole<'_>, rank: usize, enough: f64) -> Self {
        let n = whole.columns;
        let k = (rank + MORE).min(n).min(whole.len / n);
        let mut rng = seed::rng(0, &format!("spectral {}", whole.name));
        let mut basis: Vec<f64> =
            (0..n * k).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5).collect();
        orthonormalise(&mut basis, k);
        let (mut captured, mut pass) = (0.0, 0);
        loop {
            pass += 1;
            // Dᵀ D V, a row of D at a time.
            let image = whole.sums(n * k, |given, sums| {
                let mut row = vec![0.0; given.len()];
                given.update(0, &mut row);
                let mut along = vec![0.0; k];
                for row in row.chunks(n) {
                    along.fill(0.0);
                    add_along(row, &basis, &mut along);
                    add_back(row, &along, sums);
                }
            });
            // Vᵀ Dᵀ D V is what the subspace holds of D; its eigenvectors turn V to D's own directions.
            let mut held: Vec<f64> = vec![0.0; k * k];
            for (v, z) in basis.chunks(k).zip(image.chunks(k)) {
                for (i, v) in v.iter().enumerate() {
                    held[i * k..(i + 1) * k].iter_mut().zip(z).for_each(|(sum, z)| *sum += v * z);
                }
            }
            let (values, vectors) = eigen(held, k);
            let now: f64 = values[..rank.min(k)].iter().sum();
            if pass == PASSES || now - captured <= enough * now {
                return Self::turned(&basis, &vectors, k, rank.min(k));
            }
            captured = now;
            basis = image;
            orthonormalise(&mut basis, k);
        }
    }

    /// The first `rank` columns of `basis · vectors`.
    fn turned(basis: &[f64], vectors: &[f64], k: usize, rank: usize) -> Self {
        let row = |row: &[f64]| {
            let of = |j: usize| row.iter().enumerate().map(|(i, x)| x * vectors[i * k + j]).sum::<f64>();
            (0..rank).map(|j| of(j) as f32).collect::<Vec<_>>()
        };
        Self { rank, directions: basis.chunks(k).flat_map(row).collect() }
    }

    /// Replaces a row by its part in the subspace.
    pub fn project(&self, row: &mut [f32]) {
        let mut along = vec![0.0f32; self.rank];
        for (x, directions) in row.iter().zip(self.directions.chunks(self.rank)) {
            along.iter_mut().zip(directions).for_each(|(sum, d)| *sum += x * d);
        }
        for (x, directions) in row.iter_mut().zip(self.directions.chunks(self.rank)) {
            *x = along.iter().zip(directions).map(|(a, d)| a * d).sum();
        }
    }
}

vectorised! {
    /// `along += row · basis`.
    fn add_along<'a>(row: &'a [f32], basis: &'a [f64], along: &'a mut [f64]) {
        for (x, basis) in row.iter().zip(basis.chunks_exact(along.len())) {
            let x = f64::from(*x);
            for (sum, b) in along.iter_mut().zip(basis) {
                *sum += x * b;
            }
        }
    }

    /// `sums += rowᵀ · along`.
    fn add_back<'a>(row: &'a [f32], along: &'a [f64], sums: &'a mut [f64]) {
        for (x, sums) in row.iter().zip(sums.chunks_exact_mut(along.len())) {
            let x = f64::from(*x);
            for (sum, a) in sums.iter_mut().zip(along) {
                *sum += x * a;
            }
        }
    }
}

/// Makes the columns of a `[n, k]` matrix orthonormal: Gram and Schmidt, twice, which is enough. A
/// column that the others hold already becomes zero.
fn orthonormalise(basis: &mut [f64], k: usize) {
    let dot = |basis: &[f64], i: usize, j: usize| basis.chunks(k).map(|row| row[i] * row[j]).sum::<f64>();
    for j in 0..k {
        let before = dot(basis, j, j);
        for _ in 0..2 {
            for i in 0..j {
                let along = dot(basis, i, j);
                basis.chunks_mut(k).for_each(|row| row[j] -= along * row[i]);
            }
        }
        let left = dot(basis, j, j);
        let scale = if left > 1e-24 * before { left.sqrt().recip() } else { 0.0 };
        basis.chunks_mut(k).for_each(|row| row[j] *= scale);
    }
}

/// Eigenvalues of a symmetric `[k, k]` matrix, falling, and its eigenvectors as columns: Jacobi's
/// rotations.
fn eigen(mut a: Vec<f64>, k: usize) -> (Vec<f64>, Vec<f64>) {
    let mut v: Vec<f64> = (0..k * k).map(|i| f64::from(u8::from(i / k == i % k))).collect();
    for _ in 0..30 {
        let off: f64 = (0..k * k).filter(|i| i / k != i % k).map(|i| a[i] * a[i]).sum();
        let all: f64 = a.iter().map(|x| x * x).sum();
        if off <= 1e-28 * all {
            break;
        }
        for p in 0..k {
            for q in p + 1..k {
                let (pp, qq, pq) = (a[p * k + p], a[q * k + q], a[p * k + q]);
                if pq.abs() <= f64::MIN_POSITIVE {
                    continue;
                }
                let theta = (qq - pp) / (2.0 * pq);
                let tan = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cos = tan.hypot(1.0).recip();
                let sin = tan * cos;
                for i in 0..k {
                    let (x, y) = (a[i * k + p], a[i * k + q]);
                    (a[i * k + p], a[i * k + q]) = (cos * x - sin * y, sin * x + cos * y);
                    let (x, y) = (v[i * k + p], v[i * k + q]);
                    (v[i * k + p], v[i * k + q]) = (cos * x - sin * y, sin * x + cos * y);
                }
                for i in 0..k {
                    let (x, y) = (a[p * k + i], a[q * k + i]);
                    (a[p * k + i], a[q * k + i]) = (cos * x - sin * y, sin * x + cos * y);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|i, j| a[j * k + j].total_cmp(&a[i * k + i]));
    let values = order.iter().map(|i| a[i * k + i]).collect();
    let vectors = (0..k * k).map(|i| v[i / k * k + order[i % k]]).collect();
    (values, vectors)
}
