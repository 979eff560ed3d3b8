//! The stage that trains, and the export of what it made.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::cast;
use super::export::lineage;
use super::export::run_card::{self, Exported};
use super::failure::Failure;
use super::guard::fit;
use super::plan::guard::Card;
use super::plan::{Base, Plan, Training};
use super::session::Session;
use crate::event::Event;
use crate::merge::Rounded;
use crate::recipe::{EMA, MethodKind, OfAdapter};
use crate::snapshot::adapter::Adapter;
use crate::snapshot::files::read_json;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::writer::{self, folder_at_once, write_json};
use crate::snapshot::{SharedWeights, SnapshotError};
use crate::train::checkpoint::Checkpoints;
use crate::train::{self, Outcome, averaged_adapter};

/// Trains from `start` unless it is done; returns the last validation loss.
///
/// # Errors
///
/// The loss diverges, a checkpoint is broken, the disk refuses, or the run was asked to stop.
pub fn tune(plan: &Plan, start: &Base, session: &mut Session<'_>) -> Result<Option<f64>, Failure> {
    let Plan { model, training, key, machine, options, .. } = plan;
    let folder = session.folder().train();
    let result = folder.join("result.json");
    if result.is_file() {
        // What a run exported before it carried its template along is put right.
        for exported in ["adapter", "model", "guard", EMA]
            .map(|name| folder.join(name))
            .iter()
            .filter(|path| path.is_dir())
        {
            carry_template(plan, exported)?;
        }
        session.event(Event::Reused { name: "train".to_owned(), parts: None })?;
        return Ok(validation_loss(&folder));
    }
    let task = training.task(model, start, key)?;
    session.stage("train", (training.last_step as u64, None), |session| {
        let started = std::time::Instant::now();
        let mut validation_loss = None;
        let stop = session.stop();
        let outcome = train::train(&task, machine, &folder, options.allow_device_change, stop, &mut |event| {
            if let Event::Validation { loss, .. } = event {
                validation_loss = Some(loss);
            }
            session.event(event)
        })?;
        if let Outcome::Stopped { .. } = outcome {
            return Err(session.stopped().into());
        }
        export(plan, start, session)?;
        export_average(plan, start, session)?;
        // Written last: a stage with a result is a stage that finished.
        let elapsed_s = started.elapsed().as_secs_f64();
        let found =
            json!({ "steps": training.last_step, "validation_loss": validation_loss, "elapsed_s": elapsed_s });
        write_json(&result, &found)?;
        Ok(validation_loss)
    })
}

/// The validation loss of a training that finished in this folder.
pub fn validation_loss(folder: &Path) -> Option<f64> {
    read_json::<Value>(&folder.join("result.json")).unwrap_or_default()["validation_loss"].as_f64()
}

/// Writes the adapter as PEFT does, or the tuned model as transformers does.
fn export(plan: &Plan, start: &Base, session: &mut Session<'_>) -> Result<(), Failure> {
    let Plan { model, training, .. } = plan;
    let Training { method, last_step, .. } = training;
    let folder = session.folder().train();
    if model.marks.is_some() {
        return export_guard(plan, start, &folder.join("guard"), session);
    }
    let name = match method.kind {
        MethodKind::Lora => "adapter",
        MethodKind::Full => "model",
    };
    let target = folder.join(name);
    // A folder that is there was renamed into place whole.
    if target.is_dir() {
        return Ok(());
    }
    match method.kind {
        MethodKind::Lora => {
            let adapter = cast::adapter(model, training, session.folder(), *last_step)?;
            write_adapter(plan, (start, &on(plan, session)), &target, &adapter, Exported::Adapter)
        }
        MethodKind::Full => {
            // The export is rounded; the last checkpoint is not.
            let tuned = Checkpoints::new(&folder, 0).weights(*last_step)?;
            write_model(plan, &target, Arc::new(tuned), Exported::Tuned)
        }
    }
}

