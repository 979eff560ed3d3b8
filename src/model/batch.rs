//! Samples as padded rows, few enough to be computed at once.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::Sample;

/// Some right-padded rows and what is to be predicted in them.
#[derive(Debug)]
pub struct MicroBatch {
    /// The sample of each row.
    pub samples: Vec<usize>,
    /// Padded width `t`.
    pub width: usize,
    /// `[b, t]`, row-major, 0 where padded.
    ids: Vec<u32>,
    /// Rows of the flattened `[b·t]` stream that have something to predict.
    pub rows: Vec<u32>,
    /// The token that each of these rows is to predict.
    pub targets: Vec<u32>,
    /// What the loss of each of these is multiplied by; empty where all count as they are.
    pub weights: Vec<f32>,
    /// The base's log-probability of each row's labels together, for objectives that compare with it; else empty.
    pub reference: Vec<f64>,
    /// Real tokens.
    pub n_tokens: usize,
}

impl MicroBatch {
    /// Pads the samples with these indices to one width, a multiple of `multiple`.
    pub fn new(samples: &[Sample], indices: &[usize], multiple: usize) -> Self {
        let longest = indices.iter().map(|i| samples[*i].ids.len()).max().unwrap_or(1);
        let width = longest.next_multiple_of(multiple);
        let mut ids = vec![0; indices.len() * width];
        let (mut rows, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (row, index) in indices.iter().enumerate() {
            let sample = &samples[*index];
            ids[row * width..row * width + sample.ids.len()].copy_from_slice(&sample.ids);
            for (i, label) in sample.labels.iter().enumerate().skip(1) {
                // The token before a label is where it is predicted.
                if let Some(label) = label {
                    rows.push(u32::try_from(row * width + i - 1).expect("a micro-batch is small"));
                    targets.push(*label);
                    weights.push(sample.weight);
                }
            }
        }
        if weights.iter().all(|weight| *weight == 1.0) {
            weights.clear();
        }
        let n_tokens = indices.iter().map(|i| samples[*i].ids.len()).sum();
        let reference = Vec::new();
        Self { samples: indices.to_vec(), width, ids, rows, targets, weights, reference, n_tokens }
    }

    /// Token ids on the device, `[b, t]`.
    pub fn ids(&self, device: &Device) -> Tensor<2, Int> {
        let ids: Vec<i32> = self.ids.iter().map(|id| id.cast_signed()).collect();
        Tensor::from_data(TensorData::new(ids, [self.samples.len(), self.width]), device)
    }

    /// Indices of the rows that predict, on the device, `[n]`.
    pub fn row_indices(&self, device: &Device) -> Tensor<1, Int> {
        let rows: Vec<i32> = self.rows.iter().map(|row| row.cast_signed()).collect();
        Tensor::from_data(TensorData::new(rows, [self.rows.len()]), device)
    }

    /// Positions that are computed, padding included.
    pub fn n_positions(&self) -> usize {
        self.samples.len() * self.width
    }
}

/// Cuts samples into micro-batches of at most `micro_tokens` positions (or one row),
/// rows of like length together.
pub fn micro_batches(
    samples: &[Sample],
    indices: &[usize],
    micro_tokens: usize,
    multiple: usize,
) -> Vec<MicroBatch> {
    micro_groups(samples, indices, 1, micro_tokens, multiple)
}

/// The same for groups of `group` samples that lie one after the other and stay in one micro-batch; group `i` begins
/// with sample `i * group`.
pub fn micro_groups(
    samples: &[Sample],
    groups: &[usize],
    group: usize,
    micro_tokens: usize,
    multiple: usize,
) -> Vec<MicroBatch> {
    let of = |i: usize| i * group..(i + 1) * group;
    let length = |i: usize| samples[of(i)].iter().map(|sample| sample.ids.len()).max().unwrap_or(0);
    let mut sorted = groups.to_vec();
    sorted.sort_by_key(|i| (std::cmp::Reverse(length(*i)), *i));
    let mut batches = Vec::new();
    let mut rest = sorted.as_slice();
    while let Some(longest) = rest.first() {
        let width = length(*longest).next_multiple_of(multiple);
        let (these, others) = rest.split_at((micro_tokens / (width * group)).clamp(1, rest.len()));
        let rows: Vec<usize> = these.iter().flat_map(|i| of(*i)).collect();
        batches.push(MicroBatch::new(samples, &rows, multiple));
        rest = others;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::{MicroBatch, micro_batches};
    use crate::data::Sample;

    fn sample(len: usize) -> Sample {
        Sample::of_trained((0..len as u32).collect(), (0..len).map(|i| i >= len / 2), 1.into())
    }

    #[test]
    fn micro_batches_keep_every_label() {
        let samples: Vec<Sample> = [5, 9, 3, 8].map(sample).into();
        for micro_tokens in [1, 10, 18, 100] {
            let batches = micro_batches(&samples, &[0, 1, 2, 3], micro_tokens, 1);
            let targets: usize = batches.iter().map(|batch| batch.targets.len()).sum();
            assert_eq!(targets, samples.iter().map(Sample::n_trained).sum::<usize>());
            assert!(batches.iter().all(|b| b.n_positions() <= micro_tokens || b.samples.len() == 1));
        }
    }

    #[test]
    fn a_label_is_predicted_by_the_position_before_it_and_need_not_be_the_token_there() {
        let labels = vec![None, Some(9), None, Some(7)];
        let samples = [Sample { labels, ..sample(4) }, sample(2)];
        let batch = MicroBatch::new(&samples, &[1, 0], 8);
        assert_eq!((&batch.rows[..], &batch.targets[..]), (&[0, 8, 10][..], &[1, 9, 7][..]));
    }
}
