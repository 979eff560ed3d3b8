//! The final number of a worked answer, found and compared as the published scorers of GSM8K do.
//!
//! Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021, arXiv 2110.14168. The patterns and the
//! comparison are those of EleutherAI/lm-evaluation-harness 0.4.13, tasks/gsm8k, quirks included: the strict pattern of
//! the chain-of-thought tasks wants one more character behind the number, so "The answer is 18" yields 1.
//! Where no number is found the item is unscored; it stays in the denominator, as upstream's "[invalid]" does.

use regex::Regex;

use super::{Criterion, Judge, JudgeRow, READ, held};
use crate::eval::item::{Completion, Item, Verdict};
use crate::eval::measures::{majority, numbers};

const STRICT: Criterion = Criterion::Correct { metric: "exact_match_strict" };
const FLEXIBLE: Criterion = Criterion::Correct { metric: "exact_match_flexible" };

pub(super) const GSM8K_STRICT: JudgeRow = JudgeRow {
    name: "gsm8k_strict",
    summary: "the first number after `#### `",
    source: "lm-eval gsm8k, strict-match",
    asks: STRICT,
    build: || Box::new(Number::new(r"#### (-?[0-9.,]+)", Take::First, Rule::LmEval)),
};

pub(super) const GSM8K_FLEXIBLE: JudgeRow = JudgeRow {
    name: "gsm8k_flexible",
    summary: "the last number anywhere",
    source: "lm-eval gsm8k, flexible-extract",
    asks: FLEXIBLE,
    build: || Box::new(Number::new(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", Take::Last, Rule::LmEval)),
};

pub(super) const GSM8K_COT_STRICT: JudgeRow = JudgeRow {
    name: "gsm8k_cot_strict",
    summary: "the first number in `The answer is N.`",
    source: "lm-eval gsm8k_cot and gsm8k_cot_zeroshot, strict-match",
    asks: STRICT,
    build: || Box::new(Number::new(r"The answer is (-?[0-9.,]+).", Take::First, Rule::LmEval)),
};

pub(super) const GSM8K_COT_LLAMA: JudgeRow = JudgeRow {
    name: "gsm8k_cot_llama",
    summary: "the last number after `The final answer is`",
    source: "lm-eval gsm8k_cot_llama, strict-match",
    asks: STRICT,
    build: || {
        Box::new(Number::new(r"The final answer is ((-?[$0-9.,]{2,})|(-?[0-9]+))", Take::Last, Rule::LmEval))
    },
};

pub(super) const GSM8K_OPENAI: JudgeRow = JudgeRow {
    name: "gsm8k_openai",
    summary: "the first number after `#### `, commas removed, on both sides",
    source: "openai/grade-school-math, dataset.py",
    asks: STRICT,
    build: || Box::new(Number::new(r"#### (-?[0-9.,]+)", Take::First, Rule::OpenAi)),
};

pub(super) const GSM8K_SELF_CONSISTENCY: JudgeRow = JudgeRow {
    name: "gsm8k_self_consistency",
    summary: "the first number in `The answer is N`; of several answers the number most of them give, none too",
    source: "lm-eval gsm8k_cot_self_consistency, score-first and maj@k; Wang et al. 2022",
    asks: Criterion::Correct { metric: "exact_match_self_consistency" },
    build: || Box::new(Vote),
};

pub(super) const GSM8K_READER: JudgeRow = JudgeRow {
    name: "gsm8k_reader",
    summary: "the number that the answer ends in before any example of its own: behind `####`, in a box, behind `answer is`, \
              else the last; `$29.00` is 29",
    source: "here",
    asks: Criterion::Correct { metric: READ },
    build: || Box::new(Reader),
};

/// As a person reads it.
struct Reader;

impl Judge for Reader {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        numbers::number(&completion.text)
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        let reference = item.reference.as_deref().and_then(numbers::number);
        held(self.evidence(completion), reference, |found, reference| found == reference)
    }
}

/// An answer's vote among others; one without a number votes for none.
struct Vote;

impl Judge for Vote {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        Some(majority::extract(&completion.text).to_owned())
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        match (majority::extract(&completion.text), &item.reference) {
            (majority::INVALID, _) | (_, None) => Verdict::Unscored,
            (number, Some(reference)) if majority::is_right(number, reference) => Verdict::Yes,
            _ => Verdict::No,
        }
    }
}

/// Which of several matches counts.
#[derive(Clone, Copy)]
enum Take {
    First,
    Last,
}

/// How the number is compared with the reference.
#[derive(Clone, Copy)]
enum Rule {
    /// Equal once both are cleaned, whatever the case.
    LmEval,
    /// The reference is extracted as the answer is, and commas go; one without a number equals nothing.
    OpenAi,
}

struct Number {
    pattern: Regex,
    take: Take,
    rule: Rule,
}

