//! Which numbers of a weight are kept: by size, by chance.
//!
//! Selection, not sorting: a number of a given rank is found by counting magnitudes, in two passes
//! over the inputs and without keeping any of them.

use std::ops::Range;

use rand::Rng;

use super::Given;
use super::whole::Whole;
use crate::seed;
use crate::simd::vectorised;

/// Bits of a magnitude that the first count tells apart, and those left for the second.
const HIGH: u32 = 16;
const LOW: u32 = 31 - HIGH;

/// Computes the numbers of a piece that are ranked by magnitude.
pub type Key<'a> = &'a (dyn Fn(&Given<'_>, &mut [f32]) + Sync);

/// A magnitude as an integer of the same order.
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// The numbers at these ranks of the rising order of magnitudes, each with how many are smaller.
///
/// # Panics
///
/// A rank is not below the weight's length.
pub fn ranked(whole: &Whole<'_>, key: Key<'_>, ranks: &[usize]) -> Vec<(f32, usize)> {
    // In which bin a rank lies, and how many numbers lie before that bin.
    let find = |counts: &[u64], rank: usize| {
        let mut before = 0;
        let bin = counts.iter().position(|count| {
            before += *count as usize;
            before > rank
        });
        let bin = bin.expect("a rank is below the number of numbers");
        (bin, before - counts[bin] as usize)
    };
    let high = count(whole, key, 1 << HIGH, |magnitude| Some((magnitude >> LOW) as usize));
    let mut bins: Vec<usize> = ranks.iter().map(|rank| find(&high, *rank).0).collect();
    bins.sort_unstable();
    bins.dedup();
    let mask = (1 << LOW) - 1;
    let low = count(whole, key, bins.len() << LOW, |magnitude| {
        let bin = bins.iter().position(|bin| *bin == (magnitude >> LOW) as usize)?;
        Some(bin << LOW | (magnitude & mask) as usize)
    });
    let number = |rank: &usize| {
        let (bin, before) = find(&high, *rank);
        let nth = bins.binary_search(&bin).expect("it was found before");
        let (rest, below) = find(&low[nth << LOW..(nth + 1) << LOW], rank - before);
        (f32::from_bits((bin << LOW | rest) as u32), before + below)
    };
    ranks.iter().map(number).collect()
}

vectorised! {
    /// Sets all to zero whose key's magnitude is not in the range, both ends included.
    fn keep_between<'a>(keys: &'a [f32], from: u32, to: u32, values: &'a mut [f32]) {
        for (key, value) in keys.iter().zip(values) {
            let magnitude = key.to_bits() & 0x7fff_ffff;
            let mask = if (from..=to).contains(&magnitude) { u32::MAX } else { 0 };
            *value = f32::from_bits(value.to_bits() & mask);
        }
    }

    /// How many of these numbers have this magnitude.
    fn equals<'a>(x: &'a [f32], edge: u32) -> u32 {
        x.iter().map(|x| u32::from(x.to_bits() & 0x7fff_ffff == edge)).sum()
    }
}

/// How many of the ranked numbers fall into each of `n` places.
fn count(whole: &Whole<'_>, key: Key<'_>, n: usize, place: impl Fn(u32) -> Option<usize> + Sync) -> Vec<u64> {
    whole.counts(n, |given, counts| {
        let mut keys = vec![0.0; given.len()];
        key(given, &mut keys);
        for at in keys.iter().filter_map(|x| place(magnitude(*x))) {
            counts[at] += 1;
        }
    })
}

/// Keeps a range of ranks of the rising order of magnitudes; equal ones rank in their own order.
pub struct Kept {
    ranks: Range<usize>,
    low: Edge,
    high: Edge,
}

/// The magnitude at one end of the range.
struct Edge {
    magnitude: u32,
    /// How many smaller ones there are, and for each piece and the end how many equal ones stand
    /// before it.
    below: usize,
    before: Vec<usize>,
}

impl Kept {
    /// Looks at the whole weight for the magnitudes at both ends.
    pub fn new(whole: &Whole<'_>, key: Key<'_>, ranks: Range<usize>) -> Self {
        if ranks.is_empty() || (ranks.start == 0 && ranks.end >= whole.len) {
            let edge = |magnitude| Edge { magnitude, below: 0, before: Vec::new() };
            return Self { ranks, low: edge(u32::MAX), high: edge(u32::MAX) };
        }
        let ends = ranked(whole, key, &[ranks.start, ranks.end - 1]);
        let n_pieces = whole.len.div_ceil(whole.piece_len());
        let counts = whole.counts(2 * n_pieces, |given, counts| {
            let mut keys = vec![0.0; given.len()];
            key(given, &mut keys);
            let piece = given.start / whole.piece_len();
            for (end, (edge, _)) in ends.iter().enumerate() {
                counts[end * n_pieces + piece] = u64::from(equals(&keys, magnitude(*edge)));
            }
        });
        let edge = |end: usize| {
            let mut sum = 0;
            let after = counts[end * n_pieces..(end + 1) * n_pieces].iter().map(|n| {
                sum += *n as usize;
                sum
            });
            let before = std::iter::once(0).chain(after).collect();
            Edge { magnitude: magnitude(ends[end].0), below: ends[end].1, before }
        };
        Self { low: edge(0), high: edge(1), ranks }
    }

