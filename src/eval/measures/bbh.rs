//! BIG-Bench Hard: the answer in a text, and whether it is the target.
//!
//! Suzgun et al., "Challenging BIG-Bench Tasks and Whether Chain-of-Thought Can Solve Them", 2022, arXiv 2210.09261.
//! Filters, comparison and stop strings are those of lm-eval 0.4.13, tasks/bbh, by variant. The few-shot variant's
//! pattern means to drop the final full stop and drops whatever character ends the line.

use std::sync::LazyLock;

use regex::Regex;

use super::bbh_flexible::{self, Family, Take};
use super::exact_match::{Comparison, Removed};
use super::python_text::strip;

/// What upstream puts in place of an answer that was not found.
pub const INVALID: &str = "[invalid]";

/// The published ways to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `bbh_cot_fewshot`: three worked examples.
    CotFewshot,
    /// `bbh_zeroshot`: the bare question.
    Zeroshot,
    /// `bbh_cot_zeroshot`: the question and "Let's think step by step."
    CotZeroshot,
}

/// How the answer is drawn out of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// What the variant asks the answer to look like.
    Strict,
    /// What an answer of the task's family can look like anywhere.
    Flexible,
}

impl Variant {
    /// Where generation stops. A bare capital `Q` ends any answer that has one.
    pub const fn stops(self) -> &'static [&'static str] {
        match self {
            Self::CotFewshot => &["</s>", "Q", "\n\n"],
            Self::Zeroshot | Self::CotZeroshot => &["</s>", "Q:", "<|im_end|>"],
        }
    }

    /// The answer in `output` to a question of this `family`, or [`INVALID`]; `input` is the question's text.
    pub fn extract(self, filter: Filter, family: Family, input: &str, output: &str) -> String {
        let take = match self {
            Self::CotFewshot | Self::Zeroshot => Take::First,
            Self::CotZeroshot => Take::Last,
        };
        match (filter, self) {
            (Filter::Flexible, _) => {
                bbh_flexible::extract(family, take, input, output).unwrap_or_else(|| INVALID.to_owned())
            }
            (Filter::Strict, Self::Zeroshot) => output.to_owned(),
            (Filter::Strict, Self::CotFewshot) => {
                behind(&["the answer is "], output).map_or(INVALID, strip).to_owned()
            }
            (Filter::Strict, Self::CotZeroshot) => {
                let marks = ["The answer is ", "the answer is ", "The answer: ", "The final answer: "];
                // Of several groups upstream takes one that is not empty, and strips it then.
                behind(&marks, output).filter(|found| !found.is_empty()).map_or(INVALID, strip).to_owned()
            }
        }
    }

    /// Whether an extracted answer is the target.
    pub fn is_right(self, answer: &str, target: &str) -> bool {
        self.comparison().equal(answer, target)
    }

    fn comparison(self) -> Comparison {
        use Removed::{Every, FinalStop};
        const ZEROSHOT: &[Removed] = &[FinalStop, Every(','), Every('\n'), Every('\\'), Every('"')];
        const COT_ZEROSHOT: &[Removed] = &[FinalStop, Every(','), Every('\\'), Every('\n'), Every('"')];
        match self {
            Self::CotFewshot => Comparison { removed: &[], ignore_case: false },
            Self::Zeroshot => Comparison { removed: ZEROSHOT, ignore_case: true },
            Self::CotZeroshot => Comparison { removed: COT_ZEROSHOT, ignore_case: true },
        }
    }
}

/// `(?<=MARK)(.*)(?=.)`, the first match: the rest of the line behind a mark, less its last character.
///
/// A mark that ends its line is none: there is no character to leave out.
fn behind<'t>(marks: &[&str], text: &'t str) -> Option<&'t str> {
    let ends = marks.iter().flat_map(|mark| text.match_indices(mark).map(|(at, mark)| at + mark.len()));
    let lines = ends.filter_map(|at| {
        text[at..].split('\n').next().filter(|line| !line.is_empty()).map(|line| (at, line))
    });
    let (_, line) = lines.min_by_key(|(at, _)| *at)?;
    let (last, _) = line.char_indices().next_back()?;
    Some(&line[..last])
}

