//! How the update of a matrix lies to what alignment made of it.
//!
//! With V = W₀ − Wᵤ, what alignment added to the unaligned model, C = V Vᵀ / ‖V‖ weighs directions by how much alignment
//! used them; ρ is the cosine between C Δ and the update Δ (Hsu et al., "Safe LoRA", 2024, arXiv 2405.16833; Djuhera et
//! al., "SafeMERGE", 2025, arXiv 2503.17239). C is no projector, and ρ has no scale of its own: of an update that has
//! nothing to do with V it is about tr C / (√d ‖C‖), which stands beside it as `baseline`.
//!
//! V Vᵀ or Vᵀ V is formed, whichever is smaller, in f32; V and a dense Δ are read in blocks.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Whole;
use super::product::{Matrix, add_product, product};
use super::products::dot;
use crate::snapshot::{Factors, Numbers};

/// Where a merge that looks at alignment has its models among its inputs.
const BASE: usize = 0;
const TUNED: usize = 1;
const UNALIGNED: usize = 2;

/// Rows or columns of a matrix that are read at once.
const BLOCK: usize = 512;

/// ‖V‖ below which nothing was aligned (SafeMERGE's code).
const NOTHING: f64 = 1e-9;

/// How the update Δ of one matrix lies to its alignment V.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Alignment {
    /// The cosine between C Δ and Δ; 0 where either is zero.
    pub rho: f64,
    /// What ρ is about for an update that has nothing to do with V.
    pub baseline: f64,
    /// ‖C Δ‖ / ‖Δ‖: what is left of an update that is replaced by C Δ.
    pub contraction: f64,
    /// ‖Δ‖ and ‖V‖.
    pub update_norm: f64,
    pub alignment_norm: f64,
    /// ‖B − C B‖ of the factor B of a low-rank update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor_distance: Option<f64>,
}

impl Alignment {
    /// ‖Δ − C Δ‖.
    pub fn distance(&self) -> f64 {
        let square = 1.0 - 2.0 * self.rho * self.contraction + self.contraction * self.contraction;
        self.update_norm * square.max(0.0).sqrt()
    }
}

/// C Δ of one matrix.
pub enum Contracted<'a> {
    /// Its numbers, row-major.
    Dense(Vec<f32>),
    /// `scale · (C B) A`.
    LowRank { cb: Vec<f32>, factors: Factors<'a> },
}

impl Contracted<'_> {
    /// Reads numbers from the `start`th on.
    pub fn read(&self, start: usize, columns: usize, out: &mut [f32]) {
        match self {
            Self::Dense(numbers) => out.copy_from_slice(&numbers[start..start + out.len()]),
            Self::LowRank { cb, factors } => {
                add_low_rank(cb, factors.a, factors.scale, (start, columns), out);
            }
        }
    }
}

/// Fills whole rows, from the number `start` on, with `scale · b a`.
pub fn add_low_rank(b: &[f32], a: &[f32], scale: f64, (start, columns): (usize, usize), out: &mut [f32]) {
    out.fill(0.0);
    let rank = a.len() / columns;
    for (row, out) in out.chunks_mut(columns).enumerate() {
        let row = start / columns + row;
        for (b, a) in b[row * rank..(row + 1) * rank].iter().zip(a.chunks(columns)) {
            out.iter_mut().zip(a).for_each(|(out, a)| *out += b * a);
        }
        for out in out {
            *out *= scale as f32;
        }
    }
}

/// Looks at one weight of base, tuned and unaligned model, its first three inputs.
pub fn alignment(whole: &Whole<'_>) -> Alignment {
    Look::new(whole).look(false).0
}

/// C Δ of one weight.
pub fn contracted<'w>(whole: &'w Whole<'_>) -> Contracted<'w> {
    let look = Look::new(whole);
    let kept = match look.factors {
        Some(factors) => Some(look.low_rank(factors)),
        None => look.look(true).1,
    };
    kept.unwrap_or_else(|| Contracted::Dense(vec![0.0; whole.len]))
}

/// Sums of squares and products that the figures are made of, without C's division by ‖V‖.
#[derive(Default)]
struct Sums {
    /// ‖V‖², ‖V Vᵀ‖².
    v: f64,
    gram: f64,
    /// ‖Δ‖², ‖V Vᵀ Δ‖², and the two times each other.
    update: f64,
    image: f64,
    along: f64,
    /// ‖B‖², ‖V Vᵀ B‖², and the two times each other.
    factor: Option<[f64; 3]>,
}

