//! What is asked to find the layers that a model's refusals hang on, and who says what a refusal is.

use burn::tensor::Device;

use super::judges::Judges;
use super::model::Model;
use super::questions::{self, Questions};
use super::sources::Sources;
use super::{Evaluation, room, writing};
use crate::eval::judges::JudgeRow;
use crate::eval::{Criterion, MetricKind, tasks};
use crate::recipe::{Eval, Purpose, Suite};
use crate::run::failure::{Failure, InspectError};

/// The most prompts of a suite, where nobody says otherwise.
const PROMPTS: usize = 50;

/// One suite whose refusals are counted.
pub struct Probing {
    pub evaluation: Evaluation,
    pub judge: &'static JudgeRow,
}

impl Probing {
    /// Settles the suite: the first of harmful requests among `suites`, or the first if `any` will do.
    ///
    /// # Errors
    ///
    /// There is none; its file is wrong; its answers are not judged by refusals.
    pub fn new(
        eval: &Eval,
        (suites, any): (&[Suite], bool),
        (model, device, rows): (&Model, &Device, usize),
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let fits = |suite: &&Suite| {
            any || tasks::find(&suite.task).is_ok_and(|task| task.kind == MetricKind::Safety)
        };
        let suite = suites.iter().find(fits);
        let none = InspectError::NoSuite { what: "harmful requests", example: "harmful=FILE,field=goal" };
        let suite = suite.ok_or(none)?;
        let eval = greedy(eval, vec![suite.clone()]);
        let suites = posed(&eval, (model, device), sources)?;
        let rules = &suites[0].posed.suite.judges;
        let judge = rules.iter().copied().find(|row| matches!(row.asks, Criterion::Refused));
        let none = InspectError::NoRefusals { suite: suite.name().to_owned() };
        let judge = judge.filter(|_| !suites[0].outline.prompts.is_empty()).ok_or(none)?;
        let judges = Judges::new(&eval, None, sources)?;
        Ok(Self { evaluation: Evaluation { suites, judges, rows }, judge })
    }
}

/// The suites of a recipe that choose, each with few prompts.
pub fn validating(eval: &Eval) -> Vec<Suite> {
    let of_all = Some(eval.limit).filter(|limit| *limit > 0);
    let own = eval.suites.iter().filter(|suite| suite.purpose == Purpose::Validation);
    own.map(|suite| {
        let limit = suite.limit.or(of_all).filter(|limit| *limit > 0);
        Suite { limit: Some(limit.map_or(PROMPTS, |limit| limit.min(PROMPTS))), ..suite.clone() }
    })
    .collect()
}

/// Suites that a command names, each with few prompts unless it says how many.
pub fn few(suites: &[Suite]) -> Vec<Suite> {
    suites.iter().map(|suite| Suite { limit: suite.limit.or(Some(PROMPTS)), ..suite.clone() }).collect()
}

/// `[eval]` with these suites, each question answered once by the likeliest tokens, and no judge but the rules.
pub fn greedy(eval: &Eval, suites: Vec<Suite>) -> Eval {
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

/// The suites of `eval` as they are put to a model.
///
/// # Errors
///
/// A file is missing or wrong, or a question does not fit the model.
pub fn posed(
    eval: &Eval,
    (model, device): (&Model, &Device),
    sources: &mut Sources<'_>,
) -> Result<Vec<Questions>, Failure> {
    let mut suites = questions::draw(eval, sources)?;
    writing::render(&mut suites, eval, model.reader())?;
    room::check_questions(&suites, &model.shape, device)?;
    Ok(suites)
}
