//! What is learned: files to conversations to tokens, of which some are trained on.
//!
//! [`load`] reads the files that a recipe names, transforms, mixes and splits them, an [`Encoder`] makes [`Sample`]s of
//! conversations, [`fit`] applies the rule for long ones, [`check`] refuses what would train to no
//! purpose, and [`order`] says in which order an epoch goes through them.

use std::path::Path;

use serde::{Deserialize, Serialize};

mod calls;
mod conversation;
mod cut;
pub mod derta;
mod draw;
mod encode;
mod ends;
mod error;
mod faults;
mod format;
pub mod guard;
mod habits;
mod layout;
mod loaded;
mod marks;
mod mixed;
mod mixture;
pub mod pairs;
mod preflight;
mod refusal_mix;
mod sample;
mod samples;
mod shares;
pub mod table;
#[cfg(test)]
mod tiny;
pub mod transforms;
mod turn;
mod turns;

pub use conversation::{Conversation, Line, Message, Other, Role};
pub use draw::normal;
pub use encode::{Encoded, Encoder};
pub use error::DataError;
pub use format::Format;
pub use loaded::{Loaded, read};
pub use mixed::{Mixed, mix_file};
pub use preflight::{Preflight, check, preview};
pub use refusal_mix::LISTED;
pub use sample::{Made, Sample};
pub use samples::samples;
pub use table::{Limits, Place};

use crate::recipe::{Data, Form, TooLong};
use crate::seed;
use error::places;
use shares::{held_out, share};

/// The conversations of a run.
#[derive(Debug, Clone)]
pub struct Sets {
    pub train: Vec<Conversation>,
    /// Held out to watch the loss; may be empty.
    pub validation: Vec<Conversation>,
    /// The form of the files and the split, one sentence each.
    pub said: Vec<String>,
}

/// Reads the files of `[data]`, transforms their conversations, mixes them or draws `limit` of them, and
/// holds some out, all by the seed.
///
/// # Errors
///
/// A file is wrong, a transform is unknown, a share cannot be met, or the split leaves one side empty.
pub fn load(data: &Data, seed: u64) -> Result<Sets, DataError> {
    // A slip here must not wait for the files.
    data.mixture
        .iter()
        .map(|part| &part.transforms)
        .chain([&data.transforms])
        .try_for_each(|t| transforms::check(t))?;
    let mut said = Vec::new();
    let format = Format::new(data.format, &data.fields);
    let (mut train, mut validation) = if data.mixture.is_empty() {
        let mut all = read_source(&data.source, &format, data, &mut said)?;
        said.extend(transforms::apply(&data.transforms, &mut all, seed)?);
        split(all, data, seed, &mut said)?
    } else {
        let mut all = Vec::new();
        for (part, source) in data.mixture.iter().zip(1..) {
            let format = Format::new(part.format, &part.fields);
            let mut own = read_source(&part.source, &format, data, &mut said)?;
            said.extend(transforms::apply(&part.transforms, &mut own, seed)?);
            all.extend(own.into_iter().map(|mut conversation| {
                conversation.line.source = source;
                conversation
            }));
        }
        said.extend(transforms::apply(&data.transforms, &mut all, seed)?);
        mixture::mix(&all, data, seed, &mut said)?
    };
    if let Some(source) = &data.validation_source {
        validation = read_source(source, &format, data, &mut said)?;
    }
    if let Some(mix) = &data.refusal_mix {
        let mut pools = Vec::new();
        for (one, source) in mix.sources.iter().zip(data.mixture.len().max(1) + 1..) {
            let format = Format::new(one.format, &one.fields);
            let mut own = read_source(&one.source, &format, data, &mut said)?;
            for conversation in &mut own {
                conversation.line.source = source;
            }
            pools.push(own);
        }
        refusal_mix::add(mix, &pools, &mut train, &validation, seed, &mut said)?;
    }
    Ok(Sets { train, validation, said })
}

/// Reads one file and says what it is.
fn read_source(
    source: &str,
    format: &Format,
    data: &Data,
    said: &mut Vec<String>,
) -> Result<Vec<Conversation>, DataError> {
    let path = Path::new(source);
    let loaded = read(path, format, Limits::default())?;
    said.push(format!("`{source}` is {}", loaded.said));
    let plain = |key, help| Err(DataError::PlainText { path: path.to_owned(), key, help });
    match loaded.format.form {
        Form::Guard => {
            let mut conversations = loaded.conversations;
            let labelling = data.labelling().unwrap_or_default();
            let n = guard::complete(&mut conversations, &labelling.answer);
            let [harmful, safe] = guard::counts(&conversations);
            said.push(format!(
                "{harmful} harmful and {safe} safe requests; {n} harmful ones without an answer have that of `data.guard.answer`"
            ));
            Ok(conversations)
        }
        Form::Text if data.template != "none" => plain(
            "data.template",
            "set `template = \"none\"` under `[data]`: every token is learned as it stands",
        ),
        Form::Text if !data.system.is_empty() => plain("data.system", "remove `system` under `[data]`"),
        _ => Ok(loaded.conversations),
    }
}

/// Draws `limit` conversations of one file and holds a share of them out.
fn split(
    mut train: Vec<Conversation>,
    data: &Data,
    seed: u64,
    said: &mut Vec<String>,
) -> Result<(Vec<Conversation>, Vec<Conversation>), DataError> {
    if data.limit > 0 && data.limit < train.len() {
        let n = train.len();
        train = seed::parted(train, &seed::shuffled(n, seed, "limit")[..data.limit]).0;
        said.push(format!("{} of {n} conversations are used", train.len()));
    }
    if data.validation == 0.0 || data.validation_source.is_some() {
        return Ok((train, Vec::new()));
    }
    let n = train.len();
    let n_validation = share(data.validation, n)?;
    said.push(held_out(n_validation, n));
    let (validation, train) = seed::parted(train, &seed::shuffled(n, seed, "split")[..n_validation]);
    Ok((train, validation))
}

