//! How good a guard is: its probabilities for the requests of a file, and what they are worth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::requests::{self, Request};
use super::{Sentry, sentry};
use crate::device;
use crate::doing;
use crate::eval::measures::detection::{Detection, Labelled};
use crate::event::Listener;
use crate::hub;
use crate::recipe::{Compute, Field};
use crate::report::guarding::{Benign, GuardReport, Pace};
use crate::run::failure::Failure;
use crate::run::plan::guard::GuardPlan;
use crate::run::plan::sources::Sources;
use crate::run::plan::{self, Options, room};
use crate::run::session::Session;
use crate::snapshot::writer::{file_at_once, write_json};

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Asked {
    /// A guard's folder, or that of the run that trained it.
    pub guard: String,
    /// The file of requests.
    pub file: String,
    /// The file's names for its columns.
    pub fields: BTreeMap<Field, String>,
    /// Harmless requests that look harmful.
    pub benign: Option<String>,
    pub threshold: Option<f64>,
    /// Answer every request behind this label.
    pub force: Option<bool>,
    /// Answer the requests that reach the threshold.
    pub answers: bool,
    pub max_new_tokens: usize,
}

/// One line of what is written.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// Of the file, counted from 1.
    pub number: usize,
    pub prompt: &'a str,
    pub p_harm: f64,
    /// What the threshold makes of it.
    pub label: &'static str,
    /// What the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// Requests that are asked alone, to know how long one takes.
const ALONE: usize = 20;

/// The word for a label.
pub(super) fn word(is_harmful: bool) -> &'static str {
    if is_harmful { "harm" } else { "safe" }
}

/// Labels the requests of a file, and writes one line for each beside what they come to; returns that and where it is.
///
/// # Errors
///
/// Whatever is wrong with the guard, the file or the device; or the wish to stop.
pub fn score<'a>(
    asked: &Asked,
    options: &Options,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
    tell: &mut hub::Tell<'_>,
) -> Result<(GuardReport, PathBuf), Failure> {
    let _doing = doing::now(format!("measuring the guard `{}`", asked.guard));
    let mut sources = Sources::new("", options.out.as_deref(), tell);
    let path = sources.find("FILE", &asked.file)?;
    let all = requests::read(&path, &asked.fields)?;
    let benign = asked.benign.as_ref().map(|file| {
        let path = sources.find("--benign", file)?;
        Ok::<_, Failure>((file.clone(), requests::read(&path, &BTreeMap::new())?))
    });
    let benign = benign.transpose()?;
    let plan = GuardPlan::open(&asked.guard, asked.threshold, asked.max_new_tokens, &mut sources)?;
    let opened = device::open(&options.device)?;
    let machine = plan::machine([Compute::Auto; 2], options, &opened);
    room::check_weights(&plan.model.shape, None, 0, &machine)?;
    let folder = options.out.clone().unwrap_or_else(|| own_folder(&plan));
    let mut session = Session::open(&folder, None, stop, watcher)?;
    let rows = options.eval_rows.unwrap_or(plan::rows(&opened));
    let mut sentry = Sentry::open(&plan, (&machine, rows), &folder)?;
    let found = asking(&mut sentry, asked, &plan, &all, &mut session)?;
    let labelled: Option<Vec<Labelled>> =
        all.iter().zip(&found).map(|(one, line)| Some((line.p_harm, one.is_harmful?))).collect();
    let benign = benign.map(|(file, all)| {
        let texts: Vec<&str> = all.iter().map(|one| one.text.as_str()).collect();
        let p = sentry.probabilities(&texts, &mut session)?;
        let k = p.iter().filter(|p| **p >= plan.threshold).count();
        Ok::<_, Failure>(Benign::new(file, k, p.len()))
    });
    let report = GuardReport {
        schema: 1,
        guard: plan.folder.display().to_string(),
        file: asked.file.clone(),
        n: all.len(),
        above: found.iter().filter(|line| line.p_harm >= plan.threshold).count(),
        threshold: plan.threshold,
        fitted_by: plan.card.fitted_by.to_string(),
        detection: labelled.map(|labelled| Detection::of(&labelled, plan.threshold)),
        benign: benign.transpose()?,
        pace: Some(pace(&mut sentry, &all)?),
    };
    let lines = folder.join(format!("{}.jsonl", stem(&path)));
    write_lines(&lines, &found)?;
    write_json(&lines.with_extension("json"), &json!(report))?;
    Ok((report, lines))
}

/// Labels requests, and answers those that are to be answered.
fn asking<'r>(
    sentry: &mut Sentry<'_>,
    asked: &Asked,
    plan: &GuardPlan,
    all: &'r [Request],
    session: &mut Session<'_>,
) -> Result<Vec<Line<'r>>, Failure> {
    let texts: Vec<&str> = all.iter().map(|one| one.text.as_str()).collect();
    let p = sentry.probabilities(&texts, session)?;
    let line = |(one, p_harm): (&'r Request, &f64)| Line {
        number: one.number,
        prompt: &one.text,
        p_harm: *p_harm,
        label: word(*p_harm >= plan.threshold),
        expected: one.is_harmful.map(word),
        category: None,
        answer: None,
    };
    let mut lines: Vec<Line<'r>> = all.iter().zip(&p).map(line).collect();
    let above = sentry::places(&p, plan.threshold).remove(&true).unwrap_or_default();
    let (places, is_harmful) = match (asked.force, asked.answers) {
        (Some(is_harmful), _) => ((0..all.len()).collect(), is_harmful),
        (None, true) => (above, true),
        (None, false) => (Vec::new(), true),
    };
    let texts: Vec<&str> = places.iter().map(|nth| texts[*nth]).collect();
    for (nth, reply) in places.iter().zip(sentry.replies(&texts, is_harmful, session)?) {
        (lines[*nth].category, lines[*nth].answer) = (reply.category, Some(reply.text));
    }
    Ok(lines)
}

/// How long one request takes that is asked alone, and how long in company.
fn pace(sentry: &mut Sentry<'_>, all: &[Request]) -> Result<Pace, Failure> {
    let some: Vec<&str> = all.iter().take(ALONE).map(|one| one.text.as_str()).collect();
    let guard = sentry.guard()?;
    let mut nothing = |_: Vec<(usize, f64)>| Ok(());
    // The first pass makes room and finds kernels.
    guard.probabilities(&some[..1], &mut nothing)?;
    let mut alone = Vec::new();
    for request in &some {
        let started = Instant::now();
        guard.probabilities(&[request], &mut nothing)?;
        alone.push(started.elapsed().as_secs_f64());
    }
    let started = Instant::now();
    guard.probabilities(&some, &mut nothing)?;
    let together = started.elapsed().as_secs_f64() / some.len() as f64;
    alone.sort_by(f64::total_cmp);
    Ok(Pace { requests: some.len(), alone_s: alone[alone.len() / 2], together_s: together })
}

/// Where what a guard says is kept, unless somebody says otherwise.
pub(super) fn own_folder(plan: &GuardPlan) -> PathBuf {
    Path::new("runs").join(format!("guard-{}", &plan.key[..8]))
}

/// A file's name without its ends.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("score-{}", name.split('.').next().unwrap_or_default())
}

/// Writes lines of JSON, as all answers readable by their owner only.
pub(super) fn write_lines<T: Serialize>(path: &Path, lines: &[T]) -> Result<(), Failure> {
    let line = |line: &T| format!("{}\n", serde_json::to_value(line).unwrap_or(Value::Null));
    let text: String = lines.iter().map(line).collect();
    Ok(file_at_once(path, text.as_bytes())?)
}
