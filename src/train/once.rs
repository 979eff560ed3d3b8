//! What is computed of every sample once, before the first step, and kept in the run folder: a computation that is
//! killed goes on where it was.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Machine, Task, TrainError};
use crate::data::Sample;
use crate::event::{Event, Recorder, Unwritable};
use crate::model::{Decoder, MicroBatch};
use crate::snapshot::SnapshotError;
use crate::snapshot::writer::write_json;

/// What is lost at most of a computation that is killed.
const PACE: Duration = Duration::from_secs(20);

/// What was found of each sample; `None` where it is not known yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Once<T> {
    /// The training's key: another one has other samples or another base.
    key: String,
    pub train: Vec<Option<T>>,
    pub validation: Vec<Option<T>>,
}

/// Which samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    Train,
    Validation,
}

/// How it is computed: by which model, what of the rows of a micro-batch.
pub struct Looking<'a, T> {
    pub model: &'a dyn Fn() -> Result<Decoder, SnapshotError>,
    pub of_batch: &'a dyn Fn(&Decoder, &MicroBatch) -> Vec<T>,
    /// What tells that so many of so many parts are done.
    pub event: fn(usize, usize) -> Event,
}

impl<T: Clone> Once<T> {
    /// What was found of the samples of a set.
    pub fn of(&self, set: Set) -> &[Option<T>] {
        if set == Set::Train { &self.train } else { &self.validation }
    }

    fn is_whole(&self) -> bool {
        self.train.iter().chain(&self.validation).all(Option::is_some)
    }
}

impl<T: Clone + DeserializeOwned> Once<T> {
    fn known(task: &Task<'_>, path: &Path) -> Self {
        let kept = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let fits = |kept: &Self| {
            let lengths = (kept.train.len(), kept.validation.len());
            kept.key == task.key && lengths == (task.samples.len(), task.validation.len())
        };
        kept.filter(fits).unwrap_or_else(|| Self {
            key: task.key.to_owned(),
            train: vec![None; task.samples.len()],
            validation: vec![None; task.validation.len()],
        })
    }
}

/// What is known of all samples: read from the file `name` of `folder`, or computed now; `None` if `stop` is set before
/// it is done.
///
/// # Errors
///
/// A weight cannot be read, or the disk refuses.
pub fn settle<T: Clone + Serialize + DeserializeOwned>(
    task: &Task<'_>,
    machine: &Machine,
    (folder, name): (&Path, &str),
    looking: &Looking<'_, T>,
    stop: &AtomicBool,
    recorder: &mut Recorder<'_>,
) -> Result<Option<Once<T>>, TrainError> {
    let path = folder.join(name);
    let mut once = Once::known(task, &path);
    if once.is_whole() {
        return Ok(Some(once));
    }
    std::fs::create_dir_all(folder)
        .map_err(|source| TrainError::from(Unwritable { folder: folder.to_owned(), source }))?;
    let decoder = (looking.model)()?;
    let group = task.objective.group();
    let cut = |set, samples: &[Sample]| {
        let groups: Vec<usize> = (0..samples.len() / group).collect();
        let batches = machine.cut(group).packed(samples, &groups);
        batches.into_iter().map(move |batch| (set, batch))
    };
    let batches: Vec<(Set, MicroBatch)> =
        cut(Set::Train, task.samples).chain(cut(Set::Validation, task.validation)).collect();
    let mut saved = Instant::now();
    for (done, (set, batch)) in batches.iter().enumerate() {
        let known = if *set == Set::Train { &mut once.train } else { &mut once.validation };
        if batch.samples.iter().any(|i| known[*i].is_none()) {
            for (i, found) in batch.samples.iter().zip((looking.of_batch)(&decoder, batch)) {
                known[*i] = Some(found);
            }
            recorder((looking.event)(done + 1, batches.len()))?;
        }
        let is_stopped = stop.load(Ordering::Relaxed) && done + 1 < batches.len();
        if is_stopped || saved.elapsed() >= PACE {
            write_json(&path, &json!(once))?;
            saved = Instant::now();
        }
        if is_stopped {
            return Ok(None);
        }
    }
    write_json(&path, &json!(once))?;
    Ok(Some(once))
}
