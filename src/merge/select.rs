//! Which numbers of a weight are kept: by size, by chance.
//!
//! Selection, not sorting: the threshold is found in linear time. Of equal numbers at a threshold
//! the first are kept.

use rand::Rng;

use crate::seed;

/// Magnitudes as integers of the same order.
fn magnitudes(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.abs().to_bits()).collect()
}

/// The magnitude that has exactly `rank` others before it in rising order.
fn ranked(x: &[f32], rank: usize) -> u32 {
    *magnitudes(x).select_nth_unstable(rank).1
}

/// Sets all to zero but the magnitudes at the places `from..to` of the rising order.
pub fn keep_ranks(x: &mut [f32], from: usize, to: usize) {
    if from >= to {
        x.fill(0.0);
        return;
    }
    let (low, high) = (ranked(x, from), ranked(x, to - 1));
    // Where the next number of that magnitude stands in the rising order, equals in their order.
    let below = |of: u32| x.iter().filter(|x| x.abs().to_bits() < of).count();
    let (mut at_low, mut at_high) = (below(low), below(high));
    for x in x {
        let magnitude = x.abs().to_bits();
        let keep = if magnitude == low {
            at_low += 1;
            at_high += usize::from(low == high);
            at_low > from && at_low <= to
        } else if magnitude == high {
            at_high += 1;
            at_high <= to
        } else {
            low < magnitude && magnitude < high
        };
        if !keep {
            *x = 0.0;
        }
    }
}

/// Sets all to zero but the `k` largest magnitudes.
pub fn keep_largest(x: &mut [f32], k: usize) {
    if k >= x.len() {
        return;
    }
    if k == 0 {
        x.fill(0.0);
        return;
    }
    let threshold = ranked(x, x.len() - k);
    let mut equals = k - x.iter().filter(|x| x.abs().to_bits() > threshold).count();
    for x in x {
        let magnitude = x.abs().to_bits();
        let keep = magnitude > threshold || (magnitude == threshold && equals > 0);
        equals -= usize::from(keep && magnitude == threshold);
        if !keep {
            *x = 0.0;
        }
    }
}

/// The number at place `rank` of the rising order of non-negative numbers.
pub fn quantile(x: &[f32], rank: usize) -> f32 {
    f32::from_bits(ranked(x, rank))
}

/// Keeps each number with its probability; the draw of a number depends on the seed, the weight's
/// name and the number's place, on nothing else.
///
/// `kept` is asked for the probability and told what the number becomes if it is kept.
pub fn keep_by_chance(x: &mut [f32], seed: u64, name: &str, mut kept: impl FnMut(usize, f32) -> (f32, f32)) {
    let mut rng = seed::rng(seed, name);
    for (i, x) in x.iter_mut().enumerate() {
        // 24 bits: every f32 of that grid in [0, 1) is equally likely.
        let draw = (rng.next_u32() >> 8) as f32 / (1 << 24) as f32;
        let (probability, value) = kept(i, *x);
        *x = if draw < probability { value } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::{keep_by_chance, keep_largest, keep_ranks};

    #[test]
    fn the_largest_magnitudes_stay_and_of_equals_the_first() {
        let mut x = [0.5, -2.0, 1.0, -1.0, 1.0, 0.0];
        keep_largest(&mut x, 3);
        assert_eq!(x, [0.0, -2.0, 1.0, -1.0, 0.0, 0.0]);
    }

    #[test]
    fn ranks_are_those_of_a_stable_sort() {
        let numbers: Vec<f32> = (0..97).map(|i| ((i * 31) % 11) as f32 - 5.0).collect();
        let mut order: Vec<usize> = (0..97).collect();
        order.sort_by(|a, b| numbers[*a].abs().total_cmp(&numbers[*b].abs()));
        for (from, to) in [(0, 97), (3, 50), (10, 11), (20, 20), (90, 97), (0, 1)] {
            let mut x = numbers.clone();
            keep_ranks(&mut x, from, to);
            let kept: Vec<usize> = order[from..to].iter().copied().filter(|i| numbers[*i] != 0.0).collect();
            for (i, x) in x.iter().enumerate() {
                let expected = if kept.contains(&i) { numbers[i] } else { 0.0 };
                assert_eq!(*x, expected, "{from}..{to} at {i}");
            }
        }
    }

    #[test]
    fn chance_keeps_its_share_and_repeats_itself() {
        let draw = |seed, name| {
            let mut x = vec![1.0; 10_000];
            keep_by_chance(&mut x, seed, name, |_, x| (0.3, x));
            x
        };
        let kept: f32 = draw(1, "a").iter().sum();
        assert!((2850.0..3150.0).contains(&kept), "{kept}");
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
    }
}
