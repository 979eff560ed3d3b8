//! What the base says of every pair, computed once and kept in the run folder: preference losses measure from there.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::objective::log_probabilities;
use super::{Machine, Task, TrainError, compute};
use crate::data::Sample;
use crate::event::{Event, Recorder};
use crate::model::{Decoder, MicroBatch};
use crate::snapshot::writer::write_json;

/// The file's name in the folder of the training.
pub const FILE: &str = "reference.json";

/// What is lost at most of a computation that is killed.
const PACE: Duration = Duration::from_secs(20);

/// The base's log-probability of each sample's labels together, in nats; `None` where it is not known yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The training's key: another one has other samples or another base.
    key: String,
    train: Vec<Option<f64>>,
    validation: Vec<Option<f64>>,
}

/// Which samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    Train,
    Validation,
}

impl Reference {
    /// Tells a micro-batch what the base says of its rows.
    pub fn tell(&self, set: Set, batch: &mut MicroBatch) {
        let known = if set == Set::Train { &self.train } else { &self.validation };
        let of = |i: &usize| known[*i].expect("what is settled is known of every sample");
        batch.reference = batch.samples.iter().map(of).collect();
    }

    fn is_whole(&self) -> bool {
        self.train.iter().chain(&self.validation).all(Option::is_some)
    }

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

/// What the base says of all samples: read, or computed now; `None` if `stop` is set before it is done.
///
/// # Errors
///
/// A weight cannot be read, or the disk refuses.
pub fn settle(
    task: &Task<'_>,
    machine: &Machine,
    folder: &Path,
    stop: &AtomicBool,
    recorder: &mut Recorder<'_>,
) -> Result<Option<Reference>, TrainError> {
    let path = folder.join(FILE);
    let mut reference = Reference::known(task, &path);
    if reference.is_whole() {
        return Ok(Some(reference));
    }
    std::fs::create_dir_all(folder)
        .map_err(|source| TrainError::from(crate::event::Unwritable { folder: folder.to_owned(), source }))?;
    let decoder = Decoder::load(task.shape, task.weights, &machine.device, compute(task, machine))?;
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
        let known = if *set == Set::Train { &mut reference.train } else { &mut reference.validation };
        if batch.samples.iter().any(|i| known[*i].is_none()) {
            for (i, sum) in batch.samples.iter().zip(of_batch(&decoder, batch)) {
                known[*i] = Some(sum);
            }
            recorder(Event::Reference { done: done + 1, total: batches.len() })?;
        }
        let is_stopped = stop.load(Ordering::Relaxed) && done + 1 < batches.len();
        if is_stopped || saved.elapsed() >= PACE {
            write_json(&path, &json!(reference))?;
            saved = Instant::now();
        }
        if is_stopped {
            return Ok(None);
        }
    }
    write_json(&path, &json!(reference))?;
    Ok(Some(reference))
}

/// The log-probability of each row's labels together.
fn of_batch(decoder: &Decoder, batch: &MicroBatch) -> Vec<f64> {
    let hidden = decoder.hidden(batch.ids(&decoder.device), &batch.positions(), None);
    let [b, t, m] = hidden.dims();
    log_probabilities(&hidden.reshape([b * t, m]), &decoder.frozen_head(), batch)
}
