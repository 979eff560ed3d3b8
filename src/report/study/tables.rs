//! The study as a person reads it: a table for each group of cells, the questions and what is missing.

use std::fmt::Write;

use super::{Answer, Choice, Gallery, Row, StudyReport, title};
use crate::eval::MetricKind;
use crate::eval::choice::Rule;
use crate::eval::repeated::Estimate;
use crate::report::markdown::{escaped, section};
use crate::report::plot::Picture;
use crate::report::table::{Table, is_rate, probability};
use crate::report::terminal::draw;

pub(super) const NOTE: &str = "Mean over seeds ± standard deviation of the seeds' means; in brackets the 95 % interval over prompts, the answers to a prompt \
     under several seeds taken as one cluster. `report.json` has the intervals over seeds too, and `rows.csv` every cell.";
pub(super) const CONTRASTS: &str = "Named in the recipe before the results were there; p over prompts, corrected by Holm's method for all contrasts of \
     the study. All other differences of this report are exploratory.";

pub(super) const CHOICES: &str = "λ selected on the validation suites";

/// The study as Markdown.
pub fn markdown(report: &StudyReport, gallery: &Gallery) -> String {
    let mut text = format!("# {}\n\n{}\n\n", escaped(&report.study), state(report));
    for Picture { file, title, .. } in gallery.all() {
        let _ = write!(text, "![{}]({file})\n\n", escaped(title));
    }
    for group in report.groups() {
        section(&mut text, title(group), &overview(report, group));
    }
    let _ = write!(text, "{NOTE}\n\n");
    if !report.choices.is_empty() {
        section(&mut text, CHOICES, &choices(report));
    }
    if !report.contrasts.is_empty() {
        section(&mut text, "Contrasts named in advance", &contrasts(report));
        let _ = write!(text, "{CONTRASTS}\n\n");
    }
    for group in report.groups() {
        let table = differences(report, group);
        if !table.rows.is_empty() {
            section(&mut text, &format!("Differences: {}", title(group)), &table);
        }
    }
    for note in &report.notes {
        let _ = write!(text, "{}\n\n", escaped(note));
    }
    text
}

/// The study on a terminal, at most `width` columns wide.
pub fn terminal(report: &StudyReport, width: u16) -> String {
    let mut text = format!("{}: {}\n", report.study, state(report));
    for group in report.groups() {
        let _ = write!(text, "\n{}\n", title(group));
        text.push_str(&draw(overview(report, group), width));
    }
    if !report.choices.is_empty() {
        let _ = write!(text, "\n{CHOICES}\n");
        text.push_str(&draw(choices(report), width));
    }
    if !report.contrasts.is_empty() {
        text.push_str("\nContrasts named in advance\n");
        text.push_str(&draw(contrasts(report), width));
    }
    for note in &report.notes {
        let _ = write!(text, "\n{note}\n");
    }
    text.push_str(
        "\nMean ± sd over seeds, 95 % CI over prompts in brackets; differences are in report.md.\n",
    );
    text
}

pub(super) fn state(report: &StudyReport) -> String {
    let done = report.cells.iter().filter(|cell| cell.folder.is_some()).count();
    let missing: Vec<&str> =
        report.cells.iter().filter(|cell| cell.folder.is_none()).map(|cell| cell.name.as_str()).collect();
    match missing.as_slice() {
        [] => format!("{done} cells, all of them done"),
        [some @ .., last] if some.len() < 10 => {
            let all = some.iter().chain(std::iter::once(last)).copied().collect::<Vec<_>>().join(", ");
            format!("{done} of {} cells are done; missing: {all}", report.cells.len())
        }
        _ => format!("{done} of {} cells are done", report.cells.len()),
    }
}

pub(super) fn overview(report: &StudyReport, group: &str) -> Table {
    let rows = report.group(group);
    let columns = rows.columns();
    let seeds = columns.iter().map(|column| column.seeds.len()).max().unwrap_or(0);
    let of = if seeds == 1 { "seed" } else { "seeds" };
    let mut header = vec![format!("candidate ({seeds} {of})")];
    header.extend(columns.iter().map(|column| heading(column)));
    let row = |candidate: &&str| {
        let cell = |column: &&Row| rows.row(candidate, column).map_or("–".to_owned(), value);
        std::iter::once((*candidate).to_owned()).chain(columns.iter().map(cell)).collect()
    };
    Table { header, rows: rows.candidates().iter().map(row).collect() }
}

