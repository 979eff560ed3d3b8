//! `--plan` of a study: its cells, what they share and take, and which differences its prompts can show.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use super::Study;
use super::candidates::names;
use crate::eval::repeated::detectable;
use crate::eval::{Form, MetricKind};
use crate::hub;
use crate::recipe::{Cell, SEED};
use crate::report::study::StudyReport;
use crate::run::cast::Candidate;
use crate::run::failure::Failure;
use crate::run::manifest;
use crate::run::plan::{Plan, Shared};
use crate::run::preview::{self, Estimate, duration};
use crate::run::work::Work;
use crate::snapshot::files::read_json;

/// The rate that a suite is assumed to have before anybody was asked: where differences are hardest to show.
const ASSUMED: f64 = 0.5;

/// What the whole study takes.
#[derive(Default)]
struct Sum {
    n_done: usize,
    train_s: f64,
    evaluate_s: f64,
    disk: u64,
    memory: u64,
    candidates: usize,
    /// By what a training depends on; equal ones are trained once.
    trainings: BTreeSet<String>,
    /// By model and suites, seconds of asking the base, which is done once.
    bases: BTreeMap<String, f64>,
    /// By what cells take alike, that and the part of the base.
    estimates: BTreeMap<String, (Estimate, f64)>,
    /// What is asked in any cell and answered right or wrong: suite, kind and number of prompts.
    suites: Vec<(String, MetricKind, usize)>,
    /// What the user should know, and of how many cells.
    said: Vec<(String, usize)>,
}

impl Sum {
    /// Adds a cell that is trained; returns what it comes to, in words.
    fn add(
        &mut self,
        cell: &Cell,
        plan: &Plan,
        is_done: bool,
        say: &mut dyn FnMut(&str),
    ) -> Result<String, Failure> {
        for asked in &plan.evaluation.suites {
            let posed = &asked.posed;
            let suite = (posed.suite.name.clone(), posed.suite.task.kind, posed.items.len());
            let is_rate = matches!(posed.suite.task.form, Form::Answer | Form::Choose);
            if is_rate && !self.suites.contains(&suite) {
                self.suites.push(suite);
            }
        }
        let n_candidates = Candidate::of_plan(plan).len();
        // Cells that differ in their seed alone take the same.
        let alike = alike(cell);
        let (estimate, of_base) = match self.estimates.get(&alike) {
            Some(known) => *known,
            None => preview::rough(plan, say)?,
        };
        self.estimates.insert(alike, (estimate, of_base));
        let is_new = self.trainings.insert(plan.key.digest.clone());
        if !is_done {
            self.train_s += if is_new { estimate.train_s } else { 0.0 };
            self.evaluate_s += estimate.evaluate_s - of_base;
            let base = json!([cell.recipe.model, cell.recipe.eval, plan.base.key]).to_string();
            self.bases.insert(base, of_base);
            self.disk += estimate.disk;
            self.candidates += n_candidates - 1;
        }
        self.memory = self.memory.max(estimate.memory_of_run());
        let time = duration(estimate.train_s + estimate.evaluate_s);
        let state = if is_done { "done".to_owned() } else { time };
        Ok(format!("{} steps, {n_candidates} candidates, {state}", plan.training.last_step))
    }

    /// Notes what is said of a cell.
    fn hear(&mut self, said: &[String]) {
        for sentence in said {
            match self.said.iter_mut().find(|(known, _)| known == sentence) {
                Some((_, n)) => *n += 1,
                None => self.said.push((sentence.clone(), 1)),
            }
        }
    }

    fn json(&self) -> Value {
        let evaluate_s = self.evaluate_s + self.bases.values().sum::<f64>();
        json!({
            "trainings": self.trainings.len(),
            "bases": self.bases.len(),
            "train_s": self.train_s,
            "evaluate_s": evaluate_s,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
        })
    }

    fn in_words(&self) -> String {
        let evaluate_s = self.evaluate_s + self.bases.values().sum::<f64>();
        let (all, train, evaluate) =
            (duration(self.train_s + evaluate_s), duration(self.train_s), duration(evaluate_s));
        format!(
            "shared   {} different trainings; bases asked once for all cells: {}\n\
             time     {all} on this device: training {train}, asking {} other candidates {evaluate}\n\
             memory   {:.0} MB in the largest cell\n\
             disk     {:.0} MB\n",
            self.trainings.len(),
            self.bases.len(),
            self.candidates,
            self.memory as f64 / 1e6,
            self.disk as f64 / 1e6
        )
    }
}

/// What a study will do, for a person and for a program.
pub struct Outlook {
    pub text: String,
    pub json: Value,
}

