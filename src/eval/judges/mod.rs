//! Who decides what an answer is: refused or not, right or not.
//!
//! Answers are stored once and judged many times. A judge sees one item and one completion, keeps nothing and draws
//! nothing at random; its name and rule belong to every rate that it gave.

mod bbh;
mod calls;
mod ifeval;
mod label;
mod number;
mod refusal_phrases;
mod refusal_reader;
mod text;

use super::criterion::Criterion;
use super::error::EvalError;
use super::item::{Completion, Item, Verdict};
use crate::catalog::did_you_mean;

/// Decides one completion.
pub trait Judge: Send + Sync {
    /// The part of the answer that the verdict rests on: the number found, the phrase found.
    fn evidence(&self, completion: &Completion) -> Option<String>;

    /// The answer to what the row of this judge asks.
    fn judge(&self, item: &Item, completion: &Completion) -> Verdict;

    /// Metrics of all answers together that are no mean over them, such as a corpus' precision.
    fn pooled(&self, _answers: &[(&Item, &Completion)]) -> Vec<(&'static str, Option<f64>)> {
        Vec::new()
    }
}

/// A row of the catalog.
#[derive(Debug)]
pub struct JudgeRow {
    /// Short and stable: it stands in recipes and reports.
    pub name: &'static str,
    pub summary: &'static str,
    pub source: &'static str,
    pub asks: Criterion,
    pub build: fn() -> Box<dyn Judge>,
}

/// The metric of the rules that are ours where a harness has another.
const READ: &str = "exact_match_reader";

/// Right or not, where there are an answer and a reference to hold it against.
fn held<A, B>(found: Option<A>, reference: Option<B>, is_right: impl FnOnce(A, B) -> bool) -> Verdict {
    let right = found.zip(reference).map(|(found, reference)| is_right(found, reference));
    right.map_or(Verdict::Unscored, |right| if right { Verdict::Yes } else { Verdict::No })
}

/// Whether the judge of this name reads answers as a person does, where upstream's rule, which leads, is known to miss.
pub fn is_reader(name: &str) -> bool {
    name.ends_with("_reader") || name == super::tasks::FENCED
}

/// All judges, in the order they are listed.
pub const JUDGES: &[JudgeRow] = &[
    number::GSM8K_STRICT,
    number::GSM8K_FLEXIBLE,
    number::GSM8K_COT_STRICT,
    number::GSM8K_COT_LLAMA,
    number::GSM8K_OPENAI,
    number::GSM8K_SELF_CONSISTENCY,
    number::GSM8K_READER,
    bbh::GET_ANSWER,
    bbh::ZEROSHOT_STRICT,
    bbh::ZEROSHOT_FLEXIBLE,
    bbh::COT_ZEROSHOT_STRICT,
    bbh::COT_ZEROSHOT_FLEXIBLE,
    bbh::READER,
    ifeval::STRICT,
    ifeval::LOOSE,
    ifeval::INSTRUCTIONS_STRICT,
    ifeval::INSTRUCTIONS_LOOSE,
    label::LABEL,
    text::EXACT_MATCH,
    text::CONTAINS,
    text::ROUGE_L,
    text::ROUGE1,
    text::ROUGE2,
    text::ROUGE_L_STEM,
    text::ROUGE_LSUM,
    calls::SEAL_TOOLS,
    calls::EXACT_CALL,
    calls::CALL_NAME,
    calls::CALL_ARGUMENTS,
    refusal_phrases::ADVBENCH29,
    refusal_phrases::JBB13,
    refusal_phrases::GCG31,
    refusal_phrases::REFUSAL_DIRECTION12,
    refusal_phrases::SHALLOW38,
    refusal_phrases::ALIGNMENT31,
    refusal_phrases::XSTEST,
    refusal_reader::REFUSAL_READER,
];

/// The row of this name.
///
/// # Errors
/// There is none; the help names the nearest.
pub fn find(name: &str) -> Result<&'static JudgeRow, EvalError> {
    JUDGES.iter().find(|row| row.name == name).ok_or_else(|| EvalError::UnknownJudge {
        name: name.to_owned(),
        help: did_you_mean(name, JUDGES.iter().map(|row| row.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_judge_has_its_own_name_a_summary_and_a_source() {
        let names: BTreeSet<_> = JUDGES.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), JUDGES.len());
        assert!(JUDGES.iter().all(|row| !row.summary.is_empty() && !row.source.is_empty()));
    }

    #[test]
    fn every_judge_survives_every_text() {
        let item =
            Item { id: "a".into(), prompt: "q".into(), reference: Some("#### 1".into()), ..Item::default() };
        for row in JUDGES {
            let judge = (row.build)();
            for text in ["", " ", "\u{0}", "#### ", "The answer is", "I’m sorry", "é".repeat(1000).as_str()]
            {
                let completion =
                    Completion { text: text.into(), n_tokens: 1, finish: crate::eval::item::Finish::Stop };
                judge.evidence(&completion);
                judge.judge(&item, &completion);
            }
        }
    }

    #[test]
    fn a_misspelt_judge_is_told_its_neighbour() {
        let error = find("advbench92").unwrap_err();
        assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("`advbench29`"));
    }
}
