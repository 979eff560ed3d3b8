//! Base, tuned and every merge asked the same things and compared.

use std::sync::atomic::AtomicBool;

use super::asking::Asking;
use super::folder::Folder;
use super::judging::Verdicts;
use super::plan::Plan;
use super::sides::Sides;
use super::{Failure, Sink};
use crate::eval::measures::agreement::Agreement;
use crate::eval::{self, Form, Judged, Scores, Verdict};
use crate::event::Event;
use crate::merge::MergeReport;
use crate::recipe::Spec;
use crate::report::{self, Agreed};
use crate::snapshot::adapter::Adapter;
use crate::train::{Task, trained_adapter};

/// A model under evaluation.
#[derive(Debug, Clone, PartialEq)]
pub enum Candidate {
    Base,
    Tuned,
    Merge(Spec),
}

impl Candidate {
    /// Base, tuned and every merge of the plan.
    pub fn all(plan: &Plan) -> Vec<Self> {
        let merges = plan.merges.iter().cloned().map(Self::Merge);
        [Self::Base, Self::Tuned].into_iter().chain(merges).collect()
    }

    /// Its name in reports: `base`, `tuned`, `slerp:0.5`.
    pub fn name(&self) -> String {
        match self {
            Self::Base => "base".to_owned(),
            Self::Tuned => "tuned".to_owned(),
            Self::Merge(spec) => spec.to_string(),
        }
    }
}

/// The trained adapter.
pub fn adapter(plan: &Plan, folder: &Folder) -> Result<Adapter, Failure> {
    Ok(trained_adapter(&task(plan), &folder.train(), plan.last_step)?)
}

/// What the plan trains.
pub fn task(plan: &Plan) -> Task<'_> {
    Task {
        shape: &plan.shape,
        weights: plan.base.as_ref(),
        method: &plan.recipe.method,
        train: &plan.recipe.train,
        samples: &plan.train,
        validation: &plan.validation,
        key: &plan.key,
    }
}

/// What evaluating found, for the report.
#[derive(Debug, Default)]
pub struct Evaluated {
    pub candidates: Vec<report::Candidate>,
    pub paired: Vec<eval::Paired>,
    pub merge: Vec<MergeReport>,
    pub agreement: Vec<Agreed>,
}

/// Evaluates every candidate: generates what is missing, judges everything.
///
/// Without `sides` nothing is generated, and a missing answer is an error.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or the run was asked to stop.
pub fn evaluate(
    plan: &Plan,
    folder: &Folder,
    sides: Option<&Sides<'_>>,
    stop: &AtomicBool,
    sink: &mut Sink<'_>,
) -> Result<Evaluated, Failure> {
    let candidates = Candidate::all(plan);
    let asked = ask(plan, folder, &candidates, sides, stop, sink)?;
    // The models that answered are gone from memory before any judge is loaded.
    let verdicts = Verdicts::find(plan, &asked, stop, sink)?;
    let mut evaluated = Evaluated::default();
    let mut all_scores: Vec<(String, Vec<Scores>)> = Vec::new();
    for asking in &asked {
        let candidate = asking.candidate();
        evaluated.merge.extend(asking.figures()?);
        let scores = scores(plan, asking, &verdicts, &mut evaluated.agreement)?;
        let spec = if let Candidate::Merge(spec) = candidate { Some(spec) } else { None };
        evaluated.candidates.push(report::Candidate {
            name: candidate.name(),
            method: spec.map(|spec| spec.method.clone()),
            lambda: spec.and_then(Spec::single_lambda),
            metrics: scores.iter().flat_map(|scores| scores.metrics.clone()).collect(),
        });
        all_scores.push((candidate.name(), scores));
    }
    evaluated.paired = pairs(&all_scores)?;
    Ok(evaluated)
}

/// Every candidate with all its answers.
fn ask<'a>(
    plan: &'a Plan,
    folder: &Folder,
    candidates: &'a [Candidate],
    sides: Option<&Sides<'_>>,
    stop: &AtomicBool,
    sink: &mut Sink<'_>,
) -> Result<Vec<Asking<'a>>, Failure> {
    let mut decoder = None;
    let mut asked: Vec<Asking<'_>> = Vec::new();
    for candidate in candidates {
        let mut asking = Asking::open(plan, folder, candidate)?;
        let missing = asking.n_missing() > 0 || asking.needs_figures();
        match sides {
            Some(sides) if missing => {
                decoder = Some(asking.answer(sides, decoder.take(), &asked, stop, sink)?);
            }
            None if missing => return Err(asking.incomplete().into()),
            _ => sink.event(Event::Reused { name: format!("evaluate {}", candidate.name()) })?,
        }
        asked.push(asking);
    }
    Ok(asked)
}

/// Judges one candidate's answers.
fn scores(
    plan: &Plan,
    asking: &Asking<'_>,
    verdicts: &Verdicts,
    agreement: &mut Vec<Agreed>,
) -> Result<Vec<Scores>, Failure> {
    let seed = plan.recipe.train.seed;
    let mut scores = Vec::new();
    for (i, planned) in plan.suites.iter().enumerate() {
        let (name, items) = (planned.suite.name.as_str(), planned.items.as_slice());
        let texts = asking.texts(i);
        match planned.suite.task.form {
            Form::Answer => {
                let answers = asking.answers(i);
                let judged = verdicts.of(plan, &planned.suite, items, &answers, (asking, i));
                agreement.extend(agreed(&asking.candidate().name(), name, &judged));
                scores.push(eval::score(&planned.suite, items, &answers, &judged, seed)?);
                if !texts.is_empty() {
                    let per_token = texts.iter().map(|(sum, n)| sum / *n as f64).collect();
                    scores.push(eval::likelihood(name, items, per_token, seed)?);
                }
            }
            Form::Choose => scores.push(eval::chosen(name, items, &asking.choices(i), seed)?),
            Form::Read => {
                let sums: Vec<f64> = texts.iter().map(|(sum, _)| *sum).collect();
                scores.push(eval::read(name, items, &sums, seed)?);
            }
        }
    }
    Ok(scores)
}

/// Every two judges that answer the same question.
fn agreed(candidate: &str, suite: &str, judged: &[Judged]) -> Vec<Agreed> {
    let mut found = Vec::new();
    for (i, a) in judged.iter().enumerate() {
        for b in judged[i + 1..].iter().filter(|b| b.asks == a.asks) {
            let decided = |verdict: &Verdict| matches!(verdict, Verdict::Yes | Verdict::No);
            let pairs = a.verdicts.iter().flatten().zip(b.verdicts.iter().flatten());
            let pairs = pairs.filter(|(a, b)| decided(a) && decided(b)).map(|(a, b)| (*a, *b));
            let Agreement { n, rate, kappa } = Agreement::of(&pairs.collect::<Vec<_>>());
            let judges = [a.name.clone(), b.name.clone()];
            found.push(Agreed {
                candidate: candidate.to_owned(),
                suite: suite.to_owned(),
                judges,
                n,
                rate,
                kappa,
            });
        }
    }
    found
}

/// Everyone against the base, then every merge against the tuned model.
fn pairs(all: &[(String, Vec<Scores>)]) -> Result<Vec<eval::Paired>, Failure> {
    let mut paired = Vec::new();
    for (against, from) in [(0, 1), (1, 2)] {
        let Some((b, scores_b)) = all.get(against) else { break };
        for (a, scores_a) in all.iter().skip(from) {
            for (scores_a, scores_b) in scores_a.iter().zip(scores_b) {
                paired.extend(eval::pair((a, scores_a), (b, scores_b))?);
            }
        }
    }
    Ok(paired)
}
