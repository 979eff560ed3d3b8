//! `finetune landscape`: safety and task along base → tuned, along random directions around a model and over planes.
//!
//! Peng et al., "Navigating the Safety Landscape: Measuring Risks in Finetuning Large Language Models", 2024, arXiv
//! 2405.17374. Each point is a candidate whose weights are computed as they are asked for; its answers are stored by
//! content like everybody's, so that a killed command goes on and what the run has asked before is not asked again.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::json;

mod points;
mod subject;

pub use points::Request;
pub use subject::{Subject, recipe_of};

use super::ask::{Exam, ask};
use super::conclude::prove;
use super::failure::Failure;
use super::judge::settle::Means;
use super::judge::{Case, scores};
use super::session::{Key, Session};
use crate::event::Listener;
use crate::report::landscape::{Landscape, csv, markdown, pictures};
use crate::report::plot::Picture;
use crate::snapshot::writer::{file_at_once, write_json};
use points::Points;

/// Asks every point, judges what was said and writes numbers and pictures into `folder`.
///
/// # Errors
///
/// Whatever goes wrong, or a stop that was asked for; what was answered before stays.
pub fn landscape<'a>(
    subject: Subject,
    request: &Request,
    folder: &Path,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
) -> Result<Landscape, Failure> {
    let Subject { model, evaluation, machine, opened, cast, run, seed } = subject;
    let Points { cast, layout } = Points::laid(cast, request)?;
    let key = Key::new(json!({ "landscape": cast.made_of() }));
    let mut session = Session::open(folder, Some(&key), stop, watcher)?;
    prove(&opened, &model)?;
    let exam = Exam { model: &model, evaluation: &evaluation, machine: &machine, device: &opened.name };
    let asked = ask(exam, &cast, &mut session)?;
    let case = Case { run, seed, asked, gates: Vec::new() };
    let means = Means { session: &mut session, machine: &machine, rows: evaluation.rows };
    let verdicts = case.verdicts(Some(means))?;
    let (report, _) = scores::report(&case, &verdicts)?;
    let found = Landscape::of(&report, &layout);
    write_json(&folder.join("landscape.json"), &json!(found))?;
    file_at_once(&folder.join("landscape.csv"), &csv(&found))?;
    let pictures = pictures(&found);
    sweep(folder, &pictures);
    for picture in &pictures {
        file_at_once(&folder.join(&picture.file), picture.svg.as_bytes())?;
    }
    file_at_once(&folder.join("landscape.md"), markdown(&found, &pictures).as_bytes())?;
    Ok(found)
}

/// Takes away the pictures of an earlier call that this one does not draw again.
fn sweep(folder: &Path, pictures: &[Picture]) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours =
            ["across-", "around-", "compared-", "plane-"].iter().any(|start| name.starts_with(start));
        if is_ours && pictures.iter().all(|picture| picture.file != name) {
            // A picture too many does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
