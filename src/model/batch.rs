//! Samples as padded rows, few enough to be computed at once; a row holds one sample or several that do not see each
//! other.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Positions;
use crate::data::Sample;

/// Some right-padded rows and what is to be predicted in them.
#[derive(Debug)]
pub struct MicroBatch {
    /// The samples, in the order in which they lie in the rows.
    pub samples: Vec<usize>,
    /// Where each begins in the flattened `[b·t]` stream.
    starts: Vec<usize>,
    /// Padded width `t`.
    pub width: usize,
    n_rows: usize,
    /// `[b, t]`, row-major, 0 where padded.
    ids: Vec<u32>,
    /// Rows of the flattened `[b·t]` stream that have something to predict.
    pub rows: Vec<u32>,
    /// The token that each of these rows is to predict.
    pub targets: Vec<u32>,
    /// What the loss of each of these is multiplied by; empty where all count as they are.
    pub weights: Vec<f32>,
    /// The base's log-probability of each sample's labels together, for objectives that compare with it; else empty.
    pub reference: Vec<f64>,
    /// Real tokens.
    pub n_tokens: usize,
}

impl MicroBatch {
    /// Pads the samples with these indices to one width, a multiple of `multiple`: a row each.
    pub fn new(samples: &[Sample], indices: &[usize], multiple: usize) -> Self {
        let rows: Vec<Vec<usize>> = indices.iter().map(|index| vec![*index]).collect();
        Self::packed(samples, &rows, multiple)
    }

    /// The same with the samples of each row one behind the other.
    pub fn packed(samples: &[Sample], rows: &[Vec<usize>], multiple: usize) -> Self {
        let len = |index: &usize| samples[*index].ids.len();
        let longest = rows.iter().map(|row| row.iter().map(len).sum()).max().unwrap_or(1);
        let width = longest.next_multiple_of(multiple);
        let mut batch = Self {
            samples: rows.concat(),
            starts: Vec::new(),
            width,
            n_rows: rows.len(),
            ids: vec![0; rows.len() * width],
            rows: Vec::new(),
            targets: Vec::new(),
            weights: Vec::new(),
            reference: Vec::new(),
            n_tokens: rows.iter().flatten().map(len).sum(),
        };
        for (nth, row) in rows.iter().enumerate() {
            let mut start = nth * width;
            for index in row {
                batch.put(&samples[*index], start);
                start += samples[*index].ids.len();
            }
        }
        if batch.weights.iter().all(|weight| *weight == 1.0) {
            batch.weights.clear();
        }
        batch
    }

    fn put(&mut self, sample: &Sample, start: usize) {
        self.starts.push(start);
        self.ids[start..start + sample.ids.len()].copy_from_slice(&sample.ids);
        for (i, label) in sample.labels.iter().enumerate().skip(1) {
            // The token before a label is where it is predicted.
            if let Some(label) = label {
                self.rows.push(u32::try_from(start + i - 1).expect("a micro-batch is small"));
                self.targets.push(*label);
                self.weights.push(sample.weight);
            }
        }
    }

    /// Token ids on the device, `[b, t]`.
    pub fn ids(&self, device: &Device) -> Tensor<2, Int> {
        let ids: Vec<i32> = self.ids.iter().map(|id| id.cast_signed()).collect();
        Tensor::from_data(TensorData::new(ids, [self.n_rows, self.width]), device)
    }

    /// Where the tokens stand: each sample begins anew and sees itself only.
    pub fn positions(&self) -> Positions {
        if self.samples.len() == self.n_rows {
            return Positions::causal(self.width);
        }
        let mut rows = vec![Vec::new(); self.n_rows];
        for (start, len) in self.starts.iter().zip(self.spans()) {
            rows[start / self.width].push(len);
        }
        Positions::documents(self.width, rows)
    }

    /// Positions of each sample up to the next one, padding included.
    pub fn spans(&self) -> Vec<usize> {
        let ends = self.starts.iter().skip(1).copied().chain([self.n_positions()]);
        self.starts.iter().zip(ends).map(|(start, end)| end - start).collect()
    }

    /// Which of the batch's samples a row of the flattened stream belongs to.
    pub fn sample_of(&self, row: u32) -> usize {
        self.starts.partition_point(|start| *start <= row as usize) - 1
    }

    /// Indices of the rows that predict, on the device, `[n]`.
    pub fn row_indices(&self, device: &Device) -> Tensor<1, Int> {
        let rows: Vec<i32> = self.rows.iter().map(|row| row.cast_signed()).collect();
        Tensor::from_data(TensorData::new(rows, [self.rows.len()]), device)
    }

    /// Positions that are computed, padding included.
    pub fn n_positions(&self) -> usize {
        self.n_rows * self.width
    }
}

/// Cuts samples into micro-batches of at most `micro_tokens` positions (or one row), a row each, rows of like length
/// together.
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
        let width = samples[*longest].ids.len().next_multiple_of(multiple).max(1);
        let (these, others) = rest.split_at((micro_tokens / width).clamp(1, rest.len()));
        batches.push(MicroBatch::new(samples, these, multiple));
        rest = others;
    }
    batches
}

