//! The sequences of one optimizer step, cut into padded micro-batches.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::Sample;
use crate::data::order;

/// Which sequences each step sees: a pure function of the seed, so a position is one number.
#[derive(Debug, Clone)]
pub struct Order {
    pub seed: u64,
    pub n_samples: usize,
    pub batch: usize,
}

impl Order {
    /// Steps of one pass over the data; the last one may be smaller.
    pub fn steps_per_epoch(&self) -> usize {
        self.n_samples.div_ceil(self.batch)
    }

    /// The samples of step `step`, counted from 0.
    pub fn samples(&self, step: usize) -> Vec<usize> {
        let (epoch, within) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let order = order(self.seed, epoch, self.n_samples);
        order.into_iter().skip(within * self.batch).take(self.batch).collect()
    }
}

/// Some right-padded rows and the positions that are trained on.
#[derive(Debug)]
pub struct MicroBatch {
    /// The sample of each row.
    pub samples: Vec<usize>,
    /// Padded width `t`.
    pub width: usize,
    /// `[b, t]`, row-major, 0 where padded.
    ids: Vec<u32>,
    /// Rows of the flattened `[b·t]` stream that predict a trained token.
    pub rows: Vec<u32>,
    /// The token that each of these rows predicts.
    pub targets: Vec<u32>,
    /// Real tokens.
    pub n_tokens: usize,
}

impl MicroBatch {
    /// Pads the samples with these indices to one width, a multiple of `multiple`.
    pub fn new(samples: &[Sample], indices: &[usize], multiple: usize) -> Self {
        let longest = indices.iter().map(|i| samples[*i].ids.len()).max().unwrap_or(1);
        let width = longest.next_multiple_of(multiple);
        let mut ids = vec![0; indices.len() * width];
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (row, index) in indices.iter().enumerate() {
            let sample = &samples[*index];
            ids[row * width..row * width + sample.ids.len()].copy_from_slice(&sample.ids);
            for (i, trained) in sample.trained.iter().enumerate().skip(1) {
                if *trained {
                    rows.push(u32::try_from(row * width + i - 1).expect("a micro-batch is small"));
                    targets.push(sample.ids[i]);
                }
            }
        }
        let n_tokens = indices.iter().map(|i| samples[*i].ids.len()).sum();
        Self { samples: indices.to_vec(), width, ids, rows, targets, n_tokens }
    }

    /// Token ids on the device, `[b, t]`.
    pub fn ids(&self, device: &Device) -> Tensor<2, Int> {
        let ids: Vec<i32> = self.ids.iter().map(|id| id.cast_signed()).collect();
        Tensor::from_data(TensorData::new(ids, [self.samples.len(), self.width]), device)
    }

    /// Indices of the trained rows on the device, `[n]`.
    pub fn row_indices(&self, device: &Device) -> Tensor<1, Int> {
        let rows: Vec<i32> = self.rows.iter().map(|row| row.cast_signed()).collect();
        Tensor::from_data(TensorData::new(rows, [self.rows.len()]), device)
    }

    /// Positions that are computed, padding included.
    pub fn n_positions(&self) -> usize {
        self.samples.len() * self.width
    }
}

/// Cuts a step's samples into micro-batches of at most `micro_tokens` positions (or one row),
/// rows of like length together.
pub fn micro_batches(
    samples: &[Sample],
    indices: &[usize],
    micro_tokens: usize,
    multiple: usize,
) -> Vec<MicroBatch> {
    let mut sorted = indices.to_vec();
    sorted.sort_by_key(|i| (std::cmp::Reverse(samples[*i].ids.len()), *i));
    let mut batches = Vec::new();
    let mut rest = sorted.as_slice();
    while let Some(longest) = rest.first() {
        let width = samples[*longest].ids.len().next_multiple_of(multiple);
        let (these, others) = rest.split_at((micro_tokens / width).clamp(1, rest.len()));
        batches.push(MicroBatch::new(samples, these, multiple));
        rest = others;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::{Order, micro_batches};
    use crate::data::Sample;

    fn sample(len: usize) -> Sample {
        let trained = (0..len).map(|i| i >= len / 2).collect();
        Sample { ids: (0..len as u32).collect(), trained, line: 1.into() }
    }

    #[test]
    fn an_epoch_sees_every_sample_once() {
        let order = Order { seed: 1, n_samples: 10, batch: 4 };
        assert_eq!(order.steps_per_epoch(), 3);
        for epoch in 0..2 {
            let mut seen: Vec<usize> = (0..3).flat_map(|i| order.samples(epoch * 3 + i)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn micro_batches_keep_every_trained_token() {
        let samples: Vec<Sample> = [5, 9, 3, 8].map(sample).into();
        for micro_tokens in [1, 10, 18, 100] {
            let batches = micro_batches(&samples, &[0, 1, 2, 3], micro_tokens, 1);
            let trained: usize = batches.iter().map(|batch| batch.targets.len()).sum();
            assert_eq!(
                trained,
                samples.iter().map(|s| s.trained.iter().filter(|t| **t).count()).sum::<usize>()
            );
            assert!(batches.iter().all(|b| b.n_positions() <= micro_tokens || b.samples.len() == 1));
        }
    }
}
