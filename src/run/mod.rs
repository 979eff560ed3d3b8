//! The pipeline on one screen: plan → train → merge and evaluate → report.
//!
//! Each stage leaves a finished folder or nothing; the same command again does what is missing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

pub mod again;
mod answers;
mod asking;
pub mod bert_score;
mod card;
pub mod chat;
pub mod evaluate;
pub mod failure;
pub mod fisher;
pub mod folder;
pub mod judge_model;
mod judging;
mod lineage;
pub mod merge;
mod overlap;
pub mod plan;
pub mod preview;
mod programs;
pub mod questions;
pub mod selftest;
mod sides;
pub mod sources;
mod stores;

pub use failure::{Failure, Stopped};
pub use plan::{Options, Plan};

use crate::device;
use crate::eval::presets::Preset;
use crate::eval::score::Denominator;
use crate::event::{Event, Listener};
use crate::recipe::Kind;
use crate::report::{self, Report};
use crate::snapshot::Weights;
use crate::snapshot::writer::{self, file_at_once, folder_at_once, write_json};
use crate::train::checkpoint::Checkpoints;
use crate::train::{self, Outcome};
use card::Exported;
use evaluate::{Candidate, Evaluated, evaluate, task};
use folder::{Folder, FolderError, Logs};
use sides::Sides;

/// Where events go: the run's logs and whoever watches.
pub struct Sink<'a> {
    logs: Logs,
    watcher: &'a mut Listener<'a>,
}

impl Sink<'_> {
    fn event(&mut self, event: Event) -> Result<(), FolderError> {
        let written = self.logs.write(&event);
        (self.watcher)(event);
        written
    }

    /// Tells how many items are stored; an error if the run was asked to stop.
    fn advance(&mut self, done: u64, stop: &AtomicBool, folder: &str) -> Result<(), Failure> {
        self.event(Event::Progress { done })?;
        if stop.load(Ordering::Relaxed) {
            return Err(Stopped { folder: folder.to_owned() }.into());
        }
        Ok(())
    }
}

/// Runs a plan to its report.
///
/// # Errors
///
/// Whatever goes wrong; what was finished before stays finished.
pub fn run<'a>(
    plan: &Plan,
    stop: &AtomicBool,
    watcher: &'a mut Listener<'a>,
) -> Result<(Report, Folder), Failure> {
    let folder = Folder::hold(&plan.folder, &plan.key)?;
    let mut sink = Sink { logs: Logs::open(&folder)?, watcher };
    for sentence in &plan.said {
        sink.event(Event::Note { text: sentence.clone() })?;
    }
    if !device::is_cpu(&plan.machine.device) {
        // A wrong GPU must never produce a table.
        let (spec, device) = (plan.opened.spec.to_string(), &plan.machine.device);
        selftest::compare_with_processor(&spec, device, Some(&plan.shape))?;
    }
    write_inputs(plan, &folder)?;
    let validation_loss = train_stage(plan, &folder, stop, &mut sink)?;
    let mut logged = Ok(());
    let sides = Sides::open(plan, &folder, stop, &mut |event| {
        if let Err(error) = sink.event(event) {
            logged = Err(error);
        }
    })?;
    logged?;
    let evaluated = evaluate(plan, &folder, Some(&sides), stop, &mut sink)?;
    if plan.options.keep_merged {
        keep_merged(plan, &folder, &sides, &mut sink)?;
    }
    let report = report_of(plan, validation_loss, evaluated);
    write_report(&folder, &report)?;
    Ok((report, folder))
}

/// What a run found out, as the report has it.
fn report_of(plan: &Plan, validation_loss: Option<f64>, evaluated: Evaluated) -> Report {
    let Evaluated { candidates, paired, merge, agreement } = evaluated;
    let suites = plan.suites.iter().map(|suite| suite.asked(&plan.recipe.eval)).collect();
    Report { schema: 1, run: about(plan, validation_loss), suites, candidates, paired, merge, agreement }
}

/// Writes the report in every format; answers are in none of them.
fn write_report(folder: &Folder, report: &Report) -> Result<(), Failure> {
    let path = |name: &str| folder.path().join(name);
    write_json(&path("report.json"), &json!(report))?;
    file_at_once(&path("report.md"), report::markdown(report).as_bytes())?;
    file_at_once(&path("report.html"), report::html(report, None).as_bytes())?;
    Ok(())
}

/// The recipe as written, the lock and the manifest.
fn write_inputs(plan: &Plan, folder: &Folder) -> Result<(), Failure> {
    file_at_once(&folder.path().join("recipe.toml"), plan.recipe_text.as_bytes())?;
    let entries = plan.commits.iter().chain(&plan.digests);
    let lock: String = entries.map(|(name, digest)| format!("{digest}  {name}\n")).collect();
    file_at_once(&folder.path().join(sources::LOCK), lock.as_bytes())?;
    write_json(&folder.path().join("manifest.json"), &plan.manifest())?;
    Ok(())
}