/// The answer behind the last "the answer is" or "answer:" of a worked solution, as a person reads it: without marks,
/// blanks and a full stop; the letter alone of an option.
///
/// Ours: the few-shot rule of the harness takes a blank behind the final full stop for a part of the answer.
pub fn read(output: &str) -> Option<String> {
    static ANSWER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)\banswer(?:\s+is\s*:?|:)").expect("this pattern is valid"));
    let behind = &output[ANSWER.find_iter(output).last()?.end()..];
    let line = behind.trim_start_matches(['*', '_', ' ', '\n']).lines().next()?;
    Some(reduced(line)).filter(|answer| !answer.is_empty())
}

/// Whether an answer that was [`read`] is the target.
pub fn is_read_right(answer: &str, target: &str) -> bool {
    answer == reduced(target)
}

fn reduced(answer: &str) -> String {
    static OPTION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\(?([A-Z])(?:\)|[.:]|$)").expect("this pattern is valid"));
    let answer = answer.replace(['*', '_', '`', '"', '\\', '$', ','], "");
    let answer = answer.trim().trim_end_matches('.').trim();
    match OPTION.captures(answer) {
        Some(found) => found[1].to_owned(),
        None => answer.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_bold_type_or_the_text_of_an_option_does_not_change_what_is_read() {
        for text in [
            "So the answer is (B). ",
            "So the answer is (B)",
            "Thus the answer is: **(B)**.",
            "Answer: B",
            "the answer is (A)? No, the answer is (B) two.",
            "The answer is\n(B).",
        ] {
            assert!(is_read_right(&read(text).unwrap(), "(B)"), "{text}");
        }
        assert!(!is_read_right(&read("So the answer is (A).").unwrap(), "(B)"));
        assert_eq!(read("(B)"), None);
        assert_eq!(read("the answer is ."), None);
        assert!(is_read_right(&read("So the answer is ant, bee,  cat.").unwrap(), "ant bee cat"));
        assert!(is_read_right(&read("So the answer is ] ) }.").unwrap(), "] ) }"));
        assert!(is_read_right(&read("So the answer is Yes.").unwrap(), "yes"));
        assert!(is_read_right(&read("So the answer is a bear.").unwrap(), "A bear"));
    }

    fn strict(variant: Variant, output: &str) -> String {
        variant.extract(Filter::Strict, Family::Options, "", output)
    }

    #[test]
    fn the_last_character_of_the_line_is_dropped_whatever_it_is() {
        assert_eq!(strict(Variant::CotFewshot, "So the answer is (B).\nthe answer is (C)."), "(B)");
        assert_eq!(strict(Variant::CotFewshot, "the answer is é"), "");
        assert_eq!(strict(Variant::CotFewshot, "the answer is \nthe answer is 7é"), "7");
        assert_eq!(strict(Variant::CotFewshot, "The answer is 7."), INVALID);
    }

    #[test]
    fn without_examples_four_phrases_announce_the_answer() {
        assert_eq!(
            strict(Variant::CotZeroshot, "The final answer: No. The answer is Yes."),
            "No. The answer is Yes"
        );
        assert_eq!(strict(Variant::CotZeroshot, "the answer is ."), INVALID);
        assert_eq!(strict(Variant::Zeroshot, " No "), " No ");
    }

    #[test]
    fn only_the_variants_without_examples_forgive_form() {
        assert!(Variant::Zeroshot.is_right("\"yes,\n\"", "Yes"));
        assert!(!Variant::CotFewshot.is_right("yes", "Yes"));
        assert!(Variant::CotZeroshot.is_right("True.", "true"));
    }
}
