//! Preference losses: samples come in pairs, the chosen answer before the rejected one, and every label of an answer has
//! the weight that the pair's loss gives to the answer's log-probability.

use burn::tensor::{DType, IndexingUpdateOp, Tensor};

use super::pair::{self, Answers};
use super::{Cost, Pairs};
use crate::model::loss::{Gradients, Scale, cross_entropy};
use crate::model::{Head, MicroBatch};
use crate::recipe::Preference;

pub(super) fn cost(
    preference: &Preference,
    stream: &Tensor<2>,
    head: &Head,
    batch: &MicroBatch,
    scale: f64,
    wanted: Gradients,
) -> Cost {
    assert_eq!(
        batch.reference.len(),
        batch.samples.len(),
        "pairs are measured from what the base says of them"
    );
    let policy = log_probabilities(stream, head, batch);
    let mut n_labels = vec![0; policy.len()];
    for row in &batch.rows {
        n_labels[batch.sample_of(*row)] += 1;
    }
    let (mut sum, mut pairs, mut slopes) = (0.0, Pairs::default(), Vec::with_capacity(policy.len()));
    for chosen in (0..policy.len()).step_by(2) {
        let of = |values: &[f64]| [values[chosen], values[chosen + 1]];
        let answers = Answers {
            policy: of(&policy),
            reference: of(&batch.reference),
            n_labels: [n_labels[chosen], n_labels[chosen + 1]],
        };
        let found = pair::loss(preference, &answers);
        sum += found.loss;
        slopes.extend(found.gradient);
        pairs.add(found.rewards);
    }
    let none = Cost { sum, pairs, stream: None, head: None };
    if wanted == Gradients::None {
        return none;
    }
    let device = stream.device();
    let zeros = Tensor::zeros(stream.dims(), (&device, DType::F32));
    if batch.targets.is_empty() {
        return Cost { stream: Some(zeros), ..none };
    }
    // A label's log-probability is minus its cross-entropy.
    let slope = |row: &u32| (-slopes[batch.sample_of(*row)] * scale) as f32;
    let each: Vec<f32> = batch.rows.iter().map(slope).collect();
    let indices = batch.row_indices(&device);
    let rows = stream.clone().select(0, indices.clone()); // [n, m]
    let loss = cross_entropy(&rows, head, &batch.targets, Scale::Each(&each), wanted);
    let of_stream = |rows: Tensor<2>| zeros.select_assign(0, indices, rows, IndexingUpdateOp::Add); // [b*t, m]
    Cost { stream: loss.rows.map(of_stream), head: loss.head, ..none }
}

/// The log-probability of each sample's labels together, summed in f64 in the order of places.
///
/// # Shapes
///
/// - `stream`: `[b·t, m]`, plain, in the compute format
pub fn log_probabilities(stream: &Tensor<2>, head: &Head, batch: &MicroBatch) -> Vec<f64> {
    let mut sums = vec![0.0; batch.samples.len()];
    if batch.targets.is_empty() {
        return sums;
    }
    let rows = stream.clone().select(0, batch.row_indices(&stream.device())); // [n, m]
    let loss = cross_entropy(&rows, head, &batch.targets, Scale::All(1.0), Gradients::None);
    for (row, loss) in batch.rows.iter().zip(loss.losses) {
        sums[batch.sample_of(*row)] -= f64::from(loss);
    }
    sums
}
