//! What a tuned model may be: a model folder, an adapter on the base, a checkpoint, a run folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{files_of_model, headed};
use crate::merge::MergeError;
use crate::run::Failure;
use crate::run::plan::named::start_of;
use crate::snapshot::adapter::{self, Adapter, Folded};
use crate::snapshot::tokenizer::FILE;
use crate::snapshot::{Config, SharedWeights, Snapshot, SnapshotError, WeightFiles, Weights};
use crate::train::checkpoint::{self, Checkpoints};
use crate::train::ema::Moved;

/// A tuned model that was found.
pub(in crate::run) struct Post {
    found: Found,
    /// Every file of weights that is read.
    pub files: Vec<PathBuf>,
    /// The folder, if it is one of a whole model.
    pub model: Option<PathBuf>,
    /// The folder, if it is an adapter's.
    pub adapter: Option<PathBuf>,
    /// A sentence, if other weights lie in its folder and are not read.
    pub unread: Option<String>,
    /// Where a tokenizer of its own is, if it has one.
    pub tokenizer: Option<PathBuf>,
    /// What was tuned in place of the base, if its run hardened it.
    pub start: Option<SharedWeights>,
}

enum Found {
    Whole(SharedWeights, Option<Config>),
    Adapter(Arc<Adapter>),
    /// What the base is moved by.
    Update(SharedWeights),
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
            let mut files = vec![path.join(adapter::WEIGHTS), path.join(adapter::CONFIG)];
            let start = started(path, &mut files)?;
            let tokenizer = Some(path.clone()).filter(|path| path.join(FILE).is_file());
            let (found, adapter) = (Found::Adapter(Arc::new(Adapter::read(path)?)), Some(path.clone()));
            return Ok(Self { found, files, model: None, adapter, unread: None, tokenizer, start });
        }
        if path.join(checkpoint::STATE).is_file() {
            return Self::of_checkpoint(path, checkpoint::WEIGHTS, |weights| Found::Whole(weights, None));
        }
        let Snapshot { folder, weights, config } = Snapshot::open(path)?;
        let files = files_of_model(path, &weights);
        let tokenizer = Some(folder.clone()).filter(|folder| folder.join(FILE).is_file());
        let unread = weights.unread();
        let found = Found::Whole(weights, Some(config));
        Ok(Self { found, files, model: Some(folder), adapter: None, unread, tokenizer, start: None })
    }

    /// The moving average of the weights that a run has, or a checkpoint of one.
    ///
    /// # Errors
    ///
    /// It has none, or a file is broken.
    pub fn average(path: &Path) -> Result<Self, Failure> {
        let checkpoint = last_checkpoint(path).unwrap_or_else(|| path.to_owned());
        match checkpoint.join(checkpoint::AVERAGE).is_file() {
            true => Self::of_checkpoint(&checkpoint, checkpoint::AVERAGE, Found::Update),
            false => Err(MergeError::NoAverage { path: path.to_owned() }.into()),
        }
    }

    /// One file of a checkpoint, which is of whole weights if it is not of an adapter's factors.
    fn of_checkpoint(
        path: &Path,
        file: &str,
        whole: impl FnOnce(SharedWeights) -> Found,
    ) -> Result<Self, Failure> {
        let file = path.join(file);
        let weights = WeightFiles::open_file(&file)?;
        let found = match weights.infos().keys().any(|name| name.contains(".lora_A.")) {
            // A checkpoint has the factors alone; the rest of the adapter is told beside it.
            true => Found::Adapter(Arc::new(Adapter::of_checkpoint(path, &weights)?)),
            false => whole(Arc::new(weights)),
        };
        // What the run exported beside it has the chat template that it was trained with.
        let exported = ["adapter", "model"].map(|name| path.with_file_name(name));
        let tokenizer = exported.into_iter().find(|folder| folder.join(FILE).is_file());
        let mut files = vec![file];
        let start = started(path, &mut files)?;
        Ok(Self { found, files, model: None, adapter: None, unread: None, tokenizer, start })
    }

    /// Its weights on this base.
    ///
    /// # Errors
    ///
    /// It is an adapter on another model.
    pub fn on(&self, base: &SharedWeights) -> Result<SharedWeights, SnapshotError> {
        let base = self.start.as_ref().unwrap_or(base);
        Ok(match &self.found {
            Found::Whole(weights, None) => weights.clone(),
            Found::Whole(weights, Some(config)) => headed(weights.clone(), config)?,
            Found::Adapter(adapter) => Arc::new(Folded::new(base.clone(), adapter.clone())?),
            Found::Update(update) => Arc::new(Moved::new(base.clone(), update.clone())?),
        })
    }
}

/// What was tuned in place of the base, if it was; its files join those that are read.
fn started(path: &Path, files: &mut Vec<PathBuf>) -> Result<Option<SharedWeights>, SnapshotError> {
    let start = start_of(path)?;
    files.extend(start.iter().flat_map(WeightFiles::paths).map(Path::to_owned));
    Ok(start.map(|weights| Arc::new(weights) as SharedWeights))
}

/// Of a run folder, what it tuned: the adapter, or the last checkpoint, which is not rounded.
pub(super) fn of_run(path: &Path) -> PathBuf {
    let train = path.join("train");
    if !is_run(path) {
        return path.to_owned();
    }
    let is_adapter = train.join("adapter").is_dir();
    match last_checkpoint(path).filter(|_| !is_adapter) {
        Some(last) => last,
        None => train.join(if is_adapter { "adapter" } else { "model" }),
    }
}

fn is_run(path: &Path) -> bool {
    path.join("recipe.toml").is_file() && path.join("train").is_dir()
}

/// The last checkpoint of a run folder.
fn last_checkpoint(path: &Path) -> Option<PathBuf> {
    let checkpoints = Checkpoints::new(&path.join("train"), 0);
    is_run(path).then(|| checkpoints.steps().pop().map(|step| checkpoints.path(step))).flatten()
}

/// The importance of a model's numbers: a file that a run wrote, or a checkpoint of full tuning,
/// whose optimizer has seen their squared gradients.
pub(super) fn importance(path: &Path) -> Result<(SharedWeights, PathBuf), SnapshotError> {
    let optimizer = path.join(checkpoint::OPTIMIZER);
    if optimizer.is_file() {
        let moments = checkpoint::squared_gradients(path)?;
        if moments.infos().keys().any(|name| name.contains(".lora_A.")) {
            return Err(SnapshotError::BadAdapter {
                path: path.to_owned(),
                why: "its optimizer knows the factors, not the weights".to_owned(),
                help: "give a folder that a run wrote under `fisher`".to_owned(),
            });
        }
        return Ok((Arc::new(moments), optimizer));
    }
    let file = if path.is_dir() { path.join(crate::train::importance::FILE) } else { path.to_owned() };
    Ok((Arc::new(WeightFiles::open_file(&file)?), file))
}