pub(super) fn heading(column: &Row) -> String {
    let judge = column.judge.as_deref().filter(|_| column.kind != MetricKind::Task);
    let by = judge.map(|judge| format!(" ({judge})")).unwrap_or_default();
    let arrow = if column.kind == MetricKind::Task { "↑" } else { "↓" };
    format!("{} {}{by} {arrow}", column.suite, column.metric.replace('_', " "))
}

/// A mean with what is known of it: `65.3 % ± 1.2 [59.0, 71.1]`.
pub(super) fn value(row: &Row) -> String {
    let Scale { times, digits, unit } = Scale::of(&row.metric);
    let Estimate { mean, sd, over_prompts, .. } = row.estimate;
    let sd = sd.map(|sd| format!(" ± {:.digits$}", times * sd)).unwrap_or_default();
    let interval = over_prompts
        .map(|(low, high)| format!(" [{:.digits$}, {:.digits$}]", times * low, times * high))
        .unwrap_or_default();
    format!("{:.digits$}{unit}{sd}{interval}", times * mean)
}

/// How numbers of a metric are written: rates in per cent, their differences in points.
pub(super) struct Scale {
    pub(super) times: f64,
    pub(super) digits: usize,
    unit: &'static str,
}

impl Scale {
    pub(super) fn of(metric: &str) -> Self {
        match is_rate(metric) {
            true => Self { times: 100.0, digits: 1, unit: " %" },
            false => Self { times: 1.0, digits: 3, unit: "" },
        }
    }

    fn signed(&self, value: f64) -> String {
        format!("{:+.*}", self.digits, self.times * value)
    }

    fn range(&self, (low, high): (f64, f64)) -> String {
        format!("[{}, {}]", self.signed(low), self.signed(high))
    }
}

pub(super) fn choices(report: &StudyReport) -> Table {
    let header = ["cells", "merge", "rule", "λ", "validation score", "validation attack success"];
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let row = |choice: &Choice| {
        let rule = match choice.rule {
            Rule::Score => "best score",
            Rule::Budget => "best score within the safety budget",
            Rule::Knee => "knee of the curve",
        };
        vec![
            choice
                .group
                .as_deref()
                .map_or(format!("all of {}", choice.model), |group| title(group).to_owned()),
            choice.family.clone(),
            rule.to_owned(),
            choice.lambda.to_string(),
            percent(choice.score),
            choice.attack_success.map_or("–".to_owned(), percent),
        ]
    };
    Table { header: header.map(str::to_owned).to_vec(), rows: report.choices.iter().map(row).collect() }
}

pub(super) fn contrasts(report: &StudyReport) -> Table {
    let header = [
        "contrast",
        "cells",
        "quantity",
        "estimate",
        "95 % CI over prompts",
        "95 % CI over seeds",
        "p (Holm)",
    ];
    let row = |answer: &Answer| {
        let Estimate { mean, over_prompts, over_seeds, .. } = answer.estimate;
        let by = answer.judge.as_ref().map(|judge| format!(" ({judge})")).unwrap_or_default();
        let scale = Scale::of(&answer.metric);
        let range = |ends: Option<(f64, f64)>| ends.map_or("–".to_owned(), |ends| scale.range(ends));
        vec![
            answer.name.clone(),
            title(&answer.group).to_owned(),
            format!("{}: {} {}{by}", answer.what, answer.suite, answer.metric.replace('_', " ")),
            scale.signed(mean),
            range(over_prompts),
            range(over_seeds),
            probability(answer.p_holm),
        ]
    };
    Table { header: header.map(str::to_owned).to_vec(), rows: report.contrasts.iter().map(row).collect() }
}

pub(super) fn differences(report: &StudyReport, group: &str) -> Table {
    let header = ["candidate", "metric", "Δ vs. base [95 %]", "p", "Δ vs. tuned [95 %]", "p"];
    let rows = report.rows.iter().filter(|row| row.group == group && row.headline);
    let shown = |row: &Row, found: &Option<Estimate>| match found {
        None => ["–".to_owned(), "–".to_owned()],
        Some(Estimate { mean, over_prompts, p, .. }) => {
            let scale = Scale::of(&row.metric);
            let ends = over_prompts.map(|ends| format!(" {}", scale.range(ends))).unwrap_or_default();
            [format!("{}{ends}", scale.signed(*mean)), p.map_or("–".to_owned(), probability)]
        }
    };
    let rows = rows.filter(|row| row.less_base.is_some() || row.less_tuned.is_some()).map(|row| {
        let [base, p_base] = shown(row, &row.less_base);
        let [tuned, p_tuned] = shown(row, &row.less_tuned);
        vec![row.candidate.clone(), heading(row), base, p_base, tuned, p_tuned]
    });
    Table { header: header.map(str::to_owned).to_vec(), rows: rows.collect() }
}
