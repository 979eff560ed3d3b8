//! Supervised fine-tuning: the sum of the labels' cross-entropies.

use burn::tensor::{DType, IndexingUpdateOp, Tensor};

use super::Cost;
use crate::model::loss::{Gradients, cross_entropy};
use crate::model::{Head, MicroBatch};

pub(super) fn cost(
    stream: &Tensor<2>,
    head: &Head,
    batch: &MicroBatch,
    scale: f64,
    wanted: Gradients,
) -> Cost {
    let device = stream.device();
    let indices = batch.row_indices(&device);
    let rows = stream.clone().select(0, indices.clone()); // [n, m]
    let loss = cross_entropy(&rows, head, &batch.targets, scale, wanted);
    let sum = loss.sum();
    let of_stream = |rows: Tensor<2>| {
        let zeros = Tensor::zeros(stream.dims(), (&device, DType::F32));
        zeros.select_assign(0, indices, rows, IndexingUpdateOp::Add) // [b*t, m]
    };
    Cost { sum, stream: loss.rows.map(of_stream), head: loss.head }
}
