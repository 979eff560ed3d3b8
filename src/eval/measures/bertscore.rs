//! `BERTScore`: how well the tokens of two texts match in the space of an encoder.
//!
//! Zhang et al., "`BERTScore`: Evaluating Text Generation with BERT", 2019, arXiv 1904.09675. The matching is that of
//! `bert_score` 0.3.13, one pair at a time: its batches pad with tokens of similarity 0, so that there a pair whose
//! best cosines are negative depends on its neighbours.

use std::collections::{HashMap, HashSet};

/// One text as the encoder sees it, special tokens included.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'t> {
    /// `[tokens, width]`, of any length: the cosine divides by it.
    pub embeddings: &'t [Vec<f64>],
    /// How much each token counts in the mean: 1 or its [`Idf`], 0 for special ones. These still can be matched.
    pub weights: &'t [f64],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BertScore {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

impl BertScore {
    /// Each token takes its best cosine; precision is the weighted mean over the candidate, recall over the reference.
    ///
    /// A text of two tokens is an empty one between its special tokens, and scores 0. As upstream, a mean over weights
    /// that are all 0 is no number.
    pub fn of(candidate: Tokens, reference: Tokens) -> Self {
        for text in [candidate, reference] {
            assert_eq!(text.embeddings.len(), text.weights.len(), "every token has its weight");
            if matches!(text.embeddings.len(), 0 | 2) {
                return Self { precision: 0.0, recall: 0.0, f1: 0.0 };
            }
        }
        let (rows, columns) = (unit(candidate.embeddings), unit(reference.embeddings));
        let mut best_of_row = vec![f64::NEG_INFINITY; rows.len()];
        let mut best_of_column = vec![f64::NEG_INFINITY; columns.len()];
        for (row, best) in rows.iter().zip(&mut best_of_row) {
            for (column, best_other) in columns.iter().zip(&mut best_of_column) {
                let cosine: f64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
                *best = best.max(cosine);
                *best_other = best_other.max(cosine);
            }
        }
        let precision = weighted_mean(&best_of_row, candidate.weights);
        let recall = weighted_mean(&best_of_column, reference.weights);
        let f1 = 2.0 * precision * recall / (precision + recall);
        Self { precision, recall, f1: if f1.is_nan() { 0.0 } else { f1 } }
    }

    /// The better of two by each measure on its own, as upstream scores against several references.
    #[must_use]
    pub fn best(self, other: Self) -> Self {
        Self {
            precision: self.precision.max(other.precision),
            recall: self.recall.max(other.recall),
            f1: self.f1.max(other.f1),
        }
    }

    /// Stretched so that `baseline`, the score of unrelated texts, becomes 0 and 1 stays 1.
    pub fn rescaled(self, baseline: Self) -> Self {
        let stretched = |score: f64, baseline: f64| (score - baseline) / (1.0 - baseline);
        Self {
            precision: stretched(self.precision, baseline.precision),
            recall: stretched(self.recall, baseline.recall),
            f1: stretched(self.f1, baseline.f1),
        }
    }
}

fn unit(embeddings: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let scaled = |row: &Vec<f64>| {
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter().map(|x| x / norm).collect()
    };
    embeddings.iter().map(scaled).collect()
}

fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    values.iter().zip(weights).map(|(value, weight)| value * (weight / sum)).sum()
}

/// The weight of a token by how few references hold it: ln((n + 1) / (n with it + 1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idf {
    n_references: usize,
    n_with: HashMap<u32, usize>,
}

impl Idf {
    /// From all references of a run, each as its tokens.
    pub fn of(references: &[Vec<u32>]) -> Self {
        let mut n_with = HashMap::new();
        for reference in references {
            let distinct: HashSet<u32> = reference.iter().copied().collect();
            for token in distinct {
                *n_with.entry(token).or_default() += 1;
            }
        }
        Self { n_references: references.len(), n_with }
    }

    /// One weight a token; those of `special` (the two at the ends) have none.
    pub fn weights(&self, tokens: &[u32], special: &[u32]) -> Vec<f64> {
        let weight = |token: &u32| {
            let n_with = self.n_with.get(token).copied().unwrap_or(0);
            ((self.n_references as f64 + 1.0) / (n_with as f64 + 1.0)).ln()
        };
        tokens.iter().map(|token| if special.contains(token) { 0.0 } else { weight(token) }).collect()
    }
}

/// The weights without idf: 1 for each token but those of `special`.
pub fn plain_weights(tokens: &[u32], special: &[u32]) -> Vec<f64> {
    tokens.iter().map(|token| if special.contains(token) { 0.0 } else { 1.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of rounding in sums of a few products.
    const ROUNDING: f64 = 1e-12;

    #[test]
    fn a_text_matches_itself_whatever_the_length_of_its_embeddings() {
        let once = [vec![1.0, 0.0], vec![0.6, 0.8], vec![0.0, 1.0]];
        let twice: Vec<Vec<f64>> = once.iter().map(|row| row.iter().map(|x| 2.0 * x).collect()).collect();
        let weights = [0.0, 1.0, 0.0];
        let text = |embeddings| Tokens { embeddings, weights: &weights };
        let found = BertScore::of(text(&once), text(&twice));
        assert!((found.f1 - 1.0).abs() < ROUNDING);
        let baseline = BertScore { precision: 0.8, recall: 0.8, f1: 0.8 };
        assert!((found.rescaled(baseline).f1 - 1.0).abs() < ROUNDING);
    }

    #[test]
    fn special_tokens_match_but_do_not_count() {
        let candidate = [vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 0.0]];
        let reference = [vec![0.0, 1.0], vec![1.0, 0.0], vec![1.0, 0.0]];
        let weights = [0.0, 1.0, 0.0];
        let text = |embeddings| Tokens { embeddings, weights: &weights };
        assert_eq!(BertScore::of(text(&candidate), text(&reference)).precision, 1.0);
    }

    #[test]
    fn a_token_of_every_reference_weighs_nothing() {
        let idf = Idf::of(&[vec![0, 5, 5, 9], vec![0, 5, 6, 9]]);
        let weights = idf.weights(&[0, 5, 6, 7, 9], &[0, 9]);
        let expected = [0.0, 0.0, 1.5_f64.ln(), 3.0_f64.ln(), 0.0];
        assert!(weights.iter().zip(expected).all(|(found, want)| (found - want).abs() < ROUNDING));
        assert_eq!(plain_weights(&[0, 5, 9], &[0, 9]), [0.0, 1.0, 0.0]);
    }
}
