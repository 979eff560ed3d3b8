//! Several files with shares: how many conversations of each make an epoch, and which.
//!
//! Without a limit the mixture is as large as it can be with nothing repeated: the file that is smallest
//! for its share decides, and the others are cut down. A limit that cannot be met so is an error. Only a
//! part that says `repeat` gives its conversations more than once, and what is held out is never trained on.

use super::conversation::Conversation;
use super::error::DataError;
use super::shares::{apportioned, held_out, share};
use crate::recipe::{Data, Part};
use crate::seed;

/// The training and the validation conversations.
pub(super) fn mix(
    all: &[Conversation],
    data: &Data,
    seed: u64,
    said: &mut Vec<String>,
) -> Result<(Vec<Conversation>, Vec<Conversation>), DataError> {
    let parts = &data.mixture;
    let of = |source: usize| all.iter().filter(move |conversation| conversation.line.source == source);
    let pools: Vec<Vec<&Conversation>> = (1..=parts.len()).map(|source| of(source).collect()).collect();
    let sizes: Vec<usize> = pools.iter().map(Vec::len).collect();
    let shares: Vec<f64> = parts.iter().map(|part| part.share).collect();
    let (n, smallest) = match data.limit {
        0 => total(&sizes, parts),
        limit => (limit, None),
    };
    let counts = apportioned(n, &shares);
    let is_split = data.validation != 0.0 && data.validation_source.is_none();
    let n_validation = if is_split { share(data.validation, n)? } else { 0 };
    let held_counts = apportioned(n_validation, &shares);
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (i, (part, pool)) in parts.iter().zip(&pools).enumerate() {
        let (n, count, n_held) = (pool.len(), counts[i], held_counts[i].min(counts[i]));
        if count > n && !part.repeat {
            let (number, name, share) = (i + 1, part.source.clone(), part.share);
            return Err(DataError::ShareTooLarge { number, name, n, share, needed: count });
        }
        let order = seed::shuffled(n, seed, &format!("mixture/{i}"));
        let used = &order[..count.min(n)];
        // Of what comes several times, what is held out is held out every time.
        let n_distinct = if count > n { (n * n_held).div_ceil(count) } else { n_held };
        let (held, rest) = used.split_at(n_distinct);
        let n_train = count - n_held;
        if rest.is_empty() {
            let (number, name, share) = (i + 1, part.source.clone(), part.share);
            return Err(DataError::ShareTooSmall { number, name, n, share, train: rest.len() });
        }
        let taken = |from: &[usize], n: usize| -> Vec<Conversation> {
            from.iter().cycle().take(n).map(|&i| pool[i].clone()).collect()
        };
        validation.extend(taken(held, n_held));
        train.extend(taken(rest, n_train));
        said.push(sentence(i + 1, part, count, n, smallest == Some(i)));
    }
    if is_split {
        said.push(held_out(validation.len(), n));
    }
    Ok((train, validation))
}

/// How many conversations make the largest mixture, and which part decides it.
fn total(sizes: &[usize], parts: &[Part]) -> (usize, Option<usize>) {
    let sum: f64 = parts.iter().map(|part| part.share).sum();
    let whole = |i: usize| (sizes[i] as f64 * sum / parts[i].share + 1e-9) as usize;
    let once = (0..parts.len()).filter(|&i| !parts[i].repeat).min_by_key(|&i| whole(i));
    // If all may repeat, each conversation comes at least once.
    let most = || (0..parts.len()).map(whole).max().unwrap_or(0);
    (once.map_or_else(most, whole), once)
}

