//! Supervised fine-tuning: the sum of the labels' cross-entropies.

use burn::tensor::{DType, IndexingUpdateOp, Tensor};

use super::{Cost, Pairs};
use crate::model::loss::{Gradients, Scale, cross_entropy};
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
    let each: Vec<f32> = batch.weights.iter().map(|weight| (f64::from(*weight) * scale) as f32).collect();
    let scale = if each.is_empty() { Scale::All(scale) } else { Scale::Each(&each) };
    let loss = cross_entropy(&rows, head, &batch.targets, scale, wanted);
    let sum = match batch.weights.is_empty() {
        true => loss.sum(),
        false => loss.losses.iter().zip(&batch.weights).map(|(l, w)| f64::from(*l) * f64::from(*w)).sum(),
    };
    let of_stream = |rows: Tensor<2>| {
        let zeros = Tensor::zeros(stream.dims(), (&device, DType::F32));
        zeros.select_assign(0, indices, rows, IndexingUpdateOp::Add) // [b*t, m]
    };
    Cost { sum, pairs: Pairs::default(), stream: loss.rows.map(of_stream), head: loss.head }
}
