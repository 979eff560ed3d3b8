//! The pipeline on one screen: plan → tune → cast → ask → judge → report.
//!
//! - [`plan`]: the recipe settled; its parts are what the stages get. A grid varies recipes and plans each.
//! - [`session`]: the run folder in use: held, logged, stopped.
//! - [`harden`]: the base made harder to mistune, before the training.
//! - [`tune`]: the training stage. Objectives and optimizers live in [`crate::train`].
//! - [`cast`]: which weights play base, tuned and merged, by role; what steers a candidate comes to it here.
//! - [`probe`]: layers put back one by one, for merges that go by which of them bring refusals back.
//! - [`ask`]: every candidate asked; answers stored by what they depend on, which runs share.
//! - [`judge`]: stored answers judged, whenever and wherever they came from.
//! - [`audit`]: the requests of a file labelled by a judge.
//! - [`export`]: model folders and adapters with their cards, of a run or of any models merged.
//! - [`guard`]: a small model that labels requests and answers the harmful ones: trained as any, measured, in front.
//! - [`inspect`]: which layers of a model its refusals hang on.
//! - [`steer`]: vectors that steer hidden states, fitted on anchors, and the classifier that says which way.
//! - [`proof`]: self-test and benches.
//! - [`work`]: a recipe settled, with its training or with given weights.
//! - [`landscape`]: many models around and between base and tuned model asked, as curves and planes.
//! - [`study`]: the cells of a grid, each a run, and what they say together.
//!
//! Each stage leaves a finished folder or nothing; the same command again does what is missing. A stage can be
//! made without the ones before it: [`alone`] asks and judges any model, [`review`] judges and shows what was said,
//! [`compare`] lays runs side by side, [`diff`] says how two differ, [`reproduce`] makes one again, [`clean`] takes away
//! what can be had again.

use std::path::Path;
use std::sync::atomic::AtomicBool;

pub mod alone;
pub mod ask;
pub mod audit;
pub mod cast;
pub mod chat;
pub mod clean;
pub mod compare;
mod conclude;
pub mod diff;
pub mod export;
pub mod failure;
pub mod guard;
mod harden;
pub mod inspect;
pub mod judge;
pub mod landscape;
pub mod manifest;
pub mod pages;
pub mod plan;
pub mod preview;
mod probe;
pub mod proof;
pub mod publish;
pub mod reproduce;
pub mod review;
pub mod session;
mod sheets;
pub mod start;
pub mod steer;
pub mod study;
mod tune;
pub mod work;

pub use failure::{Failure, Stopped};
pub use plan::{Options, Plan, Shared};
pub use work::Work;

use crate::eval::Denominator;
use crate::eval::presets::Preset;
use crate::event::{Event, Listener};
use crate::recipe::MethodKind;
use crate::report::{Report, Run};
use crate::snapshot::writer::{file_at_once, write_json};
use ask::{Exam, ask};
use cast::Cast;
use conclude::{conclude, prove};
use export::run_card::Exported;
use judge::Case;
use plan::sources;
use session::Session;

/// Runs a plan to its report.
///
/// # Errors
///
/// Whatever goes wrong; what was finished before stays finished.
pub fn run<'a>(plan: &Plan, stop: &'a AtomicBool, watcher: &'a mut Listener<'a>) -> Result<Report, Failure> {
    let mut session = Session::open(&plan.folder, Some(&plan.key), stop, watcher)?;
    session.share(!plan.options.own_answers);
    for sentence in &plan.said {
        session.note(sentence.clone())?;
    }
    prove(&plan.opened, &plan.model)?;
    write_inputs(plan, session.folder().path())?;
    let start = harden::harden(plan, &mut session)?;
    let validation_loss = tune::tune(plan, &start, &mut session)?;
    let cast = probe::cast(plan, &mut session)?.behind(plan.guard.as_ref());
    plan.write_questions()?;
    let Plan { model, machine, evaluation, .. } = plan;
    let exam = Exam { model, evaluation, machine, device: &plan.opened.name };
    let asked = ask(exam, &cast, &mut session)?;
    let (seed, gates) = (plan.recipe.train.seed, plan.recipe.gates.clone());
    let case = Case { run: about(plan, validation_loss), seed, asked, gates };
    let settings = (&plan.recipe.eval, plan.recipe.train.compute);
    let report = conclude(&case, settings, (machine, evaluation.rows), &mut session)?;
    if plan.options.keep_merged {
        keep_merged(plan, &cast, &mut session)?;
    }
    manifest::finish(session.folder().path())?;
    session.event(Event::RunDone)?;
    Ok(report)
}

/// The recipe as written, the lock and the manifest.
fn write_inputs(plan: &Plan, folder: &Path) -> Result<(), Failure> {
    file_at_once(&folder.join("recipe.toml"), plan.recipe_text.as_bytes())?;
    sources::write_lock(folder, &plan.commits, &plan.digests())?;
    write_json(&folder.join(manifest::FILE), &plan.manifest()?)?;
    Ok(())
}

fn keep_merged(plan: &Plan, cast: &Cast, session: &mut Session<'_>) -> Result<(), Failure> {
    for candidate in cast.candidates.iter().filter(|candidate| candidate.merge().is_some()) {
        let target = session.folder().merged(&candidate.name);
        if target.is_dir() {
            tune::carry_template(plan, &target)?;
            continue;
        }
        let weights = cast.played(candidate)?.weights;
        tune::write_model(plan, &target, weights, Exported::Merged(&candidate.name))?;
        session.note(format!("wrote `{}`", target.display()))?;
    }
    Ok(())
}

fn about(plan: &Plan, validation_loss: Option<f64>) -> Run {
    let Plan { recipe, training, evaluation, .. } = plan;
    let method = &training.method;
    let source = |path: &str| {
        Path::new(path).file_name().map_or(path.to_owned(), |name| name.to_string_lossy().into())
    };
    let preset = evaluation.judges.preset;
    let frozen = match training.train.freeze.as_slice() {
        [] => String::new(),
        places => format!(", {} frozen", places.join(", ")),
    };
    Run {
        name: recipe.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: recipe.model.source.clone(),
        data: source(&recipe.data.source),
        method: match method.kind {
            MethodKind::Lora => format!("LoRA, rank {}, alpha {}{frozen}", method.rank, method.alpha),
            MethodKind::Full => format!("full{frozen}"),
        },
        steps: training.last_step,
        seed: training.train.seed,
        device: plan.opened.spec.to_string(),
        dtype: plan.base.dtypes.to_string(),
        validation_loss,
        preset: preset.map(Preset::in_words),
        denominator: preset.map_or(Denominator::All, |preset| preset.denominator),
    }
}
