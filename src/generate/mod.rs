//! Prompts in, completions out: continuous batching with a key/value cache, and log-likelihoods.
//!
//! Prompts are sorted by length and decoded in batches, padded on the left. What all prompts begin with
//! (worked examples, a judge's instruction) is computed once. A row that ends gives its place to the next
//! prompt. What comes out for a prompt does not depend on its neighbours beyond rounding.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

mod batch;
mod choices;
mod likelihood;
mod pick;
mod prefix;
pub mod scans;
mod stop;
pub mod thinking;

pub use choices::{Choice, Question, choices};
pub use likelihood::{Likelihood, likelihoods, likelihoods_pushed};
pub use stop::cut_at_stop_string;
pub use thinking::Thinking;

use crate::device::free_memory;
use crate::model::{Cache, Decoder, Push};
use batch::Batch;
use prefix::Prefix;

/// Raised whenever what a model says to the same prompt changes beyond rounding, so that an earlier version's
/// answers are not taken for this one's.
pub const NUMERICS: u32 = 2;

/// How answers are decoded; every one of these can change a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decoding {
    pub max_new_tokens: usize,
    /// Tokens that end an answer.
    pub stop_ids: Vec<u32>,
    /// Texts that end an answer; they are cut off.
    pub stop_strings: Vec<String>,
    /// Where an answer begins, for models that think before they speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// Divides positive logits of tokens seen before and multiplies negative ones; 1 does nothing.
    /// Keskar et al., "CTRL", 2019, arXiv 1909.05858; prompt tokens count, as in transformers.
    pub repetition_penalty: f64,
    /// How tokens are drawn; `None` takes the likeliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
}

impl Decoding {
    /// The likeliest token each time, until the limit.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self {
            max_new_tokens,
            stop_ids: Vec::new(),
            stop_strings: Vec::new(),
            thinking: None,
            repetition_penalty: 1.0,
            sampling: None,
        }
    }
}

/// Tokens drawn at random, in the order of transformers: temperature, then the k likeliest, then the
/// likeliest that make up a share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; above 0.
    pub temperature: f64,
    /// Only so many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability; 1 keeps all.
    /// Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020, arXiv 1904.09751.
    pub top_p: f64,
    /// Every prompt and sample has its own stream of this seed.
    pub seed: u64,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// At a stop token or a stop string.
    Stop,
    /// At the limit of new tokens: the end of the answer is missing.
    Length,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The new tokens, without the stop token.
    pub ids: Vec<u32>,
    /// The text, thinking and all, cut at a stop string.
    pub text: String,
    pub finish: Finish,
}

/// What a step of a batch brought.
#[derive(Debug, Default)]
pub struct News {
    /// Completions, with the place of their prompt.
    pub ended: Vec<(usize, Completion)>,
    /// Positions of prompts that were computed.
    pub n_prompt: usize,
    /// Tokens that were generated.
    pub n_new: usize,
}

/// A prompt to complete.
#[derive(Debug, Clone, Copy)]
pub struct Query<'p> {
    pub ids: &'p [u32],
    /// Which of several samples of this prompt; decides what is drawn.
    pub sample: u64,
    /// How its states are pushed along the decoder's directions, if they are.
    pub push: Option<Push>,
}

impl<'p> Query<'p> {
    /// The only sample.
    pub fn once(ids: &'p [u32]) -> Self {
        Self { ids, sample: 0, push: None }
    }
}

/// How many rows decode together, and how tokens become text.
pub struct Generator<'a> {
    pub decoder: &'a Decoder,
    pub decode: &'a dyn Fn(&[u32]) -> String,
    /// Rows per batch at most; does not change what a row says beyond rounding.
    pub rows: usize,
    /// Ends between two tokens once it is set.
    pub stop: Option<&'a AtomicBool>,
}

