//! The language of a text, as Python's langdetect finds it with seed 0.
//!
//! Nakatani, "Language Detection Library for Java", 2010, in the `PyPI` package langdetect 1.0.9: naive Bayes over
//! n-grams of one to three characters, drawn at random until one language is left. Upstream does not seed it, so that
//! a text between two languages may change sides from run to run; here the seed is 0 for every text. The profiles of
//! its 55 languages and its character tables are langdetect's, published under Apache-2.0.

use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use regex::{Captures, Regex};

use super::super::python_random::PythonRandom;

/// Four parts in lines with tabs between fields: languages with their totals, characters of one class, Vietnamese
/// letters with marks, then n-grams, each with its counts behind a letter for the language.
const TABLES: &[u8] = include_bytes!("langdetect_profiles.txt.gz");

/// Where nothing reaches a probability of 0.1.
const UNKNOWN: &str = "unknown";
const N_TRIALS: usize = 7;
const MAX_CHARS: usize = 10_000;
const ALPHA: f64 = 0.5;
const ALPHA_WIDTH: f64 = 0.05;
const MAX_STEPS: usize = 1000;
const CONVERGED: f64 = 0.99999;
const LEAST: f64 = 0.1;
/// Divides alpha: what an n-gram says of a language that never had it.
const BASE: f64 = 10_000.0;

struct Tables {
    languages: Vec<String>,
    /// By n-gram, the languages that have it and how likely it is there.
    grams: HashMap<String, Vec<(usize, f64)>>,
    /// The first character of its class, for Chinese characters in classes.
    classes: HashMap<char, char>,
    /// Letter and combining mark in one character.
    joined: HashMap<(char, char), char>,
    /// A letter and a mark.
    marked: Regex,
}

static LANGDETECT: LazyLock<Tables> = LazyLock::new(|| {
    let mut text = String::new();
    GzDecoder::new(TABLES).read_to_string(&mut text).expect("the tables are gzipped text");
    Tables::of(&text).expect("the tables are whole")
});

impl Tables {
    fn of(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut languages = Vec::new();
        let mut totals: Vec<Vec<f64>> = Vec::new();
        for field in lines.next()?.split('\t') {
            let (name, numbers) = field.split_once(' ')?;
            languages.push(name.to_owned());
            totals.push(numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?);
        }
        let classes = lines.next()?.split('\t').flat_map(|class| {
            let first = class.chars().next();
            class.chars().filter_map(move |c| Some((c, first?)))
        });
        let classes = classes.collect();
        let mut vietnamese = lines.next()?.split('\t');
        let (letters, marks) = (vietnamese.next()?, vietnamese.next()?);
        let joined = marks.chars().zip(vietnamese).flat_map(|(mark, row)| {
            letters.chars().zip(row.chars()).map(move |(letter, joined)| ((letter, mark), joined))
        });
        let joined = joined.collect();
        let marked = Regex::new(&format!("([{letters}])([{marks}])")).ok()?;
        let mut grams = HashMap::new();
        for line in lines {
            let (gram, counts) = line.split_once('\t')?;
            let order = gram.chars().count() - 1;
            grams.insert(gram.to_owned(), likely(counts, &totals, order)?);
        }
        Some(Self { languages, grams, classes, joined, marked })
    }

    /// What stands for a character in n-grams: a space for what is no letter, one character for a whole script.
    fn normal(&self, c: char) -> char {
        match c {
            '\0'..='\u{7f}' if !c.is_ascii_alphabetic() => ' ',
            '\u{a0}' | '«' | '°' | '»' | '\u{2000}'..='\u{206f}' => ' ',
            // Romanian letters with a comma below are written with a cedilla, the Persian yeh as the Arabic.
            'ș' => 'ş',
            'ț' => 'ţ',
            '\u{6cc}' => '\u{64a}',
            // Vietnamese letters.
            '\u{1ea0}'..='\u{1eff}' => '\u{1ec3}',
            '\u{3040}'..='\u{309f}' => 'あ',
            '\u{30a0}'..='\u{30ff}' => 'ア',
            '\u{3100}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' => 'ㄅ',
            '\u{4e00}'..='\u{9fff}' => self.classes.get(&c).copied().unwrap_or(c),
            '\u{ac00}'..='\u{d7af}' => '가',
            _ => c,
        }
    }

    /// The text that is looked at: no addresses, single spaces, and no Latin letters if most are of another script.
    fn cleaned(&self, text: &str) -> Vec<char> {
        let text = URL.replace_all(text, " ");
        let text = MAIL.replace_all(&text, " ");
        let text = self.marked.replace_all(&text, |pair: &Captures| {
            let mut chars = pair[0].chars();
            let both = chars.next().zip(chars.next());
            both.and_then(|both| self.joined.get(&both)).map_or_else(|| pair[0].to_owned(), char::to_string)
        });
        let mut chars: Vec<char> = text.chars().take(MAX_CHARS).collect();
        chars.dedup_by(|c, before| *c == ' ' && *before == ' ');
        // The signs between `Z` and `a` count as Latin, and Vietnamese letters do not, as upstream has it.
        let is_latin = |c: &char| ('A'..='z').contains(c);
        let n_latin = chars.iter().filter(|c| is_latin(c)).count();
        let n_other = chars.iter().filter(|c| **c >= '\u{300}').count();
        if 2 * n_latin < n_other {
            chars.retain(|c| !is_latin(c));
        }
        chars
    }

