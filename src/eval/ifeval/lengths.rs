//! How many words, sentences and paragraphs an answer has.

use regex::Regex;

use super::arguments::Arguments;
use super::{Rule, python, sentences};

/// Words are runs of letters, digits and underscores: a hyphen makes two of one.
///
/// nltk 3.10.4 counts with a regular expression engine that keeps combining marks within their words, as Rust's does;
/// earlier releases parted words of Indian scripts and Thai at every vowel sign.
pub(super) fn number_words(arguments: &Arguments) -> Result<Rule, String> {
    let word = Regex::new(r"\w+").expect("a valid pattern");
    let (asked, relation) = (arguments.number("num_words")?, arguments.relation("relation")?);
    Ok(Box::new(move |response| relation.holds(word.find_iter(response).count(), asked)))
}

/// Sentences are what NLTK's English Punkt model takes for them.
pub(super) fn number_sentences(arguments: &Arguments) -> Result<Rule, String> {
    let (asked, relation) = (arguments.number("num_sentences")?, arguments.relation("relation")?);
    Ok(Box::new(move |response| relation.holds(sentences::split(response).len(), asked)))
}

/// Paragraphs lie between `***`; an empty one may only be first or last, and does not count.
pub(super) fn number_paragraphs(arguments: &Arguments) -> Result<Rule, String> {
    let divider = python::own(r"\s?\*\*\*\s?");
    let asked = arguments.number("num_paragraphs")?;
    Ok(Box::new(move |response| {
        let paragraphs: Vec<&str> = divider.split(response).map(python::strip).collect();
        let inner = paragraphs.get(1..paragraphs.len() - 1).unwrap_or_default();
        let n = paragraphs.iter().filter(|paragraph| !paragraph.is_empty()).count();
        !inner.contains(&"") && n == asked
    }))
}

/// Paragraphs lie between blank lines, and the first word of one of them is given.
pub(super) fn nth_paragraph_first_word(arguments: &Arguments) -> Result<Rule, String> {
    let (asked, nth) = (arguments.number("num_paragraphs")?, arguments.number("nth_paragraph")?);
    let first_word = arguments.text("first_word")?.to_lowercase();
    if nth > asked {
        return Err(format!("`nth_paragraph` is {nth}, but `num_paragraphs` {asked}"));
    }
    Ok(Box::new(move |response| {
        let paragraphs: Vec<&str> = response.split("\n\n").map(python::strip).collect();
        let n = paragraphs.iter().filter(|paragraph| !paragraph.is_empty()).count();
        // The count leaves empty paragraphs out and the position does not, as upstream has it.
        if nth > n || n != asked {
            return false;
        }
        python::split(paragraphs[nth - 1]).next().is_some_and(|word| bare(word) == first_word)
    }))
}

/// A word in lower case without quotation marks before it, up to its first punctuation.
fn bare(word: &str) -> String {
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let letters = word.chars().take_while(|c| !['.', ',', '?', '!', '\'', '"'].contains(c));
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Instruction;

    #[test]
    fn an_empty_paragraph_shifts_the_position_but_not_the_count() {
        let kwargs = json!({ "num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then" });
        let second = Instruction::of("length_constraints:nth_paragraph_first_word", &kwargs).unwrap();
        assert!(second.follows("", "First.\n\n\"Then, more."));
        assert!(second.follows("", "First.\n\nThen's more.\n\n \n"));
        assert!(!second.follows("", "\n\nFirst.\n\nThen more."));
        assert!(!second.follows("", "First.\n\nThen-more."));
    }

    #[test]
    fn dividers_may_frame_paragraphs() {
        let two = Instruction::of("length_constraints:number_paragraphs", &json!({ "num_paragraphs": 2 }));
        let two = two.unwrap();
        assert!(two.follows("", "***\na\n***\nb\n***\n"));
        assert!(!two.follows("", "a\n******\nb"));
    }
}
