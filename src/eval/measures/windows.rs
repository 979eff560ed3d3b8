//! Windows over a text that is longer than a model's context, each token predicted exactly once.
//!
//! As lm-eval 0.4.13 cuts them for `loglikelihood_rolling`.

/// What the model reads, and what it is scored on.
///
/// In a rolling window the two overlap: the targets are those of the last `targets.len()` positions read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub context: Vec<u32>,
    pub targets: Vec<u32>,
}

impl Window {
    /// The context cut so that it ends where the targets begin: context and continuation, as scored together.
    pub fn disjoint(&self) -> Self {
        let n_kept = self.context.len() + 1 - self.targets.len();
        Self { context: self.context[..n_kept].to_vec(), targets: self.targets.clone() }
    }
}

/// The windows of `tokens`; none of an empty text.
///
/// `prefix` is read before the first token, `max_tokens` is the longest context and `min_context` (1 to `max_tokens`)
/// how many earlier tokens a target sees at least. The last window reaches back over tokens already predicted, so that
/// it is as long as the others.
pub fn rolling(tokens: &[u32], prefix: u32, max_tokens: usize, min_context: usize) -> Vec<Window> {
    assert!((1..=max_tokens).contains(&min_context), "a window holds its context and at least one target");
    if tokens.is_empty() {
        return Vec::new();
    }
    let mut n_done = max_tokens.min(tokens.len());
    let first = std::iter::once(prefix).chain(tokens[..n_done - 1].iter().copied());
    let mut windows = vec![Window { context: first.collect(), targets: tokens[..n_done].to_vec() }];
    while n_done < tokens.len() {
        let n_targets = (tokens.len() - n_done).min(max_tokens - min_context + 1);
        let end = n_done + n_targets;
        windows.push(Window {
            context: tokens[end - max_tokens - 1..end - 1].to_vec(),
            targets: tokens[n_done..end].to_vec(),
        });
        n_done = end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_a_target_once_and_in_order() {
        let tokens: Vec<u32> = (10..33).collect();
        for max_tokens in 1..30 {
            for min_context in 1..=max_tokens {
                let windows = rolling(&tokens, 1, max_tokens, min_context);
                let targets: Vec<u32> = windows.iter().flat_map(|window| window.targets.clone()).collect();
                assert_eq!(targets, tokens);
                assert!(windows.iter().all(|window| window.context.len() <= max_tokens));
            }
        }
    }

    #[test]
    fn a_disjoint_context_ends_before_the_first_target() {
        let tokens: Vec<u32> = (10..33).collect();
        for window in rolling(&tokens, 9, 7, 3) {
            let whole = window.disjoint();
            assert_eq!(whole.context.last(), Some(&(whole.targets[0] - 1)));
        }
        assert!(rolling(&[], 9, 7, 3).is_empty());
    }
}
