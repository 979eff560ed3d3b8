//! Answers to BIG-Bench Hard, found and compared as lm-eval 0.4.13 does (tasks/bbh), quirks included.
//!
//! An answer that is not found is unscored; it stays in the denominator, as upstream's "[invalid]" does.

use super::{Criterion, Judge, JudgeRow, READ, held};
use crate::eval::item::{Completion, Item, Verdict};
use crate::eval::measures::bbh::{self, Filter, INVALID, Variant};
use crate::eval::measures::bbh_flexible::{Family, family};

const STRICT: Criterion = Criterion::Correct { metric: "exact_match_strict" };
const FLEXIBLE: Criterion = Criterion::Correct { metric: "exact_match_flexible" };

pub(super) const GET_ANSWER: JudgeRow = JudgeRow {
    name: "bbh_get_answer",
    summary: "the line after `the answer is`, less its last character",
    source: "lm-eval bbh_cot_fewshot, get-answer",
    asks: Criterion::Correct { metric: "exact_match" },
    build: || build(Variant::CotFewshot, Filter::Strict),
};

pub(super) const ZEROSHOT_STRICT: JudgeRow = JudgeRow {
    name: "bbh_zeroshot_strict",
    summary: "the whole answer",
    source: "lm-eval bbh_zeroshot, strict-match",
    asks: STRICT,
    build: || build(Variant::Zeroshot, Filter::Strict),
};

pub(super) const ZEROSHOT_FLEXIBLE: JudgeRow = JudgeRow {
    name: "bbh_zeroshot_flexible",
    summary: "the first that looks like an answer to the task",
    source: "lm-eval bbh_zeroshot, flexible-extract",
    asks: FLEXIBLE,
    build: || build(Variant::Zeroshot, Filter::Flexible),
};

pub(super) const COT_ZEROSHOT_STRICT: JudgeRow = JudgeRow {
    name: "bbh_cot_zeroshot_strict",
    summary: "the line after `the answer is` and its like, less its last character",
    source: "lm-eval bbh_cot_zeroshot, strict-match",
    asks: STRICT,
    build: || build(Variant::CotZeroshot, Filter::Strict),
};

pub(super) const COT_ZEROSHOT_FLEXIBLE: JudgeRow = JudgeRow {
    name: "bbh_cot_zeroshot_flexible",
    summary: "the last that looks like an answer to the task",
    source: "lm-eval bbh_cot_zeroshot, flexible-extract",
    asks: FLEXIBLE,
    build: || build(Variant::CotZeroshot, Filter::Flexible),
};

pub(super) const READER: JudgeRow = JudgeRow {
    name: "bbh_reader",
    summary: "the answer behind the last `the answer is`, whatever marks, blanks or full stop stand around it",
    source: "here",
    asks: Criterion::Correct { metric: READ },
    build: || Box::new(Reader),
};

/// As a person reads it.
struct Reader;

impl Judge for Reader {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        bbh::read(&completion.text)
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        let target = item.reference.as_deref();
        held(bbh::read(&completion.text), target, |found, target| bbh::is_read_right(&found, target))
    }
}

struct Bbh {
    variant: Variant,
    filter: Filter,
}

fn build(variant: Variant, filter: Filter) -> Box<dyn Judge> {
    Box::new(Bbh { variant, filter })
}

impl Bbh {
    fn extract(&self, family: Family, input: &str, text: &str) -> Option<String> {
        Some(self.variant.extract(self.filter, family, input, text)).filter(|found| found != INVALID)
    }
}

impl Judge for Bbh {
    /// None by the flexible rules, which need the question.
    fn evidence(&self, completion: &Completion) -> Option<String> {
        // The strict rules look at neither the family nor the question.
        (self.filter == Filter::Strict).then(|| self.extract(Family::Options, "", &completion.text)).flatten()
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        let (task, input) = (item.details["task"].as_str(), item.details["input"].as_str());
        let (Some(family), Some(input), Some(target)) = (task.and_then(family), input, &item.reference)
        else {
            return Verdict::Unscored;
        };
        match self.extract(family, input, &completion.text) {
            None => Verdict::Unscored,
            Some(found) if self.variant.is_right(&found, target) => Verdict::Yes,
            Some(_) => Verdict::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::eval::item::Finish;

    fn verdict(row: &JudgeRow, task: &str, text: &str, target: &str) -> Verdict {
        let details = json!({ "task": task, "input": "Which?\nOptions:\n(A) one\n(B) two" });
        let item = Item { reference: Some(target.to_owned()), details, ..Item::default() };
        let completion = Completion { text: text.to_owned(), n_tokens: 1, finish: Finish::Stop };
        (row.build)().judge(&item, &completion)
    }

    #[test]
    fn the_few_shot_rule_drops_a_character_that_is_no_full_stop() {
        assert_eq!(verdict(&GET_ANSWER, "snarks", "So the answer is (B).", "(B)"), Verdict::Yes);
        assert_eq!(verdict(&GET_ANSWER, "snarks", "So the answer is (B)", "(B)"), Verdict::No);
        assert_eq!(verdict(&GET_ANSWER, "snarks", "(B)", "(B)"), Verdict::Unscored);
    }

    #[test]
    fn the_reader_takes_what_the_few_shot_rule_spoils() {
        assert_eq!(verdict(&GET_ANSWER, "snarks", "So the answer is (B). ", "(B)"), Verdict::No);
        assert_eq!(verdict(&READER, "snarks", "So the answer is (B). ", "(B)"), Verdict::Yes);
        assert_eq!(verdict(&READER, "snarks", "So the answer is (A). ", "(B)"), Verdict::No);
        assert_eq!(verdict(&READER, "snarks", "(B)", "(B)"), Verdict::Unscored);
    }

    #[test]
    fn the_first_option_counts_without_a_thought_and_the_last_with_one() {
        let text = "(A)? No, (B).";
        assert_eq!(verdict(&ZEROSHOT_FLEXIBLE, "snarks", text, "(A)"), Verdict::Yes);
        assert_eq!(verdict(&COT_ZEROSHOT_FLEXIBLE, "snarks", text, "(B)"), Verdict::Yes);
        assert_eq!(verdict(&ZEROSHOT_STRICT, "snarks", text, "(A)"), Verdict::No);
        assert_eq!(verdict(&ZEROSHOT_FLEXIBLE, "no_task", text, "(A)"), Verdict::Unscored);
    }
}