struct Look<'w, 'n> {
    whole: &'w Whole<'n>,
    rows: usize,
    columns: usize,
    factors: Option<Factors<'w>>,
}

impl<'w, 'n> Look<'w, 'n> {
    fn new(whole: &'w Whole<'n>) -> Self {
        let columns = whole.columns.max(1);
        Self { whole, rows: whole.len / columns, columns, factors: whole.inputs[TUNED].factors() }
    }

    /// The base less another input, of some rows or of some columns of all rows.
    fn difference(&self, [a, b]: [usize; 2], rows: [usize; 2], columns: [usize; 2]) -> Vec<f32> {
        let [from, to] = columns;
        let mut out = vec![0.0; (rows[1] - rows[0]) * (to - from)];
        let read = |numbers: &Numbers<'_>, row: usize, out: &mut [f32]| {
            numbers.read((rows[0] + row) * self.columns + from, out);
        };
        out.par_chunks_mut((to - from).max(1)).enumerate().for_each_init(
            || vec![0.0; to - from],
            |other, (row, out)| {
                read(&self.whole.inputs[a], row, out);
                read(&self.whole.inputs[b], row, other);
                out.iter_mut().zip(other).for_each(|(out, other)| *out -= *other);
            },
        );
        out
    }

    /// V and, of a dense update, Δ of some rows.
    fn v(&self, rows: [usize; 2], columns: [usize; 2]) -> Vec<f32> {
        self.difference([BASE, UNALIGNED], rows, columns)
    }

    fn update(&self, rows: [usize; 2], columns: [usize; 2]) -> Vec<f32> {
        self.difference([TUNED, BASE], rows, columns)
    }

    fn look(&self, keep: bool) -> (Alignment, Option<Contracted<'w>>) {
        let mut sums = Sums::default();
        let mut kept = match self.rows <= self.columns {
            true => self.wide(&mut sums, keep),
            false => self.tall(&mut sums, keep),
        };
        let norm = sums.v.sqrt();
        let is_nothing = norm < NOTHING;
        if let (Some(factors), Some(Contracted::LowRank { cb, .. })) = (self.factors, &kept) {
            self.of_factors(factors, cb, &mut sums);
        }
        match &mut kept {
            Some(Contracted::Dense(x) | Contracted::LowRank { cb: x, .. }) => {
                let scale = if is_nothing { 0.0 } else { norm.recip() as f32 };
                for x in x {
                    *x *= scale;
                }
            }
            None => {}
        }
        let ratio = |part: f64, whole: f64| if whole > 0.0 && !is_nothing { part / whole } else { 0.0 };
        let alignment = Alignment {
            rho: ratio(sums.along, (sums.image * sums.update).sqrt()),
            baseline: ratio(sums.v, (self.rows as f64 * sums.gram).sqrt()),
            contraction: ratio(sums.image.sqrt(), norm * sums.update.sqrt()),
            update_norm: sums.update.sqrt(),
            alignment_norm: norm,
            factor_distance: sums.factor.map(|[b, image, along]| {
                let away = if is_nothing { b } else { b - 2.0 * along / norm + image / sums.v };
                away.max(0.0).sqrt()
            }),
        };
        (alignment, kept)
    }

    /// C Δ of a low-rank update, which needs neither V Vᵀ nor Vᵀ V.
    fn low_rank(&self, factors: Factors<'w>) -> Contracted<'w> {
        let (rows, columns, rank) = (self.rows, self.columns, factors.rank);
        let blocks = || (0..rows).step_by(BLOCK).map(|from| [from, (from + BLOCK).min(rows)]);
        let (mut square, mut turned) = (0.0, vec![0.0; columns * rank]);
        for block in blocks() {
            let v = self.v(block, [0, columns]);
            square += dot(&v, &v);
            let b = Matrix::new(&factors.b[block[0] * rank..block[1] * rank], rank);
            add_product(Matrix::new(&v, columns).transposed(), b, &mut turned);
        }
        let scale = if square.sqrt() < NOTHING { 0.0 } else { square.sqrt().recip() as f32 };
        for x in &mut turned {
            *x *= scale;
        }
        let image = |block: [usize; 2]| {
            let v = self.v(block, [0, columns]);
            product(Matrix::new(&v, columns), Matrix::new(&turned, rank))
        };
        Contracted::LowRank { cb: blocks().flat_map(image).collect(), factors }
    }

    /// By V Vᵀ, block of columns by block.
    fn wide(&self, sums: &mut Sums, keep: bool) -> Option<Contracted<'w>> {
        let (rows, columns) = (self.rows, self.columns);
        let blocks = || (0..columns).step_by(BLOCK).map(|from| [from, (from + BLOCK).min(columns)]);
        let mut gram = vec![0.0; rows * rows];
        for block in blocks() {
            let v = self.v([0, rows], block);
            sums.v += dot(&v, &v);
            let v = Matrix::new(&v, block[1] - block[0]);
            add_product(v, v.transposed(), &mut gram);
        }
        sums.gram = dot(&gram, &gram);
        let gram = Matrix::new(&gram, rows);
        if let Some(factors) = self.factors {
            let cb = product(gram, Matrix::new(factors.b, factors.rank));
            return Some(Contracted::LowRank { cb, factors });
        }
        let mut kept = vec![0.0; if keep { rows * columns } else { 0 }];
        for block in blocks() {
            let (update, width) = (self.update([0, rows], block), block[1] - block[0]);
            let image = product(gram, Matrix::new(&update, width));
            sums.add(&update, &image);
            for (row, image) in image.chunks(width).enumerate().filter(|_| keep) {
                kept[row * columns + block[0]..row * columns + block[1]].copy_from_slice(image);
            }
        }
        keep.then_some(Contracted::Dense(kept))
    }

    /// By Vᵀ V and Vᵀ Δ, block of rows by block.
    fn tall(&self, sums: &mut Sums, keep: bool) -> Option<Contracted<'w>> {
        let (rows, columns) = (self.rows, self.columns);
        let blocks = || (0..rows).step_by(BLOCK).map(|from| [from, (from + BLOCK).min(rows)]);
        let width = self.factors.map_or(columns, |factors| factors.rank);
        let (mut gram, mut turned) = (vec![0.0; columns * columns], vec![0.0; columns * width]);
        for block in blocks() {
            let v = self.v(block, [0, columns]);
            sums.v += dot(&v, &v);
            let v = Matrix::new(&v, columns);
            add_product(v.transposed(), v, &mut gram);
            let update = match self.factors {
                Some(factors) => factors.b[block[0] * width..block[1] * width].to_vec(),
                None => self.update(block, [0, columns]),
            };
            add_product(v.transposed(), Matrix::new(&update, width), &mut turned);
        }
        sums.gram = dot(&gram, &gram);
        drop(gram);
        let mut kept = Vec::new();
        for block in blocks() {
            let v = self.v(block, [0, columns]);
            let image = product(Matrix::new(&v, columns), Matrix::new(&turned, width));
            if self.factors.is_none() {
                sums.add(&self.update(block, [0, columns]), &image);
            }
            if keep || self.factors.is_some() {
                kept.extend(image);
            }
        }
        match self.factors {
            Some(factors) => Some(Contracted::LowRank { cb: kept, factors }),
            None => keep.then_some(Contracted::Dense(kept)),
        }
    }

    /// The sums of an update `s B A` from those of its factors: `⟨X A, Y A⟩ = Σ (Xᵀ Y) ∘ (A Aᵀ)`.
    fn of_factors(&self, factors: Factors<'_>, image: &[f32], sums: &mut Sums) {
        let Factors { a, b, rank, scale } = factors;
        let across = |x: &[f32], y: &[f32]| {
            let mut products = vec![0.0; rank * rank];
            for (x, y) in x.chunks(rank).zip(y.chunks(rank)) {
                for (sums, x) in products.chunks_mut(rank).zip(x) {
                    sums.iter_mut().zip(y).for_each(|(sum, y)| *sum += f64::from(*x) * f64::from(*y));
                }
            }
            products
        };
        let of_a: Vec<f64> = (0..rank * rank)
            .map(|i| {
                let row = |i: usize| &a[i * self.columns..(i + 1) * self.columns];
                dot(row(i / rank), row(i % rank))
            })
            .collect();
        let square = scale * scale;
        let with_a = |products: &[f64]| square * products.iter().zip(&of_a).map(|(x, y)| x * y).sum::<f64>();
        let trace = |products: &[f64]| products.iter().step_by(rank + 1).sum::<f64>();
        let [bb, ii, bi] = [across(b, b), across(image, image), across(b, image)];
        sums.update = with_a(&bb).max(0.0);
        sums.image = with_a(&ii).max(0.0);
        sums.along = with_a(&bi);
        sums.factor = Some([trace(&bb), trace(&ii), trace(&bi)]);
    }
}

impl Sums {
    fn add(&mut self, update: &[f32], image: &[f32]) {
        self.update += dot(update, update);
        self.image += dot(image, image);
        self.along += dot(update, image);
    }
}
