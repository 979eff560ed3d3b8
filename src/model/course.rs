//! What the tokens of a batch see on their way through the blocks.

use burn::tensor::{DType, Device};

use super::attention::{Reach, Sight};
use super::rope::Rotation;
use super::{DecoderShape, Positions};
use crate::device::kernels::attends;

/// Rotations and sight in every block, made once for a batch.
pub struct Course {
    full: Reach,
    /// Of blocks with a window.
    sliding: Option<Reach>,
    /// Of the last block, if it computes the wanted tokens alone, which are no whole sequence.
    last: Option<Reach>,
    windows: Vec<Option<usize>>,
}

impl Course {
    /// For a model of this shape on a device, which computes in the format `compute`.
    pub(super) fn new(
        shape: &DecoderShape,
        (device, compute): (&Device, DType),
        positions: &Positions,
        is_cached: bool,
        is_some_wanted: bool,
    ) -> Self {
        let is_whole = !is_cached && attends(device, compute);
        let reach = |window: Option<usize>, is_whole: bool| {
            let rope = if window.is_some() { &shape.sliding_rope } else { &shape.rope };
            Reach {
                rotation: Rotation::new(rope, &positions.of_tokens(), device),
                sight: match positions.spans(window).filter(|_| is_whole) {
                    Some(spans) => Sight::Spans(spans),
                    None => Sight::Mask(positions.mask(window, device).map(Box::new)),
                },
            }
        };
        let sliding = shape.windows.iter().flatten().next();
        Self {
            full: reach(None, is_whole),
            sliding: sliding.map(|window| reach(Some(*window), is_whole)),
            last: (is_whole && is_some_wanted).then(|| reach(shape.windows[shape.n_layers - 1], false)),
            windows: shape.windows.clone(),
        }
    }

    /// In the block `i`.
    pub(super) fn reach(&self, i: usize) -> &Reach {
        match (&self.sliding, &self.last) {
            (_, Some(last)) if i + 1 == self.windows.len() => last,
            (Some(sliding), _) if self.windows[i].is_some() => sliding,
            _ => &self.full,
        }
    }
}