    /// The n-grams of a text that some language has, in their order.
    fn found(&self, text: &[char]) -> Vec<&[(usize, f64)]> {
        let mut found = Vec::new();
        let mut gram = vec![' '];
        let mut in_capitals = false;
        for c in text.iter().map(|c| self.normal(*c)) {
            let last = gram[gram.len() - 1];
            if last == ' ' {
                gram = vec![' '];
                in_capitals = false;
            } else if gram.len() == 3 {
                gram.remove(0);
            }
            if last != ' ' || c != ' ' {
                gram.push(c);
                in_capitals = c.is_uppercase() && (in_capitals || last.is_uppercase());
            }
            // Of a word in capitals only its first letter says anything.
            if in_capitals {
                continue;
            }
            for n in 1..=gram.len() {
                let key: String = gram[gram.len() - n..].iter().collect();
                found.extend(self.grams.get(&key).filter(|_| key != " ").map(Vec::as_slice));
            }
        }
        found
    }
}

static URL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("https?://[-_.?&~;+=/#0-9A-Za-z]{1,2076}").expect("a valid pattern"));
static MAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("[-_.0-9A-Za-z]{1,64}@[-_0-9A-Za-z]{1,255}[-_.0-9A-Za-z]{1,255}").expect("a valid pattern")
});

/// How likely an n-gram is in each language that has it: its count by that of all n-grams of its length.
fn likely(mut counts: &str, totals: &[Vec<f64>], order: usize) -> Option<Vec<(usize, f64)>> {
    let mut likely = Vec::new();
    while let Some(letter) = counts.bytes().next() {
        let rest = &counts[1..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let language = usize::from(letter.checked_sub(b'@')?);
        let count: f64 = rest[..end].parse().ok()?;
        likely.push((language, count / totals.get(language)?.get(order)?));
        counts = &rest[end..];
    }
    Some(likely)
}

/// The code of the likeliest language, `unknown` where none is likely, nothing for a text without any letter known.
pub(super) fn detect(text: &str) -> Option<&'static str> {
    let tables = &*LANGDETECT;
    let grams = tables.found(&tables.cleaned(text));
    if grams.is_empty() {
        return None;
    }
    let n = tables.languages.len();
    let mut total = vec![0.0; n];
    let mut random = PythonRandom::new(0);
    let mut spare = None;
    for _ in 0..N_TRIALS {
        let mut likely = vec![1.0 / n as f64; n];
        let alpha = ALPHA + gauss(&mut random, &mut spare) * ALPHA_WIDTH;
        for step in 0.. {
            update(&mut likely, grams[random.below(grams.len())], alpha / BASE);
            if step % 5 == 0 && (normalized(&mut likely) > CONVERGED || step >= MAX_STEPS) {
                break;
            }
        }
        for (total, likely) in total.iter_mut().zip(likely) {
            *total += likely / N_TRIALS as f64;
        }
    }
    let mut best = (LEAST, UNKNOWN);
    for (name, likely) in tables.languages.iter().zip(total) {
        if likely > best.0 {
            best = (likely, name);
        }
    }
    Some(best.1)
}

/// Python's `gauss(0, 1)`, which makes two numbers at once and keeps the second for the next call.
fn gauss(random: &mut PythonRandom, spare: &mut Option<f64>) -> f64 {
    if let Some(second) = spare.take() {
        return second;
    }
    let angle = random.random() * std::f64::consts::TAU;
    let radius = (-2.0 * (1.0 - random.random()).ln()).sqrt();
    *spare = Some(angle.sin() * radius);
    angle.cos() * radius
}

/// Bayes' rule for one n-gram.
fn update(likely: &mut [f64], gram: &[(usize, f64)], weight: f64) {
    let mut known = gram.iter().peekable();
    for (language, likely) in likely.iter_mut().enumerate() {
        let there = known.next_if(|(has, _)| *has == language).map_or(0.0, |(_, probability)| *probability);
        *likely *= weight + there;
    }
}

/// Makes the sum one, and tells the largest.
fn normalized(likely: &mut [f64]) -> f64 {
    let sum: f64 = likely.iter().sum();
    for likely in &mut *likely {
        *likely /= sum;
    }
    likely.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_of_plain_sentences_are_found() {
        for (code, text) in [
            ("en", "The weather is nice today and we are going to the park."),
            ("de", "Das Wetter ist heute schön und wir gehen in den Park."),
            ("sw", "Hali ya hewa ni nzuri leo na tunaenda kwenye bustani."),
            ("kn", "ಇಂದು ಹವಾಮಾನ ಚೆನ್ನಾಗಿದೆ"),
            ("vi", "Hôm nay thời tiết đẹp và chúng tôi đi công viên."),
        ] {
            assert_eq!(detect(text), Some(code), "{text}");
        }
    }

    #[test]
    fn text_without_letters_has_no_language() {
        assert_eq!(detect("12:30 -- 5 %!"), None);
        assert_eq!(detect("https://example.org/page someone@example.org"), None);
    }
}
