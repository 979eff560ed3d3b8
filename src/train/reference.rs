//! What the base says of every pair, computed once and kept in the run folder: preference losses measure from there.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::objective::log_probabilities;
use super::once::{self, Looking, Once, Set};
use super::{Machine, Task, TrainError, base};
use crate::event::{Event, Recorder};
use crate::model::{Decoder, MicroBatch};

/// The file's name in the folder of the training.
pub const FILE: &str = "reference.json";

/// The base's log-probability of each sample's labels together, in nats.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference(Once<f64>);

impl Reference {
    /// Tells a micro-batch what the base says of its rows.
    pub fn tell(&self, set: Set, batch: &mut MicroBatch) {
        let known = self.0.of(set);
        let of = |i: &usize| known[*i].expect("what is settled is known of every sample");
        batch.reference = batch.samples.iter().map(of).collect();
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
    let looking = Looking {
        model: &|| base(task, machine),
        of_batch: &of_batch,
        event: |done, total| Event::Reference { done, total },
    };
    Ok(once::settle(task, machine, (folder, FILE), &looking, stop, recorder)?.map(Reference))
}

/// The log-probability of each row's labels together.
fn of_batch(decoder: &Decoder, batch: &MicroBatch) -> Vec<f64> {
    let hidden = decoder.hidden(batch.ids(&decoder.device), &batch.positions(), None);
    let [b, t, m] = hidden.dims();
    log_probabilities(&hidden.reshape([b * t, m]), &decoder.frozen_head(), batch)
}
