//! Text as Python's `str` and `re` read it, where Rust reads otherwise.

use std::sync::LazyLock;

use regex::Regex;

pub(super) use crate::eval::measures::python_text::{is_space, strip};

/// The characters of Python's `\w`: letters, numbers of any kind, the underscore. Rust's also has combining marks.
pub(super) const WORD: &str = r"[\p{L}\p{N}_]";
/// The characters of Python's `\s`: Rust's and the four ASCII separators.
pub(super) const SPACE: &str = r"[\s\x1c-\x1f]";

/// `str.split()`.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Whether a character is of `\w`.
pub(super) fn is_word(c: char) -> bool {
    // Rust's alphanumeric characters are Python's and those that are alphabetic without being letters: vowel signs of
    // Indian scripts above all.
    if c.is_ascii() { c.is_ascii_alphanumeric() || c == '_' } else { c.is_alphanumeric() && !is_sign(c) }
}

static SIGN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{Alphabetic}&&[^\p{L}\p{N}]]$").expect("a valid class"));

/// Alphabetic, but neither letter nor number: combining vowels, circled and squared Latin letters.
fn is_sign(c: char) -> bool {
    SIGN.is_match(c.encode_utf8(&mut [0; 4]))
}

/// The letters of category Lt, which are neither upper nor lower case.
fn is_title(c: char) -> bool {
    matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' | '\u{1f88}'..='\u{1f8f}' | '\u{1f98}'..='\u{1f9f}'
        | '\u{1fa8}'..='\u{1faf}' | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}')
}

/// `str.isupper`: some letter with case, and none that is not upper.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

/// `str.islower`: some letter with case, and none that is not lower.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

/// A pattern of Python's `re`, its classes `\w`, `\W`, `\s` and `\S` read as Python does.
pub(super) fn pattern(pattern: &str) -> Result<Regex, String> {
    let mut rust = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, (c == '\\').then(|| chars.next()).flatten()) {
            ('\\', Some('w')) => rust += WORD,
            ('\\', Some('W')) => rust += r"[^\p{L}\p{N}_]",
            ('\\', Some('s')) => rust += SPACE,
            ('\\', Some('S')) => rust += r"[^\s\x1c-\x1f]",
            ('\\', Some('Z')) => rust += r"\z",
            (c, next) => {
                rust.push(c);
                rust.extend(next);
            }
        }
    }
    Regex::new(&rust).map_err(|error| format!("`{pattern}` is no regular expression: {error}"))
}

/// A pattern of this folder's own.
pub(super) fn own(text: &str) -> Regex {
    pattern(text).expect("the patterns of this folder are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vowel_sign_is_no_word_character() {
        assert_eq!(own(r"\w+").find_iter("हिन्दी").count(), 3);
        assert!("aß文٣½²_".chars().all(is_word));
        assert!(!"\u{940}\u{301}Ⓐ-’‿".chars().any(is_word));
    }

    #[test]
    fn the_ascii_separators_are_white_space() {
        assert_eq!(strip("\u{1c} a\u{a0}\u{1f}"), "a");
        assert_eq!(split(" a\u{1d}b\u{2003}\u{85}c ").collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn case_needs_a_letter_with_case() {
        assert!(is_upper("A1 漢 Ⅷ!") && !is_upper("1!") && !is_upper("Aª") && !is_upper("ǅ"));
        assert!(is_lower("a1 ß") && !is_lower("漢") && !is_lower("aB") && !is_lower("aǅ"));
    }
}