/// The outlook; every cell is settled for it, so that a slip in any is found.
///
/// # Errors
///
/// A slip in a cell, or the model cannot be loaded for the few seconds of measuring.
pub fn outlook(
    study: &Study,
    tell: &mut hub::Tell<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<Outlook, Failure> {
    let (mut done, mut shared, mut sum) = (study.done(), Shared::default(), Sum::default());
    let width = study.cells.iter().map(|cell| cell.name.chars().count()).max().unwrap_or(0);
    let (mut lines, mut first, mut cells) = (String::new(), None, Vec::new());
    for cell in &study.cells {
        let mut is_done = done.folder(cell).is_some();
        let about = if cell.over.is_empty() {
            let work = study.settle(cell, Vec::new(), &mut shared, tell)?;
            is_done = is_done || done.carried(&work, cell)?.is_some();
            match work {
                Work::Trained(plan) => {
                    sum.hear(&plan.said);
                    let about = sum.add(cell, &plan, is_done, say)?;
                    first.get_or_insert(plan);
                    about
                }
                Work::Given(settled) => {
                    sum.hear(settled.said());
                    format!(
                        "given weights, {} candidates, {}",
                        settled.n_candidates(),
                        if is_done { "done" } else { "not estimated" }
                    )
                }
            }
        } else {
            let (n, names) = (names(&cell.recipe).len(), cell.over.join(", "));
            format!("merges of {names}, {n} candidates, {}", if is_done { "done" } else { "after these" })
        };
        sum.n_done += usize::from(is_done);
        cells.push(
            json!({ "name": cell.name, "group": cell.group, "seed": cell.recipe.train.seed, "over": cell.over,
            "done": is_done, "about": about }),
        );
        let _ = writeln!(lines, "cell     {:width$}  {about}", cell.name);
    }
    let (n, n_done) = (study.cells.len(), sum.n_done);
    let mut text = format!("study    {}: {n} cells, {n_done} of them done\n", study.folder.display());
    if let Some(plan) = &first {
        let _ = writeln!(text, "device   {} ({})", plan.opened.spec, plan.opened.name);
    }
    text.push_str(&lines);
    text.push_str(&sum.in_words());
    power(&mut text, study, &sum.suites);
    for (sentence, n) in &sum.said {
        let of = if *n == study.cells.len() { String::new() } else { format!(" ({n} cells)") };
        let _ = writeln!(text, "note: {sentence}{of}");
    }
    text.push_str("\nNothing was started. The same command without `--plan` runs what is missing.\n");
    let mut json = json!({ "schema": 1, "folder": study.folder, "cells": cells, "notes": notes(&sum) });
    json["device"] = json!(first.map(|plan| manifest::machine(&plan.options.device, &plan.opened)));
    json["estimate"] = sum.json();
    Ok(Outlook { text, json })
}

/// What is said of cells, each sentence with the number of cells that it is said of.
fn notes(sum: &Sum) -> Vec<Value> {
    sum.said.iter().map(|(text, n)| json!({ "text": text, "cells": n })).collect()
}

/// What cells that differ in their seed alone have in common.
fn alike(cell: &Cell) -> String {
    let mut recipe = cell.recipe.clone();
    recipe.name.clear();
    recipe.train.seed = 0;
    let at: Vec<_> = cell.at.iter().filter(|(axis, _)| axis != SEED).collect();
    json!([recipe, at]).to_string()
}

/// The differences that suites can show.
fn power(text: &mut String, study: &Study, suites: &[(String, MetricKind, usize)]) {
    let before: Option<StudyReport> = read_json(&study.folder.join("report.json")).ok();
    for (suite, kind, n) in suites {
        let of_base = before.as_ref().and_then(|report| {
            let mut rows = report.rows.iter();
            let row = rows.find(|row| row.suite == *suite && row.candidate == "base" && row.headline)?;
            Some(row.estimate.mean).filter(|mean| (0.0..=1.0).contains(mean))
        });
        let (rate, from) = match of_base {
            Some(rate) => (rate, "as the base's"),
            None => (ASSUMED, "assumed"),
        };
        // A rate near 1 falls; the same difference is as hard to show from the other end.
        let least = detectable(rate.min(1.0 - rate), *n);
        let what = if *kind == MetricKind::Task { "score" } else { "rate" };
        let _ = match least {
            Some(least) => writeln!(
                text,
                "power    {}: {n} prompts show a difference of {:.1} points (80 % power at 5 %, paired, one seed) from a {what} of \
                 {:.0} %, {from}",
                suite,
                100.0 * least,
                100.0 * rate
            ),
            None => writeln!(text, "power    {suite}: {n} prompts show no difference at 80 % power"),
        };
    }
}