impl Number {
    fn new(pattern: &str, take: Take, rule: Rule) -> Self {
        Self { pattern: Regex::new(pattern).expect("the patterns of this file are valid"), take, rule }
    }

    fn extract(&self, text: &str) -> Option<String> {
        let mut found = self.pattern.captures_iter(text);
        let captures = match self.take {
            Take::First => found.next(),
            Take::Last => found.last(),
        }?;
        // Of several groups the first that took part counts; none of the patterns can match an empty one.
        let number = captures.iter().skip(1).flatten().next()?.as_str();
        Some(match self.rule {
            Rule::LmEval => number.to_owned(),
            Rule::OpenAi => number.replace(',', ""),
        })
    }
}

impl Judge for Number {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        self.extract(&completion.text)
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        let (Some(found), Some(reference)) = (self.evidence(completion), &item.reference) else {
            return Verdict::Unscored;
        };
        let equal = match self.rule {
            Rule::LmEval => cleaned(&found) == cleaned(reference),
            Rule::OpenAi => self.extract(reference).is_some_and(|number| number == found),
        };
        if equal { Verdict::Yes } else { Verdict::No }
    }
}

/// What the harness's `regexes_to_ignore` leave, in their order: commas, dollar signs, all up to the last `#### `, a
/// final full stop.
fn cleaned(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let text = text.rsplit_once("#### ").map_or(text.as_str(), |(_, number)| number);
    text.strip_suffix('.').unwrap_or(text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::item::Finish;

    fn verdict(row: &JudgeRow, text: &str, reference: &str) -> Verdict {
        let item = Item { id: "a".to_owned(), reference: Some(reference.to_owned()), ..Item::default() };
        let completion = Completion { text: text.to_owned(), n_tokens: 1, finish: Finish::Stop };
        (row.build)().judge(&item, &completion)
    }

    #[test]
    fn strict_takes_the_first_and_flexible_the_last_number() {
        let text = "#### 2\nActually:\n#### 13";
        assert_eq!(verdict(&GSM8K_STRICT, text, "#### 13"), Verdict::No);
        assert_eq!(verdict(&GSM8K_FLEXIBLE, text, "#### 13"), Verdict::Yes);
    }

    #[test]
    fn an_answer_without_a_number_is_unscored() {
        for row in [&GSM8K_STRICT, &GSM8K_FLEXIBLE, &GSM8K_OPENAI] {
            assert_eq!(verdict(row, "No number at all here", "#### 13"), Verdict::Unscored);
        }
    }

    #[test]
    fn an_answer_without_a_number_votes_and_is_never_right() {
        assert_eq!(verdict(&GSM8K_SELF_CONSISTENCY, "The answer is 1,200", "so\n#### 1200"), Verdict::Yes);
        assert_eq!(
            verdict(&GSM8K_SELF_CONSISTENCY, "The answer is 7. The answer is 8.", "#### 8"),
            Verdict::No
        );
        assert_eq!(verdict(&GSM8K_SELF_CONSISTENCY, "#### 8", "#### 8"), Verdict::Unscored);
        let silent = Completion { text: "#### 8".to_owned(), n_tokens: 1, finish: Finish::Stop };
        let evidence = (GSM8K_SELF_CONSISTENCY.build)().evidence(&silent);
        assert_eq!(evidence.as_deref(), Some(majority::INVALID));
    }

    #[test]
    fn commas_dollars_and_a_full_stop_do_not_count() {
        assert_eq!(verdict(&GSM8K_FLEXIBLE, "It is $57,500.", "so 57,500\n#### 57500"), Verdict::Yes);
        assert_eq!(verdict(&GSM8K_FLEXIBLE, "It is 57500.00", "#### 57500"), Verdict::No);
    }

    #[test]
    fn the_reader_takes_what_both_upstream_rules_miss() {
        for (text, reference) in [("It is $29.00.", "#### 29"), ("#### −5", "so\n#### -5"), ("4.0", "#### 4")]
        {
            assert_eq!(verdict(&GSM8K_READER, text, reference), Verdict::Yes, "{text}");
            assert_ne!(verdict(&GSM8K_FLEXIBLE, text, reference), Verdict::Yes, "{text}");
        }
        assert_eq!(verdict(&GSM8K_READER, "It is 57500.00", "so 57,500\n#### 57,500"), Verdict::Yes);
        assert_eq!(verdict(&GSM8K_READER, "#### 8", "#### 9"), Verdict::No);
        assert_eq!(verdict(&GSM8K_READER, "I do not know", "#### 9"), Verdict::Unscored);
    }

    #[test]
    fn the_strict_pattern_of_the_cot_tasks_eats_a_digit_at_the_end_of_the_text() {
        assert_eq!(verdict(&GSM8K_COT_STRICT, "The answer is 18.", "#### 18"), Verdict::Yes);
        assert_eq!(verdict(&GSM8K_COT_STRICT, "The answer is 18", "#### 18"), Verdict::No);
    }
}
