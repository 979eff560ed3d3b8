//! The way back through a model block by block, each computed a second time.
//!
//! Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv 1604.06174: what a block keeps for its
//! gradient takes several times the memory of its input. On the way forward only the inputs are kept.

use burn::tensor::{Device, Int, Tensor};

use super::Machine;
use crate::device::{free_memory, is_cpu};
use crate::model::{Course, Decoder, DecoderShape, Dropout, Positions};
use crate::recipe::{MethodKind, Recompute};

/// Bytes of a number of what is kept, in f32.
const NUMBER_BYTES: u64 = 4;

/// What a block keeps for the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Of adapters on the processor: inputs of the block's two parts and of its gate, and queries, keys and values. What
    /// norms and the gate give is made again.
    Sources,
    /// Of full tuning on the processor: what every map reads too.
    Inputs,
    /// Elsewhere, where attention is composed, its shares too.
    Shares,
}

impl Kept {
    pub fn of(kind: MethodKind, device: &Device) -> Self {
        match (is_cpu(device), kind) {
            (true, MethodKind::Lora) => Self::Sources,
            (true, MethodKind::Full) => Self::Inputs,
            (false, _) => Self::Shares,
        }
    }

    /// Bytes of all blocks for so many positions, in rows of `width`, if nothing is recomputed.
    pub fn bytes(self, shape: &DecoderShape, positions: usize, width: usize) -> u64 {
        self.of_block(shape, positions, width).saturating_mul(shape.n_layers as u64)
    }

    /// The same if blocks are recomputed: their inputs, and what one of them keeps.
    pub fn recomputed_bytes(self, shape: &DecoderShape, positions: usize, width: usize) -> u64 {
        let inputs = (shape.n_layers * shape.hidden_size) as u64 * NUMBER_BYTES;
        inputs.saturating_mul(positions as u64).saturating_add(self.of_block(shape, positions, width))
    }

    fn of_block(self, shape: &DecoderShape, positions: usize, width: usize) -> u64 {
        let heads = 2 * (shape.n_heads + shape.n_kv_heads) * shape.head_dim;
        let of_parts = match self {
            Self::Sources => 2 * shape.hidden_size + 2 * shape.intermediate_size,
            Self::Inputs | Self::Shares => 4 * shape.hidden_size + 3 * shape.intermediate_size,
        };
        let shares = match self {
            Self::Sources | Self::Inputs => 0,
            Self::Shares => (3 * shape.n_heads as u64).saturating_mul(width as u64),
        };
        let per_position = (heads + of_parts) as u64;
        per_position.saturating_add(shares).saturating_mul(positions as u64).saturating_mul(NUMBER_BYTES)
    }
}

/// Whether blocks are recomputed in micro-batches of up to so many positions, in rows of `width`.
pub fn is_on(
    recompute: Recompute,
    kind: MethodKind,
    shape: &DecoderShape,
    (positions, width): (usize, usize),
    machine: &Machine,
) -> bool {
    match recompute {
        Recompute::Block => true,
        Recompute::None => false,
        // Half is left for weights that are still to be loaded, and for others.
        Recompute::Auto => free_memory(&machine.device)
            .is_some_and(|free| Kept::of(kind, &machine.device).bytes(shape, positions, width) > free / 2),
    }
}

/// A way forward of which only the blocks' inputs are kept.
pub(super) struct Segments {
    course: Course,
    ids: Tensor<2, Int>,
    /// The stream before each block, and that behind the last one: of autodiff where something before it is trained.
    streams: Vec<Tensor<3>>,
}

impl Segments {
    /// Goes forward and records nothing, for burn keeps what was recorded until the next way back, whoever holds it;
    /// returns the stream after the last norm as well.
    pub fn forward(
        decoder: &Decoder,
        ids: Tensor<2, Int>,
        positions: &Positions,
        dropout: Option<&Dropout>,
    ) -> (Self, Tensor<3>) {
        let course = decoder.course(positions);
        let decoder = decoder.unrecorded();
        let mut streams = vec![decoder.embedded(ids.clone())];
        for i in 0..decoder.shape.n_layers {
            streams.push(decoder.block(i, streams[i].clone(), &course, dropout));
        }
        let stream = decoder.normed(streams[decoder.shape.n_layers].clone());
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
        // A leaf only there: the same operations give the same bits as if nothing were computed again.
        let x = if x.is_autodiff() { x.inner().autodiff().require_grad() } else { x };
        let y = match stage {
            0 => decoder.normed(x.clone()),
            _ => decoder.block(decoder.shape.n_layers - stage, x.clone(), &self.course, dropout),
        };
        (Some(x).filter(Tensor::is_autodiff), y)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::data::Sample;
    use crate::dtype::Dtype;
    use crate::model::{MicroBatch, Param, Sizes};
    use crate::recipe::{Method, Train};
    use crate::train::init::{RandomWeights, adapter};

    /// What is recorded lives until the next way back, whoever holds it: nothing was saved when blocks went forward so.
    #[test]
    fn the_way_forward_is_recorded_nowhere() {
        let sizes = Sizes {
            vocab_size: 30,
            hidden_size: 32,
            intermediate_size: 48,
            n_layers: 3,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 8,
        };
        let (shape, device) = (DecoderShape::plain("small", sizes), Device::flex());
        let weights = RandomWeights::new(&shape, 0.02, Dtype::F32, 1);
        let mut decoder = Decoder::load(&shape, &weights, &device, DType::F32).unwrap();
        decoder.attach(&adapter(&shape, &Method::default(), &Train::default()).unwrap()).unwrap();
        let in_second = |param: &&mut Param| param.name.contains("layers.1.");
        for param in decoder.factors_mut().into_iter().filter(in_second) {
            param.value = param.frozen().autodiff().require_grad();
        }
        let batch = MicroBatch::new(&[Sample::of_trained((0..9).collect(), [true; 9], 1.into())], &[0], 1);
        let ids = batch.ids(&device);
        let (segments, stream) = Segments::forward(&decoder, ids, &batch.positions(), None);
        // Before each block and behind the last one.
        let moved: Vec<bool> = segments.streams.iter().map(Tensor::is_autodiff).collect();
        assert_eq!(moved, [false, false, true, true]);
        assert!(segments.streams.iter().chain([&stream]).all(|x| !x.is_tracked()));
    }
}
