//! `finetune inspect`: which layers carry a model's refusals, by three probes; and [how much](scores()) each of its
//! numbers matters to what a file teaches.
//!
//! Li et al., "Safety Layers in Aligned Large Language Models: The Key to LLM Security", 2024, arXiv 2408.17003, find
//! them by [cosines](cosine) of hidden states and by [scaling](scaling) their weights; [restoring](restore) them one by
//! one in a tuned model is ours. What is asked is stored as an evaluation's answers are, in `inspect/` of the run folder.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde_json::json;

pub mod cosine;
mod restore;
pub mod scaling;
mod scores;
pub(in crate::run) mod subject;

pub use scores::scores;
pub use subject::Of;

use super::failure::{Failure, InspectError};
use super::pages;
use super::plan::Options;
use super::plan::sources::Sources;
use super::session::Session;
use crate::doing;
use crate::event::Listener;
use crate::hub;
use crate::recipe::{self, RecipeError};
use crate::report::SuiteSetup;
use crate::report::inspection::{Found, Inspection};
use crate::snapshot::writer::{file_at_once, write_json};
use subject::Subject;

/// The version of what is written.
const SCHEMA: u32 = 1;

/// How layers are looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// Put each back to the base in the tuned model, and count refusals.
    Restore,
    /// Multiply the weights of each, and count refusals.
    Scaling,
    /// Compare hidden states of normal and malicious prompts.
    Cosine,
}

impl Probe {
    fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Scaling => "scaling",
            Self::Cosine => "cosine",
        }
    }
}

/// What is to be found out.
#[derive(Debug, Clone)]
pub struct Asked {
    pub of: Of,
    pub probe: Probe,
    /// What is asked instead of a run's own suites.
    pub suites: Vec<recipe::Suite>,
    /// Assignments to the recipe's keys.
    pub set: Vec<String>,
    /// Look into the tuned model of a run and not into its base; [`Probe::Restore`] needs both.
    pub tuned: bool,
    /// The layers of each row, both ends included; empty for each layer alone.
    pub ranges: Vec<[usize; 2]>,
    /// What [`Probe::Scaling`] multiplies with.
    pub factors: Vec<f64>,
}

/// What a probe found.
struct Outcome {
    /// Whose layers were looked into.
    model: &'static str,
    suites: Vec<SuiteSetup>,
    judge: Option<String>,
    notes: Vec<String>,
    found: Found,
}

/// Looks into the layers of a model, and writes what is found into `inspect/` of the run folder, or of the folder that
/// the options name; returns it and where it was written.
///
/// # Errors
///
/// Whatever is wrong with the run, the model, the suites or the device; or the wish to stop.
pub fn layers<'a>(
    asked: &Asked,
    options: &Options,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
    tell: &mut hub::Tell<'_>,
) -> Result<(Inspection, PathBuf), Failure> {
    let _doing = doing::now(format!("looking into the layers of `{}`", asked.of));
    let (recipe, origin) = asked.of.recipe(&asked.set)?;
    let mut sources = Sources::new(&origin, asked.of.run(), tell);
    let subject = Subject::open(&asked.of, recipe, options, &mut sources)?;
    let n_layers = subject.model.shape.n_layers;
    let ranges = ranges(&asked.ranges, n_layers)?;
    let folder = subject.folder.join("inspect");
    let outcome = match asked.probe {
        Probe::Restore => {
            let probe = restore::Restore::new(&subject, asked, &ranges, &mut sources)?;
            probe.run(&mut Session::open(&folder, None, stop, watcher)?)?
        }
        Probe::Scaling => {
            let probe = scaling::Scaling::new(&subject, asked, &ranges, &mut sources)?;
            probe.run(&mut Session::open(&folder, None, stop, watcher)?)?
        }
        Probe::Cosine if !asked.ranges.is_empty() => {
            return Err(
                bad("--layers", "given".to_owned(), "nothing: all layers are compared at once").into()
            );
        }
        Probe::Cosine => {
            let probe = cosine::Cosines::new(&subject, asked, &mut sources)?;
            probe.run(&mut Session::open(&folder, None, stop, watcher)?)?
        }
    };
    let Outcome { model, suites, judge, mut notes, found } = outcome;
    notes.extend(sources.traces.said.clone());
    let (probe, of) = (asked.probe.name(), asked.of.to_string());
    let inspection = Inspection { schema: SCHEMA, probe, of, model, suites, judge, notes, found };
    // What was found of the base is not written over.
    let suffix = if asked.tuned { "-tuned" } else { "" };
    let path = folder.join(format!("layers-{probe}{suffix}.json"));
    write_json(&path, &json!(inspection))?;
    file_at_once(&path.with_extension("csv"), inspection.csv().as_bytes())?;
    file_at_once(&path.with_extension("svg"), inspection.svg().as_bytes())?;
    file_at_once(&path.with_extension("html"), inspection.html().as_bytes())?;
    asked.of.run().map(pages::redraw).transpose()?;
    Ok((inspection, path))
}

/// The layers of each row: those asked for, or each alone.
fn ranges(asked: &[[usize; 2]], n_layers: usize) -> Result<Vec<[usize; 2]>, RecipeError> {
    if asked.is_empty() {
        return Ok((0..n_layers).map(|layer| [layer, layer]).collect());
    }
    match asked.iter().find(|[from, to]| from > to || *to >= n_layers) {
        Some(range) => {
            let expected = format!("layers from 0 to {}, such as 1-2", n_layers.saturating_sub(1));
            Err(bad("--layers", in_words(*range), &expected))
        }
        None => Ok(asked.to_vec()),
    }
}

/// `3` or `4-7`.
fn in_words([from, to]: [usize; 2]) -> String {
    if from == to { from.to_string() } else { format!("{from}-{to}") }
}

fn bad(key: &str, found: String, expected: &str) -> RecipeError {
    RecipeError::BadValue { key: key.to_owned(), found, expected: expected.to_owned() }
}

/// That a probe which needs base and tuned model has both.
fn no_tuned(asked: &Asked) -> InspectError {
    InspectError::NeedsRun { model: asked.of.to_string() }
}
