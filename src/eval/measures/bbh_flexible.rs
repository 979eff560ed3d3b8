//! An answer to BIG-Bench Hard wherever it stands in a text, by what answers of the task look like.
//!
//! The `flexible-extract` filters of lm-eval 0.4.13, tasks/bbh: the first find counts without a chain of thought, the
//! last one with it.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::number_words;
use super::python_text::{is_space, strip};

/// Which of several finds counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    First,
    Last,
}

impl Take {
    fn of<T>(self, mut found: impl Iterator<Item = T>) -> Option<T> {
        match self {
            Self::First => found.next(),
            Self::Last => found.last(),
        }
    }
}

/// Tasks whose answers look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// True or False.
    Truth,
    YesNo,
    /// valid or invalid.
    Validity,
    /// Brackets that close a word.
    Brackets,
    /// Whether a sentence about sports is plausible.
    Plausible,
    /// Whether somebody tells the truth.
    Truthful,
    /// A letter in parentheses.
    Options,
    Number,
    /// The words of the question, sorted.
    Words,
}

/// The tasks and their families.
pub const TASKS: &[(&str, Family)] = &[
    ("boolean_expressions", Family::Truth),
    ("causal_judgement", Family::YesNo),
    ("date_understanding", Family::Options),
    ("disambiguation_qa", Family::Options),
    ("dyck_languages", Family::Brackets),
    ("formal_fallacies", Family::Validity),
    ("geometric_shapes", Family::Options),
    ("hyperbaton", Family::Options),
    ("logical_deduction_five_objects", Family::Options),
    ("logical_deduction_seven_objects", Family::Options),
    ("logical_deduction_three_objects", Family::Options),
    ("movie_recommendation", Family::Options),
    ("multistep_arithmetic_two", Family::Number),
    ("navigate", Family::YesNo),
    ("object_counting", Family::Number),
    ("penguins_in_a_table", Family::Options),
    ("reasoning_about_colored_objects", Family::Options),
    ("ruin_names", Family::Options),
    ("salient_translation_error_detection", Family::Options),
    ("snarks", Family::Options),
    ("sports_understanding", Family::Plausible),
    ("temporal_sequences", Family::Options),
    ("tracking_shuffled_objects_five_objects", Family::Options),
    ("tracking_shuffled_objects_seven_objects", Family::Options),
    ("tracking_shuffled_objects_three_objects", Family::Options),
    ("web_of_lies", Family::Truthful),
    ("word_sorting", Family::Words),
];

/// The family of a task; none of a name that is no task.
pub fn family(task: &str) -> Option<Family> {
    TASKS.iter().find(|(name, _)| *name == task).map(|(_, family)| *family)
}

macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("the pattern is valid"));
    };
}

