//! Prompts in, completions out: batched greedy decoding with a key/value cache.
//!
//! Prompts are sorted by length and decoded in batches, padded on the left. A row that ends leaves
//! its batch as soon as enough of its neighbours have ended too. What comes out for a prompt does
//! not depend on its neighbours beyond rounding.

use std::collections::BTreeSet;

use burn::tensor::{DType, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

mod likelihood;
mod stop;

pub use likelihood::{Likelihood, likelihoods};
pub use stop::cut_at_stop_string;

use crate::model::{Cache, Decoder, Positions};

/// How answers are decoded; every one of these can change a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decoding {
    pub max_new_tokens: usize,
    /// Tokens that end an answer.
    pub stop_ids: Vec<u32>,
    /// Texts that end an answer; they are cut off.
    pub stop_strings: Vec<String>,
    /// Divides positive logits of tokens seen before and multiplies negative ones; 1 does nothing.
    /// Keskar et al., "CTRL", 2019, arXiv 1909.05858; prompt tokens count, as in transformers.
    pub repetition_penalty: f64,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// A stop token or a stop string.
    Stop,
    /// The limit of new tokens.
    Length,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The new tokens, without the stop token.
    pub ids: Vec<u32>,
    /// The text, cut at a stop string.
    pub text: String,
    pub ended: Ended,
}

/// How many rows decode together, and how tokens become text.
pub struct Generator<'a> {
    pub decoder: &'a Decoder,
    pub decode: &'a dyn Fn(&[u32]) -> String,
    /// Rows per batch; does not change what a row says beyond rounding.
    pub rows: usize,
}

/// One row of a running batch.
struct Row {
    /// Position of the prompt among those asked.
    prompt: usize,
    new_ids: Vec<u32>,
    /// Tokens seen so far, kept only for a repetition penalty.
    seen: BTreeSet<u32>,
    padding: usize,
}

impl Row {
    /// Padding, prompt and new tokens, `width` in all; what an ended row lacks is padding too.
    fn all<'a>(&'a self, prompts: &'a [Vec<u32>], width: usize) -> impl Iterator<Item = u32> + 'a {
        let padding = std::iter::repeat_n(0, self.padding);
        let tokens = prompts[self.prompt].iter().chain(&self.new_ids).copied();
        padding.chain(tokens).chain(std::iter::repeat(0)).take(width)
    }
}

