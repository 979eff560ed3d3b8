//! Several files with shares: how many conversations of each make an epoch, and which.
//!
//! Without a limit the mixture is as large as it can be with nothing repeated: the file that is smallest
//! for its share decides, and the others are cut down. A limit that cannot be met so is an error. Only a
//! part that says `repeat` gives its conversations more than once, and what is held out is never trained on.

use super::conversation::Conversation;
use super::error::DataError;
use super::{apportioned, held_out, share, shuffled};
use crate::recipe::{Data, Part};

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
        let order = shuffled(n, seed, &format!("mixture/{i}"));
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
