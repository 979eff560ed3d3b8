//! Answers that are programs: run in the sandbox, their verdicts stored.
//!
//! A file's own solutions run first, as answers do. One that passes only in one process with its tests says that the
//! sandbox cannot keep these tests apart: answers to that item run so too. Never does an answer decide where it runs.

use std::collections::HashMap;
use std::time::Duration;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::settle::{Assessor, Desk, Waiting};
use crate::eval::measures::humaneval;
use crate::eval::tasks::Reading;
use crate::eval::{Completion, Criterion, Fault, Item, Judgement, Trials, Verdict};
use crate::run::failure::Failure;
use crate::sandbox::{self, Held, Options, Outcome, Program, Sandbox};
use crate::snapshot::digest::of_json;

/// As openai/human-eval allows.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How many failed solutions a note names.
const NAMED: usize = 10;

/// What became of one program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ran {
    item: String,
    passed: bool,
    /// Why not.
    said: String,
    /// It ran in one process with its tests, and could have forged its verdict.
    #[serde(default)]
    same_process: bool,
    /// What became of the item's own solution.
    #[serde(default)]
    reference: Reference,
}

/// What the tests say of the solution that the file brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reference {
    Passes,
    PassesInOneProcess,
    Fails,
    #[default]
    Absent,
}

/// What became of items' own solutions, by item: once known it holds for every candidate and every reading.
pub(super) type References = HashMap<String, Reference>;

/// The sandbox at work; it is opened when a program is to be run.
pub(super) struct Programs<'a> {
    suite: &'a str,
    unprotected: bool,
    reading: &'static Reading,
    sandbox: &'a mut Option<Sandbox>,
    references: &'a mut References,
}

impl<'a> Programs<'a> {
    /// For a suite whose answers are read so; `unprotected` allows to run programs where there is no sandbox.
    pub fn new(
        suite: &'a str,
        unprotected: bool,
        reading: &'static Reading,
        (sandbox, references): (&'a mut Option<Sandbox>, &'a mut References),
    ) -> Self {
        Self { suite, unprotected, reading, sandbox, references }
    }

    fn source(&self, item: &Item, answer: &Completion) -> String {
        (self.reading.source)(&item.details, &answer.text)
    }

    /// What becomes of an answer; nothing where that says nothing about it.
    fn run(&self, sandbox: &Sandbox, item: &Item, answer: &Completion) -> Result<Option<Ran>, Failure> {
        let reference = self.references.get(&item.id).copied().unwrap_or_default();
        let same_process = reference == Reference::PassesInOneProcess;
        let held = if same_process { Held::Together } else { Held::Apart };
        let outcome = run(sandbox, item, &self.source(item, answer), held)?;
        let (passed, said) = (outcome.verdict.passed(), outcome.verdict.to_string());
        let ran = Ran { item: item.id.clone(), passed, said, same_process, reference };
        Ok(outcome.verdict.decides().then_some(ran))
    }

