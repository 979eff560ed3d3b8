//! Two inputs, each times its weight: what most merges of a pair come down to.

use super::{Given, Rule};
use crate::dtype::{bf16_of_number, f32_of, magnitude};
use crate::simd::vectorised;

/// `weights[0] · inputs[0] + weights[1] · inputs[1]`.
pub struct Between {
    pub weights: [f32; 2],
    pub fell_back: bool,
}

impl Between {
    /// Of the base and the other input, wherever the base stands; the first if there is none.
    pub fn base_and_other(mut weights: [f64; 2], base: Option<usize>, fell_back: bool) -> Self {
        if base == Some(1) {
            weights.reverse();
        }
        Self { weights: weights.map(|weight| weight as f32), fell_back }
    }
}

impl Rule for Between {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        merge(given.inputs[0], given.inputs[1], self.weights, out);
    }

    fn weights(&self) -> Option<[f32; 2]> {
        Some(self.weights)
    }

    fn fell_back(&self) -> bool {
        self.fell_back
    }
}

/// One rounding for the first product, one for the second and the sum.
#[inline(always)]
fn one(a: f32, b: f32, [of_a, of_b]: [f32; 2]) -> f32 {
    of_b.mul_add(b, of_a * a)
}

vectorised! {
    fn merge<'a>(a: &'a [f32], b: &'a [f32], weights: [f32; 2], out: &'a mut [f32]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = one(*a, *b, weights);
        }
    }

    /// As [`Between`] merges, from bf16 to bf16 without a stop between; rounds numbers, and returns the
    /// largest magnitude before, as [`crate::snapshot::Dtype::encode`] does.
    pub fn merge_bf16<'a>(a: &'a [u8], b: &'a [u8], weights: [f32; 2], out: &'a mut [u8]) -> u32 {
        let mut largest = 0;
        for ((out, a), b) in out.as_chunks_mut().0.iter_mut().zip(a.as_chunks().0).zip(b.as_chunks().0) {
            let merged = one(f32_of(*a), f32_of(*b), weights);
            *out = bf16_of_number(merged);
            largest = largest.max(magnitude(merged));
        }
        largest
    }

    /// As [`merge_bf16`]; leaves both inputs, what was merged and what was written in as long rows.
    fn merge_part<'a>(
        a: &'a [u8],
        b: &'a [u8],
        weights: [f32; 2],
        out: &'a mut [u8],
        rows: [&'a mut [f32]; 4],
    ) -> u32 {
        let (a, b, out) = (a.as_chunks().0, b.as_chunks().0, out.as_chunks_mut().0);
        let [of_a, of_b, exact, written] = rows;
        // Several loops: one with this many slices gets no wide instructions.
        of_a.iter_mut().zip(a).for_each(|(x, bf16)| *x = f32_of(*bf16));
        of_b.iter_mut().zip(b).for_each(|(x, bf16)| *x = f32_of(*bf16));
        let mut largest = 0;
        for ((exact, a), b) in exact.iter_mut().zip(&*of_a).zip(&*of_b) {
            *exact = one(*a, *b, weights);
            largest = largest.max(magnitude(*exact));
        }
        for ((out, written), exact) in out.iter_mut().zip(written).zip(exact) {
            *out = bf16_of_number(*exact);
            *written = f32_of(*out);
        }
        largest
    }
}

/// Numbers that are shown at once: few enough for the processor's nearest memory.
const PART: usize = 1 << 10;
/// With a cache line more, rows do not lie whole pages apart, which processors mistake for one place.
const ROW: usize = PART + 16;

/// Room for what is shown, used again from one time to the next.
pub struct Rows(Vec<[f32; ROW]>);

impl Default for Rows {
    fn default() -> Self {
        Self(vec![[0.0; ROW]; 4])
    }
}

impl Rows {
    fn cut(&mut self, len: usize) -> [&mut [f32]; 4] {
        let mut rows = self.0.iter_mut();
        std::array::from_fn(|_| &mut rows.next().expect("there are four")[..len])
    }
}

/// As [`merge_bf16`]; shows both inputs, what was merged and what was written, part by part.
pub fn merge_and_show(
    [a, b]: [&[u8]; 2],
    weights: [f32; 2],
    out: &mut [u8],
    rows: &mut Rows,
    mut look: impl FnMut([&[f32]; 4]),
) -> u32 {
    let parts = out.chunks_mut(2 * PART).zip(a.chunks(2 * PART)).zip(b.chunks(2 * PART));
    parts.fold(0, |largest, ((out, a), b)| {
        let found = merge_part(a, b, weights, out, rows.cut(out.len() / 2));
        look(rows.cut(out.len() / 2).map(|row| &*row));
        largest.max(found)
    })
}

#[cfg(test)]
mod tests {
    use super::{PART, Rows, merge, merge_and_show, merge_bf16};
    use crate::snapshot::{Dtype, Weight};

    #[test]
    fn from_bf16_to_bf16_gives_the_bytes_of_the_long_way() {
        for n in [0, 1, 37, PART, 3 * PART + 5] {
            let numbers =
                |salt: usize| (0..n).map(move |i| ((i * 7919 + salt) % 10_007) as f32 / 997.0 - 5.0);
            let weight = |salt| Weight::rounded(vec![n], &numbers(salt).collect::<Vec<_>>(), Dtype::Bf16);
            let (a, b, weights) = (weight(3), weight(5003), [0.3, 0.7]);
            let mut exact = vec![0.0; n];
            merge(&a.to_f32(), &b.to_f32(), weights, &mut exact);
            let mut expected = vec![0; 2 * n];
            let largest = Dtype::Bf16.encode(&exact, &mut expected);
            let mut out = vec![0; 2 * n];
            assert_eq!((merge_bf16(&a.bytes, &b.bytes, weights, &mut out), &out), (largest, &expected));
            out.fill(0);
            let mut shown = [const { Vec::new() }; 4];
            let found =
                merge_and_show([&a.bytes, &b.bytes], weights, &mut out, &mut Rows::default(), |some| {
                    shown.iter_mut().zip(some).for_each(|(shown, some)| shown.extend_from_slice(some));
                });
            assert_eq!((found, &out), (largest, &expected));
            let written = Weight::rounded(vec![n], &exact, Dtype::Bf16).to_f32();
            assert_eq!(shown, [a.to_f32(), b.to_f32(), exact, written]);
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_shows_in_the_largest() {
        let most = f32::from_bits(0x7f7f_0000);
        for (a, b) in [(f32::NAN, 1.0), (1.0, f32::INFINITY), (most, most)] {
            let bytes = |x| Weight::rounded(vec![1], &[x], Dtype::Bf16).bytes;
            let largest = merge_bf16(&bytes(a), &bytes(b), [0.6, 0.6], &mut [0; 2]);
            assert!(largest > Dtype::Bf16.largest().to_bits(), "{a} {b}");
        }
    }
}