/// Writes a guard whole, with the threshold that suits the requests which were held out.
fn export_guard(plan: &Plan, start: &Base, target: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    if target.is_dir() {
        return Ok(());
    }
    let Plan { model, training, .. } = plan;
    let (folder, last) = (session.folder(), training.last_step);
    let weights: SharedWeights = match training.method.kind {
        MethodKind::Lora => cast::adapted(model, start, training, folder, last)?,
        MethodKind::Full => Arc::new(Checkpoints::new(&folder.train(), 0).weights(last)?),
    };
    // It is measured as it will be read.
    let card = fit::card(plan, &Rounded::new(weights.clone(), &start.dtypes), session)?;
    let said = card.as_ref().map(Card::in_words);
    write_model_with(plan, target, weights, Exported::Guard, |folder| {
        card.map_or(Ok(()), |card| card.write(folder))
    })?;
    Ok(said.map_or(Ok(()), |said| session.note(format!("guard `{}`: {said}", target.display())))?)
}

/// Writes the average of an adapter's factors, which is an adapter. Any other average has as many numbers as the model:
/// `finetune merge` writes it where it is wanted.
fn export_average(plan: &Plan, start: &Base, session: &Session<'_>) -> Result<(), Failure> {
    let Plan { model, training, .. } = plan;
    let Training { method, train, last_step, .. } = training;
    let is_adapter = train.ema.as_ref().is_some_and(|ema| ema.lora == OfAdapter::Factors);
    let folder = session.folder().train();
    let target = folder.join(EMA);
    if !is_adapter || method.kind == MethodKind::Full || target.is_dir() {
        return Ok(());
    }
    let adapter = averaged_adapter(&model.shape, (method, train), &folder, *last_step)?;
    write_adapter(plan, (start, &on(plan, session)), &target, &adapter, Exported::Average)
}

/// What an adapter is an adapter of, as others find it.
fn on(plan: &Plan, session: &Session<'_>) -> String {
    match &plan.hardening {
        None => run_card::base(plan),
        Some(_) => session.folder().hardened().display().to_string(),
    }
}

fn write_adapter(
    plan: &Plan,
    (start, name): (&Base, &str),
    target: &Path,
    adapter: &Adapter,
    what: Exported<'_>,
) -> Result<(), Failure> {
    let Plan { model, .. } = plan;
    folder_at_once(target, |files| {
        adapter.write_files(files, name)?;
        lineage::record(files, name, &start.files)?;
        run_card::write(files, plan, what)?;
        writer::copy_side_files(&model.folder, files)?;
        Ok(carry_template(plan, files)?)
    })
}

/// Gives a folder of the run the chat template that it trained and evaluated with, or none if it did without.
///
/// # Errors
///
/// A file cannot be read or written.
pub fn carry_template(plan: &Plan, folder: &Path) -> Result<(), SnapshotError> {
    let Plan { model, recipe, .. } = plan;
    // The base's own was copied, but transformers' tokenizers do not read that file.
    let is_copied = recipe.data.template == "model" && !model.folder.join("chat_template.json").is_file();
    match is_copied {
        true => Ok(()),
        false => writer::set_template(folder, model.template.as_ref().map(ChatTemplate::source)),
    }
}

/// Writes a model with its card.
///
/// # Errors
///
/// A weight cannot be computed, or the disk refuses.
pub fn write_model(
    plan: &Plan,
    target: &Path,
    weights: SharedWeights,
    what: Exported<'_>,
) -> Result<(), Failure> {
    write_model_with(plan, target, weights, what, |_| Ok(()))
}

/// The same, and `more` adds what belongs to no other model.
fn write_model_with(
    plan: &Plan,
    target: &Path,
    weights: SharedWeights,
    what: Exported<'_>,
    more: impl FnOnce(&Path) -> Result<(), SnapshotError>,
) -> Result<(), Failure> {
    let finish = |folder: &Path| {
        carry_template(plan, folder)?;
        run_card::write(folder, plan, what)?;
        more(folder)
    };
    let Plan { model, base, .. } = plan;
    let rounded = Rounded::new(weights, &base.dtypes);
    let named = base.dtypes.named(model.dtype, &model.config);
    Ok(writer::write_model(target, &rounded, &model.folder, named, finish)?)
}
