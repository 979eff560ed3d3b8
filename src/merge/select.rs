//! Which numbers of a weight are kept: by size, by chance.
//!
//! Selection, not sorting. A sample tells between which two magnitudes a number of a given rank
//! must lie; one pass over the inputs counts what is smaller and keeps the few between them, among
//! which the number is found. The sample decides how much is kept on the way and nothing else.

use std::ops::Range;

use rand::Rng;

use super::Given;
use super::whole::Whole;
use crate::dtype::magnitude;
use crate::seed;
use crate::simd::vectorised;

/// The numbers that are ranked by magnitude, computed from the inputs.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// Computes those of some numbers of every input.
    pub compute: &'a (dyn Fn(&Given<'_>, &mut [f32]) + Sync),
    /// It needs whole rows.
    pub by_rows: bool,
}

/// A number of a given rank of the rising order of magnitudes.
struct Ranked {
    magnitude: u32,
    /// How many magnitudes are smaller.
    below: usize,
    /// For each piece and for the end, how many equal ones stand before it.
    equal_before: Vec<usize>,
}

/// The numbers at these ranks of the rising order of magnitudes.
///
/// # Panics
///
/// A rank is not below the weight's length.
pub fn ranked(whole: &Whole<'_>, key: Key<'_>, ranks: &[usize]) -> Vec<f32> {
    find(whole, key, ranks).into_iter().map(|found| f32::from_bits(found.magnitude)).collect()
}

/// Two magnitudes between which a rank is looked for, both ends included.
#[derive(Debug, Clone, Copy)]
struct Bracket {
    low: u32,
    high: u32,
}

/// What a piece has around a bracket.
struct Around {
    below: usize,
    low: usize,
    /// Magnitudes between the ends.
    between: Vec<u32>,
    high: usize,
}

/// Standard deviations of the sample's rank that a bracket leaves on both sides at first, and how
/// much wider the next one is where the rank lay outside: numbers that cluster mislead the sample.
const MARGIN: f64 = 4.0;
const WIDER: f64 = 8.0;

fn find(whole: &Whole<'_>, key: Key<'_>, ranks: &[usize]) -> Vec<Ranked> {
    let sample = sample(whole, key);
    let mut margins = vec![MARGIN; ranks.len()];
    loop {
        let mut sample = sample.clone();
        let around = |(rank, margin): (&usize, &f64)| bracket(&mut sample, whole.len, *rank, *margin);
        let brackets: Vec<Bracket> = ranks.iter().zip(&margins).map(around).collect();
        let pieces = whole.map(|given| {
            let mut keys = vec![0.0; given.len()];
            (key.compute)(given, &mut keys);
            brackets.iter().map(|bracket| look_around(&keys, *bracket)).collect::<Vec<_>>()
        });
        let found = ranks.iter().enumerate().map(|(nth, rank)| locate(&pieces, nth, brackets[nth], *rank));
        let found: Vec<Option<Ranked>> = found.collect();
        if found.iter().all(Option::is_some) {
            return found.into_iter().flatten().collect();
        }
        for (margin, _) in margins.iter_mut().zip(&found).filter(|(_, found)| found.is_none()) {
            *margin *= WIDER;
        }
    }
}

/// Some of the magnitudes, by a rule that knows nothing of them.
fn sample(whole: &Whole<'_>, key: Key<'_>) -> Vec<u32> {
    // Runs that a memory page holds.
    let run = if key.by_rows { whole.columns.max(1) } else { 512 };
    let n = (whole.len / 256).max(1 << 16).min(whole.len);
    let (mut sample, mut keys) = (Vec::with_capacity(n + run), Vec::new());
    whole.sample(n, run, |given| {
        keys.resize(given.len(), 0.0);
        (key.compute)(given, &mut keys);
        sample.extend(keys.iter().map(|x| magnitude(*x)));
    });
    sample
}

/// Where a rank of `len` numbers should lie by a sample of them.
fn bracket(sample: &mut [u32], len: usize, rank: usize, margin: f64) -> Bracket {
    let n = sample.len() as f64;
    let share = (rank as f64 + 0.5) / len as f64;
    let spread = margin * (share * (1.0 - share) / n).sqrt().max(1.0 / n);
    let mut at = |share: f64| {
        let place = share * n;
        match place < 0.0 || place >= n {
            true => None,
            false => Some(*sample.select_nth_unstable(place as usize).1),
        }
    };
    Bracket { low: at(share - spread).unwrap_or(0), high: at(share + spread).unwrap_or(u32::MAX) }
}

fn look_around(keys: &[f32], Bracket { low, high }: Bracket) -> Around {
    let [below, of_low, of_high, between] = counts(keys, low, high).map(|n| n as usize);
    let mut kept = vec![0; between];
    collect(keys, low, high, &mut kept);
    // Where both ends are one, it counts once.
    Around { below, low: of_low, between: kept, high: if low == high { 0 } else { of_high } }
}