/// The order in which epoch `epoch` goes through `n` samples.
pub fn order(seed: u64, epoch: usize, n: usize) -> Vec<usize> {
    seed::shuffled(n, seed, &format!("shuffle/{epoch}"))
}

/// What the rule for long samples did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitted {
    /// How many samples were too long.
    pub n_over: usize,
    pub n_dropped: usize,
    pub n_truncated: usize,
    /// Tokens of the loss that went with them.
    pub lost_trained: usize,
    /// The longest sample before.
    pub longest: usize,
}

/// Makes samples fit `max_tokens`, by the recipe's rule.
///
/// # Errors
///
/// A sample is too long and the rule is [`TooLong::Error`], or all are too long.
pub fn fit(samples: &mut Vec<Sample>, max_tokens: usize, rule: TooLong) -> Result<Fitted, DataError> {
    fit_groups(samples, 1, max_tokens, rule)
}

/// The same; so many samples, one after the other, are dropped together.
///
/// # Errors
///
/// As [`fit`].
pub fn fit_groups(
    samples: &mut Vec<Sample>,
    group: usize,
    max_tokens: usize,
    rule: TooLong,
) -> Result<Fitted, DataError> {
    let length = |sample: &Sample| sample.ids.len();
    let n = samples.len();
    let is_over = |sample: &Sample| sample.ids.len() > max_tokens;
    let over: Vec<Line> = samples.iter().filter(|sample| is_over(sample)).map(|sample| sample.line).collect();
    let longest = samples.iter().map(length).max().unwrap_or(0);
    let mut fitted = Fitted { n_over: over.len(), longest, ..Fitted::default() };
    if over.is_empty() {
        return Ok(fitted);
    }
    if over.len() == n && rule != TooLong::Truncate {
        let shortest = samples.iter().map(length).min().unwrap_or(0);
        return Err(DataError::AllTooLong { n, max_tokens, shortest });
    }
    let before: usize = samples.iter().map(Sample::n_trained).sum();
    match rule {
        TooLong::Error => {
            let places = places(&over);
            return Err(DataError::TooLong { found: over.len(), n, max_tokens, longest, places });
        }
        TooLong::Drop => {
            let keeps: Vec<bool> =
                samples.chunks(group).map(|together| !together.iter().any(is_over)).collect();
            let mut nth = 0..n;
            samples.retain(|_| nth.next().is_some_and(|nth| keeps[nth / group]));
            fitted.n_dropped = n - samples.len();
            if samples.is_empty() && n > 0 {
                return Err(DataError::AllTooLong { n, max_tokens, shortest: longest });
            }
        }
        TooLong::Truncate => {
            for sample in samples.iter_mut().filter(|sample| is_over(sample)) {
                sample.truncate(max_tokens);
            }
            fitted.n_truncated = over.len();
        }
    }
    fitted.lost_trained = before - samples.iter().map(Sample::n_trained).sum::<usize>();
    Ok(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize, n_trained: usize, line: usize) -> Sample {
        Sample::of_trained(vec![5; n], (0..n).map(|i| i >= n - n_trained), line.into())
    }

    #[test]
    fn an_order_is_a_permutation_that_seed_and_epoch_fix() {
        let first = order(1, 0, 100);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(first, order(1, 0, 100));
        assert_ne!(first, order(1, 1, 100));
        assert_ne!(first, order(2, 0, 100));
        assert_eq!(order(1, 0, 0), Vec::<usize>::new());
    }

    #[test]
    fn every_place_is_as_likely_as_another() {
        let mut counts = [0; 5];
        for seed in 0..5000 {
            counts[order(seed, 0, 5)[0]] += 1;
        }
        // Five standard deviations of a binomial with n = 5000 and p = 0.2.
        assert!(counts.iter().all(|count: &i32| (count - 1000).abs() < 142), "{counts:?}");
    }

    #[test]
    fn what_is_too_long_is_an_error_or_a_count() {
        let samples = || vec![sample(4, 2, 1), sample(9, 3, 2), sample(6, 5, 3)];
        let mut kept = samples();
        let error = fit(&mut kept, 5, TooLong::Error).unwrap_err().to_string();
        assert_eq!(error, "2 of 3 samples have more than 5 tokens, the longest 9: line or record 2, 3");
        let fitted = fit(&mut kept, 5, TooLong::Drop).unwrap();
        assert_eq!(fitted, Fitted { n_over: 2, n_dropped: 2, n_truncated: 0, lost_trained: 8, longest: 9 });
        assert_eq!(kept, [sample(4, 2, 1)]);
        let mut cut = samples();
        let fitted = fit(&mut cut, 5, TooLong::Truncate).unwrap();
        assert_eq!(fitted, Fitted { n_over: 2, n_dropped: 0, n_truncated: 2, lost_trained: 4, longest: 9 });
        assert_eq!(cut.iter().map(Sample::n_trained).collect::<Vec<_>>(), [2, 0, 4]);
        assert!(matches!(
            fit(&mut samples(), 3, TooLong::Drop),
            Err(DataError::AllTooLong { shortest: 4, .. })
        ));
        assert_eq!(fit(&mut samples(), 9, TooLong::Error).unwrap().n_over, 0);
    }
}