    /// Runs the solutions of items that wait, where nothing is known of them yet, and says what came of it.
    fn try_references(
        &mut self,
        waiting: &[Waiting<'_>],
        desk: &mut Desk<'_, '_, Ran>,
    ) -> Result<(), Failure> {
        let mut items: Vec<&Item> = waiting.iter().map(|waiting| waiting.item).collect();
        items.retain(|item| !self.references.contains_key(&item.id));
        items.dedup_by(|a, b| a.id == b.id);
        let sandbox = self.sandbox.as_ref().expect("it was opened before");
        let mut tried = Vec::new();
        for part in items.chunks(4 * rayon::current_num_threads()) {
            let part = part.par_iter().map(|item| try_reference(sandbox, item));
            tried.extend(part.collect::<Result<Vec<_>, Failure>>()?);
            desk.session.go_on()?;
        }
        if !items.is_empty() {
            let tried = items.iter().map(|item| item.id.as_str()).zip(&tried).collect::<Vec<_>>();
            desk.session.note(sentence(self.suite, &tried))?;
        }
        self.references.extend(items.iter().zip(&tried).map(|(item, (found, _))| (item.id.clone(), *found)));
        Ok(())
    }
}

fn run(sandbox: &Sandbox, item: &Item, source: &str, held: Held) -> Result<Outcome, Failure> {
    let text = |key: &str| item.details[key].as_str().unwrap_or_default();
    let (prelude, test, entry_point) = (text("prompt"), text("test"), text("entry_point"));
    Ok(sandbox.run_held(&Program { source, prelude, test, entry_point, timeout: TIMEOUT }, held)?)
}

/// What the tests say of an item's own solution, and why not if not.
fn try_reference(sandbox: &Sandbox, item: &Item) -> Result<(Reference, String), Failure> {
    let Some(solution) = &item.reference else { return Ok((Reference::Absent, String::new())) };
    let source = humaneval::lm_eval(item.details["prompt"].as_str().unwrap_or_default(), solution);
    let apart = run(sandbox, item, &source, Held::Apart)?.verdict;
    if apart.passed() {
        return Ok((Reference::Passes, String::new()));
    }
    match run(sandbox, item, &source, Held::Together)?.verdict.passed() {
        true => Ok((Reference::PassesInOneProcess, String::new())),
        false => Ok((Reference::Fails, apart.to_string())),
    }
}

/// How the solutions of a suite did, by item.
fn sentence(suite: &str, tried: &[(&str, &(Reference, String))]) -> String {
    let of = |wanted: Reference| tried.iter().filter(move |(_, (found, _))| *found == wanted);
    let count = |wanted: Reference| of(wanted).count();
    let named = |wanted: Reference| {
        let names = of(wanted).take(NAMED).map(|(id, (_, said))| match said.is_empty() {
            true => format!("`{id}`"),
            false => format!("`{id}` ({said})"),
        });
        let more = count(wanted).checked_sub(NAMED + 1).map(|more| format!("{} more", more + 1));
        names.chain(more).collect::<Vec<_>>().join(", ")
    };
    let (together, without) = (count(Reference::PassesInOneProcess), count(Reference::Absent));
    let passes = count(Reference::Passes) + together;
    let parts = [
        Some(match tried.len() - without {
            0 => "no item brings a solution on which its tests could be tried".to_owned(),
            n => format!("the reference passes {passes} of {n}"),
        }),
        (together > 0).then(|| {
            let names = named(Reference::PassesInOneProcess);
            format!(
                "{together} only in one process with its tests, where answers run too and could forge a pass: {names}"
            )
        }),
        (count(Reference::Fails) > 0).then(|| format!("it fails {}", named(Reference::Fails))),
        (without > 0 && without < tried.len()).then(|| format!("{without} items have none")),
    ];
    format!("suite `{suite}`: {}", parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
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
        // Where a program runs follows from the item's own solution.
        let parts = json!([
            item.details,
            item.reference,
            self.source(item, answer),
            TIMEOUT.as_secs(),
            sandbox::RULES
        ]);
        Some(of_json(&parts)[..32].to_owned())
    }

    fn assess(&mut self, waiting: &[Waiting<'_>], desk: &mut Desk<'_, '_, Ran>) -> Result<(), Failure> {
        if self.sandbox.is_none() {
            let options = Options { allow_unprotected: self.unprotected, ..Options::default() };
            let opened = self.sandbox.insert(Sandbox::open(&options)?);
            let (protection, version) = (opened.protection(), opened.python_version());
            desk.session.note(format!("programs run behind {protection} (Python {version})"))?;
        }
        self.try_references(waiting, desk)?;
        let sandbox = self.sandbox.as_ref().expect("it was just opened");
        let at_once = 4 * rayon::current_num_threads();
        let mut n_undecided = 0;
        for (nth, part) in waiting.chunks(at_once).enumerate() {
            let ran = part.par_iter().map(|waiting| self.run(sandbox, waiting.item, waiting.answer));
            let ran: Vec<Option<Ran>> = ran.collect::<Result<_, Failure>>()?;
            n_undecided += ran.iter().filter(|ran| ran.is_none()).count();
            let ran = ran.into_iter().enumerate().filter_map(|(i, ran)| Some((nth * at_once + i, ran?)));
            desk.put(ran.collect())?;
        }
        if n_undecided > 0 {
            let (of, suite) = (waiting.len(), self.suite);
            desk.session.note(format!(
                "{n_undecided} of {of} programs of suite `{suite}` ended twice without a verdict and have none; the same \
                 command tries them again"
            ))?;
        }
        Ok(())
    }

    fn judged(&mut self, findings: Vec<Vec<Option<Ran>>>) -> Judgement {
        let known = findings.iter().filter_map(|samples| samples.iter().flatten().next());
        self.references.extend(known.clone().map(|ran| (ran.item.clone(), ran.reference)));
        let trials = trials(&findings);
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
            trials: Some(trials),
        }
    }
}

fn trials(findings: &[Vec<Option<Ran>>]) -> Trials {
    let mut trials = Trials::default();
    for samples in findings {
        let Some(first) = samples.iter().flatten().next() else { continue };
        let id = || first.item.clone();
        match first.reference {
            Reference::Passes => trials.passes += 1,
            Reference::PassesInOneProcess => {
                trials.passes += 1;
                trials.same_process.push(id());
            }
            Reference::Fails => trials.fails.push(id()),
            Reference::Absent => trials.without.push(id()),
        }
        let forgeable = samples.iter().flatten().filter(|ran| ran.same_process && ran.passed);
        trials.same_process_passed += forgeable.count();
    }
    trials
}