/// The number of this rank, unless it lies outside the bracket.
fn locate(pieces: &[Vec<Around>], nth: usize, bracket: Bracket, rank: usize) -> Option<Ranked> {
    let pieces = || pieces.iter().map(|piece| &piece[nth]);
    let sum = |of: fn(&Around) -> usize| pieces().map(of).sum::<usize>();
    let (below, low, high) = (sum(|p| p.below), sum(|p| p.low), sum(|p| p.high));
    let mut between: Vec<u32> = pieces().flat_map(|piece| &piece.between).copied().collect();
    let rest = rank.checked_sub(below)?;
    if rest < low {
        return Some(Ranked::new(bracket.low, below, pieces().map(|piece| piece.low)));
    }
    let inside = rest - low;
    if inside < between.len() {
        let magnitude = *between.select_nth_unstable(inside).1;
        let smaller = between.iter().filter(|other| **other < magnitude).count();
        let equal = |piece: &Around| piece.between.iter().filter(|other| **other == magnitude).count();
        return Some(Ranked::new(magnitude, below + low + smaller, pieces().map(equal)));
    }
    let below = below + low + between.len();
    (rank - below < high).then(|| Ranked::new(bracket.high, below, pieces().map(|piece| piece.high)))
}

impl Ranked {
    fn new(magnitude: u32, below: usize, equal: impl Iterator<Item = usize>) -> Self {
        let mut sum = 0;
        let after = equal.map(|n| {
            sum += n;
            sum
        });
        Self { magnitude, below, equal_before: std::iter::once(0).chain(after).collect() }
    }

    /// The ranks of a piece's numbers that equal this one.
    fn equals(&self, piece: usize) -> Range<usize> {
        self.below + self.equal_before[piece]..self.below + self.equal_before[piece + 1]
    }
}

vectorised! {
    /// How many magnitudes lie below `low`, equal it, equal `high`, and lie between the two.
    fn counts<'a>(keys: &'a [f32], low: u32, high: u32) -> [u32; 4] {
        let mut counts = [0; 4];
        for key in keys {
            let magnitude = magnitude(*key);
            counts[0] += u32::from(magnitude < low);
            counts[1] += u32::from(magnitude == low);
            counts[2] += u32::from(magnitude == high);
            counts[3] += u32::from(low < magnitude) & u32::from(magnitude < high);
        }
        counts
    }

    /// Gathers the magnitudes between `low` and `high`; `kept` has a place for each.
    fn collect<'a>(keys: &'a [f32], low: u32, high: u32, kept: &'a mut [u32]) {
        let mut n = 0;
        for keys in keys.chunks(16) {
            let inside = |key: &f32| u32::from(low < magnitude(*key)) & u32::from(magnitude(*key) < high);
            if keys.iter().map(inside).fold(0, |any, inside| any | inside) == 0 {
                continue;
            }
            for key in keys {
                // Written in any case; the next one takes its place if it does not belong.
                let Some(place) = kept.get_mut(n) else { return };
                *place = magnitude(*key);
                n += inside(key) as usize;
            }
        }
    }

    /// The numbers whose magnitude is in the range, both ends included, and zeros for the others.
    fn keep_between<'a>(from: u32, to: u32, keys: &'a [f32], out: &'a mut [f32]) {
        for (out, key) in out.iter_mut().zip(keys) {
            *out = if (from..=to).contains(&magnitude(*key)) { *key } else { 0.0 };
        }
    }
}

/// A range of ranks of the rising order of magnitudes; equal ones rank in their own order.
pub struct Kept {
    ranks: Range<usize>,
    /// The numbers at both ends; absent where all or none are kept.
    ends: Option<[Ranked; 2]>,
}

impl Kept {
    /// Looks at the whole weight for the magnitudes at both ends.
    pub fn new(whole: &Whole<'_>, key: Key<'_>, ranks: Range<usize>) -> Self {
        if ranks.is_empty() || (ranks.start == 0 && ranks.end >= whole.len) {
            return Self { ranks, ends: None };
        }
        let ends = find(whole, key, &[ranks.start, ranks.end - 1]).try_into().ok();
        Self { ranks, ends }
    }

