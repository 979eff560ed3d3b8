//! What prompts begin with, computed once.

use burn::tensor::{Int, Tensor, TensorData};

use crate::model::{Cache, Decoder, Positions};

/// A pass of its own pays for a prefix if it saves so many tokens.
const WORTH: usize = 64;
/// A group of its own pays if it saves so many tokens more: passes get smaller.
const WORTH_APART: usize = 256;

/// The tokens that all prompts begin with and what the decoder found in them.
pub(super) struct Prefix {
    pub len: usize,
    /// Of one row; `None` without a prefix.
    pub cache: Option<Cache>,
}

/// Prompts, by their places, that are worth a prefix of their own: those of one subject begin with the same examples,
/// all subjects together with a few words.
pub(super) fn groups(prompts: &[&[u32]]) -> Vec<Vec<usize>> {
    let mut sorted: Vec<usize> = (0..prompts.len()).collect();
    sorted.sort_by_key(|i| (prompts[*i], *i));
    let mut groups = Vec::new();
    let rest = split(prompts, &sorted, 0, &mut groups);
    if !rest.is_empty() {
        groups.push(rest);
    }
    groups
}

/// Finds the groups among prompts in their order, which are known to begin with the same `known` tokens, and returns
/// the prompts that are in none.
fn split(prompts: &[&[u32]], sorted: &[usize], known: usize, groups: &mut Vec<Vec<usize>>) -> Vec<usize> {
    let [first, .., last] = sorted else { return sorted.to_vec() };
    let (first, last) = (prompts[*first], prompts[*last]);
    if first == last {
        return sorted.to_vec();
    }
    // What the first and the last have in common all between them have.
    let len = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let runs = sorted.chunk_by(|a, b| prompts[*a].get(len) == prompts[*b].get(len));
    let rest: Vec<usize> = runs.flat_map(|run| split(prompts, run, len, groups)).collect();
    if rest.len() * (len - known) < len + WORTH_APART {
        return rest;
    }
    groups.push(rest);
    Vec::new()
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
        if len * (prompts.count() - 1) < WORTH {
            return Self::none();
        }
        let mut cache = Cache::new(&decoder.shape, 1, len, decoder.compute, &decoder.device);
        let ids: Vec<i32> = first[..len].iter().map(|id| id.cast_signed()).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, len]), &decoder.device);
        // Only the keys and values are of use.
        decoder.hidden_at(ids, &Positions::causal(len), Some(&mut cache), &[vec![len - 1]]);
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

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn prompts_with_the_same_examples_are_a_group() {
        let prompt = |head: u32, n_head: usize, own: u32| {
            let mut ids = vec![7; 10];
            ids.extend(std::iter::repeat_n(head, n_head));
            ids.extend([own; 20]);
            ids
        };
        let mut prompts: Vec<Vec<u32>> = Vec::new();
        for own in 100..104 {
            prompts.push(prompt(1, 200, own));
            prompts.push(prompt(2, 200, own));
            prompts.push(prompt(3, 20, own));
        }
        prompts.push(prompt(4, 500, 100));
        let all: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let found = groups(&all);
        // The third head is too short to be worth it, the fourth has one prompt.
        assert_eq!(found, [vec![0, 3, 6, 9], vec![1, 4, 7, 10], vec![2, 5, 8, 11, 12]]);
        // The same prompt again and again has nothing to split.
        assert_eq!(groups(&[all[0]; 5]), [vec![0, 1, 2, 3, 4]]);
        assert!(groups(&[]).is_empty());
    }
}
