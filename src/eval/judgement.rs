//! What judges said of the answers to a suite.

use super::criterion::Criterion;
use super::item::{Completion, Item, Verdict};
use super::judges::{Judge, JudgeRow};

/// One judge's verdicts: by item, then by sample.
#[derive(Debug, Clone)]
pub struct Judgement {
    pub name: String,
    pub asks: Criterion,
    pub fault: Fault,
    pub verdicts: Vec<Vec<Verdict>>,
    /// Numbers beside the verdicts, and the name of their mean.
    pub scores: Option<(String, Vec<Vec<Option<f64>>>)>,
    /// Whether a verdict was read though the judge's reply strays from its protocol's form, where a model writes it.
    pub off_form: Option<Vec<Vec<Option<bool>>>>,
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
            fault: Fault::Answer,
            verdicts: verdicts.collect(),
            scores: None,
            off_form: None,
            evidence: evidence.collect(),
            pooled: judge.pooled(&pairs),
            trials: None,
        }
    }
}

/// Whose fault it is that an answer has no verdict, which decides what a comparison makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer's: a rule found nothing to read in it, so it counts as any other that is not right.
    Answer,
    /// The judge's: a model that judges gave no verdict, or nobody was asked. It tells nothing of the candidate.
    Judge,
}

/// Answers by item, then by sample.
pub type Answers = [Vec<Completion>];
