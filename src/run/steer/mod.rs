//! `finetune steer`: vectors that steer hidden states, fitted on anchors; and the classifier alone, as a guard of prompts.
//!
//! Cao, Yang and Zhao 2024, arXiv 2408.11491 (SCANS). What is fitted on one model is written to one file, by which the
//! candidates of any run of that model are steered (`[steer]` of a recipe).

use std::path::PathBuf;
use std::sync::Arc;

mod anchors;
mod fit;
mod score;

pub use fit::{Fit, fit};
pub use score::{Score, score};

use super::failure::{Failure, InspectError};
use super::inspect::Of;
use super::inspect::subject::Subject;
use crate::merge::Rounded;
use crate::model::Decoder;
use crate::run::cast::RoleWeights;
use crate::snapshot::SharedWeights;

/// The version of what is written.
const SCHEMA: u32 = 1;

/// The model whose states are read, what it is called, and the weights as they are evaluated.
fn read_from(of: &Of, subject: &Subject, tuned: bool) -> Result<(&'static str, RoleWeights), Failure> {
    let needs_run = || InspectError::NeedsRun { model: of.to_string() };
    let (name, own) = subject.one(tuned).ok_or_else(needs_run)?;
    let weights: SharedWeights = Arc::new(Rounded::new(own.weights, &subject.base.dtypes));
    Ok((name, RoleWeights { weights, key: own.key }))
}

/// The model on its device.
fn loaded(subject: &Subject, weights: &RoleWeights) -> Result<Decoder, Failure> {
    let Subject { model, machine, .. } = subject;
    Ok(Decoder::load(&model.shape, &weights.weights, &machine.device, machine.answers)?)
}

/// Where it is written: the folder that the options name, `steer/` of a run folder, or one of its own.
fn folder(of: &Of, out: Option<&PathBuf>, subject: &Subject) -> PathBuf {
    let own = || match of {
        Of::Run(run) => run.join("steer"),
        Of::Model(_) => {
            let name = subject.model.folder.file_name().unwrap_or_default().to_string_lossy();
            PathBuf::from("runs").join(format!("steer-{name}-{}", &subject.base.key[..8]))
        }
    };
    out.cloned().unwrap_or_else(own)
}