/// Trains unless it is done; returns the last validation loss.
fn train_stage(
    plan: &Plan,
    folder: &Folder,
    stop: &AtomicBool,
    sink: &mut Sink<'_>,
) -> Result<Option<f64>, Failure> {
    let result = folder.train().join("result.json");
    if let Ok(bytes) = std::fs::read(&result) {
        sink.event(Event::Reused { name: "train".to_owned() })?;
        let found: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        return Ok(found["validation_loss"].as_f64());
    }
    let started = Instant::now();
    sink.event(Event::Stage { name: "train".to_owned(), total: plan.last_step as u64 })?;
    let (mut validation_loss, mut logged) = (None, Ok(()));
    let outcome = train::train(
        &task(plan),
        &plan.machine,
        &folder.train(),
        plan.options.allow_device_change,
        stop,
        &mut |event| {
            if let Event::Validation { loss, .. } = event {
                validation_loss = Some(loss);
            }
            if let Err(error) = sink.event(event) {
                logged = Err(error);
            }
        },
    )?;
    logged?;
    if let Outcome::Stopped { .. } = outcome {
        return Err(Stopped { folder: folder.path().display().to_string() }.into());
    }
    export(plan, folder)?;
    // Written last: a stage with a result is a stage that finished.
    let elapsed_s = started.elapsed().as_secs_f64();
    write_json(
        &result,
        &json!({ "steps": plan.last_step, "validation_loss": validation_loss, "elapsed_s": elapsed_s }),
    )?;
    sink.event(Event::StageDone { name: "train".to_owned(), elapsed_s })?;
    Ok(validation_loss)
}

/// Writes the adapter as PEFT does, or the tuned model as transformers does.
fn export(plan: &Plan, folder: &Folder) -> Result<(), Failure> {
    let name = match plan.recipe.method.kind {
        Kind::Lora => "adapter",
        Kind::Full => "model",
    };
    let target = folder.train().join(name);
    // A folder that is there was renamed into place whole.
    if target.is_dir() {
        return Ok(());
    }
    match plan.recipe.method.kind {
        Kind::Lora => folder_at_once::<Failure>(&target, |files| {
            let base = card::base(plan);
            evaluate::adapter(plan, folder)?.write_files(files, &base)?;
            let weights = plan.digests.keys().filter_map(|name| name.strip_prefix("model/"));
            let weights = weights.filter(|name| name.ends_with(".safetensors"));
            let weights: Vec<_> = weights.map(|name| plan.base_folder.join(name)).collect();
            lineage::record(files, &base, &weights)?;
            card::write(files, plan, Exported::Adapter)?;
            Ok(writer::copy_side_files(&plan.base_folder, files)?)
        }),
        Kind::Full => {
            // The export is rounded; the last checkpoint is not.
            let tuned = Checkpoints::new(&folder.train(), 0).weights(plan.last_step)?;
            write_model(plan, &target, &tuned, Exported::Tuned)
        }
    }
}

/// Writes a model with its card.
fn write_model(plan: &Plan, target: &Path, weights: &dyn Weights, what: Exported<'_>) -> Result<(), Failure> {
    let finish = |folder: &Path| card::write(folder, plan, what);
    Ok(writer::write_model(target, weights, &plan.base_folder, Some(plan.dtype), finish)?)
}

fn keep_merged(plan: &Plan, folder: &Folder, sides: &Sides<'_>, sink: &mut Sink<'_>) -> Result<(), Failure> {
    for candidate in Candidate::all(plan).iter().skip(2) {
        let target = folder.merged(&candidate.name());
        if target.is_dir() {
            continue;
        }
        sides.with(candidate, |weights| {
            write_model(plan, &target, weights, Exported::Merged(&candidate.name()))
        })?;
        sink.event(Event::Note { text: format!("wrote `{}`", target.display()) })?;
    }
    Ok(())
}

fn about(plan: &Plan, validation_loss: Option<f64>) -> report::Run {
    let method = &plan.recipe.method;
    let source = |path: &str| {
        Path::new(path).file_name().map_or(path.to_owned(), |name| name.to_string_lossy().into())
    };
    report::Run {
        name: plan.recipe.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: plan.recipe.model.source.clone(),
        data: source(&plan.recipe.data.source),
        method: match method.kind {
            Kind::Lora => format!("LoRA, rank {}, alpha {}", method.rank, method.alpha),
            Kind::Full => "full".to_owned(),
        },
        steps: plan.last_step,
        seed: plan.recipe.train.seed,
        device: plan.opened.spec.to_string(),
        dtype: plan.dtype.to_string(),
        validation_loss,
        preset: plan.preset.map(Preset::in_words),
        denominator: plan.preset.map_or(Denominator::All, |preset| preset.denominator),
    }
}
