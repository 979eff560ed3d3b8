//! The end of everything that asks: answers judged, the report written.

use std::path::Path;

use serde_json::json;

use super::ask::Index;
use super::failure::Failure;
use super::judge::settle::Means;
use super::judge::{Case, scores};
use super::plan::Model;
use super::proof::selftest;
use super::session::Session;
use crate::device::{self, Opened};
use crate::recipe::{Compute, Eval};
use crate::report::{self, Report, gates};
use crate::snapshot::files::read_json;
use crate::snapshot::writer::{file_at_once, write_json};
use crate::train::Machine;

/// Judges what was asked and reports it, with an index that lets both be done again.
///
/// # Errors
///
/// A judge cannot be asked, the disk refuses, or the run was asked to stop.
pub fn conclude(
    case: &Case,
    settings: (&Eval, Compute),
    (machine, rows): (&Machine, usize),
    session: &mut Session<'_>,
) -> Result<Report, Failure> {
    let Case { run, seed, asked, gates } = case;
    let folder = session.folder().path().to_owned();
    Index::new(run.clone(), *seed, settings, asked).write(&folder)?;
    // The models that answered are gone from memory before any judge is loaded.
    let verdicts = case.verdicts(Some(Means { session, machine, rows }))?;
    // A report that cannot be read is no reason to fail: it is written anew.
    let before: Option<Report> = read_json(&folder.join("report.json")).ok();
    let (report, outcomes) = scores::report(case, &verdicts)?;
    let mut report = report.after(before);
    report.gates = gates::of_run(gates, &report);
    write_json(&folder.join("outcomes.json"), &json!(outcomes))?;
    write_report(&folder, &report)?;
    Ok(report)
}

/// Writes the report in every format; answers are in none of them.
fn write_report(folder: &Path, report: &Report) -> Result<(), Failure> {
    let path = |name: &str| folder.join(name);
    write_json(&path("report.json"), &json!(report))?;
    file_at_once(&path("report.md"), report::markdown(report).as_bytes())?;
    file_at_once(&path("report.html"), report::html(report, None).as_bytes())?;
    for picture in report::pictures(report) {
        file_at_once(&path("pictures").join(&picture.file), picture.svg.as_bytes())?;
    }
    Ok(())
}

/// Compares the device with the processor: a wrong GPU must never produce a table.
///
/// # Errors
///
/// The two disagree.
pub fn prove(opened: &Opened, model: &Model) -> Result<(), Failure> {
    if !device::is_cpu(&opened.device) {
        selftest::compare_with_processor(&opened.spec.to_string(), &opened.device, Some(&model.shape))?;
    }
    Ok(())
}
