//! Evaluation prompts that were trained on.

use std::collections::HashMap;

use crate::data::normal;

/// Words that agree before more of two texts is compared.
const FIRST_WORDS: usize = 8;

/// What users say in the training data, to be found again in prompts: blanks and case aside, alone or, where it has eight
/// words, within a task's wording.
pub(super) struct Trained<'a> {
    /// As written, and in lower case with one blank between words.
    texts: Vec<(&'a str, String)>,
    /// By their first words.
    by_start: HashMap<String, Vec<usize>>,
}

impl<'a> Trained<'a> {
    pub fn new(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let texts: Vec<_> = texts.into_iter().map(|text| (text, normal(text))).collect();
        let mut by_start: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, (_, text)) in texts.iter().enumerate() {
            let (_, start) = runs(text).next().expect("a text has a beginning");
            by_start.entry(start.to_owned()).or_default().push(i);
        }
        Self { texts, by_start }
    }

    /// Whether a prompt holds such a text: word for word, or else.
    pub fn within(&self, prompt: &str) -> Option<bool> {
        let normal = normal(prompt);
        let here = |(at, start): (usize, &str)| {
            let found = self.by_start.get(start).into_iter().flatten().map(|i| &self.texts[*i]);
            let rest = &normal[at..];
            found.filter(move |(_, text)| {
                let after = rest.strip_prefix(text.as_str());
                after.is_some_and(|after| after.is_empty() || after.starts_with(' '))
            })
        };
        let found = runs(&normal).flat_map(here).map(|(text, _)| prompt.contains(text));
        found.reduce(|a, b| a || b)
    }
}

/// Every run of [`FIRST_WORDS`] words and where it begins; of a shorter text the whole.
fn runs(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let blanks = text.match_indices(' ').map(|(at, _)| at);
    let words: Vec<usize> = std::iter::once(0).chain(blanks.map(|at| at + 1)).collect();
    let n_runs = (words.len() + 1).saturating_sub(FIRST_WORDS).max(1);
    (0..n_runs).map(move |i| {
        let end = words.get(i + FIRST_WORDS).map_or(text.len(), |next| next - 1);
        (words[i], &text[words[i]..end])
    })
}

#[cfg(test)]
mod tests {
    use super::Trained;

    #[test]
    fn a_trained_question_is_found_within_a_tasks_wording() {
        let question = "Ann has two apples and  buys three more. How many?";
        let trained = Trained::new([question, "What is two?", ""]);
        assert_eq!(trained.within(question), Some(true));
        assert_eq!(trained.within(&format!("Question: {question}\nAnswer:")), Some(true));
        assert_eq!(trained.within("ann has two apples\nand buys THREE more. How many?"), Some(false));
        assert_eq!(trained.within("Ann has two apples and buys three more. How many? None?"), Some(false));
        assert_eq!(trained.within("Ann has two apples and buys three more. How manys?"), None);
        assert_eq!(trained.within("Ben has two apples and buys three more. How many?"), None);
        // Too short to mean anything within another text.
        assert_eq!(trained.within("what is two?"), Some(false));
        assert_eq!(trained.within("What is two? And three?"), None);
    }
}
