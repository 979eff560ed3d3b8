//! The next token from its logits.

use std::collections::BTreeSet;

use burn::tensor::{DType, IntDType, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Decoding, Query, Sampling};
use crate::seed;

/// What of a row's past decides its next token.
pub(super) struct Past {
    /// Tokens seen so far, kept only for a repetition penalty.
    seen: BTreeSet<u32>,
    /// Only where tokens are drawn.
    random: Option<ChaCha8Rng>,
}

impl Past {
    pub(super) fn new(query: &Query<'_>, decoding: &Decoding) -> Self {
        let penalised = decoding.repetition_penalty != 1.0;
        let seen = if penalised { query.ids.iter().copied().collect() } else { BTreeSet::new() };
        // The stream belongs to the prompt's text, so another limit or order draws the same.
        let stream = |sampling: &Sampling| {
            let bytes: Vec<u8> = query.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            let prompt = blake3::hash(&bytes).to_hex();
            seed::rng(sampling.seed, &format!("sample {} of {prompt}", query.sample))
        };
        Self { seen, random: decoding.sampling.as_ref().map(stream) }
    }

    pub(super) fn push(&mut self, id: u32, decoding: &Decoding) {
        if decoding.repetition_penalty != 1.0 {
            self.seen.insert(id);
        }
    }
}

/// The next token of every row.
///
/// # Shapes
///
/// - `logits`: `[b, v]`, as many rows as `pasts`; where one is `None` the token does not matter
pub(super) fn next_tokens(logits: Tensor<2>, pasts: Vec<Option<&mut Past>>, decoding: &Decoding) -> Vec<u32> {
    let vocab_size = logits.dims()[1];
    if decoding.repetition_penalty == 1.0 && decoding.sampling.is_none() {
        let best = logits.argmax(1).cast(IntDType::I32).try_into_vec_as::<i32>();
        let best = best.expect("a device that opened gives its results back");
        return best.into_iter().map(i32::cast_unsigned).collect();
    }
    let mut logits = logits.cast(DType::F32).try_into_vec_as::<f32>().expect("as above");
    let penalty = decoding.repetition_penalty as f32;
    let next = logits.chunks_mut(vocab_size).zip(pasts).map(|(logits, past)| {
        let Some(past) = past else { return 0 };
        for id in &past.seen {
            let logit = &mut logits[*id as usize];
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
        match (&decoding.sampling, &mut past.random) {
            (Some(sampling), Some(random)) => draw(logits, sampling, uniform(random)),
            _ => first_maximum(logits),
        }
    });
    next.collect()
}

/// 0 ≤ x < 1, every multiple of 2^-53.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The token that `at`, from 0 to 1, falls on when the tokens that are left lie side by side, the likeliest first.
fn draw(logits: &[f32], sampling: &Sampling, at: f64) -> u32 {
    let mut order: Vec<u32> =
        (0..u32::try_from(logits.len()).expect("a vocabulary has fewer than 2^32 tokens")).collect();
    let logit = |id: &u32| logits[*id as usize];
    let by_logit = |a: &u32, b: &u32| logit(b).total_cmp(&logit(a)).then(a.cmp(b));
    if sampling.top_k > 0 && sampling.top_k < order.len() {
        order.select_nth_unstable_by(sampling.top_k - 1, by_logit);
        order.truncate(sampling.top_k);
    }
    order.sort_unstable_by(by_logit);
    let top = f64::from(logit(&order[0]));
    let mut shares: Vec<f64> =
        order.iter().map(|id| ((f64::from(logit(id)) - top) / sampling.temperature).exp()).collect();
    let total: f64 = shares.iter().sum();
    if sampling.top_p < 1.0 {
        let mut before = 0.0;
        // A token stays while those before it fall short of the share: always at least one.
        let kept = shares.iter().take_while(|share| {
            let stays = before < sampling.top_p * total;
            before += **share;
            stays
        });
        let n = kept.count().max(1);
        shares.truncate(n);
    }
    let mut left = at * shares.iter().sum::<f64>();
    let drawn = shares.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    order[drawn.unwrap_or(shares.len() - 1)]
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

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -1.0];

    fn sampling(temperature: f64, top_k: usize, top_p: f64) -> Sampling {
        Sampling { temperature, top_k, top_p, seed: 1 }
    }

    /// How often each token is drawn by 10,000 evenly spread numbers.
    fn drawn(sampling: &Sampling) -> [usize; 4] {
        let mut counts = [0; 4];
        (0..10_000).for_each(|i| counts[draw(&LOGITS, sampling, f64::from(i) / 1e4) as usize] += 1);
        counts
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let exps: Vec<f64> = LOGITS.iter().map(|x| f64::from(*x / 0.5).exp()).collect();
        let total: f64 = exps.iter().sum();
        for (n, exp) in drawn(&sampling(0.5, 0, 1.0)).into_iter().zip(exps) {
            assert!((n as f64 - 1e4 * exp / total).abs() <= 1.0, "{n}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_the_likeliest() {
        // Shares are 0.09, 0.64, 0.24 and 0.03.
        let left = |sampling| drawn(&sampling).map(|n| n > 0);
        assert_eq!(left(sampling(1.0, 2, 1.0)), [false, true, true, false]);
        assert_eq!(left(sampling(1.0, 0, 0.6)), [false, true, false, false]);
        assert_eq!(left(sampling(1.0, 0, 0.7)), [false, true, true, false]);
        assert_eq!(left(sampling(1.0, 0, 1e-9)), [false, true, false, false]);
    }
}
