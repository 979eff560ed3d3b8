//! Which requests are refused: so many of each pool, none of which stands elsewhere.

use std::collections::HashSet;

use super::error::DataError;
use super::shares::apportioned;
use crate::recipe::{REFUSALS_PER_RECORD, RefusalMix};
use crate::seed;

/// A pool of requests.
pub(super) struct Pool<'a> {
    /// Its file.
    pub name: &'a str,
    /// By record, what two requests agree in that are one.
    pub keys: Vec<String>,
    /// How many are wanted.
    pub count: usize,
}

/// What was drawn of a pool.
pub(super) struct Drawn {
    /// The records, in the order they were drawn.
    pub places: Vec<usize>,
    /// Requests that could be drawn: those that stand neither elsewhere nor earlier.
    pub n_free: usize,
}

impl<'a> Pool<'a> {
    /// The pools of a mix whose refused records are there, each with its key, for `n` records that stay as they are.
    pub fn all<T>(refused: &[Vec<(T, String)>], mix: &'a RefusalMix, n: usize) -> Vec<Self> {
        let given = mix.sources.iter().map(|source| source.count).collect::<Option<Vec<usize>>>();
        let shared = || counts(n, mix.ratio.unwrap_or(REFUSALS_PER_RECORD), mix.sources.len());
        let wanted = given.unwrap_or_else(shared);
        let pool = |(nth, count): (usize, usize)| Self {
            name: &mix.sources[nth].source,
            keys: refused[nth].iter().map(|(_, key)| key.clone()).collect(),
            count,
        };
        wanted.into_iter().enumerate().map(pool).collect()
    }
}

/// How many of each of `n_pools` pools are wanted for `n` records: in sum the rounded share, spread evenly.
fn counts(n: usize, ratio: f64, n_pools: usize) -> Vec<usize> {
    let total = apportioned(n, &[ratio, 1.0 - ratio.min(1.0)])[0].max(1);
    apportioned(total, &vec![1.0; n_pools])
}

/// Draws from every pool; nothing whose key is among `taken`, and no key twice.
///
/// # Errors
///
/// A pool has too few.
pub(super) fn draw(pools: &[Pool<'_>], taken: &HashSet<String>, seed: u64) -> Result<Vec<Drawn>, DataError> {
    let (mut seen, mut all) = (HashSet::new(), Vec::new());
    for (i, pool) in pools.iter().enumerate() {
        let order = seed::shuffled(pool.keys.len(), seed, &format!("refusal_mix/{i}"));
        let is_free = |at: &usize| !taken.contains(&pool.keys[*at]) && seen.insert(&pool.keys[*at]);
        let free: Vec<usize> = order.into_iter().filter(is_free).collect();
        let (n, n_free, needed) = (pool.keys.len(), free.len(), pool.count);
        if n_free < needed {
            let name = pool.name.to_owned();
            return Err(DataError::FewRequests { number: i + 1, name, n, n_free, needed });
        }
        all.push(Drawn { places: free[..needed].to_vec(), n_free });
    }
    Ok(all)
}

/// A text as it is compared: blanks and case aside.
pub fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Which of `n` replies becomes the refusal.
pub(super) fn reply_at(turn: crate::recipe::Turn, n: usize, seed: u64, name: &str) -> usize {
    match turn {
        crate::recipe::Turn::First => 0,
        crate::recipe::Turn::Last => n - 1,
        crate::recipe::Turn::Random => seed::drawn(n, 1, seed, name)[0],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_are_the_rounded_share_spread_evenly() {
        assert_eq!(counts(1400, 0.03, 1), [42]);
        assert_eq!(counts(1400, 0.03, 4), [11, 11, 10, 10]);
        assert_eq!(counts(10, 0.01, 2), [1, 0]);
        assert_eq!(counts(50, 1.0, 2), [25, 25]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_draw_is_exact_disjoint_and_the_seeds(
            texts in prop::collection::vec(prop::collection::vec(0_u8..40, 1..60), 1..4),
            taken in prop::collection::hash_set(0_u8..40, 0..20),
            count in 1_usize..6,
            seed: u64,
        ) {
            let taken: HashSet<String> = taken.iter().map(ToString::to_string).collect();
            let pools: Vec<Pool<'_>> = texts.iter().map(|keys| Pool {
                name: "x",
                keys: keys.iter().map(ToString::to_string).collect(),
                count,
            }).collect();
            match draw(&pools, &taken, seed) {
                Ok(drawn) => {
                    let again = draw(&pools, &taken, seed).unwrap();
                    let mut seen = HashSet::new();
                    for ((one, other), pool) in drawn.iter().zip(&again).zip(&pools) {
                        prop_assert_eq!(one.places.len(), count);
                        prop_assert_eq!(&one.places, &other.places);
                        for &at in &one.places {
                            prop_assert!(!taken.contains(&pool.keys[at]) && seen.insert(pool.keys[at].clone()));
                        }
                    }
                }
                Err(DataError::FewRequests { n_free, needed, .. }) => prop_assert!(n_free < needed),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }
}
