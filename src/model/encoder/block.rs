//! One block of an encoder: attention and feed-forward, each added to the stream and normalised behind it.

use burn::tensor::{Tensor, activation};

use super::attention::{Attention, Distances};
use super::norm::LayerNorm;
use super::{EncoderShape, Reader};
use crate::model::Projection;
use crate::snapshot::SnapshotError;

#[derive(Debug, Clone)]
pub(super) struct Block {
    attention: Attention,
    attention_output: Projection,
    attention_norm: LayerNorm,
    intermediate: Projection,
    output: Projection,
    output_norm: LayerNorm,
}

impl Block {
    pub fn load(shape: &EncoderShape, layer: usize, reader: &Reader<'_>) -> Result<Self, SnapshotError> {
        let (m, f) = (shape.hidden_size, shape.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        Ok(Self {
            attention: Attention::load(shape, &name("attention.self"), reader)?,
            attention_output: reader.linear(&name("attention.output.dense"), [m, m], true)?,
            attention_norm: reader.norm(&name("attention.output.LayerNorm"), shape)?,
            intermediate: reader.linear(&name("intermediate.dense"), [f, m], true)?,
            output: reader.linear(&name("output.dense"), [m, f], true)?,
            output_norm: reader.norm(&name("output.LayerNorm"), shape)?,
        })
    }

    /// # Shapes
    ///
    /// - `x`: `[b, t, m]`; the result has the same.
    pub fn forward(&self, x: Tensor<3>, distances: Option<&Distances>) -> Tensor<3> {
        let y = self.attention_output.forward(self.attention.forward(x.clone(), distances), None);
        let x = self.attention_norm.forward(x + y);
        // The form with the error function, as the published models have it.
        let y = self.output.forward(activation::gelu(self.intermediate.forward(x.clone(), None)), None);
        self.output_norm.forward(x + y)
    }
}