pattern!(TRUTH, r"\b(?:True|False)\b");
pattern!(YES_NO, r"\b(?:Yes|No|yes|no)\b");
pattern!(VALIDITY, r"\b(?:valid|invalid)\b");
// Upstream prefers a run behind a blank, but blanks are part of a run: it is the leftmost run either way.
pattern!(BRACKETS, r#"[" \[(<{}>)\]]+"#);
pattern!(PLAUSIBLE, r"\b(no|not plausible)\b|\b(?:yes|plausible)\b");
pattern!(
    TRUTHFUL,
    r"\b(no|does not tell the truth|is not telling the truth)\b|\b(?:yes|tells the truth|is telling the truth)\b"
);
pattern!(LETTER, r"\([A-Z]\)");
pattern!(OPTION, r"\([A-Z]\)([^\n^(]*)");
pattern!(PUNCTUATION, r"\p{P}");
pattern!(DIGITS, r"[-0-9]+");

/// The answer in `output` to the question `input`, if there is one.
pub(super) fn extract(family: Family, take: Take, input: &str, output: &str) -> Option<String> {
    match family {
        Family::Truth => plain(&TRUTH, take, output),
        Family::YesNo => plain(&YES_NO, take, output),
        Family::Validity => plain(&VALIDITY, take, output),
        Family::Brackets => plain(&BRACKETS, take, output),
        Family::Plausible => mapped(&PLAUSIBLE, take, output),
        Family::Truthful => mapped(&TRUTHFUL, take, output),
        Family::Options => option(take, input, output),
        Family::Number => number(take, output),
        Family::Words => sorted_words(input, output),
    }
}

fn plain(pattern: &Regex, take: Take, output: &str) -> Option<String> {
    take.of(pattern.find_iter(output)).map(|found| strip(found.as_str()).to_owned())
}

/// `no` for what the pattern's group holds, `yes` for its other words.
fn mapped(pattern: &Regex, take: Take, output: &str) -> Option<String> {
    let lower = output.to_lowercase();
    let is_no = |found: Captures| found.get(1).is_some();
    take.of(pattern.captures_iter(&lower)).map(|found| if is_no(found) { "no" } else { "yes" }.to_owned())
}

/// The number in digits, of which a hyphen counts as one; without any, the number in words.
///
/// Upstream stops the whole evaluation at words that word2number refuses; here they are no answer.
fn number(take: Take, output: &str) -> Option<String> {
    plain(&DIGITS, take, output).or_else(|| {
        let lower = output.to_lowercase();
        let words = take.of(number_words::find_all(&lower))?;
        number_words::read(words).map(|value| value.to_string())
    })
}

/// A letter in parentheses; else the text of an option, for which its letter stands; else a letter behind a colon.
fn option(take: Take, input: &str, output: &str) -> Option<String> {
    plain(&LETTER, take, output)
        .or_else(|| option_by_text(take, input, output))
        .or_else(|| option_by_colon(take, input, output))
}

fn option_by_text(take: Take, input: &str, output: &str) -> Option<String> {
    let options = OPTION.captures_iter(input).map(|found| bare(strip(&found[1])));
    // Letters go by order, not by what the question prints; of two equal texts the later counts.
    let letters: HashMap<String, char> = options.zip('A'..).collect();
    // Upstream's pattern then matches nothing anywhere: the empty find is the last one and no answer.
    if letters.contains_key("") && take == Take::Last {
        return None;
    }
    let mut texts: Vec<&str> = letters.keys().map(String::as_str).collect();
    // The longest first: one option may begin with another.
    texts.sort_by_key(|text| (std::cmp::Reverse(text.len()), *text));
    let escaped: Vec<String> = texts.into_iter().map(regex::escape).collect();
    let pattern = Regex::new(&escaped.join("|")).ok()?;
    let output = bare(output);
    let found = take.of(pattern.find_iter(&output)).map(|found| strip(found.as_str()));
    let found = found.filter(|found| !found.is_empty())?;
    Some(letters.get(found).map_or_else(|| found.to_owned(), |letter| format!("({letter})")))
}

/// In lower case and without punctuation.
fn bare(text: &str) -> String {
    PUNCTUATION.replace_all(&text.to_lowercase(), "").into_owned()
}

fn option_by_colon(take: Take, input: &str, output: &str) -> Option<String> {
    let n_options = OPTION.find_iter(input).count();
    let behind = output.match_indices(':').filter_map(|(at, colon)| {
        let letter = output[at + colon.len()..].trim_start_matches(is_space).chars().next()?;
        ('A'..).take(n_options).any(|known| known == letter).then_some(letter)
    });
    take.of(behind).map(|letter| format!("({letter})"))
}

/// The question's words in the order in which the answer has them last.
fn sorted_words(input: &str, output: &str) -> Option<String> {
    let list = strip(input.split("List:").nth(1)?);
    let words: Vec<String> = list
        .split(is_space)
        .filter(|word| !word.is_empty())
        .map(|word| format!(r"\b{}\b", regex::escape(word)))
        .collect();
    let pattern = Regex::new(&words.join("|")).ok()?;
    let found: Vec<&str> = pattern.find_iter(output).map(|found| found.as_str()).collect();
    let is_last = |place: usize| !found[place + 1..].contains(&found[place]);
    let ordered: Vec<&str> =
        found.iter().enumerate().filter(|(place, _)| is_last(*place)).map(|(_, word)| *word).collect();
    Some(ordered.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: &str = "Which?\nOptions:\n(A) Guilty\n(B) Guilty of Romance\n(C) a red ball";

    /// What was found, `none` for nothing.
    fn found_in(input: &str, family: Family, take: Take, output: &str) -> String {
        extract(family, take, input, output).unwrap_or_else(|| "none".to_owned())
    }

    fn found(family: Family, take: Take, output: &str) -> String {
        found_in(INPUT, family, take, output)
    }

    #[test]
    fn a_letter_goes_before_a_text_and_a_text_before_a_colon() {
        assert_eq!(found(Family::Options, Take::First, "guilty of romance, no: (C)"), "(C)");
        assert_eq!(found(Family::Options, Take::First, "Guilty, of romance! Or: C"), "(B)");
        assert_eq!(found(Family::Options, Take::Last, "Answer: A\nAnswer:\n C"), "(C)");
        assert_eq!(found(Family::Options, Take::Last, "Answer: D"), "none");
    }

    #[test]
    fn an_option_without_text_hides_the_others_from_the_last_find() {
        let input = "(A) ...\n(B) ball";
        assert_eq!(found_in(input, Family::Options, Take::Last, "a ball"), "none");
        assert_eq!(found_in(input, Family::Options, Take::First, "ball"), "(B)");
        assert_eq!(found_in(input, Family::Options, Take::First, "a ball"), "none");
    }

    #[test]
    fn a_hyphen_is_a_number_and_words_are_one_only_without_digits() {
        assert_eq!(found(Family::Number, Take::First, "a well-known 7"), "-");
        assert_eq!(found(Family::Number, Take::Last, "Twenty six birds"), "20");
        assert_eq!(found(Family::Number, Take::First, "trillion"), "none");
    }

    #[test]
    fn words_stand_in_the_order_of_their_last_mention() {
        let input = "Sort: List: cow ant bee";
        assert_eq!(found_in(input, Family::Words, Take::First, "cow ant bee: ant, bee, cow"), "ant bee cow");
        assert_eq!(found_in(input, Family::Words, Take::First, "none"), "");
    }

    #[test]
    fn denials_are_no() {
        assert_eq!(found(Family::Plausible, Take::First, "It is NOT plausible."), "no");
        assert_eq!(found(Family::Truthful, Take::Last, "No? He tells the truth."), "yes");
        assert_eq!(found(Family::Brackets, Take::Last, "[ < > ] then ) )"), ") )");
    }
}
