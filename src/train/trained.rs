//! Adapters as a training leaves them.

use std::path::Path;

use super::TrainError;
use super::checkpoint::{Checkpoints, HostWeights};
use super::init;
use crate::model::{Decoder, DecoderShape};
use crate::recipe::{Method, Train};
use crate::snapshot::adapter::{Adapter, MAGNITUDE};
use crate::snapshot::{WeightFiles, Weights};

/// The adapter that a finished LoRA training left in its last checkpoint.
///
/// # Errors
///
/// The checkpoint is missing or broken.
pub fn trained_adapter(
    shape: &DecoderShape,
    of: (&Method, &Train),
    folder: &Path,
    step: usize,
) -> Result<Adapter, TrainError> {
    read_adapter(shape, of, &Checkpoints::new(folder, 0).weights(step)?)
}

/// The adapter of the average factors that a finished LoRA training left in its last checkpoint.
///
/// # Errors
///
/// The checkpoint is missing or broken.
pub fn averaged_adapter(
    shape: &DecoderShape,
    of: (&Method, &Train),
    folder: &Path,
    step: usize,
) -> Result<Adapter, TrainError> {
    read_adapter(shape, of, &Checkpoints::new(folder, 0).average(step)?)
}

fn read_adapter(
    shape: &DecoderShape,
    (method, train): (&Method, &Train),
    files: &WeightFiles,
) -> Result<Adapter, TrainError> {
    // Its factors are read; where they started plays no part.
    let mut adapter = init::adapter(shape, method, train)?;
    for (module, pair) in &mut adapter.pairs {
        pair.a = files.weight(&format!("{module}.lora_A.weight"))?.to_f32();
        pair.b = files.weight(&format!("{module}.lora_B.weight"))?.to_f32();
        if adapter.dora {
            pair.magnitude = files.weight(&format!("{module}.lora_{MAGNITUDE}"))?.to_f32();
        }
    }
    Ok(adapter)
}

/// The adapter as it is in memory, for tests and comparisons.
pub fn adapter_of(decoder: &mut Decoder, like: &Adapter) -> Adapter {
    let factors = decoder.factors_mut().into_iter();
    let mut values =
        HostWeights::read(factors.map(|param| (param.name.clone(), param.shape.clone(), param.frozen())));
    let mut adapter = like.clone();
    for (module, pair) in &mut adapter.pairs {
        pair.a = values.take(&format!("{module}.lora_A.weight")).expect("the adapter was attached");
        pair.b = values.take(&format!("{module}.lora_B.weight")).expect("the adapter was attached");
        pair.magnitude = values.take(&format!("{module}.lora_{MAGNITUDE}")).unwrap_or_default();
    }
    adapter
}
