//! Answers that are programs: run in the sandbox, their verdicts stored.

use std::time::Duration;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::settle::{Assessor, Desk, Waiting};
use crate::eval::tasks::Reading;
use crate::eval::{Completion, Criterion, Fault, Item, Judgement, Verdict};
use crate::run::failure::Failure;
use crate::sandbox::{Options, Program, Sandbox};
use crate::snapshot::digest::of_json;

/// As openai/human-eval allows.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What became of one program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ran {
    item: String,
    passed: bool,
    /// Why not.
    said: String,
}

/// The sandbox at work; it is opened when a program is to be run.
pub(super) struct Programs<'a> {
    unprotected: bool,
    reading: &'static Reading,
    sandbox: &'a mut Option<Sandbox>,
}

impl<'a> Programs<'a> {
    /// For suites whose answers are read so; `unprotected` allows to run programs where there is no sandbox.
    pub fn new(unprotected: bool, reading: &'static Reading, sandbox: &'a mut Option<Sandbox>) -> Self {
        Self { unprotected, reading, sandbox }
    }

    fn source(&self, item: &Item, answer: &Completion) -> String {
        (self.reading.source)(&item.details, &answer.text)
    }

    fn run(&self, sandbox: &Sandbox, item: &Item, answer: &Completion) -> Result<Ran, Failure> {
        let text = |key: &str| item.details[key].as_str().unwrap_or_default();
        let outcome = sandbox.run(&Program {
            source: &self.source(item, answer),
            prelude: text("prompt"),
            test: text("test"),
            entry_point: text("entry_point"),
            timeout: TIMEOUT,
        })?;
        let (passed, said) = (outcome.verdict.passed(), outcome.verdict.to_string());
        Ok(Ran { item: item.id.clone(), passed, said })
    }
}

impl Assessor for Programs<'_> {
    type Finding = Ran;

    fn file(&self, suite: &str) -> String {
        format!("{suite}.programs.jsonl")
    }

    fn title(&self, candidate: &str, suite: &str) -> String {
        format!("run programs of {candidate}, {suite}")
    }

    fn key(&self, item: &Item, answer: &Completion) -> Option<String> {
        let parts = json!([item.details, self.source(item, answer), TIMEOUT.as_secs()]);
        Some(of_json(&parts)[..32].to_owned())
    }

    fn assess(&mut self, waiting: &[Waiting<'_>], desk: &mut Desk<'_, '_, Ran>) -> Result<(), Failure> {
        if self.sandbox.is_none() {
            let options = Options { allow_unprotected: self.unprotected, ..Options::default() };
            let opened = self.sandbox.insert(Sandbox::open(&options)?);
            let (protection, version) = (opened.protection(), opened.python_version());
            desk.session.note(format!("programs run behind {protection} (Python {version})"))?;
        }
        let sandbox = self.sandbox.as_ref().expect("it was just opened");
        let at_once = 4 * rayon::current_num_threads();
        for (nth, part) in waiting.chunks(at_once).enumerate() {
            let ran = part.par_iter().enumerate().map(|(i, waiting)| {
                Ok((nth * at_once + i, self.run(sandbox, waiting.item, waiting.answer)?))
            });
            let ran: Vec<(usize, Ran)> = ran.collect::<Result<_, Failure>>()?;
            desk.put(ran)?;
        }
        Ok(())
    }

    fn judged(&self, findings: Vec<Vec<Option<Ran>>>) -> Judgement {
        let verdict = |ran: &Option<Ran>| match ran {
            Some(ran) if ran.passed => Verdict::Yes,
            Some(_) => Verdict::No,
            None => Verdict::Unscored,
        };
        Judgement {
            name: self.reading.judge.to_owned(),
            asks: Criterion::Correct { metric: self.reading.metric },
            fault: Fault::Judge,
            verdicts: findings.iter().map(|samples| samples.iter().map(verdict).collect()).collect(),
            scores: None,
            off_form: None,
            // Why a program failed is no answer that several could agree on.
            evidence: findings.iter().map(|samples| vec![None; samples.len()]).collect(),
            pooled: Vec::new(),
        }
    }
}
