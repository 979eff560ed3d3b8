//! What a tuned model may be: a model folder, an adapter on the base, a checkpoint, a run folder.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::run::Failure;
use crate::snapshot::adapter::{self, Adapter, Folded};
use crate::snapshot::{Snapshot, SnapshotError, WeightFiles, Weights, files};
use crate::train::checkpoint::{self, Checkpoints};

/// A tuned model that was found.
pub(super) struct Post {
    found: Found,
    /// Every file of weights that is read.
    pub files: Vec<PathBuf>,
    /// Where its tokenizer and configuration are, if it has its own.
    pub model: Option<PathBuf>,
}

enum Found {
    Whole(WeightFiles),
    Adapter(Adapter),
}

impl Post {
    /// Finds out what `path` is and opens it.
    ///
    /// # Errors
    ///
    /// It is none of what a tuned model may be, or a file is broken.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let path = &of_run(path);
        if path.join(adapter::CONFIG).is_file() {
            let files = vec![path.join(adapter::WEIGHTS)];
            return Ok(Self { found: Found::Adapter(Adapter::read(path)?), files, model: None });
        }
        if path.join(checkpoint::STATE).is_file() {
            let file = path.join(checkpoint::WEIGHTS);
            let weights = WeightFiles::open_file(&file)?;
            let found = match weights.infos().keys().any(|name| name.contains(".lora_A.")) {
                // A checkpoint has the factors alone; the rest of the adapter is told beside it.
                true => Found::Adapter(Adapter::of_checkpoint(path, &weights)?),
                false => Found::Whole(weights),
            };
            return Ok(Self { found, files: vec![file], model: None });
        }
        let Snapshot { folder, weights, .. } = Snapshot::open(path)?;
        let files = weights.paths().map(Path::to_owned).collect();
        Ok(Self { found: Found::Whole(weights), files, model: Some(folder) })
    }

    /// Its weights on this base.
    ///
    /// # Errors
    ///
    /// It is an adapter on another model.
    pub fn on<'a>(&'a self, base: &'a dyn Weights) -> Result<Box<dyn Weights + 'a>, SnapshotError> {
        Ok(match &self.found {
            Found::Whole(weights) => Box::new(weights),
            Found::Adapter(adapter) => Box::new(Folded::new(base, Cow::Borrowed(adapter))?),
        })
    }
}

/// Of a run folder, what it tuned: the adapter, or the last checkpoint, which is not rounded.
fn of_run(path: &Path) -> PathBuf {
    let train = path.join("train");
    if !path.join("recipe.toml").is_file() || !train.is_dir() {
        return path.to_owned();
    }
    let checkpoints = Checkpoints::new(&train, 0);
    let last = checkpoints.steps().pop().map(|step| checkpoints.path(step));
    let is_adapter = train.join("adapter").is_dir();
    match last.filter(|_| !is_adapter) {
        Some(last) => last,
        None => train.join(if is_adapter { "adapter" } else { "model" }),
    }
}

/// The importance of a model's numbers: a file that a run wrote, or a checkpoint of full tuning,
/// whose optimizer has seen their squared gradients.
pub(super) fn importance(path: &Path) -> Result<(Box<dyn Weights>, PathBuf), SnapshotError> {
    let optimizer = path.join(checkpoint::OPTIMIZER);
    if optimizer.is_file() {
        return Ok((Box::new(checkpoint::second_moments(path)?), optimizer));
    }
    let file = if path.is_dir() { files::files_of(path)?.pop().unwrap_or_default() } else { path.to_owned() };
    Ok((Box::new(WeightFiles::open_file(&file)?), file))
}
