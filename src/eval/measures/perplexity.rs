//! Perplexity by word and by byte.
//!
//! As lm-eval 0.4.13 computes `word_perplexity`, `byte_perplexity` and `bits_per_byte`. Words and bytes are those of
//! the original text, so models with different tokenizers compare; a perplexity by token would not.

use super::python_text::is_space;

/// One text and what a model thinks of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Document {
    pub n_words: usize,
    pub n_bytes: usize,
    /// Natural logarithm of the probability of the whole text.
    pub log_likelihood: f64,
}

impl Document {
    pub fn of(text: &str, log_likelihood: f64) -> Self {
        Self { n_words: count_words(text), n_bytes: text.len(), log_likelihood }
    }
}

/// The pieces that runs of white space split a text into.
///
/// Upstream counts the empty pieces at the ends too: a text that starts or ends with white space has a word more.
fn count_words(text: &str) -> usize {
    let mut n_words = 1;
    let mut inside = false;
    for c in text.chars() {
        let space = is_space(c);
        n_words += usize::from(space && !inside);
        inside = space;
    }
    n_words
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    pub per_word: f64,
    pub per_byte: f64,
    pub bits_per_byte: f64,
}

impl Perplexity {
    /// Over a whole corpus; none if it has no byte.
    pub fn of(documents: &[Document]) -> Option<Self> {
        let sum: f64 = documents.iter().map(|document| document.log_likelihood).sum();
        let n_words: usize = documents.iter().map(|document| document.n_words).sum();
        let n_bytes: usize = documents.iter().map(|document| document.n_bytes).sum();
        let per_byte = -sum / n_bytes as f64;
        (n_words > 0 && n_bytes > 0).then(|| Self {
            per_word: (-sum / n_words as f64).exp(),
            per_byte: per_byte.exp(),
            bits_per_byte: per_byte / std::f64::consts::LN_2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_at_the_ends_adds_words() {
        let counts = ["a b\n\nc", " a b", "a b \n", ""].map(count_words);
        assert_eq!(counts, [3, 3, 3, 1]);
    }

    #[test]
    fn one_bit_for_each_byte_is_a_perplexity_of_two() {
        let text = "über";
        let document = Document::of(text, -5.0 * std::f64::consts::LN_2);
        let found = Perplexity::of(&[document]).unwrap();
        assert!((found.bits_per_byte - 1.0).abs() < 1e-12 && (found.per_byte - 2.0).abs() < 1e-12);
        assert_eq!(Perplexity::of(&[]), None);
    }
}
