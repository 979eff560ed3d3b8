//! Answers that are programs: run in the sandbox, their verdicts stored.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answers::Answers;
use super::asking::Asking;
use super::plan::{Plan, digest};
use super::{Failure, Sink};
use crate::eval::{Completion, Criterion, Item, Judged, Verdict};
use crate::event::Event;
use crate::sandbox::{Options, Program, Sandbox};

/// As openai/human-eval allows.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What became of one program.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ran {
    item: String,
    passed: bool,
    /// Why not.
    said: String,
}

/// The name of this judge in reports.
const NAME: &str = "sandbox";

/// Runs the programs of one candidate's answers to one suite that were not run yet.
///
/// # Errors
///
/// There is no sandbox here, the disk refuses, or the run was asked to stop.
pub(super) fn verdicts(
    plan: &Plan,
    asking: &Asking<'_>,
    suite: usize,
    sandbox: &mut Option<Sandbox>,
    stop: &AtomicBool,
    sink: &mut Sink<'_>,
) -> Result<Judged, Failure> {
    let planned = &plan.suites[suite];
    let build = planned.suite.task.program.expect("only suites of programs are asked for");
    let answers = asking.answers(suite);
    let mut store = open(asking.path(), &planned.suite.name)?;
    let all = planned.items.iter().zip(&answers).flat_map(|(item, samples)| {
        samples.iter().map(move |answer| (item, build(&item.details, &answer.text)))
    });
    let all: Vec<(&Item, String)> = all.collect();
    let waiting: Vec<&(&Item, String)> =
        all.iter().filter(|(item, source)| store.get(&key(item, source)).is_none()).collect();
    if !waiting.is_empty() {
        let started = Instant::now();
        let sandbox = match sandbox {
            Some(sandbox) => sandbox,
            None => {
                let options = Options {
                    allow_unprotected: plan.recipe.eval.unprotected_programs,
                    ..Options::default()
                };
                let opened = sandbox.insert(Sandbox::open(&options)?);
                let text = format!(
                    "programs run behind {} (Python {})",
                    opened.protection(),
                    opened.python_version()
                );
                sink.event(Event::Note { text })?;
                opened
            }
        };
        let name = format!("run programs of {}, {}", asking.candidate().name(), planned.suite.name);
        sink.event(Event::Stage { name: name.clone(), total: waiting.len() as u64 })?;
        let mut done = 0;
        for part in waiting.chunks(4 * rayon::current_num_threads()) {
            let ran: Vec<(String, Ran)> = part
                .par_iter()
                .map(|(item, source)| Ok((key(item, source), run(sandbox, item, source)?)))
                .collect::<Result<_, Failure>>()?;
            done += ran.len() as u64;
            store.append(ran)?;
            sink.advance(done, stop, asking.run_folder())?;
        }
        sink.event(Event::StageDone { name, elapsed_s: started.elapsed().as_secs_f64() })?;
    }
    let mut found =
        all.iter().map(|(item, source)| store.get(&key(item, source)).expect("every program ran"));
    let mut by_item = |samples: &Vec<Completion>| found.by_ref().take(samples.len()).collect::<Vec<&Ran>>();
    let ran: Vec<Vec<&Ran>> = answers.iter().map(&mut by_item).collect();
    let verdict = |ran: &&Ran| if ran.passed { Verdict::Yes } else { Verdict::No };
    Ok(Judged {
        name: NAME.to_owned(),
        asks: Criterion::Correct { metric: "passed" },
        verdicts: ran.iter().map(|samples| samples.iter().map(verdict).collect()).collect(),
        scores: None,
        // Why a program failed is no answer that several could agree on.
        evidence: ran.iter().map(|samples| vec![None; samples.len()]).collect(),
        pooled: Vec::new(),
    })
}

fn open(folder: &Path, suite: &str) -> Result<Answers<Ran>, Failure> {
    Ok(Answers::open(&folder.join(format!("{suite}.programs.jsonl")))?)
}

fn key(item: &Item, source: &str) -> String {
    digest(&json!([item.details, source, TIMEOUT.as_secs()]))[..32].to_owned()
}

fn run(sandbox: &Sandbox, item: &Item, source: &str) -> Result<Ran, Failure> {
    let text = |key: &str| item.details[key].as_str().unwrap_or_default();
    let outcome = sandbox.run(&Program {
        source,
        prelude: text("prompt"),
        test: text("test"),
        entry_point: text("entry_point"),
        timeout: TIMEOUT,
    })?;
    let (passed, said) = (outcome.verdict.passed(), outcome.verdict.to_string());
    Ok(Ran { item: item.id.clone(), passed, said })
}