    /// Those of a piece's own ranked numbers that are kept, and zeros for the others.
    pub fn apply(&self, piece: usize, keys: &[f32], out: &mut [f32]) {
        let Some([low, high]) = &self.ends else {
            match self.ranks.is_empty() {
                true => out.fill(0.0),
                false => out.copy_from_slice(keys),
            }
            return;
        };
        let Range { start, end } = self.ranks;
        let (at_low, at_high) = (low.equals(piece), high.equals(piece));
        let whole_low = at_low.start >= start || at_low.end <= start;
        let whole_high = at_high.start >= end || at_high.end <= end;
        if low.magnitude == high.magnitude || !whole_low || !whole_high {
            // The range begins or ends among equal numbers of this piece.
            let mut keep = self.among(piece);
            out.iter_mut().zip(keys).for_each(|(out, key)| *out = if keep(*key) { *key } else { 0.0 });
            return;
        }
        let from = low.magnitude + u32::from(at_low.start < start);
        let to = high.magnitude - u32::from(at_high.end > end);
        keep_between(from, to, keys, out);
    }

    /// Tells of a piece's ranked numbers, one after the other, whether they are kept.
    pub fn among(&self, piece: usize) -> impl FnMut(f32) -> bool {
        let ranks = self.ranks.clone();
        let mut ends = self
            .ends
            .as_ref()
            .map(|ends| ends.each_ref().map(|end| (end.magnitude, end.equals(piece).start)));
        move |key| {
            let Some([(low, at_low), (high, at_high)]) = &mut ends else { return !ranks.is_empty() };
            let magnitude = magnitude(key);
            let at = match () {
                () if magnitude == *low => at_low,
                () if magnitude == *high => at_high,
                () => return *low < magnitude && magnitude < *high,
            };
            *at += 1;
            ranks.contains(&(*at - 1))
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
    use super::{Kept, Key, keep_by_chance, ranked};
    use crate::merge::Given;
    use crate::merge::whole::Whole;
    use crate::snapshot::{Numbers, Weight};

    fn with_whole<R>(numbers: &[f32], look: impl FnOnce(&Whole<'_>) -> R) -> R {
        let inputs = [Numbers::Stored(Weight::from_f32(vec![numbers.len() / 10, 10], numbers))];
        look(&Whole::new("w", 10, numbers.len(), &inputs))
    }

    fn itself(given: &Given<'_>, keys: &mut [f32]) {
        keys.copy_from_slice(given.inputs[0]);
    }

    /// The ranks that were found, and what is kept of some ranges, against a stable sort.
    fn check(numbers: &[f32], ranges: &[std::ops::Range<usize>]) {
        let n = numbers.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| numbers[*a].abs().total_cmp(&numbers[*b].abs()));
        with_whole(numbers, |whole| {
            for by_rows in [false, true] {
                let key = Key { compute: &itself, by_rows };
                let ranks = [0, n / 20, n - 1];
                for (x, rank) in ranked(whole, key, &ranks).into_iter().zip(ranks) {
                    assert_eq!(x, numbers[order[rank]].abs());
                }
                for ranks in ranges {
                    let kept = Kept::new(whole, key, ranks.clone());
                    let mut expected = vec![0.0; n];
                    order[ranks.clone()].iter().for_each(|i| expected[*i] = numbers[*i]);
                    for (piece, keys) in numbers.chunks(whole.piece_len()).enumerate() {
                        let expected = &expected[piece * whole.piece_len()..][..keys.len()];
                        let mut out = vec![0.0; keys.len()];
                        kept.apply(piece, keys, &mut out);
                        assert_eq!(out, expected, "{ranks:?}");
                        let mut keep = kept.among(piece);
                        let told: Vec<f32> = keys.iter().map(|x| if keep(*x) { *x } else { 0.0 }).collect();
                        assert_eq!(told, expected, "{ranks:?}");
                    }
                }
            }
        });
    }

    #[test]
    fn ranks_are_those_of_a_stable_sort() {
        // Many pieces, many equals.
        let n = 100_000;
        let numbers: Vec<f32> = (0..n).map(|i| ((i * 31) % 1013) as f32 / 7.0 - 70.0).collect();
        check(&numbers, &[0..n, 3..50_000, 10..11, 20..20, n - 1000..n, 0..1, 777..90_001]);
        // No equals, and more numbers than are sampled.
        let n = 300_000;
        let numbers: Vec<f32> = (0..n).map(|i| ((i * 7919) % n) as f32).collect();
        check(&numbers, &[n / 5..n, n / 10..n - 3000]);
    }

    #[test]
    fn numbers_that_mislead_the_sample_are_ranked_all_the_same() {
        // Nearly all are zero; the rest lies in one place, which the sample may see too much or nothing of.
        let n = 300_000;
        for (from, to) in [(1000, 3000), (0, 512), (290_000, n)] {
            let number = |i| if (from..to).contains(&i) { (i * 37 % 1009) as f32 + 1.0 } else { 0.0 };
            let numbers: Vec<f32> = (0..n).map(number).collect();
            check(&numbers, &[n - 400..n, n / 2..n, n - 2 * (to - from).min(n / 2)..n - 7]);
        }
        check(&vec![2.5; n], &[n / 3..n, 5..6]);
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
