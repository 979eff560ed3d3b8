//! The cross-entropy of each label, of which some tokens' count several times: those by which a guard labels a request.
//!
//! "SLM as Guardian", 2024, arXiv 2405.19795, trains label and answer together; the weight is ours, for a label is one
//! token beside a whole answer. The mean is over tokens, so another weight leaves the share of the answers as it is.

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};

use super::{Cost, Pairs};
use crate::model::loss::{Gradients, Scale, cross_entropy};
use crate::model::{Head, MicroBatch};

pub(super) fn cost(
    stream: &Tensor<2>,
    head: &Head,
    batch: &MicroBatch,
    (labels, weight): (&[u32], f64),
    scale: f64,
    wanted: Gradients,
) -> Cost {
    let device = stream.device();
    let mut cost = Cost { sum: 0.0, pairs: Pairs::default(), stream: None, head: None };
    for (is_label, weight) in [(true, weight), (false, 1.0)] {
        let these = batch.rows.iter().zip(&batch.targets);
        let these = these.filter(|(_, target)| labels.contains(target) == is_label);
        let (rows, targets): (Vec<i32>, Vec<u32>) =
            these.map(|(row, target)| (row.cast_signed(), *target)).unzip();
        if rows.is_empty() {
            continue;
        }
        let n = rows.len();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), &device);
        let chosen = stream.clone().select(0, indices.clone()); // [n, m]
        let loss = cross_entropy(&chosen, head, &targets, Scale::All(scale * weight), wanted);
        cost.sum += weight * loss.sum();
        if let Some(rows) = loss.rows {
            let sum = cost.stream.take();
            let sum = sum.unwrap_or_else(|| Tensor::zeros(stream.dims(), (&device, DType::F32)));
            cost.stream = Some(sum.select_assign(0, indices, rows, IndexingUpdateOp::Add)); // [b*t, m]
        }
        cost.head = match (cost.head.take(), loss.head) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, more) => sum.or(more),
        };
    }
    cost
}
