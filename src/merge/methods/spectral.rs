//! The strongest directions of the update: of each matrix, its first singular parts.
//!
//! Eckart and Young, "The approximation of one matrix by another of lower rank", 1936: no matrix of
//! that rank is nearer to the update. Found by subspace iteration (Halko, Martinsson and Tropp,
//! "Finding structure with randomness", 2011, arXiv 0909.4061), which reads the update row by row and
//! keeps only as many rows of it as the rank. Vectors have one direction and are taken whole.

use serde::Deserialize;

use crate::merge::given::{Given, fraction, read};
use crate::merge::subspace::Subspace;
use crate::merge::{Merge, Method, Needs, Rule, Whole};

pub(super) const SPECTRAL: Method = Method {
    name: "spectral",
    summary: "add the strongest directions of the update and leave the rest",
    source: "Eckart and Young 1936; Halko et al. 2011, arXiv 0909.4061",
    example: "spectral:0.5,rank=4",
    needs: Needs::PAIR,
    from_spec: |parameters| {
        let spectral: Spectral = read(parameters)?;
        fraction("λ", spectral.lambda)?;
        match spectral.rank {
            1..=4096 => Ok(Box::new(spectral)),
            rank => Err(format!("rank is {rank}, expected 1 to 4096")),
        }
    },
    of_models: &[],
    from_settings: |_| Err("mergekit has no such method; it merges `--pre` and `--post`".to_owned()),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spectral {
    /// How much of what is kept is added, from 0 (nothing: the base) to 1.
    lambda: f64,
    /// How many directions of each matrix are kept.
    rank: usize,
}

impl Merge for Spectral {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        base.filter(|_| self.lambda == 0.0)
    }

    fn prepare(&self, whole: &Whole<'_>) -> Box<dyn Rule + '_> {
        let n_rows = whole.len / whole.columns.max(1);
        let narrow = n_rows.min(whole.columns) > self.rank;
        let kept = narrow.then(|| Subspace::of_update(whole, self.rank, 1e-8));
        Box::new(Projected { lambda: self.lambda as f32, kept })
    }
}

/// The update, projected on what is kept of it.
struct Projected {
    lambda: f32,
    /// Everything where there is none.
    kept: Option<Subspace>,
}

impl Rule for Projected {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        given.update(0, out);
        if let Some(kept) = &self.kept {
            out.chunks_mut(given.columns).for_each(|row| kept.project(row));
        }
        for (out, base) in out.iter_mut().zip(given.base()) {
            *out = base + self.lambda * *out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SPECTRAL;
    use crate::merge::tests::merged;

    /// Orthonormal vectors: the waves of a discrete cosine transform.
    fn wave(k: usize, n: usize) -> Vec<f32> {
        let norm = (if k == 0 { 1.0 } else { 2.0 } / n as f64).sqrt();
        let at = |i: usize| norm * (std::f64::consts::PI / n as f64 * (i as f64 + 0.5) * k as f64).cos();
        (0..n).map(|i| at(i) as f32).collect()
    }

    /// `Σ strength · wave(k, rows) wave(k, columns)ᵀ`.
    fn matrix(strengths: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let mut sum = vec![0.0; rows * columns];
        for (k, strength) in strengths.iter().enumerate() {
            let (u, v) = (wave(k, rows), wave(k, columns));
            for (i, x) in sum.iter_mut().enumerate() {
                *x += strength * u[i / columns] * v[i % columns];
            }
        }
        sum
    }

    #[test]
    fn the_strongest_singular_parts_are_what_is_added() {
        // Close strengths at the cut, as in a full update, and a long tail.
        let strengths: Vec<f32> = (0..30).map(|k| 2.0 * 0.8f32.powi(k)).collect();
        let (rows, columns) = (70, 40);
        let base = matrix(&[0.5], rows, columns);
        let update = matrix(&strengths, rows, columns);
        let tuned: Vec<f32> = base.iter().zip(&update).map(|(base, update)| base + update).collect();
        for rank in [1, 3, 8] {
            let spec = format!("lambda = 0.5\nrank = {rank}");
            let merge = (SPECTRAL.from_spec)(spec.parse().unwrap()).unwrap();
            let (found, _) = merged(merge.as_ref(), columns, &base, &tuned);
            let kept = matrix(&strengths[..rank], rows, columns);
            let worst = found.iter().zip(base.iter().zip(&kept)).map(|(f, (b, k))| (f - b - 0.5 * k).abs());
            let worst = worst.fold(0.0, f32::max);
            assert!(worst < 2e-4, "rank {rank}: {worst}");
        }
    }
}
