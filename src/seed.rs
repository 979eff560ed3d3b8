//! Randomness as a function of the run's seed and a name, never of order, thread or clock.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// The generator that belongs to `name` in the run with this `seed`.
///
/// Two names give independent streams; the same pair gives the same stream on every machine.
pub fn rng(seed: u64, name: &str) -> ChaCha8Rng {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    ChaCha8Rng::from_seed(digest.into())
}

/// The places 0 to `n` in an order of their own: Fisher and Yates' shuffle from the last place down, written out so
/// that no library can change it.
///
/// Training draws its conversations and its epochs so. [`drawn`] walks the other way and scales its numbers by the
/// remainder, so that the two give different orders: both are kept, for a seed must go on to draw what it drew.
pub fn shuffled(n: usize, seed: u64, name: &str) -> Vec<usize> {
    let mut rng = rng(seed, name);
    let mut places: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let scaled = u128::from(rng.next_u64()) * (i as u128 + 1);
        let j = usize::try_from(scaled >> 64).expect("the high half is at most i");
        places.swap(i, j);
    }
    places
}

/// At most `limit` of the places 0 to `n`, in the order they are drawn: the shuffle from the first place up, as far
/// as is asked for, so that a larger limit begins with the smaller's.
///
/// Evaluation draws its items so.
pub fn drawn(n: usize, limit: usize, seed: u64, name: &str) -> Vec<usize> {
    let limit = limit.min(n);
    let mut rng = rng(seed, name);
    let mut places: Vec<usize> = (0..n).collect();
    for i in 0..limit {
        // The bias of the remainder is n in 2^64.
        let j = i + (rng.next_u64() % (n - i) as u64) as usize;
        places.swap(i, j);
    }
    places.truncate(limit);
    places
}

/// The items at `places`, and the rest; both keep their order.
pub fn parted<T>(items: Vec<T>, places: &[usize]) -> (Vec<T>, Vec<T>) {
    let mut is_at = vec![false; items.len()];
    for &i in places {
        is_at[i] = true;
    }
    let mut marks = is_at.into_iter();
    items.into_iter().partition(|_| marks.next().expect("there is one mark for each item"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_seed_give_one_stream() {
        let draw = |seed, name| rng(seed, name).next_u64();
        assert_eq!(draw(1, "shuffle"), draw(1, "shuffle"));
        assert_ne!(draw(1, "shuffle"), draw(2, "shuffle"));
        assert_ne!(draw(1, "shuffle"), draw(1, "dropout"));
    }

    /// Computed by another program (`ChaCha` with 8 rounds, its key the SHA-256 of seed and name).
    #[test]
    fn a_seed_draws_what_it_always_drew() {
        assert_eq!(shuffled(10, 1, "shuffle/0"), [9, 0, 6, 4, 8, 7, 5, 2, 1, 3]);
        assert_eq!(drawn(100, 12, 1, "subset gsm8k"), [77, 41, 50, 3, 60, 79, 27, 72, 0, 51, 84, 99]);
        let (items, rest) = parted((0..50).collect(), &shuffled(50, 3, "split")[..10]);
        assert_eq!(items, [0, 1, 3, 14, 19, 23, 31, 32, 35, 38]);
        assert!(rest.len() == 40 && rest.is_sorted());
    }

    #[test]
    fn a_larger_draw_begins_with_the_smaller() {
        let all = drawn(20, 20, 7, "x");
        for n in 0..20 {
            assert_eq!(drawn(20, n, 7, "x"), all[..n]);
        }
        let mut sorted = drawn(20, 99, 7, "x");
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
}