impl Generator<'_> {
    /// How many rows of at most `longest` tokens, answers included, decode together: fewer than asked for where their
    /// cache would not fit into a quarter of the device's memory that is free.
    pub fn rows_of(&self, longest: usize) -> usize {
        let Decoder { shape, device, compute, .. } = self.decoder;
        rows_in(free_memory(device), longest * Cache::bytes_per_position(shape, *compute), self.rows)
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Completes every prompt; `tell` hears of every step, and gets completions as soon as they are there. Once it is
    /// stopped there are no more: answers that are not finished are given up.
    ///
    /// # Errors
    ///
    /// Whatever `tell` returns; completions handed over before stay handed over.
    pub fn complete<E>(
        &self,
        queries: &[Query<'_>],
        decoding: &Decoding,
        mut tell: impl FnMut(News) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut order: Vec<usize> = (0..queries.len()).collect();
        // The longest first: if memory is short, it is short at once, and a place is never too narrow for
        // who comes next.
        order.sort_by_key(|i| (std::cmp::Reverse(queries[*i].ids.len()), *i));
        let longest = queries.iter().map(|query| query.ids.len()).max().unwrap_or(0);
        let rows = self.rows_of(longest + decoding.max_new_tokens).min(queries.len().max(1));
        // Where angles change with the length a whole batch must be computed anew, so nothing is shared.
        let renews = self.decoder.shape.rope.n_short().is_some();
        let prefix = if renews {
            Prefix::none()
        } else {
            // Where one is pushed, the prompts are no longer the same.
            let first = queries.iter().filter_map(|query| Some(query.push?.from)).min();
            let most = first.unwrap_or(usize::MAX);
            Prefix::of(
                self.decoder,
                queries.iter().map(|query| &query.ids[..query.ids.len().min(most.saturating_add(1))]),
            )
        };
        let mut waiting = order.into_iter().peekable();
        while waiting.peek().is_some() {
            let own = |prompts: &[usize]| -> usize {
                prompts.iter().map(|i| queries[*i].ids.len().max(1) - prefix.len).sum()
            };
            let first: Vec<usize> = waiting.by_ref().take(rows).collect();
            let (mut batch, ended) = Batch::start(self, queries, decoding, &prefix, &first);
            let mut news = News { ended, n_prompt: own(&first), n_new: first.len() };
            loop {
                if !(news.ended.is_empty() && self.is_stopped()) {
                    tell(std::mem::take(&mut news))?;
                }
                if self.is_stopped() {
                    return Ok(());
                }
                let n_idle = batch.n_idle();
                // A few at a time: to compute one prompt alone costs as much as to compute several.
                let refill = 8 * n_idle >= batch.n_rows() && !renews && waiting.peek().is_some();
                if refill {
                    let next: Vec<usize> = waiting.by_ref().take(n_idle).collect();
                    news = News { ended: batch.refill(&next), n_prompt: own(&next), n_new: next.len() };
                    continue;
                }
                if n_idle == batch.n_rows() {
                    break;
                }
                batch.shrink();
                let n_new = batch.n_rows() - batch.n_idle();
                news = News { ended: batch.step(), n_prompt: 0, n_new };
            }
        }
        Ok(())
    }
}

/// How many of `wanted` rows of so many bytes fit into a quarter of the free memory: all where that is not known, and
/// one in any case.
fn rows_in(free: Option<u64>, row: usize, wanted: usize) -> usize {
    let fit = free.map_or(usize::MAX, |free| (free / 4 / row.max(1) as u64) as usize);
    wanted.min(fit).max(1)
}

#[cfg(test)]
mod tests {
    use super::rows_in;

    #[test]
    fn rows_take_a_quarter_of_the_free_memory() {
        let megabyte = 1 << 20;
        assert_eq!(rows_in(Some(400 << 20), 10 * megabyte, 128), 10);
        assert_eq!(rows_in(Some(400 << 20), 10 * megabyte, 8), 8);
        assert_eq!(rows_in(Some(1 << 20), 10 * megabyte, 128), 1);
        assert_eq!(rows_in(None, 10 * megabyte, 128), 128);
    }
}
