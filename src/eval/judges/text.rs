//! Answers in free text against a reference text.
//!
//! ROUGE is that of the package rouge-score 0.1.2, its F measure, without stemming where the name does not say so. It
//! moves little between models and says nothing of truth: it is for tasks where no answer is the only right one.

use super::{Criterion, Judge, JudgeRow};
use crate::eval::item::{Completion, Item, Verdict};
use crate::eval::measures::python_text::strip;
use crate::eval::measures::rouge::{Rouge, rouge};

const SOURCE: &str = "rouge-score 0.1.2 without stemming; Lin 2004";

pub(super) const ROUGE1: JudgeRow = JudgeRow {
    name: "rouge1",
    summary: "words shared with the reference (F)",
    source: SOURCE,
    asks: Criterion::Good { metric: "rouge1" },
    build: || Box::new(Overlap { stem: false, of: |rouge| rouge.rouge1.fmeasure }),
};

pub(super) const ROUGE2: JudgeRow = JudgeRow {
    name: "rouge2",
    summary: "pairs of words shared with the reference (F)",
    source: SOURCE,
    asks: Criterion::Good { metric: "rouge2" },
    build: || Box::new(Overlap { stem: false, of: |rouge| rouge.rouge2.fmeasure }),
};

pub(super) const ROUGE_L: JudgeRow = JudgeRow {
    name: "rougeL",
    summary: "the longest sequence of words shared with the reference (F)",
    source: SOURCE,
    asks: Criterion::Good { metric: "rougeL" },
    build: || Box::new(Overlap { stem: false, of: |rouge| rouge.rouge_l.fmeasure }),
};

pub(super) const ROUGE_L_STEM: JudgeRow = JudgeRow {
    name: "rougeL_stem",
    summary: "as rougeL, of the stems of words",
    source: "rouge-score 0.1.2 with use_stemmer; Lin 2004; Porter 1980",
    asks: Criterion::Good { metric: "rougeL_stem" },
    build: || Box::new(Overlap { stem: true, of: |rouge| rouge.rouge_l.fmeasure }),
};

pub(super) const ROUGE_LSUM: JudgeRow = JudgeRow {
    name: "rougeLsum",
    summary: "as rougeL, line by line: for summaries whose sentences stand on lines of their own (F)",
    source: SOURCE,
    asks: Criterion::Good { metric: "rougeLsum" },
    build: || Box::new(Overlap { stem: false, of: |rouge| rouge.rouge_lsum.fmeasure }),
};

pub(super) const EXACT_MATCH: JudgeRow = JudgeRow {
    name: "exact_match",
    summary: "the whole answer is the reference, blanks around it apart",
    source: "here",
    asks: Criterion::Correct { metric: "exact_match" },
    build: || Box::new(Compare(|answer, reference| answer == reference)),
};

pub(super) const CONTAINS: JudgeRow = JudgeRow {
    name: "contains",
    summary: "the reference stands somewhere in the answer, in any case",
    source: "here",
    asks: Criterion::Correct { metric: "contains" },
    build: || {
        Box::new(Compare(|answer, reference| answer.to_lowercase().contains(&reference.to_lowercase())))
    },
};

/// One of the types of ROUGE.
struct Overlap {
    stem: bool,
    of: fn(&Rouge) -> f64,
}

impl Judge for Overlap {
    fn evidence(&self, _: &Completion) -> Option<String> {
        None
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        // Of several references the best counts, as the package's `score_multi` has it.
        let score = |reference| (self.of)(&rouge(reference, &completion.text, self.stem));
        item.references().map(score).max_by(f64::total_cmp).map_or(Verdict::Unscored, Verdict::Score)
    }
}

/// Answer and reference, both without the blanks around them.
struct Compare(fn(&str, &str) -> bool);

impl Judge for Compare {
    fn evidence(&self, completion: &Completion) -> Option<String> {
        Some(strip(&completion.text).to_owned()).filter(|text| !text.is_empty())
    }

    fn judge(&self, item: &Item, completion: &Completion) -> Verdict {
        let mut references = item.references().map(strip).filter(|text| !text.is_empty()).peekable();
        if references.peek().is_none() {
            return Verdict::Unscored;
        }
        let fits = references.any(|reference| (self.0)(strip(&completion.text), reference));
        if fits { Verdict::Yes } else { Verdict::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::item::Finish;

    fn verdict(row: &JudgeRow, text: &str, reference: Option<&str>) -> Verdict {
        let item = Item { reference: reference.map(str::to_owned), ..Item::default() };
        let completion = Completion { text: text.to_owned(), n_tokens: 1, finish: Finish::Stop };
        (row.build)().judge(&item, &completion)
    }

    #[test]
    fn stems_and_lines_are_told_apart() {
        let is = |row: &JudgeRow, score: f64| {
            let found = verdict(row, "barking dogs\nran home", Some("ran home\nbarked dog"));
            let Verdict::Score(found) = found else { panic!("{found:?}") };
            assert!((found - score).abs() < 1e-12, "{}: {found}", row.name);
        };
        is(&ROUGE_L, 0.5);
        is(&ROUGE_LSUM, 0.5);
        is(&ROUGE_L_STEM, 0.5);
        assert_eq!(verdict(&ROUGE_L_STEM, "barking dogs", Some("barked dog")), Verdict::Score(1.0));
        assert_eq!(verdict(&ROUGE_L, "barking dogs", Some("barked dog")), Verdict::Score(0.0));
        assert_eq!(verdict(&ROUGE_LSUM, "b c\na", Some("a\nb c")), Verdict::Score(1.0));
    }

    #[test]
    fn overlap_is_a_number_from_none_to_all() {
        for row in [&ROUGE1, &ROUGE2, &ROUGE_L, &ROUGE_L_STEM, &ROUGE_LSUM] {
            assert_eq!(verdict(row, "See a doctor.", Some("see a doctor")), Verdict::Score(1.0));
            assert_eq!(verdict(row, "", Some("see a doctor")), Verdict::Score(0.0));
            assert_eq!(verdict(row, "x", None), Verdict::Unscored);
        }
    }

    #[test]
    fn of_several_references_the_best_counts() {
        let item = Item {
            reference: Some("a red fox".to_owned()),
            details: serde_json::json!({ "references": ["a red fox", "the dog"] }),
            ..Item::default()
        };
        let completion = Completion { text: "the dog".to_owned(), n_tokens: 1, finish: Finish::Stop };
        let judge = |row: &JudgeRow| (row.build)().judge(&item, &completion);
        assert_eq!(judge(&ROUGE_L), Verdict::Score(1.0));
        assert_eq!(judge(&EXACT_MATCH), Verdict::Yes);
        assert_eq!(judge(&CONTAINS), Verdict::Yes);
    }

    #[test]
    fn an_exact_match_is_the_whole_answer() {
        assert_eq!(verdict(&EXACT_MATCH, " World\n", Some("World")), Verdict::Yes);
        assert_eq!(verdict(&EXACT_MATCH, "World.", Some("World")), Verdict::No);
        assert_eq!(verdict(&CONTAINS, "the world.", Some("World")), Verdict::Yes);
        assert_eq!(verdict(&CONTAINS, "x", Some(" ")), Verdict::Unscored);
    }
}
