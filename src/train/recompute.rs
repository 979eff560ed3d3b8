//! The way back through a model block by block, each computed a second time.
//!
//! Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv 1604.06174: what a block keeps for its
//! gradient takes several times the memory of its input. On the way forward only the inputs are kept.

use burn::tensor::{Int, Tensor};

use super::Machine;
use crate::device::{free_memory, is_cpu};
use crate::model::{Course, Decoder, DecoderShape, Dropout, Positions};
use crate::recipe::Recompute;

/// Bytes of a number of what is kept, in f32.
const NUMBER_BYTES: u64 = 4;

/// Bytes that the way back keeps of all blocks for so many positions, in rows of `width`, if nothing is recomputed: inputs
/// and norms, what maps and gates read, and, where attention is composed, its shares.
pub fn kept_bytes(shape: &DecoderShape, positions: usize, width: usize, is_cpu: bool) -> u64 {
    block_bytes(shape, positions, width, is_cpu).saturating_mul(shape.n_layers as u64)
}

/// The same if blocks are recomputed: their inputs, and what one of them keeps.
pub fn recomputed_bytes(shape: &DecoderShape, positions: usize, width: usize, is_cpu: bool) -> u64 {
    let inputs = (shape.n_layers * shape.hidden_size) as u64 * NUMBER_BYTES;
    inputs.saturating_mul(positions as u64).saturating_add(block_bytes(shape, positions, width, is_cpu))
}

fn block_bytes(shape: &DecoderShape, positions: usize, width: usize, is_cpu: bool) -> u64 {
    let heads = 2 * (shape.n_heads + shape.n_kv_heads) * shape.head_dim;
    let per_position = (4 * shape.hidden_size + heads + 3 * shape.intermediate_size) as u64;
    let shares = if is_cpu { 0 } else { (3 * shape.n_heads as u64).saturating_mul(width as u64) };
    per_position.saturating_add(shares).saturating_mul(positions as u64).saturating_mul(NUMBER_BYTES)
}

/// Whether blocks are recomputed in micro-batches of up to so many positions, in rows of `width`.
pub fn is_on(
    recompute: Recompute,
    shape: &DecoderShape,
    (positions, width): (usize, usize),
    machine: &Machine,
) -> bool {
    match recompute {
        Recompute::Block => true,
        Recompute::None => false,
        // Half is left for weights that are still to be loaded, and for others.
        Recompute::Auto => free_memory(&machine.device)
            .is_some_and(|free| kept_bytes(shape, positions, width, is_cpu(&machine.device)) > free / 2),
    }
}

/// A way forward of which only the blocks' inputs are kept.
pub(super) struct Segments {
    course: Course,
    ids: Tensor<2, Int>,
    /// The stream before each block, and that behind the last one: a leaf where something before it is trained, so that
    /// the same operations give the same bits as if nothing were computed again.
    streams: Vec<Tensor<3>>,
}

/// What a stage gave, as a beginning for the next one.
fn cut(y: Tensor<3>) -> Tensor<3> {
    if y.is_autodiff() { y.inner().autodiff().require_grad() } else { y }
}

impl Segments {
    /// Goes forward; returns the stream after the last norm as well.
    pub fn forward(
        decoder: &Decoder,
        ids: Tensor<2, Int>,
        positions: &Positions,
        dropout: Option<&Dropout>,
    ) -> (Self, Tensor<3>) {
        let course = decoder.course(positions);
        let mut streams = vec![cut(decoder.embedded(ids.clone()))];
        for i in 0..decoder.shape.n_layers {
            let x = streams[i].clone();
            streams.push(cut(decoder.block(i, x, &course, dropout)));
        }
        let stream = cut(decoder.normed(streams[decoder.shape.n_layers].clone()));
        (Self { course, ids, streams }, stream)
    }

    /// How many stages the way back has: the last norm, the blocks, the embedding.
    pub fn n_stages(&self) -> usize {
        self.streams.len() + 1
    }

    /// A stage on the way back, computed again: what it reads, if that has a gradient, and what it gives.
    pub fn stage(
        &mut self,
        decoder: &Decoder,
        stage: usize,
        dropout: Option<&Dropout>,
    ) -> (Option<Tensor<3>>, Tensor<3>) {
        let Some(x) = self.streams.pop() else { return (None, decoder.embedded(self.ids.clone())) };
        let y = match stage {
            0 => decoder.normed(x.clone()),
            _ => decoder.block(decoder.shape.n_layers - stage, x.clone(), &self.course, dropout),
        };
        (Some(x).filter(Tensor::is_autodiff), y)
    }
}
