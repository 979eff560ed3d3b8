//! The divergence of two models' next tokens, a few rows of logits at a time.

use burn::tensor::{DType, Tensor};

use crate::device::kernels;
use crate::model::Head;
use crate::model::loss::Gradients;
use crate::recipe::Direction;

/// Logits of one chunk, of both models, take at most this many bytes.
const CHUNK_BYTES: usize = 64 << 20;

/// How two models are compared.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    pub direction: Direction,
    /// What both models' logits are divided by; its square is not multiplied back.
    pub temperature: f64,
}

/// The divergence at some rows.
#[derive(Debug)]
pub struct Divergence {
    /// Its sum, in nats.
    pub sum: f64,
    /// The gradient of the scaled sum for the model's rows, `[n, m]` in f32.
    pub rows: Option<Tensor<2>>,
    /// The same for its head's weight, `[v, m]` in f32.
    pub head: Option<Tensor<2>>,
}

/// What a model has at some rows: its stream, `[n, m]` in the compute format, and its head.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub rows: &'a Tensor<2>,
    pub head: &'a Head,
}

/// The divergence between `model` and `base`, with gradients for the model times `scale`.
pub fn divergence(
    model: Side<'_>,
    base: Side<'_>,
    comparison: Comparison,
    scale: f64,
    wanted: Gradients,
) -> Divergence {
    let [n, _] = model.rows.dims();
    let [v, _] = model.head.weight.dims();
    let chunk = (CHUNK_BYTES / (8 * v)).clamp(1, n.max(1));
    let (mut sum, mut parts) = (0.0, Vec::new());
    let mut head_gradient: Option<Tensor<2>> = None;
    for start in (0..n).step_by(chunk) {
        let len = chunk.min(n - start);
        let h = model.rows.clone().narrow(0, start, len);
        let logits = model.head.logits(h.clone()); // [len, v]
        let reference = base.head.logits(base.rows.clone().narrow(0, start, len)); // [len, v]
        let (each, d_logits) = of_logits(logits.clone(), reference, comparison);
        sum += each.iter().map(|x| f64::from(*x)).sum::<f64>();
        if wanted == Gradients::None {
            continue;
        }
        let d_logits = d_logits * scale;
        let d_logits = match model.head.softcap {
            Some(cap) => kernels::soft_cap_backward(logits, d_logits, cap),
            None => d_logits,
        };
        let d_logits = d_logits.cast(model.rows.dtype());
        if wanted == Gradients::RowsAndHead {
            let part = kernels::matmul(d_logits.clone().transpose(), h).cast(DType::F32); // [v, m]
            head_gradient = Some(match head_gradient {
                Some(sum) => sum + part,
                None => part,
            });
        }
        parts.push(model.head.weight.multiply_back(d_logits).cast(DType::F32)); // [len, m]
    }
    let rows = (!parts.is_empty()).then(|| Tensor::cat(parts, 0));
    Divergence { sum, rows, head: head_gradient }
}

/// Each row's divergence in nats, and its gradient for the model's logits.
///
/// # Shapes
///
/// - `model`, `base`, gradient: `[n, v]` in f32
pub fn of_logits(model: Tensor<2>, base: Tensor<2>, comparison: Comparison) -> (Vec<f32>, Tensor<2>) {
    let Comparison { direction, temperature } = comparison;
    let [model, base] = [model, base].map(|logits| log_softmax(logits / temperature));
    let (q, p) = (model.clone().exp(), base.clone().exp());
    let (each, gradient) = match direction {
        Direction::BaseToModel => {
            let each = (p.clone() * (base - model)).sum_dim(1); // [n, 1]
            (each, q - p)
        }
        Direction::ModelToBase => {
            let off = model - base;
            let each = (q.clone() * off.clone()).sum_dim(1); // [n, 1]
            let gradient = q * (off - each.clone());
            (each, gradient)
        }
    };
    let each = each.try_into_vec_as::<f32>().expect("a device that opened gives its results back");
    (each, gradient / temperature)
}

fn log_softmax(logits: Tensor<2>) -> Tensor<2> {
    let shifted = logits.clone() - logits.max_dim(1);
    shifted.clone() - shifted.exp().sum_dim(1).log()
}
