//! What a training makes smaller: the loss of a micro-batch, and the gradient it sends into the stream.
//!
//! An objective works on plain tensors: it is given the stream behind the last norm and the head, and
//! writes down its gradients by hand, so that no more logits exist at once than one chunk of rows.
//! `step` carries the gradient of the stream on through the blocks.
//!
//! Where the next ones go, each a variant here and a file beside `sft.rs`:
//!
//! - Other labels, or none at some positions (as in Yuan et al., 2024, arXiv 2407.09121), need no objective of
//!   their own: a sample's labels are made with it, in `data`, and [`Objective::Sft`] learns whatever they are.
//! - A preference loss (DPO: Rafailov et al., 2023, arXiv 2305.18290) holds the base's log-likelihood of every
//!   sample, counts pairs, and gives each row the weight of its pair; a pair's samples then have to stay in one
//!   micro-batch ([`micro_batches`](crate::model::micro_batches)).
//! - A penalty on the distance from the base (KL) holds the base, whose logits it needs for the same rows, and adds to
//!   the cost of another objective.

use burn::tensor::Tensor;

mod labelled;
mod sft;

use crate::model::loss::Gradients;
use crate::model::{Head, MicroBatch};

/// What a sample's loss is.
#[derive(Debug, Clone)]
pub enum Objective {
    /// The cross-entropy of each label.
    Sft,
    /// The same, where that of these tokens counts `weight` times.
    Labelled { labels: [u32; 2], weight: f64 },
}

/// The loss of one micro-batch.
#[derive(Debug)]
pub struct Cost {
    /// Its sum.
    pub sum: f64,
    /// The gradient of the scaled sum for the stream, `[b·t, m]` in f32.
    pub stream: Option<Tensor<2>>,
    /// The same for the head's weight, `[v, m]` in f32.
    pub head: Option<Tensor<2>>,
}

impl Objective {
    /// What a micro-batch adds to the number by which the losses of a step are averaged; what adds nothing
    /// costs nothing.
    pub fn count(&self, batch: &MicroBatch) -> usize {
        match self {
            Self::Sft | Self::Labelled { .. } => batch.targets.len(),
        }
    }

    /// The loss of one micro-batch, with gradients times `scale`.
    ///
    /// # Shapes
    ///
    /// - `stream`: `[b·t, m]`, plain, in the compute format
    pub fn cost(
        &self,
        stream: &Tensor<2>,
        head: &Head,
        batch: &MicroBatch,
        scale: f64,
        wanted: Gradients,
    ) -> Cost {
        match self {
            Self::Sft => sft::cost(stream, head, batch, scale, wanted),
            Self::Labelled { labels, weight } => {
                labelled::cost(stream, head, batch, (labels, *weight), scale, wanted)
            }
        }
    }
}