fn sentence(number: usize, part: &Part, count: usize, n: usize, decides: bool) -> String {
    let times = if count > n {
        format!("its {n} conversations {:.2} times, {count} in all,", count as f64 / n as f64)
    } else {
        format!("{count} of its {n} conversations")
    };
    let why =
        if decides { "; it is the smallest for its share and decides the size of the mixture" } else { "" };
    format!("source {number} of the mixture, `{}`: {times} for a share of {}{why}", part.source, part.share)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::{Line, load, tiny};
    use super::*;
    use crate::recipe::Recipe;

    const SEED: u64 = 5;

    /// `[data]` of a mixture with these shares.
    fn data(parts: &[(f64, bool)], more: &str) -> Data {
        let part = |(share, repeat): &(f64, bool)| {
            format!("[[data.mixture]]\nsource = \"x\"\nshare = {share:?}\nrepeat = {repeat}\n")
        };
        let parts: String = parts.iter().map(part).collect();
        let text = format!("schema = 1\nname = \"x\"\n[model]\nsource = \"m\"\n[data]\n{more}\n{parts}");
        Recipe::parse(&text, "test", &[]).unwrap().data
    }

    /// So many conversations of each source.
    fn pools(sizes: &[usize]) -> Vec<Conversation> {
        let of = |(size, source): (&usize, usize)| {
            (1..=*size).map(move |number| {
                let line = Line { source, number };
                Conversation { line, ..tiny::conversation(&["user: a", "assistant: b"]) }
            })
        };
        sizes.iter().zip(1..).flat_map(of).collect()
    }

    fn counts(conversations: &[Conversation]) -> Vec<usize> {
        let mut counts = BTreeMap::new();
        for one in conversations {
            *counts.entry(one.line.source).or_default() += 1;
        }
        counts.into_values().collect()
    }

    fn mixed(parts: &[(f64, bool)], sizes: &[usize], more: &str) -> Result<[Vec<usize>; 2], DataError> {
        let (train, validation) = mix(&pools(sizes), &data(parts, more), SEED, &mut Vec::new())?;
        Ok([counts(&train), counts(&validation)])
    }

    #[test]
    fn the_smallest_for_its_share_decides_unless_it_repeats_or_a_limit_is_set() {
        let no = "validation = 0";
        let once = [(0.8, false), (0.2, false)];
        assert_eq!(mixed(&once, &[1000, 30], no).unwrap()[0], [120, 30]);
        assert_eq!(mixed(&once, &[1000, 30], "").unwrap(), [vec![108, 27], vec![12, 3]]);
        let again = [(0.8, false), (0.2, true)];
        assert_eq!(mixed(&again, &[1000, 30], no).unwrap()[0], [1000, 250]);
        assert_eq!(mixed(&once, &[1000, 30], "validation = 0\nlimit = 50").unwrap()[0], [40, 10]);
        let error = mixed(&once, &[1000, 30], "validation = 0\nlimit = 500").unwrap_err();
        assert!(matches!(error, DataError::ShareTooLarge { number: 2, n: 30, needed: 100, .. }), "{error:?}");
        assert_eq!(mixed(&again, &[1000, 30], "validation = 0\nlimit = 500").unwrap()[0], [400, 100]);
        let error = mixed(&[(0.999, false), (0.001, false)], &[1000, 30], "limit = 50").unwrap_err();
        assert!(matches!(error, DataError::ShareTooSmall { number: 2, .. }), "{error:?}");
    }

    #[test]
    fn files_are_read_transformed_mixed_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, n: usize| {
            let lines: String =
                (0..n).map(|i| format!("{{\"prompt\": \"{name} {i}\", \"completion\": \"c\"}}\n")).collect();
            std::fs::write(folder.path().join(name), lines).unwrap();
            folder.path().join(name).display().to_string()
        };
        let mut data = data(&[(0.75, false), (0.25, true)], "validation = 0.1\ntransforms = [\"dedupe\"]");
        data.mixture[0].source = write("a.jsonl", 90);
        data.mixture[1].source = write("b.jsonl", 10);
        data.mixture[1].transforms = vec!["refuse:1".to_owned()];
        let sets = load(&data, SEED).unwrap();
        assert_eq!((sets.train.len(), sets.validation.len()), (108, 12));
        let refused = sets.train.iter().filter(|one| one.messages[1].content != "c").count();
        assert_eq!(refused, 27);
        let said = sets.said.join("\n").replace(&folder.path().display().to_string(), "");
        assert!(said.contains("`refuse:1`: 10 of 10 conversations are answered with a refusal"), "{said}");
        assert!(said.contains("source 1 of the mixture, `/a.jsonl`: 90 of its 90 conversations for a share of 0.75; it is the smallest"), "{said}");
        assert!(said.contains("its 10 conversations 3.00 times, 30 in all, for a share of 0.25"), "{said}");
        assert!(said.ends_with("12 of 120 conversations are held out to watch the loss"), "{said}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_draw_keeps_its_shares_repeats_only_what_may_and_trains_on_nothing_held_out(
            sizes in prop::collection::vec(20_usize..200, 2..5),
            weights in prop::collection::vec(1_u32..10, 4),
            repeats in prop::collection::vec(any::<bool>(), 4),
            seed: u64,
        ) {
            let weights = &weights[..sizes.len()];
            let sum: u32 = weights.iter().sum();
            let parts: Vec<(f64, bool)> =
                weights.iter().zip(&repeats).map(|(weight, repeat)| (f64::from(*weight) / f64::from(sum), *repeat)).collect();
            let data = data(&parts, "");
            let all = pools(&sizes);
            let Ok((train, validation)) = mix(&all, &data, seed, &mut Vec::new()) else { return Ok(()) };
            prop_assert_eq!(&train, &mix(&all, &data, seed, &mut Vec::new()).unwrap().0);
            let n = train.len() + validation.len();
            let mut times = BTreeMap::<_, usize>::new();
            for Line { source, number } in train.iter().chain(&validation).map(|one| one.line) {
                *times.entry((source, number)).or_default() += 1;
            }
            for (i, (share, repeat)) in parts.iter().enumerate() {
                let count: usize = times.iter().filter(|((source, _), _)| *source == i + 1).map(|(_, n)| n).sum();
                prop_assert!((count as f64 - share * n as f64).abs() < 1.0 + 1e-6, "{} of {}", count, n);
                prop_assert!(*repeat || count <= sizes[i]);
            }
            for ((source, _), times) in &times {
                prop_assert!(parts[source - 1].1 || *times == 1);
            }
            for held in &validation {
                prop_assert!(!train.contains(held));
            }
        }
    }
}
