//! What all prompts begin with, computed once.

use burn::tensor::{Int, Tensor, TensorData};

use crate::model::{Cache, Decoder, Positions};

/// Below this many tokens it is cheaper to compute them in every row.
const WORTH: usize = 16;

/// The tokens that all prompts begin with and what the decoder found in them.
pub(super) struct Prefix {
    pub len: usize,
    /// Of one row; `None` without a prefix.
    pub cache: Option<Cache>,
}

impl Prefix {
    pub(super) fn none() -> Self {
        Self { len: 0, cache: None }
    }

    /// The prefix of `prompts`, which leaves every one at least its last token.
    pub(super) fn of<'p>(decoder: &Decoder, prompts: impl Iterator<Item = &'p [u32]> + Clone) -> Self {
        let Some(first) = prompts.clone().next() else { return Self::none() };
        let common = |len: usize, prompt: &[u32]| {
            let same = first.iter().zip(prompt).take(len).take_while(|(a, b)| a == b).count();
            same.min(prompt.len().saturating_sub(1))
        };
        let len = prompts.clone().fold(first.len(), common);
        if len < WORTH || prompts.take(2).count() < 2 {
            return Self::none();
        }
        let mut cache = Cache::new(&decoder.shape, 1, len, decoder.compute, &decoder.device);
        let ids: Vec<i32> = first[..len].iter().map(|id| id.cast_signed()).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, len]), &decoder.device);
        decoder.hidden(ids, &Positions::causal(len), Some(&mut cache));
        Self { len, cache: Some(cache) }
    }

    /// A cache of `n_rows` rows that start with the prefix and have room for `max_len` positions in all.
    pub(super) fn rows(&self, decoder: &Decoder, n_rows: usize, max_len: usize) -> Cache {
        match &self.cache {
            Some(cache) => cache.spread(n_rows, max_len),
            None => Cache::new(&decoder.shape, n_rows, max_len, decoder.compute, &decoder.device),
        }
    }
}
