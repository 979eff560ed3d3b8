//! What the finished cells say together: every metric over the seeds of a group, differences, and the answers to the
//! questions of the grid.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::json;

use super::series::{Read, Series, series};
use super::{Study, choices, contrasts, done};
use crate::eval::MetricKind;
use crate::recipe::{Against, Cell, Gate};
use crate::report::gates::GateResult;
use crate::report::study::tidy::{self, Tidy};
use crate::report::study::{CellLine, Row, SCHEMA, StudyReport};
use crate::run::failure::Failure;
use crate::snapshot::digest::of_json;
use crate::snapshot::files::read_json;

/// A report and the cells that it is of.
pub(super) struct Gathered<'a> {
    pub(super) report: StudyReport,
    cells: Vec<Read<'a>>,
}

/// A digest of what a report of these cells depends on.
pub(super) fn made_of(cells: &[(&Cell, Option<PathBuf>)], study: &Study) -> String {
    let found = |(cell, folder): &(&Cell, Option<PathBuf>)| {
        let note = folder.as_ref().and_then(|folder| done::note(folder));
        // However the study's folder was named.
        let folder = folder.as_ref().and_then(|folder| folder.file_name()).map(|name| name.to_string_lossy());
        json!([cell.name, cell.group, cell.at, folder, note.map(|note| note.found)])
    };
    let cells: Vec<_> = cells.iter().map(found).collect();
    of_json(&json!([SCHEMA, env!("CARGO_PKG_VERSION"), cells, study.grid, study.gates]))
}

/// Reads the cells that are there and makes the report.
pub(super) fn gather<'a>(
    study: &Study,
    cells: &[(&'a Cell, Option<PathBuf>)],
    made_of: String,
) -> Result<Gathered<'a>, Failure> {
    let mut read = Vec::new();
    for (cell, folder) in cells {
        let Some(folder) = folder else { continue };
        let report = read_json(&folder.join("report.json"))?;
        let outcomes = read_json(&folder.join("outcomes.json"))?;
        read.push(Read { cell, report, outcomes });
    }
    let line = |(cell, folder): &(&Cell, Option<PathBuf>)| CellLine {
        name: cell.name.clone(),
        group: cell.group.clone(),
        seed: cell.recipe.train.seed,
        folder: folder
            .as_ref()
            .map(|folder| folder.strip_prefix(&study.folder).unwrap_or(folder).display().to_string()),
    };
    let mut notes = Vec::new();
    let all = series(&read, &mut notes);
    let mut report = StudyReport {
        schema: SCHEMA,
        study: study.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made_of,
        cells: cells.iter().map(line).collect(),
        rows: rows(&all),
        choices: choices::choices(&all),
        contrasts: Vec::new(),
        gates: Vec::new(),
        notes,
    };
    report.gates = gates(&study.gates, &report);
    report.contrasts = contrasts::answers(&study.grid, &all, &mut report.notes);
    Ok(Gathered { report, cells: read })
}

impl Gathered<'_> {
    /// Every number of every cell.
    pub(super) fn tidy(&self) -> Tidy {
        let cells: Vec<tidy::Cell<'_>> = self
            .cells
            .iter()
            .map(|Read { cell, report, .. }| tidy::Cell {
                name: &cell.name,
                group: &cell.group,
                seed: cell.recipe.train.seed,
                at: &cell.at,
                report,
            })
            .collect();
        Tidy::of(&cells)
    }
}

/// The rows of all groups; the series of one stand together.
fn rows(all: &[Series<'_>]) -> Vec<Row> {
    all.chunk_by(|a, b| a.group == b.group).flat_map(rows_of_group).collect()
}

fn rows_of_group(group: &[Series<'_>]) -> Vec<Row> {
    let is_rival = |one: &Series<'_>| !["base", "tuned"].contains(&one.candidate);
    let mut best: HashMap<_, (f64, &Series<'_>)> = HashMap::new();
    for one in group.iter().filter(|one| one.headline && is_rival(one)) {
        let sign = if one.kind == MetricKind::Task { 1.0 } else { -1.0 };
        let score = one.values.mean().map_or(f64::NEG_INFINITY, |found| sign * found.mean);
        let leader = best.entry(one.measure()).or_insert((score, one));
        if score > leader.0 {
            *leader = (score, one);
        }
    }
    let named: HashMap<_, &Series<'_>> =
        group.iter().map(|one| ((one.candidate, one.measure()), one)).collect();
    let row = |one: &Series<'_>| {
        let less = |candidate: &str| {
            let other = named.get(&(candidate, one.measure())).filter(|_| one.candidate != candidate);
            one.less(other?)?.difference()
        };
        let rival = is_rival(one);
        let leader = best.get(&one.measure()).filter(|_| rival && one.headline);
        Some(Row {
            group: one.group.to_owned(),
            candidate: one.candidate.to_owned(),
            method: one.method.map(str::to_owned),
            lambda: one.lambda,
            suite: one.suite.to_owned(),
            metric: one.metric.to_owned(),
            judge: one.judge.map(str::to_owned),
            kind: one.kind,
            headline: one.headline && !one.validation,
            seeds: one.seeds.clone(),
            values: one.values.seed_means(),
            estimate: one.values.mean()?,
            less_base: less("base"),
            less_tuned: if rival { less("tuned") } else { None },
            behind_best: leader.and_then(|(_, leader)| behind(one, leader)),
        })
    };
    group.iter().filter_map(row).collect()
}

/// The probability of a paired test against the best of a column; 1 where the two score the same.
fn behind(one: &Series<'_>, best: &Series<'_>) -> Option<f64> {
    match one.values.mean()?.mean.total_cmp(&best.values.mean()?.mean).is_eq() {
        true => Some(1.0),
        false => one.less(best)?.difference()?.p,
    }
}

/// What a study says to each gate, by group of cells that have its candidate.
fn gates(gates: &[Gate], report: &StudyReport) -> Vec<GateResult> {
    let mut results = Vec::new();
    for gate in gates {
        let before = results.len();
        for group in report.groups() {
            let row = report.rows.iter().find(|row| {
                let metric = gate.metric.as_ref().map_or(row.headline, |metric| *metric == row.metric);
                row.group == group && row.candidate == gate.candidate && row.suite == gate.suite && metric
            });
            let Some(row) = row else { continue };
            let found = match gate.against {
                None => Some(row.estimate),
                Some(Against::Base) => row.less_base,
                Some(Against::Tuned) => row.less_tuned,
            };
            results.push(GateResult::of(
                gate,
                group,
                found.map(|found| found.mean),
                found.and_then(|found| found.over_prompts),
            ));
        }
        if results.len() == before {
            results.push(GateResult::of(gate, "", None, None));
        }
    }
    results
}
