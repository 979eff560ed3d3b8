//! What a training left behind, as weights.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::merge::{EMBEDDING, HEAD, MergeError};
use crate::model::rows;
use crate::recipe::{Method, MethodKind, OfAdapter};
use crate::run::failure::Failure;
use crate::run::plan::{Base, Model, Training};
use crate::run::session::Folder;
use crate::snapshot::adapter::{Adapter, Folded};
use crate::snapshot::digest::{self, Algorithm, of_json};
use crate::snapshot::grown::Moved as MovedRows;
use crate::snapshot::{SharedWeights, SnapshotError, Weights};
use crate::train::checkpoint::Checkpoints;
use crate::train::ema::Moved;
use crate::train::{averaged_adapter, trained_adapter};

/// The digest of what decides a tuned model, by the base and the numbers that the training left in a checkpoint.
///
/// # Errors
///
/// The checkpoint is not there.
pub fn key_of_tuned(base: &Base, method: &Method, numbers: &Path) -> Result<String, SnapshotError> {
    // What was trained is known by its numbers: on a GPU one recipe does not give one model.
    let trained = digest::known(numbers, Algorithm::Blake3)?;
    // Of an adapter the checkpoint has the factors, and the method their scale.
    let method = (method.kind == MethodKind::Lora).then_some(method);
    Ok(of_json(&json!([base.key, trained, method])))
}

/// The adapter that a training left after `step` steps.
///
/// # Errors
///
/// The checkpoint is missing or broken.
pub fn adapter(model: &Model, training: &Training, folder: &Folder, step: usize) -> Result<Adapter, Failure> {
    let (method, train) = (&training.method, &training.train);
    Ok(trained_adapter(&model.shape, (method, train), &folder.train(), step)?)
}

/// The model that an adapter in its training makes of the base after `step` steps, and of a guard the rows of its tokens.
pub fn adapted(
    model: &Model,
    base: &Base,
    training: &Training,
    folder: &Folder,
    step: usize,
) -> Result<SharedWeights, Failure> {
    let weights = folded(base, adapter(model, training, folder, step)?)?;
    let Some(marks) = &model.marks else { return Ok(weights) };
    let kept = Checkpoints::new(&folder.train(), 0).weights(step)?;
    let names = [EMBEDDING, HEAD].into_iter().filter(|name| model.shape.weights().contains_key(*name));
    let update = |name: &str| Ok((name.to_owned(), kept.weight(&rows::name_of(name))?.to_f32()));
    let updates = names.map(update).collect::<Result<_, SnapshotError>>()?;
    Ok(Arc::new(MovedRows::new(weights, marks.ids.clone(), updates)?))
}

/// The moving average of the weights, if the training has one; rounded no more than a checkpoint.
pub(super) fn average(
    model: &Model,
    base: &Base,
    training: &Training,
    folder: &Folder,
) -> Result<Option<SharedWeights>, Failure> {
    let Training { method, train, last_step, .. } = training;
    let Some(ema) = &train.ema else { return Ok(None) };
    Ok(Some(match (method.kind, ema.lora) {
        (MethodKind::Lora, OfAdapter::Factors) => {
            folded(base, averaged_adapter(&model.shape, (method, train), &folder.train(), *last_step)?)?
        }
        _ => {
            let update = Checkpoints::new(&folder.train(), 0).average(*last_step)?;
            Arc::new(Moved::new(base.weights.clone(), Arc::new(update))?)
        }
    }))
}

pub(super) fn folded(base: &Base, adapter: Adapter) -> Result<SharedWeights, Failure> {
    Ok(Arc::new(Folded::new(base.weights.clone(), Arc::new(adapter))?))
}

/// The export is rounded; a checkpoint is not.
pub(super) fn full(folder: &Folder, step: usize) -> Result<SharedWeights, Failure> {
    Ok(Arc::new(Checkpoints::new(&folder.train(), 0).weights(step)?))
}

/// The tuned model after `step` steps.
pub(super) fn checkpoint(
    model: &Model,
    base: &Base,
    training: &Training,
    folder: &Folder,
    step: usize,
) -> Result<SharedWeights, Failure> {
    let path = Checkpoints::new(&folder.train(), 0).path(step);
    if !path.is_dir() {
        return Err(MergeError::NoCheckpoint { path, step }.into());
    }
    match training.method.kind {
        MethodKind::Lora => adapted(model, base, training, folder, step),
        MethodKind::Full => full(folder, step),
    }
}
