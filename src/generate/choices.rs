//! Log-likelihoods of options that share their question.
//!
//! What questions begin with is computed once (for each subject, where subjects have examples of their own), what the
//! options of one question share once per question; the options then branch off side by side in the same pass, and
//! none sees another. Options of one token cost nothing: the question's last token tells them all.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};

use super::Likelihood;
use super::prefix::{Prefix, groups};
use crate::model::loss::{Gradients, Scale, cross_entropy};
use crate::model::{Branched, Cache, Decoder, Positions};

/// An option behind its question, in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Question and option.
    pub ids: Vec<u32>,
    /// How many of them are the question, at least one; the others are scored.
    pub n_context: usize,
}

impl Choice {
    fn context(&self) -> &[u32] {
        &self.ids[..self.n_context]
    }
}

/// The options of one question, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub choices: Vec<Choice>,
}

/// One row of a pass: tokens behind the prefix, and which of them predict what.
struct Row {
    question: usize,
    ids: Vec<u32>,
    places: Vec<Branched>,
    /// Choice, the row's token that predicts, and the token to predict.
    wanted: Vec<(usize, usize, u32)>,
}

/// The log-likelihood of every option of every question; `done` gets a pass's questions as soon as they are there.
///
/// At most `micro_tokens` positions are computed at once, one question at least.
///
/// # Errors
///
/// Whatever `done` returns.
pub fn choices<E>(
    decoder: &Decoder,
    questions: &[Question],
    micro_tokens: usize,
    mut done: impl FnMut(Vec<(usize, Vec<Likelihood>)>) -> Result<(), E>,
) -> Result<(), E> {
    let contexts: Vec<&[u32]> = questions.iter().map(|question| question.choices[0].context()).collect();
    let longest = |group: &Vec<usize>| group.iter().map(|i| contexts[*i].len()).max();
    let mut groups = groups(&contexts);
    // The longest first: if memory is short, it is short at once.
    groups.sort_by_key(|group| std::cmp::Reverse(longest(group)));
    for group in groups {
        let contexts = group.iter().flat_map(|i| &questions[*i].choices).map(Choice::context);
        let prefix = Prefix::of(decoder, contexts);
        let mut rows: Vec<Row> = group.iter().map(|i| Row::new(*i, &questions[*i], prefix.len)).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.ids.len()), row.question));
        // Every row repeats the prefix's keys.
        let per_row = Cache::bytes_per_position(&decoder.shape, decoder.compute) * prefix.len;
        let most = PREFIX_BYTES.checked_div(per_row).unwrap_or(usize::MAX);
        let mut rest = rows.as_slice();
        while let Some(first) = rest.first() {
            let n = (micro_tokens / first.ids.len()).min(most).clamp(1, rest.len());
            let (now, later) = rest.split_at(n);
            rest = later;
            done(pass(decoder, questions, &prefix, now))?;
        }
    }
    Ok(())
}

/// Memory for copies of the prefix.
const PREFIX_BYTES: usize = 1 << 30;

impl Row {
    fn new(question: usize, of: &Question, prefix: usize) -> Self {
        let first = &of.choices[0];
        let longest = of.choices.iter().map(|choice| choice.ids.len()).min().unwrap_or(1) - 1;
        // The trunk: what all have in common, and at least one token short of every option's end.
        let trunk = of.choices.iter().fold(longest, |n, choice| {
            first.ids.iter().zip(&choice.ids).take(n).take_while(|(a, b)| a == b).count()
        });
        let trunk = trunk.max(prefix + 1);
        let mut row = Self {
            question,
            ids: first.ids[prefix..trunk].to_vec(),
            places: (prefix..trunk).map(|position| Branched { position, branch: 0 }).collect(),
            wanted: Vec::new(),
        };
        for (nth, choice) in of.choices.iter().enumerate() {
            // The last token predicts nothing that is asked for.
            let branch = trunk..choice.ids.len() - 1;
            row.branch(nth, choice, prefix, trunk, branch);
        }
        row
    }

    /// The tokens that predict what is asked for, in order.
    fn places_wanted(&self) -> Vec<usize> {
        let mut places: Vec<usize> = self.wanted.iter().map(|(_, at, _)| *at).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    fn branch(&mut self, nth: usize, choice: &Choice, prefix: usize, trunk: usize, branch: Range<usize>) {
        let start = self.ids.len();
        self.ids.extend_from_slice(&choice.ids[branch.clone()]);
        self.places.extend(branch.map(|position| Branched { position, branch: nth + 1 }));
        for target in choice.n_context..choice.ids.len() {
            let before = target - 1;
            let at = if before < trunk { before - prefix } else { start + before - trunk };
            self.wanted.push((nth, at, choice.ids[target]));
        }
    }
}

fn pass(
    decoder: &Decoder,
    questions: &[Question],
    prefix: &Prefix,
    rows: &[Row],
) -> Vec<(usize, Vec<Likelihood>)> {
    let device = &decoder.device;
    let (b, t) = (rows.len(), rows.iter().map(|row| row.ids.len()).max().unwrap_or(1));
    let padded = |row: &Row| {
        let mut ids: Vec<i32> = row.ids.iter().map(|id| id.cast_signed()).collect();
        ids.resize(t, 0);
        ids
    };
    let ids: Vec<i32> = rows.iter().flat_map(padded).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [b, t]), device);
    let positions = Positions::branched(prefix.len, t, rows.iter().map(|row| row.places.clone()).collect());
    let mut cache = (prefix.len > 0).then(|| prefix.rows(decoder, b, prefix.len + t));
    let places: Vec<Vec<usize>> = rows.iter().map(Row::places_wanted).collect();
    let hidden = decoder.hidden_at(ids, &positions, cache.as_mut(), &places); // [b, w, m]
    let [_, w, m] = hidden.dims();
    let wanted = rows.iter().enumerate().flat_map(|(i, row)| row.wanted.iter().map(move |want| (i, want)));
    let place = |(i, (_, at, _)): (usize, &(usize, usize, u32))| {
        let nth = places[i].binary_search(at).expect("every token that predicts is wanted");
        i32::try_from(i * w + nth).expect("a pass has fewer than 2^31 positions")
    };
    let at: Vec<i32> = wanted.clone().map(place).collect();
    let targets: Vec<u32> = wanted.clone().map(|(_, (.., target))| *target).collect();
    let n = at.len();
    let at = Tensor::<1, Int>::from_data(TensorData::new(at, [n]), device);
    let hidden = hidden.reshape([b * w, m]).select(0, at);
    let loss = cross_entropy(&hidden, &decoder.frozen_head(), &targets, Scale::All(1.0), Gradients::None);
    let none = Likelihood { sum: 0.0, n_tokens: 0 };
    let mut found: Vec<(usize, Vec<Likelihood>)> =
        rows.iter().map(|row| (row.question, vec![none; questions[row.question].choices.len()])).collect();
    for ((i, (choice, ..)), loss) in wanted.zip(&loss.losses) {
        let likelihood = &mut found[i].1[*choice];
        likelihood.sum -= f64::from(*loss);
        likelihood.n_tokens += 1;
    }
    found
}
