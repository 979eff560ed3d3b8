//! ROUGE: how much of a reference text a prediction holds.
//!
//! Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. As the package rouge-score 0.1.2: lower case,
//! everything but `a`-`z` and digits separates tokens (so an accent splits a word), sentences end at line breaks.

use std::collections::{BTreeSet, HashMap};

use super::porter;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    pub precision: f64,
    pub recall: f64,
    pub fmeasure: f64,
}

impl Score {
    /// From what matched and how much the prediction and the reference hold.
    fn of(n_matched: usize, n_predicted: usize, n_target: usize) -> Self {
        let precision = n_matched as f64 / n_predicted.max(1) as f64;
        let recall = n_matched as f64 / n_target.max(1) as f64;
        let sum = precision + recall;
        Self { precision, recall, fmeasure: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 } }
    }
}

/// The four usual types.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rouge {
    /// Shared words.
    pub rouge1: Score,
    /// Shared pairs of words.
    pub rouge2: Score,
    /// The longest common subsequence.
    pub rouge_l: Score,
    /// The common subsequences of a reference sentence with all predicted ones, united.
    pub rouge_lsum: Score,
}

/// Scores a prediction against one reference, with Porter stems of words longer than three letters if `stem`.
pub fn rouge(target: &str, prediction: &str, stem: bool) -> Rouge {
    let (target_words, predicted_words) = (words(target, stem), words(prediction, stem));
    Rouge {
        rouge1: ngrams(&target_words, &predicted_words, 1),
        rouge2: ngrams(&target_words, &predicted_words, 2),
        rouge_l: subsequence(&target_words, &predicted_words),
        rouge_lsum: summary(&sentences(target, stem), &sentences(prediction, stem)),
    }
}

fn words(text: &str, stem: bool) -> Vec<String> {
    let lower = text.to_lowercase();
    let found = lower.split(|c: char| !matches!(c, 'a'..='z' | '0'..='9')).filter(|word| !word.is_empty());
    found.map(|word| if stem && word.len() > 3 { porter::stem(word) } else { word.to_owned() }).collect()
}

fn sentences(text: &str, stem: bool) -> Vec<Vec<String>> {
    text.split('\n').filter(|line| !line.is_empty()).map(|line| words(line, stem)).collect()
}

fn ngrams(target: &[String], predicted: &[String], n: usize) -> Score {
    let mut left: HashMap<&[String], usize> = HashMap::new();
    predicted.windows(n).for_each(|ngram| *left.entry(ngram).or_default() += 1);
    // An n-gram counts as often as both texts have it.
    let n_matched = target.windows(n).filter(|ngram| took_one(&mut left, ngram)).count();
    Score::of(n_matched, predicted.windows(n).len(), target.windows(n).len())
}

/// Takes one of `what` away, if there is one left.
fn took_one<K: std::hash::Hash + Eq>(left: &mut HashMap<K, usize>, what: &K) -> bool {
    match left.get_mut(what) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

fn subsequence(target: &[String], predicted: &[String]) -> Score {
    let mut row = vec![0usize; predicted.len() + 1];
    for word in target {
        let mut diagonal = 0;
        for (idx, other) in predicted.iter().enumerate() {
            let above = row[idx + 1];
            row[idx + 1] = if word == other { diagonal + 1 } else { above.max(row[idx]) };
            diagonal = above;
        }
    }
    Score::of(row[predicted.len()], predicted.len(), target.len())
}

/// Section 3.2 of the paper; as in the original program no word counts more often than either text has it.
fn summary(target: &[Vec<String>], predicted: &[Vec<String>]) -> Score {
    let mut target_left = counts(target);
    let mut predicted_left = counts(predicted);
    let mut n_matched = 0;
    for sentence in target {
        let union: BTreeSet<usize> =
            predicted.iter().flat_map(|other| common_places(sentence, other)).collect();
        for word in union.into_iter().map(|place| sentence[place].as_str()) {
            let is_left = |left: &HashMap<&str, usize>| left.get(word).is_some_and(|count| *count > 0);
            if is_left(&target_left) && is_left(&predicted_left) {
                took_one(&mut target_left, &word);
                took_one(&mut predicted_left, &word);
                n_matched += 1;
            }
        }
    }
    let n_words = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum();
    Score::of(n_matched, n_words(predicted), n_words(target))
}

fn counts(sentences: &[Vec<String>]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    sentences.iter().flatten().for_each(|word| *counts.entry(word.as_str()).or_default() += 1);
    counts
}

/// The places in `target` of one longest common subsequence: of several, the one that upstream's way back finds.
fn common_places(target: &[String], predicted: &[String]) -> Vec<usize> {
    let width = predicted.len() + 1;
    let mut table = vec![0u32; (target.len() + 1) * width];
    for i in 1..=target.len() {
        for j in 1..width {
            table[i * width + j] = if target[i - 1] == predicted[j - 1] {
                table[(i - 1) * width + j - 1] + 1
            } else {
                table[(i - 1) * width + j].max(table[i * width + j - 1])
            };
        }
    }
    let (mut i, mut j) = (target.len(), predicted.len());
    let mut places = Vec::new();
    while i > 0 && j > 0 {
        if target[i - 1] == predicted[j - 1] {
            places.push(i - 1);
            (i, j) = (i - 1, j - 1);
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_itself_in_every_type() {
        let text = "One two three.\nFour FIVE, six!";
        let found = rouge(text, text, true);
        for score in [found.rouge1, found.rouge2, found.rouge_l, found.rouge_lsum] {
            assert_eq!(score, Score { precision: 1.0, recall: 1.0, fmeasure: 1.0 });
        }
    }

    #[test]
    fn nothing_matches_an_empty_text() {
        assert_eq!(rouge("", "a b", false), Rouge::default());
        assert_eq!(rouge("a b", "...\n\n", false), Rouge::default());
    }

    #[test]
    fn a_repeated_word_counts_as_often_as_both_have_it() {
        let found = rouge("a a b", "a a a", false);
        assert_eq!((found.rouge1.precision, found.rouge1.recall), (2.0 / 3.0, 2.0 / 3.0));
    }
}
