//! Python's `random.Random`, draw for draw.
//!
//! Matsumoto and Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number
//! generator", 1998; how `CPython` 3.11 seeds it and turns its words into draws. The published few-shot prompts were
//! drawn with it, so whoever compares with them needs the same rows.

use std::collections::HashSet;

/// Words of state, and how far apart the two that make a new one lie.
const N: usize = 624;
const M: usize = 397;

/// A generator that a Python program with the same seed would call `random.Random(seed)`.
#[derive(Debug, Clone)]
pub struct PythonRandom {
    state: [u32; N],
    next: usize,
}

impl PythonRandom {
    /// Seeded as `Random(seed)` with an integer: its sign does not count.
    pub fn new(seed: i128) -> Self {
        let size = seed.unsigned_abs();
        let words: Vec<u32> = (0..4).map(|idx| (size >> (32 * idx)) as u32).collect();
        Self::from_words(&words)
    }

    /// Seeded with an integer of any size: the words of its magnitude, the lowest first.
    pub fn from_words(words: &[u32]) -> Self {
        // Python passes as many words as the number needs, and one for zero.
        let n = words.iter().rposition(|word| *word != 0).map_or(1, |last| last + 1);
        let key: Vec<u32> = (0..n).map(|idx| words.get(idx).copied().unwrap_or(0)).collect();
        Self { state: seeded(&key), next: N }
    }

    /// The next 32 bits.
    fn word(&mut self) -> u32 {
        if self.next == N {
            twist(&mut self.state);
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `random()`: from 0 up to but not 1, 53 bits of it.
    pub fn random(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `getrandbits(n_bits)`, for 1 to 64 bits: the lower word is drawn first.
    pub fn bits(&mut self, n_bits: u32) -> u64 {
        assert!((1..=64).contains(&n_bits), "bits come one to sixty-four at a time");
        if n_bits <= 32 {
            return u64::from(self.word() >> (32 - n_bits));
        }
        let low = self.word();
        u64::from(self.word() >> (64 - n_bits)) << 32 | u64::from(low)
    }

    /// `_randbelow(n)`: a whole number below `n`, which is at least one.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "nothing lies below zero");
        let n = n as u64;
        let n_bits = u64::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(n_bits);
            if drawn < n {
                return drawn as usize;
            }
        }
    }

    /// `sample(range(n), k)`; none if there are not that many.
    pub fn sample(&mut self, n: usize, k: usize) -> Option<Vec<usize>> {
        if k > n {
            return None;
        }
        // Python weighs the memory of a set of `k` against that of a list of `n`; the draws differ.
        let mut set_size = 21;
        if k > 5 {
            set_size += std::iter::successors(Some(1), |size| Some(size * 4)).find(|size| *size >= 3 * k)?;
        }
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            let drawn = (0..k).map(|idx| {
                let place = self.below(n - idx);
                pool.swap_remove(place)
            });
            return Some(drawn.collect());
        }
        let mut seen = HashSet::new();
        let mut drawn = Vec::with_capacity(k);
        while drawn.len() < k {
            let row = self.below(n);
            if seen.insert(row) {
                drawn.push(row);
            }
        }
        Some(drawn)
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for idx in (1..items.len()).rev() {
            let other = self.below(idx + 1);
            items.swap(idx, other);
        }
    }
}

/// The state that a key of any length makes: `init_by_array` of the authors' program.
fn seeded(key: &[u32]) -> [u32; N] {
    let mut state = [0u32; N];
    state[0] = 19_650_218;
    for idx in 1..N {
        let before = state[idx - 1];
        state[idx] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(idx as u32);
    }
    let mixed = |before: u32, factor: u32| (before ^ (before >> 30)).wrapping_mul(factor);
    let mut at = 1;
    for step in 0..N.max(key.len()) {
        let of_key = step % key.len();
        state[at] = (state[at] ^ mixed(state[at - 1], 1_664_525))
            .wrapping_add(key[of_key])
            .wrapping_add(of_key as u32);
        at = following(&mut state, at);
    }
    for _ in 1..N {
        state[at] = (state[at] ^ mixed(state[at - 1], 1_566_083_941)).wrapping_sub(at as u32);
        at = following(&mut state, at);
    }
    // The state is not all zeros, whatever the key.
    state[0] = 0x8000_0000;
    state
}

/// The place behind `at`; at the end the first word becomes the last, and the walk goes on behind it.
fn following(state: &mut [u32; N], at: usize) -> usize {
    if at + 1 < N {
        return at + 1;
    }
    state[0] = state[N - 1];
    1
}

/// Makes the next 624 words of the state.
fn twist(state: &mut [u32; N]) {
    for idx in 0..N {
        let y = (state[idx] & 0x8000_0000) | (state[(idx + 1) % N] & 0x7fff_ffff);
        let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
        state[idx] = state[(idx + M) % N] ^ (y >> 1) ^ odd;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every expected number is what CPython 3.11 prints.

    #[test]
    fn the_first_draws_are_pythons() {
        assert_eq!(PythonRandom::new(0).random(), 0.844_421_851_525_048_1);
        assert_eq!(PythonRandom::new(-42).random(), PythonRandom::new(42).random());
        let mut rng = PythonRandom::new(42);
        assert_eq!(rng.random(), 0.639_426_798_457_883_7);
        assert_eq!(rng.bits(64), 13_679_192_365_072_849_617);
        assert_eq!(rng.bits(33), 1_181_241_943);
        assert_eq!(rng.below(1_000_000_000_000), 151_282_538_206);
    }

    #[test]
    fn a_seed_may_be_larger_than_a_word() {
        assert_eq!(PythonRandom::new((1 << 100) + 12_345).random(), 0.444_873_109_943_470_73);
        assert_eq!(PythonRandom::from_words(&[7, 0, 0, 0, 0, 0, 256]).random(), 0.330_442_299_785_048_9);
        assert_eq!(PythonRandom::from_words(&[]).random(), PythonRandom::new(0).random());
    }

    #[test]
    fn a_sample_of_many_comes_from_a_pool_and_one_of_few_from_a_set() {
        let sample = |n, k| PythonRandom::new(3).sample(n, k);
        let pool = [30, 75, 69, 16, 47, 77, 60, 74, 8, 1, 78, 33, 70, 29, 24, 79, 82, 50, 19, 71];
        assert_eq!(sample(85, 20).unwrap(), pool);
        let set = [30, 75, 69, 16, 47, 77, 60, 80, 74, 8, 1, 33, 70, 29, 24, 91, 50, 81, 19, 66];
        assert_eq!(sample(100, 20).unwrap(), set);
        assert_eq!(sample(3, 4), None);
        assert_eq!(sample(3, 0), Some(vec![]));
    }

    #[test]
    fn a_shuffle_is_pythons() {
        let mut items: Vec<u32> = (0..10).collect();
        PythonRandom::new(5).shuffle(&mut items);
        assert_eq!(items, [2, 3, 1, 0, 8, 7, 6, 5, 4, 9]);
    }
}
