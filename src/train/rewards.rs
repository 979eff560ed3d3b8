//! What a reward model says of every token of both answers, computed once and kept in the run folder: by it the tokens
//! count that a preference loss looks at.
//!
//! Tan et al., "Equilibrate RLHF: Towards Balancing Helpfulness-Safety Trade-off in Large Language Models", 2025, arXiv
//! 2502.11555. A token's score is what the model's scalar head says where it has read up to that token, as the score of
//! a whole answer is what it says at the last one.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::once::{self, Looking, Once, Set};
use super::{Machine, Task, TrainError};
use crate::data::Sample;
use crate::data::pairs::counted;
use crate::event::{Event, Recorder};
use crate::model::{Decoder, DecoderShape, MicroBatch};
use crate::recipe::Mask;
use crate::snapshot::Weights;

/// The file's name in the folder of the training.
pub const FILE: &str = "scores.json";

/// A reward model, and which tokens count by its scores.
#[derive(Clone, Copy)]
pub struct Rewards<'a> {
    pub shape: &'a DecoderShape,
    pub weights: &'a dyn Weights,
    /// The row of its head.
    pub head: &'a [f32],
    pub mask: Mask,
}

/// Training and held-out samples of which those tokens alone are learned that count.
pub struct Counted {
    pub train: Vec<Sample>,
    pub validation: Vec<Sample>,
}

/// The samples of `task` as the scores leave them: read, or computed now; `None` if `stop` is set before it is done.
///
/// # Errors
///
/// A weight cannot be read, the disk refuses, or no token of any pair counts.
pub fn settle(
    task: &Task<'_>,
    rewards: Rewards<'_>,
    machine: &Machine,
    folder: &Path,
    stop: &AtomicBool,
    recorder: &mut Recorder<'_>,
) -> Result<Option<Counted>, TrainError> {
    let looking = Looking {
        model: &|| Decoder::load(rewards.shape, rewards.weights, &machine.device, machine.answers),
        of_batch: &|decoder, batch| of_batch(decoder, rewards.head, batch),
        event: |done, total| Event::Scores { done, total },
    };
    let Some(scores) = once::settle(task, machine, (folder, FILE), &looking, stop, recorder)? else {
        return Ok(None);
    };
    let counted = Counted {
        train: masked(task.samples, &scores, Set::Train, rewards.mask),
        validation: masked(task.validation, &scores, Set::Validation, rewards.mask),
    };
    let of_pair = |pair: &[Sample]| pair.iter().map(Sample::n_trained).sum::<usize>();
    let counts: Vec<usize> = counted.train.chunks(2).map(of_pair).collect();
    let (n_tokens, n_pairs) = (counts.iter().sum::<usize>(), counts.len());
    if n_tokens == 0 {
        return Err(TrainError::NothingCounts { n_pairs });
    }
    let n_silent = counts.iter().filter(|n| **n == 0).count();
    let text = format!(
        "mask: {n_tokens} tokens of {n_pairs} pairs count by the reward model's scores; in {n_silent} pairs none does"
    );
    recorder(Event::Note { text })?;
    Ok(Some(counted))
}

/// The score of each label of each row, at the place of its own token.
pub fn of_batch(decoder: &Decoder, head: &[f32], batch: &MicroBatch) -> Vec<Vec<f32>> {
    let mut scores = vec![Vec::new(); batch.samples.len()];
    if batch.rows.is_empty() {
        return scores;
    }
    let device = &decoder.device;
    let hidden = decoder.hidden(batch.ids(device), &batch.positions(), None);
    let [b, t, m] = hidden.dims();
    let rows = hidden.reshape([b * t, m]).select(0, own_places(batch, device)); // [n, m]
    let head = Tensor::<2>::from_data(TensorData::new(head.to_vec(), [m, 1]), (device, rows.dtype()));
    let found = rows.matmul(head).try_into_vec_as::<f32>(); // [n, 1]
    let found = found.expect("a device that opened gives its results back");
    for (row, score) in batch.rows.iter().zip(found) {
        scores[batch.sample_of(*row)].push(score);
    }
    scores
}

/// Where the labels' own tokens stand, which is behind the places that predict them, `[n]`.
fn own_places(batch: &MicroBatch, device: &Device) -> Tensor<1, Int> {
    let places: Vec<i32> = batch.rows.iter().map(|row| row.cast_signed() + 1).collect();
    Tensor::from_data(TensorData::new(places, [batch.rows.len()]), device)
}

/// The samples, chosen and rejected by turns, with the labels that count.
fn masked(samples: &[Sample], scores: &Once<Vec<f32>>, set: Set, mask: Mask) -> Vec<Sample> {
    let one = |(nth, (sample, scores)): (usize, (&Sample, &Option<Vec<f32>>))| {
        let scores = scores.as_ref().expect("what is settled is known of every sample");
        let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
        let counts = counted(&scores, mask, if nth % 2 == 0 { 1 } else { -1 });
        let mut sample = sample.clone();
        let labels = sample.labels.iter_mut().skip(1).filter(|label| label.is_some());
        for (label, counts) in labels.zip(counts) {
            if !counts {
                *label = None;
            }
        }
        sample.is_open = true;
        sample
    };
    samples.iter().zip(scores.of(set)).enumerate().map(one).collect()
}
