//! `finetune list`: what this program knows and what this machine has.

use clap::ValueEnum;
use comfy_table::{ContentArrangement, presets};
use serde_json::{Value, json};

use super::{print, progress};
use crate::data::transforms::TRANSFORMS;
use crate::device;
use crate::eval::presets::{PRESETS, Preset};
use crate::eval::rubrics::{RUBRICS, Rubric};
use crate::eval::{judges::JUDGES, tasks::TASKS};
use crate::merge::METHODS;
use crate::model::families::FAMILIES;
use crate::recipe::shipped;
use crate::run::proof::selftest::Selftest;
use crate::train::objective::{OBJECTIVES, Row};

/// What can be listed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum What {
    Methods,
    Tasks,
    Judges,
    Presets,
    Families,
    Transforms,
    Objectives,
    Recipes,
    Devices,
}

/// A list as a table's header and rows.
pub(super) type Rows = (Vec<&'static str>, Vec<Vec<String>>);

/// Prints a list.
pub fn list(what: What, as_json: bool) {
    let (header, rows) = rows(what);
    print(&if as_json { json_of(&header, &rows) } else { draw(&header, rows) });
}

pub(super) fn rows(what: What) -> Rows {
    let text = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    match what {
        What::Methods => {
            let row = |m: &crate::merge::Method| {
                text(&[m.name, m.summary, &m.needs.in_words(), m.example, m.source])
            };
            (
                vec!["method", "summary", "needs besides", "example", "source"],
                METHODS.iter().map(row).collect(),
            )
        }
        What::Tasks => {
            let row =
                |t: &crate::eval::tasks::Task| text(&[t.name, t.summary, &t.judges.join(", "), t.source]);
            (vec!["task", "summary", "judges", "source"], TASKS.iter().map(row).collect())
        }
        What::Judges => {
            let row = |j: &crate::eval::judges::JudgeRow| text(&[j.name, j.summary, j.source]);
            let model = |r: &Rubric| text(&[r.name, &format!("{}; needs {}", r.summary, r.judge), r.source]);
            let rows = JUDGES.iter().map(row).chain(RUBRICS.iter().map(model));
            (vec!["judge", "summary", "source"], rows.collect())
        }
        What::Presets => {
            let row = |preset: &Preset| text(&[preset.name, &preset.in_words()]);
            (vec!["preset", "settles"], PRESETS.iter().map(row).collect())
        }
        What::Families => {
            (vec!["family", "models"], FAMILIES.iter().map(|f| text(&[f.name, f.summary])).collect())
        }
        What::Transforms => {
            let row =
                |t: &crate::data::transforms::Transform| text(&[t.name, t.summary, t.example, t.source]);
            let rows = TRANSFORMS.iter().map(row).chain([text(&crate::data::LISTED)]);
            (vec!["transform", "summary", "example", "source"], rows.collect())
        }
        What::Objectives => {
            let row = |o: &Row| text(&[o.name, o.summary, o.needs, o.example, o.source]);
            (vec!["objective", "summary", "needs", "example", "source"], OBJECTIVES.iter().map(row).collect())
        }
        What::Recipes => {
            (vec!["recipe", "summary"], shipped().iter().map(|r| text(&[r.name, r.summary()])).collect())
        }
        What::Devices => {
            let row = |d: device::Listed| vec![d.device, d.state, d.formats.join(", "), d.name];
            let rows = device::list().into_iter().map(row).collect();
            (vec!["device", "state", "dtypes", "name"], rows)
        }
    }
}

/// The comparisons of a self-test.
pub fn selftests(device: &str, name: &str, tests: &[Selftest], as_json: bool) -> String {
    let checks = || tests.iter().flat_map(|test| &test.checks);
    let unsupported = || tests.iter().flat_map(|test| &test.unsupported);
    if as_json {
        let checks: Vec<Value> = checks()
            .map(|check| {
                let mut value = json!(check);
                value["passed"] = json!(check.passed());
                value
            })
            .collect();
        let report = json!({
            "device": device, "name": name, "checks": checks,
            "unsupported": unsupported().collect::<Vec<_>>(),
        });
        return serde_json::to_string_pretty(&report).expect("plain data prints");
    }
    let row = |check: &crate::run::proof::selftest::Check| {
        vec![
            check.case.clone(),
            check.part.clone(),
            format!("{:.2e}", check.measured),
            format!("{:.0e}", check.allowed),
            if check.passed() { "ok" } else { "WRONG" }.to_owned(),
        ]
    };
    let table = draw(&["case", "part", "measured", "allowed", ""], checks().map(row).collect());
    let failed = checks().filter(|check| !check.passed()).count();
    let skipped: Vec<&String> = unsupported().collect();
    let skipped = if skipped.is_empty() { String::new() } else { format!("; unsupported: {skipped:?}") };
    format!("{device} ({name})\n{table}\n{} comparisons, {failed} wrong{skipped}", checks().count())
}

pub(super) fn draw(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(progress::width())
        .set_header(header.to_vec())
        .add_rows(rows);
    table
        .to_string()
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

pub(super) fn json_of(header: &[&str], rows: &[Vec<String>]) -> String {
    let object = |row: &Vec<String>| {
        header
            .iter()
            .zip(row)
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
    };
    let list: Vec<_> = rows.iter().map(object).collect();
    serde_json::to_string_pretty(&list).expect("plain data prints")
}
