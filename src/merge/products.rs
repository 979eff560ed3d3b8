//! Inner products and norms, summed in f64 in a fixed order.

use super::Whole;
use super::whole::Piece;
use crate::dtype::f32_of;
use crate::simd::vectorised;
use crate::snapshot::Dtype;

impl Whole<'_> {
    /// The inner products of all inputs with each other, row by row of a symmetric matrix; of the
    /// updates if `of_updates`, the base left out.
    pub fn products(&self, of_updates: bool) -> Vec<Vec<f64>> {
        let k = self.inputs.len() - usize::from(of_updates);
        let sums = match (k, of_updates) {
            (2, false) => {
                let sums = self.sums_of_unread(3, add_products_of_pair);
                vec![sums[0], sums[1], sums[1], sums[2]]
            }
            _ => self.sums(k * k, |given, sums| {
                let updates = if of_updates { given.updates() } else { Vec::new() };
                let vectors: Vec<&[f32]> = match of_updates {
                    true => updates.iter().map(Vec::as_slice).collect(),
                    false => given.inputs.to_vec(),
                };
                for (i, a) in vectors.iter().enumerate() {
                    for (j, b) in vectors.iter().enumerate().skip(i) {
                        sums[i * k + j] += dot(a, b);
                    }
                }
            }),
        };
        (0..k).map(|i| (0..k).map(|j| sums[i.min(j) * k + i.max(j)]).collect()).collect()
    }
}

/// Adds `a · a`, `a · b` and `b · b` of a piece of two inputs.
fn add_products_of_pair(piece: &mut Piece<'_>, sums: &mut [f64]) {
    let products = match piece.pair(Dtype::Bf16) {
        Some([a, b]) => products_bf16(a, b),
        None => piece.read(|given| {
            let [a, b] = [given.inputs[0], given.inputs[1]];
            [dot(a, a), dot(a, b), dot(b, b)]
        }),
    };
    sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
}

/// Independent running sums that the processor can overlap, always the same ones.
type Running = [f64; 16];

/// Numbers that are made f64 once for all their products.
const WIDE: usize = 256;

#[inline(always)]
fn widen(bf16: &[[u8; 2]; WIDE], wide: &mut [f64; WIDE]) {
    for i in 0..WIDE {
        wide[i] = f64::from(f32_of(bf16[i]));
    }
}

#[inline(always)]
fn add_products(sums: &mut Running, a: &[f64; WIDE], b: &[f64; WIDE]) {
    let mut local = *sums;
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for i in 0..16 {
            local[i] = a[i].mul_add(b[i], local[i]);
        }
    }
    *sums = local;
}

vectorised! {
    /// The inner product.
    pub fn dot<'a>(a: &'a [f32], b: &'a [f32]) -> f64 {
        let mut sums: Running = [0.0; 16];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
        for (a, b) in a.iter().zip(b) {
            for i in 0..16 {
                sums[i] = f64::from(a[i]).mul_add(f64::from(b[i]), sums[i]);
            }
        }
        let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        sums.iter().sum::<f64>() + rest
    }

    /// The inner products `a · a`, `a · b` and `b · b` of bf16 numbers.
    fn products_bf16<'a>(a: &'a [u8], b: &'a [u8]) -> [f64; 3] {
        // Written so that compilers find the wide instructions: three arrays, three loops.
        let (mut aa, mut ab, mut bb): (Running, Running, Running) = ([0.0; 16], [0.0; 16], [0.0; 16]);
        let (mut wide_a, mut wide_b) = ([0.0; WIDE], [0.0; WIDE]);
        let (a, b) = (a.as_chunks().0, b.as_chunks().0);
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<WIDE>(), b.as_chunks::<WIDE>());
        for (a, b) in a.iter().zip(b) {
            widen(a, &mut wide_a);
            widen(b, &mut wide_b);
            add_products(&mut aa, &wide_a, &wide_a);
            add_products(&mut ab, &wide_a, &wide_b);
            add_products(&mut bb, &wide_b, &wide_b);
        }
        let mut rest = [0.0; 3];
        for (a, b) in a_rest.iter().zip(b_rest) {
            let (a, b) = (f64::from(f32_of(*a)), f64::from(f32_of(*b)));
            rest = [rest[0] + a * a, rest[1] + a * b, rest[2] + b * b];
        }
        [aa.iter().sum::<f64>() + rest[0], ab.iter().sum::<f64>() + rest[1], bb.iter().sum::<f64>() + rest[2]]
    }

    /// The sum of magnitudes, in f64 in a fixed order.
    pub fn l1<'a>(x: &'a [f32]) -> f64 {
        let mut sums = [0.0f64; 16];
        let (x, rest) = x.as_chunks::<16>();
        for x in x {
            for i in 0..16 {
                sums[i] += f64::from(x[i].abs());
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|x| f64::from(x.abs())).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::{dot, products_bf16};
    use crate::snapshot::{Dtype, Weight};

    #[test]
    fn products_of_bf16_are_those_of_the_same_numbers() {
        for n in [0, 1, 255, 256, 1000] {
            let numbers = |salt: usize| (0..n).map(move |i| ((i * 37 + salt) % 101) as f32 / 50.0 - 1.0);
            let weight = |salt| Weight::rounded(vec![n], &numbers(salt).collect::<Vec<_>>(), Dtype::Bf16);
            let (a, b) = (weight(1), weight(50));
            let found = products_bf16(&a.bytes, &b.bytes);
            let (a, b) = (a.to_f32(), b.to_f32());
            for (found, expected) in found.into_iter().zip([dot(&a, &a), dot(&a, &b), dot(&b, &b)]) {
                assert!((found - expected).abs() <= 1e-12 * dot(&a, &a), "{n}: {found} is not {expected}");
            }
        }
    }
}