/// How what is learned is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Samples that lie one after the other and stay in one micro-batch; group `i` begins with sample `i * group`.
    pub group: usize,
    /// Positions of a micro-batch, which a longer group exceeds.
    pub micro_tokens: usize,
    /// Of which widths are multiples: 1 where any width costs what it has positions.
    pub multiple: usize,
}

impl Cut {
    /// Micro-batches of these groups, packed so that little is padding: where widths are free, a micro-batch is one row
    /// of samples one behind the other; else rows are as wide as the longest sample, and groups of several samples have
    /// a row for each.
    ///
    /// What goes where follows the best-fit rule, the longest first: Johnson, "Near-optimal bin packing algorithms", 1973.
    pub fn packed(self, samples: &[Sample], groups: &[usize]) -> Vec<MicroBatch> {
        let Self { group, micro_tokens, multiple } = self;
        let of = |i: usize| i * group..(i + 1) * group;
        let sizes = |i: usize| samples[of(i)].iter().map(|sample| sample.ids.len());
        if multiple == 1 {
            let total = |i: usize| sizes(i).sum();
            let bins = best_fit(groups, total, micro_tokens);
            let row = |bin: &Vec<usize>| bin.iter().flat_map(|i| of(*i)).collect();
            return bins.iter().map(|bin| MicroBatch::packed(samples, &[row(bin)], 1)).collect();
        }
        let longest = |i: usize| sizes(i).max().unwrap_or(0);
        let width = groups.iter().map(|i| longest(*i)).max().unwrap_or(0).next_multiple_of(multiple).max(1);
        let bins = match group {
            1 => best_fit(groups, longest, width),
            _ => best_fit(groups, longest, 0), // One each, the longest first.
        };
        let rows = |bins: &[Vec<usize>]| {
            let rows: Vec<Vec<usize>> = match group {
                1 => bins.to_vec(),
                _ => bins.concat().into_iter().flat_map(of).map(|sample| vec![sample]).collect(),
            };
            MicroBatch::packed(samples, &rows, multiple)
        };
        let (mut batches, mut rest) = (Vec::new(), bins.as_slice());
        while let Some(first) = rest.first() {
            // Without packing, the first one is the longest of those left.
            let width = if group == 1 { width } else { longest(first[0]).next_multiple_of(multiple).max(1) };
            let (these, others) = rest.split_at((micro_tokens / (width * group)).clamp(1, rest.len()));
            batches.push(rows(these));
            rest = others;
        }
        batches
    }
}

/// Puts each thing where the least room is left behind it, the largest first; what fits nowhere has a bin of its own.
fn best_fit(things: &[usize], size: impl Fn(usize) -> usize, room: usize) -> Vec<Vec<usize>> {
    let mut sorted = things.to_vec();
    sorted.sort_by_key(|thing| (std::cmp::Reverse(size(*thing)), *thing));
    let mut bins: Vec<(usize, Vec<usize>)> = Vec::new();
    for thing in sorted {
        let fits = bins.iter_mut().filter(|(left, _)| *left >= size(thing) && *left > 0);
        match fits.min_by_key(|(left, _)| *left) {
            Some((left, bin)) => {
                *left -= size(thing);
                bin.push(thing);
            }
            None => bins.push((room.saturating_sub(size(thing)), vec![thing])),
        }
    }
    bins.into_iter().map(|(_, bin)| bin).collect()
}

#[cfg(test)]
mod tests {
    use super::{Cut, MicroBatch, best_fit, micro_batches};
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

    #[test]
    fn samples_lie_where_the_least_room_is_left() {
        let sizes = [4, 8, 1, 4, 2, 1];
        let bins = best_fit(&[0, 1, 2, 3, 4, 5], |i| sizes[i], 10);
        assert_eq!(bins, [vec![1, 4], vec![0, 3, 2, 5]]);
        // What is too long is alone, and so is everything without room.
        assert_eq!(best_fit(&[0, 1], |i| sizes[i], 5), [vec![1], vec![0]]);
        assert_eq!(best_fit(&[2, 0], |i| sizes[i], 0), [vec![0], vec![2]]);
    }

    #[test]
    fn packed_samples_keep_their_labels_and_know_their_places() {
        let samples: Vec<Sample> = [5, 9, 3, 8, 2, 4].map(sample).into();
        for (group, multiple) in [(1, 1), (2, 1), (1, 4), (2, 4)] {
            for micro_tokens in [1, 12, 20, 100] {
                let groups: Vec<usize> = (0..6 / group).collect();
                let batches = Cut { group, micro_tokens, multiple }.packed(&samples, &groups);
                let mut all: Vec<usize> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
                all.sort_unstable();
                assert_eq!(all, [0, 1, 2, 3, 4, 5]);
                for batch in &batches {
                    assert!(multiple > 1 || batch.n_positions() == batch.n_tokens);
                    assert_eq!(batch.spans().iter().sum::<usize>(), batch.n_positions());
                    for (row, target) in batch.rows.iter().zip(&batch.targets) {
                        let nth = batch.sample_of(*row);
                        let at = *row as usize - batch.starts[nth];
                        assert_eq!(samples[batch.samples[nth]].labels[at + 1], Some(*target));
                    }
                    let groups = batch.samples.chunks(group);
                    groups.for_each(|group| assert!(group.windows(2).all(|two| two[1] == two[0] + 1)));
                }
            }
        }
    }
}