impl Generator<'_> {
    /// Completes every prompt; `done` gets each batch's completions as soon as they are there.
    ///
    /// # Errors
    ///
    /// Whatever `done` returns; completions handed over before stay handed over.
    pub fn complete<E>(
        &self,
        prompts: &[Vec<u32>],
        decoding: &Decoding,
        mut done: impl FnMut(Vec<(usize, Completion)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        // The longest first: if memory is short, it is short at once.
        order.sort_by_key(|i| (std::cmp::Reverse(prompts[*i].len()), *i));
        for batch in order.chunks(self.rows.max(1)) {
            done(self.batch(prompts, batch, decoding))?;
        }
        Ok(())
    }

    fn batch(&self, prompts: &[Vec<u32>], batch: &[usize], decoding: &Decoding) -> Vec<(usize, Completion)> {
        let Decoder { shape, device, compute, .. } = self.decoder;
        let width = batch.iter().map(|i| prompts[*i].len()).max().unwrap_or(0).max(1);
        let mut rows: Vec<Row> = batch.iter().map(|i| row(*i, &prompts[*i], width, decoding)).collect();
        let mut ids: Vec<u32> = rows.iter().flat_map(|row| row.all(prompts, width)).collect();
        let mut cache = Cache::new(shape, rows.len(), width + decoding.max_new_tokens, *compute, device);
        let mut completions = Vec::new();
        let mut alive: Vec<bool> = vec![true; rows.len()];
        for n_new in 0..decoding.max_new_tokens {
            if self.turns_anew(&rows, cache.len()) {
                // Keys turned by the old angles are of no use to the new ones.
                let seen = cache.len() + 1;
                ids = rows.iter().flat_map(|row| row.all(prompts, seen)).collect();
                cache = Cache::new(shape, rows.len(), width + decoding.max_new_tokens, *compute, device);
            }
            let t = ids.len() / rows.len();
            let next = self.next_tokens(&ids, t, &rows, &mut cache, decoding);
            for (i, id) in next.iter().enumerate() {
                if alive[i]
                    && let Some(ended) = self.push(&mut rows[i], *id, n_new + 1, decoding)
                {
                    completions.push(self.finish(&mut rows[i], ended, decoding));
                    alive[i] = false;
                }
            }
            let n_alive = alive.iter().filter(|alive| **alive).count();
            if n_alive == 0 {
                break;
            }
            ids = next;
            // Dropping rows copies the cache, so it waits until a quarter of them is idle.
            if 4 * n_alive <= 3 * rows.len() {
                let kept: Vec<i32> =
                    (0i32..).zip(&alive).filter(|(_, alive)| **alive).map(|(i, _)| i).collect();
                let n = kept.len();
                cache.keep_rows(Tensor::<1, Int>::from_data(TensorData::new(kept, [n]), device));
                let mut keep = alive.iter();
                rows.retain(|_| *keep.next().expect("one flag a row"));
                let mut keep = alive.iter();
                ids.retain(|_| *keep.next().expect("one flag a row"));
                alive = vec![true; n];
            }
        }
        completions
    }

    /// Whether the next token is the first that is turned by other angles than those before it.
    fn turns_anew(&self, rows: &[Row], seen: usize) -> bool {
        let n_short = self.decoder.shape.rope.n_short();
        seen > 0 && n_short.is_some_and(|n| rows.iter().any(|row| row.padding + n == seen))
    }

    /// Feeds `t` new tokens a row and returns the likeliest next token of each.
    fn next_tokens(
        &self,
        ids: &[u32],
        t: usize,
        rows: &[Row],
        cache: &mut Cache,
        decoding: &Decoding,
    ) -> Vec<u32> {
        let device = &self.decoder.device;
        let b = rows.len();
        let padding: Vec<usize> = rows.iter().map(|row| row.padding).collect();
        let positions = Positions::left_padded(&padding, cache.len(), t);
        let ids: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [b, t]), device);
        let hidden = self.decoder.hidden(ids, &positions, Some(cache)); // [b, t, m]
        let m = hidden.dims()[2];
        let logits = self.decoder.frozen_head().logits(hidden.narrow(1, t - 1, 1).reshape([b, m])); // [b, v]
        let vocab_size = logits.dims()[1];
        if decoding.repetition_penalty == 1.0 {
            let best = logits.argmax(1).cast(burn::tensor::IntDType::I32).try_into_vec_as::<i32>();
            let best = best.expect("a device that opened gives its results back");
            return best.into_iter().map(i32::cast_unsigned).collect();
        }
        let mut logits = logits.cast(DType::F32).try_into_vec_as::<f32>().expect("as above");
        let penalty = decoding.repetition_penalty as f32;
        let best = logits.chunks_mut(vocab_size).zip(rows).map(|(logits, row)| {
            for id in &row.seen {
                let logit = &mut logits[*id as usize];
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
            first_maximum(logits)
        });
        best.collect()
    }

    /// Adds a token to a row; says so when that ends it.
    fn push(&self, row: &mut Row, id: u32, n_new: usize, decoding: &Decoding) -> Option<Ended> {
        if decoding.stop_ids.contains(&id) {
            return Some(Ended::Stop);
        }
        row.new_ids.push(id);
        if decoding.repetition_penalty != 1.0 {
            row.seen.insert(id);
        }
        if !decoding.stop_strings.is_empty() {
            // Texts end in whole strings, so looking at the last tokens is enough to notice one.
            let longest = decoding.stop_strings.iter().map(String::len).max().unwrap_or(0);
            let tail = &row.new_ids[row.new_ids.len().saturating_sub(longest + 8)..];
            let text = (self.decode)(tail);
            if decoding.stop_strings.iter().any(|stop| text.contains(stop.as_str())) {
                return Some(Ended::Stop);
            }
        }
        (n_new == decoding.max_new_tokens).then_some(Ended::Length)
    }

    fn finish(&self, row: &mut Row, ended: Ended, decoding: &Decoding) -> (usize, Completion) {
        let ids = std::mem::take(&mut row.new_ids);
        let text = (self.decode)(&ids);
        let text = cut_at_stop_string(&text, &decoding.stop_strings).to_owned();
        (row.prompt, Completion { ids, text, ended })
    }
}

fn row(prompt: usize, ids: &[u32], width: usize, decoding: &Decoding) -> Row {
    let seen =
        if decoding.repetition_penalty == 1.0 { BTreeSet::new() } else { ids.iter().copied().collect() };
    Row { prompt, new_ids: Vec::new(), seen, padding: width - ids.len().max(1) }
}

/// The place of the largest number, the first of equals.
fn first_maximum(values: &[f32]) -> u32 {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    u32::try_from(best).expect("a vocabulary has fewer than 2^32 tokens")
}
