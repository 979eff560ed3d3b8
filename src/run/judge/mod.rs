//! Stored answers judged: by rules, by models, by running them, by comparing them. Verdicts need no model that
//! answered and no training, so answers are judged again at any time.

use std::sync::Arc;

pub mod bert_score;
pub mod judge_model;
mod programs;
mod rubric;
pub mod scores;
pub mod settle;

use super::ask::Gathered;
use super::failure::Failure;
use super::plan::posed::Posed;
use crate::eval::{Completion, Form, Judgement};
use crate::recipe::Gate;
use crate::report::Run;
use bert_score::Comparison;
use programs::{Programs, References};
use rubric::RubricJudge;
pub use rubric::THINKING_TOKENS;
use settle::{Means, settled};

/// What every judge says: by candidate and suite, then the judges, the headline first; none of what was not asked.
pub type Verdicts = Vec<Vec<Vec<Judgement>>>;

/// Everything that judging reads, however it came about.
pub struct Case {
    /// What the report says of the run.
    pub run: Run,
    /// The seed of the run, which stands beside every metric.
    pub seed: u64,
    pub asked: Gathered,
    /// Bounds that the numbers must keep.
    pub gates: Vec<Gate>,
}

impl Case {
    /// Every judge's verdicts on every candidate's answers. Without means nobody is asked: what is not stored
    /// is undecided.
    ///
    /// # Errors
    ///
    /// A judge cannot be loaded or reached, the disk refuses, or the run was asked to stop.
    pub fn verdicts(&self, mut means: Option<Means<'_, '_>>) -> Result<Verdicts, Failure> {
        let none = || vec![vec![Vec::new(); self.asked.suites.len()]; self.asked.answered.len()];
        let (mut models, mut others): (Verdicts, Verdicts) = (none(), none());
        let mut endpoints = Vec::new();
        // One judge after the other, so that one model is in memory.
        for plan in &self.asked.judges.rubrics {
            let mut judge = RubricJudge::new(plan, &mut endpoints);
            let mut means = means.as_mut().filter(|_| plan.by.is_some());
            let of_its_kind =
                |(_, posed): &(usize, &Arc<Posed>)| posed.suite.task.kind.fits(plan.rubric.asks);
            for (candidate, found) in self.asked.answered.iter().zip(&mut models) {
                for (nth, posed) in self.asked.suites.iter().enumerate().filter(of_its_kind) {
                    let Some(said) = candidate.to(nth) else { continue };
                    found[nth].extend(settled(&mut judge, posed, said, means.as_deref_mut())?);
                }
            }
        }
        let mut means = means.as_mut().filter(|_| self.asked.judges.settles);
        let (mut sandbox, mut scorer) = (None, None);
        for (nth, posed) in self.asked.suites.iter().enumerate() {
            let task = posed.suite.task;
            let unprotected = self.asked.judges.unprotected_programs;
            let mut references = References::new();
            for reading in task.programs {
                let means_of = (&mut sandbox, &mut references);
                let mut programs = Programs::new(&posed.suite.name, unprotected, reading, means_of);
                for (candidate, found) in self.asked.answered.iter().zip(&mut others) {
                    let Some(said) = candidate.to(nth) else { continue };
                    found[nth].extend(settled(&mut programs, posed, said, means.as_deref_mut())?);
                }
            }
            let bert_score = self.asked.judges.bert_score.as_ref().filter(|_| task.free_text);
            let mut comparison = bert_score.map(|plan| Comparison::new(plan, &posed.items, &mut scorer));
            for (candidate, found) in self.asked.answered.iter().zip(&mut others) {
                if let (Some(comparison), Some(said)) = (&mut comparison, candidate.to(nth)) {
                    found[nth].extend(settled(comparison, posed, said, means.as_deref_mut())?);
                }
            }
        }
        let all = self.asked.answered.iter().zip(models.into_iter().zip(others));
        let all = all.map(|(candidate, (models, others))| {
            let suites = self.asked.suites.iter().zip(&candidate.suites).zip(models.into_iter().zip(others));
            let suites = suites.map(|((posed, said), (models, others))| {
                let Some(said) = said else { return Vec::new() };
                let mut all = [rules(posed, &said.answers), models, others].concat();
                // The first is the headline: a rule, unless a preset or the user names another.
                let named = |judged: &Judgement| Some(judged.name.as_str()) == self.asked.judges.headline();
                if let Some(at) = all.iter().position(named) {
                    all[..=at].rotate_right(1);
                }
                all
            });
            suites.collect()
        });
        Ok(all.collect())
    }
}

/// The verdicts of a suite's rules.
fn rules(posed: &Posed, answers: &[Vec<Completion>]) -> Vec<Judgement> {
    let rules = posed.suite.judges.iter().filter(|_| posed.suite.task.form == Form::Answer);
    rules.map(|row| Judgement::by_rule(row, (row.build)().as_ref(), &posed.items, answers)).collect()
}
