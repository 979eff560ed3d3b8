//! What judges said of the answers to a suite.

use super::criterion::Criterion;
use super::item::{Completion, Item, Verdict};
use super::judges::{Judge, JudgeRow};

/// One judge's verdicts: by item, then by sample.
#[derive(Debug, Clone)]
pub struct Judgement {
    pub name: String,
    pub asks: Criterion,
    pub verdicts: Vec<Vec<Verdict>>,
    /// Numbers beside the verdicts, and the name of their mean.
    pub scores: Option<(String, Vec<Vec<Option<f64>>>)>,
    /// The parts of the answers that the verdicts rest on, where the judge tells them.
    pub evidence: Vec<Vec<Option<String>>>,
    /// Metrics of all answers together.
    pub pooled: Vec<(&'static str, Option<f64>)>,
    /// Of answers that are programs: how far their tests can be trusted.
    pub trials: Option<Trials>,
}

/// The solutions that a file of programs brings, run as answers are, and what that decides about the answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trials {
    /// Items whose own solution passes.
    pub passes: usize,
    /// Items whose own solution fails.
    pub fails: Vec<String>,
    /// Items without a solution.
    pub without: Vec<String>,
    /// Items whose own solution passes only in one process with its tests; answers to them run so too.
    pub same_process: Vec<String>,
    /// Answers that passed so, and could have forged it.
    pub same_process_passed: usize,
}

impl Judgement {
    /// The verdicts of a judge that goes by a rule.
    pub fn by_rule(row: &'static JudgeRow, judge: &dyn Judge, items: &[Item], answers: &Answers) -> Self {
        let by = items.iter().zip(answers);
        let verdicts = by
            .clone()
            .map(|(item, samples)| samples.iter().map(|answer| judge.judge(item, answer)).collect());
        let evidence =
            answers.iter().map(|samples| samples.iter().map(|answer| judge.evidence(answer)).collect());
        let pairs: Vec<(&Item, &Completion)> =
            by.clone().flat_map(|(item, samples)| samples.iter().map(move |answer| (item, answer))).collect();
        Self {
            name: row.name.to_owned(),
            asks: row.asks,
            verdicts: verdicts.collect(),
            scores: None,
            evidence: evidence.collect(),
            pooled: judge.pooled(&pairs),
            trials: None,
        }
    }
}

/// Answers by item, then by sample.
pub type Answers = [Vec<Completion>];
