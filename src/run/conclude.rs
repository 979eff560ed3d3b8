//! The end of everything that asks: answers judged, the report written.

use serde_json::json;

use super::ask::Index;
use super::failure::Failure;
use super::judge::settle::Means;
use super::judge::{Case, scores};
use super::plan::Model;
use super::proof::selftest;
use super::session::Session;
use super::{pages, sheets};
use crate::device::{self, Opened};
use crate::recipe::{Compute, Eval};
use crate::report::{Report, gates};
use crate::snapshot::files::read_json;
use crate::snapshot::writer::write_json;
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
    write_json(&folder.join("report.json"), &json!(report))?;
    // Who has the page with the answers has it with all of them.
    if folder.join(pages::ANSWERS).is_file() {
        pages::write_answers(&folder, &report, &sheets::sheet(case, &verdicts))?;
    }
    pages::write(&folder, &report)?;
    Ok(report)
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
