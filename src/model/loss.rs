//! Masked next-token cross-entropy, a few rows of logits at a time.
//!
//! The head and its gradient are computed by hand on plain tensors, so that no more than one chunk
//! of `[rows, v]` exists at once: a whole batch of logits would be the largest thing in memory.

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};

use super::Head;
use crate::device::kernels;

/// Logits of one chunk take at most this many bytes.
const CHUNK_BYTES: usize = 128 << 20;

/// Rows whose logits over `v` ids are made at once, of `n`.
fn chunk(n: usize, v: usize) -> usize {
    (CHUNK_BYTES / (4 * v)).clamp(1, n.max(1))
}

/// Bytes in f32 of the logits over `v` ids that exist at once for `n` rows.
pub fn chunk_bytes(n: usize, v: usize) -> usize {
    4 * v * chunk(n, v)
}

/// What the head gives back for some rows of the stream.
#[derive(Debug)]
pub struct Loss {
    /// Each row's cross-entropy, in nats.
    pub losses: Vec<f32>,
    /// Gradient of the sum times its scale for the rows, `[n, m]` in f32.
    pub rows: Option<Tensor<2>>,
    /// Gradient of the sum times its scale for the head's weight, `[v, m]` in f32.
    pub head: Option<Tensor<2>>,
}

impl Loss {
    /// Sum of the rows' cross-entropies, in a fixed order.
    pub fn sum(&self) -> f64 {
        self.losses.iter().map(|loss| f64::from(*loss)).sum()
    }
}

/// What gradients are multiplied by.
#[derive(Debug, Clone, Copy)]
pub enum Scale<'a> {
    All(f64),
    /// A number for each row; where it is 0 the gradient is.
    Each(&'a [f32]),
}

/// Which gradients are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradients {
    None,
    Rows,
    RowsAndHead,
}

/// Cross-entropy of `rows` against `targets`, with gradients times `scale`.
///
/// # Shapes
///
/// - `rows`: `[n, m]`, plain, in the compute format
/// - `head`: its weight `[v, m]`, plain, in the compute format
/// - `targets`: `n` token ids
pub fn cross_entropy(
    rows: &Tensor<2>,
    head: &Head,
    targets: &[u32],
    scale: Scale<'_>,
    wanted: Gradients,
) -> Loss {
    let [n, m] = rows.dims();
    let Head { weight, softcap } = head;
    let [v, _] = weight.dims();
    let chunk = chunk(n, v);
    let (mut losses, mut row_gradients) = (Vec::with_capacity(n), Vec::new());
    let mut head_gradient: Option<Tensor<2>> = None;
    for start in (0..n).step_by(chunk) {
        let len = chunk.min(n - start);
        let h = rows.clone().narrow(0, start, len);
        let logits = head.logits(h.clone()); // [len, v]
        let all = if let Scale::All(scale) = scale { scale } else { 1.0 };
        let capped = softcap.map(|cap| (cap, logits.clone()));
        let (chunk_losses, d_logits) = softmax(logits, &targets[start..start + len], all, wanted);
        losses.extend(chunk_losses);
        let Some(d_logits) = d_logits else { continue };
        let d_logits = match scale {
            Scale::All(_) => d_logits,
            Scale::Each(scales) => {
                let scales = TensorData::new(scales[start..start + len].to_vec(), [len, 1]);
                d_logits * Tensor::<2>::from_data(scales, &rows.device()) // [len, v]
            }
        };
        let d_logits = match capped {
            Some((cap, logits)) => kernels::soft_cap_backward(logits, d_logits, cap),
            None => d_logits,
        };
        let d_logits = d_logits.cast(rows.dtype());
        if wanted == Gradients::RowsAndHead {
            let part = kernels::matmul(d_logits.clone().transpose(), h).cast(DType::F32); // [v, m]
            head_gradient = Some(match head_gradient {
                Some(sum) => sum + part,
                None => part,
            });
        }
        row_gradients.push(weight.multiply_back(d_logits).cast(DType::F32)); // [len, m]
    }
    let row_gradient = match (wanted, row_gradients.len()) {
        (Gradients::None, _) => None,
        (_, 0) => Some(Tensor::zeros([n, m], &rows.device())),
        (_, 1) => row_gradients.pop(),
        _ => Some(Tensor::cat(row_gradients, 0)),
    };
    Loss { losses, rows: row_gradient, head: head_gradient }
}

/// The rows' cross-entropies, and `scale · (softmax - onehot)` if wanted.
fn softmax(
    logits: Tensor<2>,
    targets: &[u32],
    scale: f64,
    wanted: Gradients,
) -> (Vec<f32>, Option<Tensor<2>>) {
    let gradient = (wanted != Gradients::None).then_some(scale);
    let logits = match kernels::cross_entropy(logits, targets, gradient) {
        Ok(result) => return result,
        Err(logits) => *logits,
    };
    let device = logits.device();
    let n = targets.len();
    let targets: Vec<i32> = targets.iter().map(|id| id.cast_signed()).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [n, 1]), &device);
    let shifted = logits.clone() - logits.max_dim(1);
    let chosen = shifted.clone().gather(1, targets.clone()); // [n, 1]
    let exponentials = shifted.exp();
    let sums = exponentials.clone().sum_dim(1); // [n, 1]
    let losses = (sums.clone().log() - chosen).try_into_vec_as::<f32>();
    let losses = losses.expect("a device that opened gives its results back");
    if wanted == Gradients::None {
        return (losses, None);
    }
    let d_logits = exponentials * (sums.recip() * scale);
    let minus = Tensor::full([n, 1], -scale, &device);
    (losses, Some(d_logits.scatter(1, targets, minus, IndexingUpdateOp::Add)))
}
