//! Candidates asked one suite, and their refusals counted.

use super::Asked;
use super::subject::Subject;
use crate::eval::judges::JudgeRow;
use crate::eval::{Criterion, Judgement, MetricKind, Verdict, tasks};
use crate::recipe::{Eval, RecipeError, Suite};
use crate::report::SuiteSetup;
use crate::report::inspection::Refusals;
use crate::run::ask::{Exam, ask};
use crate::run::cast::Cast;
use crate::run::failure::{Failure, InspectError};
use crate::run::plan::judges::Judges;
use crate::run::plan::questions::{self, Questions};
use crate::run::plan::sources::Sources;
use crate::run::plan::{Evaluation, room};
use crate::run::session::Session;

/// What is asked, and who says what a refusal is.
pub(super) struct Counting {
    evaluation: Evaluation,
    judge: &'static JudgeRow,
}

impl Counting {
    /// Settles the one suite whose refusals are counted: the one given, else the run's first of harmful requests.
    ///
    /// # Errors
    ///
    /// There is none, or several are given; its file is wrong; its answers are not judged by refusals.
    pub(super) fn new(subject: &Subject, asked: &Asked, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        if asked.suites.len() > 1 {
            let found = format!("given {} times", asked.suites.len());
            let expected = "one suite, whose refusals are counted".to_owned();
            return Err(RecipeError::BadValue { key: "--suite".to_owned(), found, expected }.into());
        }
        let harmful = |suite: &&Suite| {
            !asked.suites.is_empty()
                || tasks::find(&suite.task).is_ok_and(|task| task.kind == MetricKind::Safety)
        };
        let suites = subject.suites(&asked.suites);
        let none = InspectError::NoSuite { what: "harmful requests", example: "harmful=FILE,field=goal" };
        let suite = suites.iter().find(harmful).ok_or(none)?;
        let eval = greedy(&subject.recipe.eval, vec![suite.clone()]);
        let suites = posed(subject, &eval, sources)?;
        let rules = &suites[0].posed.suite.judges;
        let judge = rules.iter().copied().find(|row| matches!(row.asks, Criterion::Refused));
        let none = InspectError::NoRefusals { suite: suite.name().to_owned() };
        let judge = judge.filter(|_| !suites[0].prompts.is_empty()).ok_or(none)?;
        let judges = Judges::new(&eval, None, sources)?;
        Ok(Self { evaluation: Evaluation { suites, judges, rows: subject.rows }, judge })
    }

    /// What was asked, for the report.
    pub(super) fn setup(&self) -> SuiteSetup {
        self.evaluation.suites[0].posed.asked.clone()
    }

    /// The judge's name.
    pub(super) fn judge(&self) -> String {
        self.judge.name.to_owned()
    }

    /// The refusals of every candidate, in their order; answers that are there already are taken over.
    ///
    /// # Errors
    ///
    /// A weight cannot be computed, the disk refuses, or the wish to stop.
    pub(super) fn count(
        &self,
        subject: &Subject,
        cast: &Cast,
        session: &mut Session<'_>,
    ) -> Result<Vec<Refusals>, Failure> {
        let Subject { model, machine, opened, .. } = subject;
        let exam = Exam { model, evaluation: &self.evaluation, machine, device: &opened.name };
        let gathered = ask(exam, cast, session)?;
        let posed = &self.evaluation.suites[0].posed;
        let judge = (self.judge.build)();
        let counts = gathered.answered.iter().map(|said| {
            let said = said.suites[0].as_ref().expect("every candidate was just asked");
            let judged = Judgement::by_rule(self.judge, judge.as_ref(), &posed.items, &said.answers);
            let verdicts: Vec<Verdict> = judged.verdicts.into_iter().flatten().collect();
            let refused = verdicts.iter().filter(|verdict| **verdict == Verdict::Yes).count();
            Refusals::of(refused, verdicts.len())
        });
        Ok(counts.collect())
    }
}

/// `[eval]` with these suites, each question answered once by the likeliest tokens, and no judge but the rules.
pub(in crate::run) fn greedy(eval: &Eval, suites: Vec<Suite>) -> Eval {
    let suites = suites.into_iter().map(|suite| Suite { samples: None, ..suite }).collect();
    Eval {
        suites,
        preset: String::new(),
        rubrics: Vec::new(),
        candidates: Vec::new(),
        bert_score: None,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        samples: 1,
        log_likelihood: false,
        ..eval.clone()
    }
}

/// The suites of `eval` as they are put to the subject.
///
/// # Errors
///
/// A file is missing or wrong, or a question does not fit the model.
pub(super) fn posed(
    subject: &Subject,
    eval: &Eval,
    sources: &mut Sources<'_>,
) -> Result<Vec<Questions>, Failure> {
    let mut suites = questions::draw(eval, sources)?;
    questions::render(&mut suites, eval, subject.model.reader())?;
    room::check_questions(&suites, &subject.model.shape, &subject.opened.device)?;
    Ok(suites)
}
