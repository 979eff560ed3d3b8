//! `--plan` of a study: its cells, what they share and take, and which differences its prompts can show.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::json;

use super::{Study, names};
use crate::eval::MetricKind;
use crate::eval::repeated::detectable;
use crate::hub;
use crate::recipe::{Cell, SEED};
use crate::report::study::StudyReport;
use crate::run::cast::Candidate;
use crate::run::failure::Failure;
use crate::run::plan::{Plan, Shared};
use crate::run::preview::{self, Estimate, duration};
use crate::run::work::Work;
use crate::snapshot::files::read_json;

/// The rate that a suite is assumed to have before anybody was asked: where differences are hardest to show.
const ASSUMED: f64 = 0.5;

/// What the whole study takes.
#[derive(Default)]
struct Sum {
    train_s: f64,
    evaluate_s: f64,
    disk: u64,
    memory: u64,
    candidates: usize,
    /// By what a training depends on; equal ones are trained once.
    trainings: BTreeSet<String>,
    /// By model and suites, seconds of asking the base, which is done once.
    bases: BTreeMap<String, f64>,
}

/// The outlook as text; every cell is settled for it, so that a slip in any is found.
///
/// # Errors
///
/// A slip in a cell, or the model cannot be loaded for the few seconds of measuring.
pub fn outlook(
    study: &Study,
    tell: &mut hub::Tell<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<String, Failure> {
    let mut text = String::new();
    let mut done = study.done();
    let (mut shared, mut sum) = (Shared::default(), Sum::default());
    let mut estimates: BTreeMap<String, (Estimate, f64)> = BTreeMap::new();
    let width = study.cells.iter().map(|cell| cell.name.chars().count()).max().unwrap_or(0);
    let mut lines = String::new();
    let mut first: Option<Plan> = None;
    let mut n_done = 0;
    for cell in &study.cells {
        let is_done = done.folder(cell).is_some();
        n_done += usize::from(is_done);
        if !cell.over.is_empty() {
            let (n, names) = (names(&cell.recipe).len(), cell.over.join(", "));
            let state = if is_done { "done" } else { "after these" };
            let _ =
                writeln!(lines, "cell     {:width$}  merges of {names}, {n} candidates, {state}", cell.name);
            continue;
        }
        let plan = match study.settle(cell, Vec::new(), &mut shared, tell)? {
            Work::Trained(plan) => *plan,
            Work::Given(settled) => {
                let state = if is_done { "done" } else { "no estimate" };
                let n = settled.n_candidates();
                let _ =
                    writeln!(lines, "cell     {:width$}  given weights, {n} candidates, {state}", cell.name);
                continue;
            }
        };
        let n_candidates = Candidate::of(&plan.merging.merges).len();
        // Cells that differ in their seed alone take the same.
        let alike = alike(cell);
        let (estimate, of_base) = match estimates.get(&alike) {
            Some(known) => *known,
            None => preview::rough(&plan, say)?,
        };
        estimates.insert(alike, (estimate, of_base));
        let is_new = sum.trainings.insert(plan.key.digest.clone());
        let state =
            if is_done { "done".to_owned() } else { duration(estimate.train_s + estimate.evaluate_s) };
        let _ = writeln!(
            lines,
            "cell     {:width$}  {} steps, {n_candidates} candidates, {state}",
            cell.name, plan.training.last_step
        );
        if !is_done {
            sum.train_s += if is_new { estimate.train_s } else { 0.0 };
            sum.evaluate_s += estimate.evaluate_s - of_base;
            sum.bases
                .insert(json!([cell.recipe.model, cell.recipe.eval, plan.base.key]).to_string(), of_base);
            sum.disk += estimate.disk;
            sum.candidates += n_candidates - 1;
        }
        sum.memory = sum.memory.max(estimate.memory());
        first.get_or_insert(plan);
    }
    let _ = writeln!(
        text,
        "study    {}: {} cells, {n_done} of them done",
        study.folder.display(),
        study.cells.len()
    );
    if let Some(plan) = &first {
        let _ = writeln!(text, "device   {} ({})", plan.opened.spec, plan.opened.name);
    }
    text.push_str(&lines);
    let evaluate_s = sum.evaluate_s + sum.bases.values().sum::<f64>();
    let _ = writeln!(
        text,
        "shared   {} different trainings; {} bases are asked once each for all cells",
        sum.trainings.len(),
        sum.bases.len()
    );
    let _ = writeln!(
        text,
        "time     {} on this device: training {}, asking {} other candidates {}",
        duration(sum.train_s + evaluate_s),
        duration(sum.train_s),
        sum.candidates,
        duration(evaluate_s)
    );
    let _ = writeln!(text, "memory   {:.0} MB in the largest cell", sum.memory as f64 / 1e6);
    let _ = writeln!(text, "disk     {:.0} MB", sum.disk as f64 / 1e6);
    if let Some(plan) = &first {
        power(&mut text, study, plan);
    }
    text.push_str("\nNothing was started. The same command without `--plan` runs what is missing.\n");
    Ok(text)
}

/// What cells that differ in their seed alone have in common.
fn alike(cell: &Cell) -> String {
    let mut recipe = cell.recipe.clone();
    recipe.name.clear();
    recipe.train.seed = 0;
    let at: Vec<_> = cell.at.iter().filter(|(axis, _)| axis != SEED).collect();
    json!([recipe, at]).to_string()
}

/// The differences that the suites of a plan can show.
fn power(text: &mut String, study: &Study, plan: &Plan) {
    let before: Option<StudyReport> = read_json(&study.folder.join("report.json")).ok();
    for asked in &plan.evaluation.suites {
        let suite = &asked.posed.suite;
        let of_base = before.as_ref().and_then(|report| {
            let mut rows = report.rows.iter();
            let row = rows.find(|row| row.suite == suite.name && row.candidate == "base" && row.headline)?;
            Some(row.estimate.mean).filter(|mean| (0.0..=1.0).contains(mean))
        });
        let (rate, from) = match of_base {
            Some(rate) => (rate, "as the base's"),
            None => (ASSUMED, "assumed"),
        };
        let n = asked.posed.items.len();
        // A rate near 1 falls; the same difference is as hard to show from the other end.
        let least = detectable(rate.min(1.0 - rate), n);
        let what = if suite.task.kind == MetricKind::Task { "score" } else { "rate" };
        let _ = match least {
            Some(least) => writeln!(
                text,
                "power    {}: {n} prompts show a difference of {:.1} points (80 % power at 5 %, paired, one seed) from a {what} of \
                 {:.0} %, {from}",
                suite.name,
                100.0 * least,
                100.0 * rate
            ),
            None => writeln!(text, "power    {}: {n} prompts show no difference at 80 % power", suite.name),
        };
    }
}