    /// Sets all of `values` to zero that are not kept; `keys` are the piece's ranked numbers.
    pub fn apply(&self, piece: usize, keys: &[f32], values: &mut [f32]) {
        if self.ranks.is_empty() {
            values.fill(0.0);
            return;
        }
        let (low, high) = (self.low.magnitude, self.high.magnitude);
        let (Some(of_low), Some(of_high)) =
            (self.low.before.get(piece..piece + 2), self.high.before.get(piece..piece + 2))
        else {
            return;
        };
        // The ranks of the piece's numbers that equal an edge.
        let (low_ranks, high_ranks) = (
            self.low.below + of_low[0]..self.low.below + of_low[1],
            self.high.below + of_high[0]..self.high.below + of_high[1],
        );
        let Range { start, end } = self.ranks;
        let whole_low = low_ranks.start >= start || low_ranks.end <= start;
        let whole_high = high_ranks.start >= end || high_ranks.end <= end;
        if low != high && whole_low && whole_high {
            let from = if low_ranks.start >= start { low } else { low + 1 };
            let to = if high_ranks.end <= end { high } else { high - 1 };
            return keep_between(keys, from, to, values);
        }
        // The range begins or ends among equal numbers of this piece.
        let (mut at_low, mut at_high) = (low_ranks.start, high_ranks.start);
        for (key, value) in keys.iter().zip(values) {
            let magnitude = magnitude(*key);
            let mut keep = low < magnitude && magnitude < high;
            if magnitude == low {
                keep = self.ranks.contains(&at_low);
                at_low += 1;
            } else if magnitude == high {
                keep = self.ranks.contains(&at_high);
                at_high += 1;
            }
            *value = if keep { *value } else { 0.0 };
        }
    }
}

/// Keeps each number with its probability; the draw of a number depends on the seed, the weight's
/// name and the number's place `start + i`, on nothing else.
///
/// `kept` is asked for the probability and told what the number becomes if it is kept.
pub fn keep_by_chance(
    x: &mut [f32],
    (seed, name, start): (u64, &str, usize),
    mut kept: impl FnMut(usize, f32) -> (f32, f32),
) {
    let mut rng = seed::rng(seed, name);
    rng.set_word_pos(start as u128);
    for (i, x) in x.iter_mut().enumerate() {
        // 24 bits: every f32 of that grid in [0, 1) is equally likely.
        let draw = (rng.next_u32() >> 8) as f32 / (1 << 24) as f32;
        let (probability, value) = kept(i, *x);
        *x = if draw < probability { value } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, keep_by_chance, ranked};
    use crate::merge::Given;
    use crate::merge::whole::Whole;
    use crate::snapshot::Weight;

    fn with_whole<R>(numbers: &[f32], look: impl FnOnce(&Whole<'_>) -> R) -> R {
        let inputs = [Weight::from_f32(vec![numbers.len() / 10, 10], numbers)];
        look(&Whole { name: "w", columns: 10, len: numbers.len(), inputs: &inputs, base: None })
    }

    fn itself(given: &Given<'_>, keys: &mut [f32]) {
        keys.copy_from_slice(given.inputs[0]);
    }

    #[test]
    fn ranks_are_those_of_a_stable_sort() {
        // Many pieces, many equals.
        let n = 100_000;
        let numbers: Vec<f32> = (0..n).map(|i| ((i * 31) % 1013) as f32 / 7.0 - 70.0).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| numbers[*a].abs().total_cmp(&numbers[*b].abs()));
        with_whole(&numbers, |whole| {
            let found = ranked(whole, &itself, &[0, 5000, n - 1]);
            for ((x, below), rank) in found.into_iter().zip([0, 5000, n - 1]) {
                assert_eq!(x, numbers[order[rank]].abs());
                assert_eq!(below, numbers.iter().filter(|other| other.abs() < x).count());
            }
            for ranks in [0..n, 3..50_000, 10..11, 20..20, n - 1000..n, 0..1, 777..90_001] {
                let kept = Kept::new(whole, &itself, ranks.clone());
                let mut expected = vec![0.0; n];
                order[ranks.clone()].iter().for_each(|i| expected[*i] = numbers[*i]);
                for (piece, keys) in numbers.chunks(whole.piece_len()).enumerate() {
                    let mut values = keys.to_vec();
                    kept.apply(piece, keys, &mut values);
                    assert_eq!(values, expected[piece * whole.piece_len()..][..keys.len()], "{ranks:?}");
                }
            }
        });
    }

    #[test]
    fn chance_keeps_its_share_repeats_itself_and_knows_its_place() {
        let draw = |seed, name, start: usize| {
            let mut x = vec![1.0; 10_000 - start];
            keep_by_chance(&mut x, (seed, name, start), |_, x| (0.3, x));
            x
        };
        let kept: f32 = draw(1, "a", 0).iter().sum();
        assert!((2850.0..3150.0).contains(&kept), "{kept}");
        assert_eq!(draw(1, "a", 0)[777..], draw(1, "a", 777));
        assert_ne!(draw(1, "a", 0), draw(2, "a", 0));
        assert_ne!(draw(1, "a", 0), draw(1, "b", 0));
    }
}
