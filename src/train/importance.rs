//! The diagonal of the Fisher information: how much each number of a model matters to its answers.
//!
//! The empirical Fisher over given samples, the mean of `(∂ log p(answer | prompt) / ∂θ)²`, as in
//! Matena and Raffel, "Merging Models with Fisher-Weighted Averaging", 2021, arXiv 2111.09832.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;

use super::checkpoint::HostWeights;
use super::objective::Objective;
use super::step::Trainee;
use super::{Machine, TrainError};
use crate::data::Sample;
use crate::model::{Decoder, DecoderShape, MicroBatch};
use crate::recipe::MethodKind;
use crate::snapshot::Weights;
use crate::snapshot::writer::folder_at_once;

/// Where a run keeps such folders.
pub const FOLDER: &str = "fisher";
/// The file's name in the folder that is written.
pub const FILE: &str = "fisher.safetensors";

/// Writes the diagonal over `samples`, one pass, one sample at a time, into the folder `target`.
///
/// `tick` is told how many samples are done and says whether to go on.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or `tick` fails.
pub fn write<E: From<TrainError>>(
    target: &Path,
    shape: &DecoderShape,
    weights: &dyn Weights,
    machine: &Machine,
    samples: &[Sample],
    mut tick: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let decoder =
        Decoder::load(shape, weights, &machine.device, burn::tensor::DType::F32).map_err(TrainError::from)?;
    let mut trainee = Trainee::new(decoder, MethodKind::Full, Objective::Sft);
    trainee.track();
    let mut sums: BTreeMap<String, Tensor<2>> = BTreeMap::new();
    for i in 0..samples.len() {
        let batch = MicroBatch::new(samples, &[i], machine.multiple);
        for (name, gradient) in trainee.gradients(&batch) {
            let square = gradient.square();
            let sum = match sums.remove(&name) {
                Some(sum) => sum + square,
                None => square,
            };
            sums.insert(name, sum);
        }
        tick(i + 1)?;
    }
    let shapes: BTreeMap<String, Vec<usize>> =
        trainee.trainable().into_iter().map(|param| (param.name.clone(), param.shape.clone())).collect();
    let mean = |(name, sum): (String, Tensor<2>)| {
        let shape = shapes[&name].clone();
        (name, shape, sum / samples.len().max(1) as f64)
    };
    let means = HostWeights::read(sums.into_iter().map(mean));
    folder_at_once::<TrainError>(target, |folder| Ok(means.write(&folder.join(FILE))?))?;
    Ok(())
}
