//! How much each number of a model matters to what samples teach, by its gradient.
//!
//! The diagonal of the empirical Fisher information, the mean of `(∂ log p(answer | prompt) / ∂θ)²`, as in Matena and
//! Raffel, "Merging Models with Fisher-Weighted Averaging", 2021, arXiv 2111.09832; and SNIP's score, the mean of
//! `|θ · ∂L/∂θ|` with L the sample's mean cross-entropy, after Lee et al., "SNIP: Single-shot Network Pruning based on
//! Connection Sensitivity", 2019, arXiv 1810.02340, in the form of Wei et al., 2024, arXiv 2402.05162.

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

/// How a number's gradient tells how much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Its square, of the sum over a sample's labels.
    Fisher,
    /// Its product with the number, without sign, of the mean over a sample's labels.
    Snip,
}

impl Measure {
    /// The file's name in the folder that is written.
    pub fn file(self) -> &'static str {
        match self {
            Self::Fisher => FILE,
            Self::Snip => "scores.safetensors",
        }
    }
}

/// Where a run keeps such folders.
pub const FOLDER: &str = "fisher";
/// The file of the Fisher information.
pub const FILE: &str = "fisher.safetensors";

/// Writes what `measure` says of every number over `samples`, one pass, one sample at a time, into the folder `target`.
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
    (samples, measure): (&[Sample], Measure),
    mut tick: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let decoder =
        Decoder::load(shape, weights, &machine.device, burn::tensor::DType::F32).map_err(TrainError::from)?;
    let mut trainee = Trainee::new(decoder, MethodKind::Full, Objective::Sft);
    trainee.track();
    let mut sums: BTreeMap<String, Tensor<2>> = BTreeMap::new();
    for i in 0..samples.len() {
        let batch = MicroBatch::new(samples, &[i], machine.multiple);
        let mut gradients = trainee.gradients(&batch);
        for param in trainee.trainable() {
            let Some(gradient) = gradients.remove(&param.name) else { continue };
            let own = match measure {
                Measure::Fisher => gradient.square(),
                Measure::Snip => (gradient * param.frozen()).abs() / samples[i].n_trained() as f64,
            };
            let sum = match sums.remove(&param.name) {
                Some(sum) => sum + own,
                None => own,
            };
            sums.insert(param.name.clone(), sum);
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
    folder_at_once::<TrainError>(target, |folder| Ok(means.write(&folder.join(measure.file()))?))?;
    Ok(())
}
