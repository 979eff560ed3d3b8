//! A recipe settled: with its training, or with tuned weights that are given.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::alone::{Given, Settled};
use super::failure::Failure;
use super::plan::sources::Sources;
use super::plan::{Options, Plan, Shared};
use crate::event::Listener;
use crate::hub;
use crate::recipe::Recipe;
use crate::report::Report;
use crate::snapshot::SnapshotError;

/// What a recipe comes to.
pub enum Work {
    /// Training, merges, evaluation.
    Trained(Box<Plan>),
    /// Merges and evaluation of what `[model] tuned` names.
    Given(Box<Settled>),
}

impl Work {
    /// Settles a recipe; `text` is kept in the run folder as what was asked.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the recipe, the model, the data or the device.
    pub fn new(
        recipe: Recipe,
        (text, origin): (String, String),
        options: Options,
        shared: &mut Shared,
        tell: &mut hub::Tell<'_>,
    ) -> Result<Self, Failure> {
        let Some(tuned) = recipe.model.tuned.clone() else {
            return Ok(Self::Trained(Box::new(Plan::new(recipe, text, origin, options, shared, tell)?)));
        };
        let mut sources = Sources::new(&origin, options.out.as_deref(), tell);
        let given = Given::tuned(&tuned, &recipe, &mut sources)?;
        Ok(Self::Given(Box::new(Settled::new(given, recipe, &origin, &options, sources, shared)?)))
    }

    /// The digest of what decides its models.
    pub fn key(&self) -> &str {
        match self {
            Self::Trained(plan) => &plan.key.digest,
            Self::Given(settled) => settled.key(),
        }
    }

    /// The parts that this is the digest of.
    pub fn key_parts(&self) -> &Value {
        match self {
            Self::Trained(plan) => &plan.key.parts,
            Self::Given(settled) => settled.key_parts(),
        }
    }

    /// What its run folder says of it.
    ///
    /// # Errors
    ///
    /// A file that was read is gone.
    pub fn manifest(&self) -> Result<Value, SnapshotError> {
        match self {
            Self::Trained(plan) => plan.manifest(),
            Self::Given(settled) => settled.manifest(),
        }
    }

    /// Where it runs.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Trained(plan) => &plan.folder,
            Self::Given(settled) => &settled.folder,
        }
    }

    /// Says where it runs.
    pub fn place(&mut self, folder: PathBuf) {
        match self {
            Self::Trained(plan) => plan.folder = folder,
            Self::Given(settled) => settled.folder = folder,
        }
    }

    /// Every file and folder that was read.
    pub fn found(&self) -> &BTreeSet<PathBuf> {
        match self {
            Self::Trained(plan) => &plan.found,
            Self::Given(settled) => settled.found(),
        }
    }

    /// Runs it to its report.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; what was finished before stays finished.
    pub fn run<'a>(&self, stop: &'a AtomicBool, watcher: &'a mut Listener<'a>) -> Result<Report, Failure> {
        match self {
            Self::Trained(plan) => super::run(plan, stop, watcher),
            Self::Given(settled) => settled.run(stop, watcher),
        }
    }
}
