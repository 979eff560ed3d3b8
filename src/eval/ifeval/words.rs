//! Words as NLTK's `word_tokenize` parts them: Punkt sentences, then the Penn Treebank's rules.
//!
//! The rules are those of nltk 3.10.4, a list of substitutions that put spaces around what is a word of its own; their
//! order matters.

use std::sync::LazyLock;

use regex::Regex;

use super::{python, sentences};

/// Substitutions up to the opening single quotation mark.
const OPENING: [(&str, &str); 4] =
    [("[«“‘„]|`+", " $0 "), ("^\"", "``"), ("``", " $0 "), ("([ (\\[{<])(\"|'{2})", "$1 `` ")];

/// Punctuation and brackets.
const REST: [(&str, &str); 14] = [
    (r#"([^.])(\.)([\])}>"'»”’ ]*)\s*$"#, "$1 $2 $3 "),
    (r"([:,])([^\d])", " $1 $2"),
    ("([:,])$", " $1 "),
    (r"\.{2,}", " $0 "),
    ("[;@#$%&]", " $0 "),
    ("[\u{2012}-\u{2015}]", " $0 "),
    (r#"([^.])(\.)([\])}>"']*)\s*$"#, "$1 $2$3 "),
    ("[?!]", " $0 "),
    ("([^'])' ", "$1 ' "),
    ("[*]", " $0 "),
    (r"[\]\[(){}<>]", " $0 "),
    ("--", " -- "),
    // Spaces on both sides, which closing marks need.
    (r"(?s)^(.*)$", " $1 "),
    ("[»”’]", " $0 "),
];

/// Closing marks and contractions; white space is single from the third on.
const CLOSING: [(&str, &str); 15] = [
    ("''", " '' "),
    ("\"", " '' "),
    (r"\s+", " "),
    ("([^' ])('[sS]|'[mM]|'[dD]|') ", "$1 $2 "),
    ("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "$1 $2 "),
    (r"(?i)\b(can)(not)\b", " $1 $2 "),
    (r"(?i)\b(d)('ye)\b", " $1 $2 "),
    (r"(?i)\b(gim)(me)\b", " $1 $2 "),
    (r"(?i)\b(gon)(na)\b", " $1 $2 "),
    (r"(?i)\b(got)(ta)\b", " $1 $2 "),
    (r"(?i)\b(lem)(me)\b", " $1 $2 "),
    (r"(?i)\b(more)('n)\b", " $1 $2 "),
    (r"(?i)\b(wan)(na) ", " $1 $2  "),
    (r"(?i) ('t)(is)\b", " $1 $2 "),
    (r"(?i) ('t)(was)\b", " $1 $2 "),
];

type Rules = Vec<(Regex, &'static str)>;

fn compiled(rules: impl IntoIterator<Item = (&'static str, &'static str)>) -> Rules {
    rules
        .into_iter()
        .map(|(pattern, by)| (Regex::new(pattern).expect("the patterns of this file are valid"), by))
        .collect()
}

static BEFORE: LazyLock<Rules> = LazyLock::new(|| compiled(OPENING));
static AFTER: LazyLock<Rules> = LazyLock::new(|| compiled(REST.into_iter().chain(CLOSING)));

fn substitute(text: String, rules: &Rules) -> String {
    rules.iter().fold(text, |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
}

/// The words and signs of a text.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for sentence in sentences::split(text) {
        let spaced = substitute(free_quotes(&substitute(sentence, &BEFORE)), &AFTER);
        words.extend(python::split(&spaced).map(str::to_owned));
    }
    words
}

/// A space behind each single quotation mark that opens a word, unless the word is the end of a contraction.
fn free_quotes(text: &str) -> String {
    let mut spaced = String::new();
    let mut done = 0;
    for (at, quote) in text.match_indices('\'') {
        let (before, after) = (&text[..at], &text[at + quote.len()..]);
        let follows_word =
            before.chars().next_back().is_some_and(|c| WORD.is_match(c.encode_utf8(&mut [0; 4])));
        if !follows_word && WORD.is_match(after) && !CONTRACTED.is_match(after) {
            spaced += &text[done..at];
            spaced += "' ";
            done = at + quote.len();
        }
    }
    spaced + &text[done..]
}

static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\w").expect("a valid pattern"));
static CONTRACTED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)^(?:re|ve|ll|m|t|s|d|n)\b").expect("a valid pattern"));

#[cfg(test)]
mod tests {
    use super::*;

    /// Every expectation of these tests is what nltk 3.10.4 returns.
    #[test]
    fn contractions_part_and_hyphens_join() {
        assert_eq!(
            split("I CANNOT. WELL-KNOWN U.S. DON'T"),
            ["I", "CAN", "NOT", ".", "WELL-KNOWN", "U.S.", "DO", "N'T"]
        );
    }

    #[test]
    fn quotation_marks_stand_alone() {
        assert_eq!(
            split("'HI' \"YES\" 'TWAS 'em"),
            ["'", "HI", "'", "``", "YES", "''", "'", "TWAS", "'", "em"]
        );
    }
}
