//! The gated feed-forward part of a block.
//!
//! Shazeer, "GLU Variants Improve Transformer", 2020, arXiv 2002.05202.

use burn::tensor::Tensor;

use super::projection::forward_all;
use super::{Dropout, Projection};
use crate::device::kernels::{Gate, Input, gated};

/// `down(act(gate(x)) · up(x))`.
#[derive(Debug, Clone)]
pub struct Mlp {
    /// `gate_proj` and `up_proj`, or `gate_up_proj`, which is both.
    pub inputs: Vec<Projection>,
    pub down_proj: Projection,
    pub gate: Gate,
    /// Width `f` between the maps.
    pub width: usize,
}

impl Mlp {
    /// # Shapes
    ///
    /// - `x`: `[b, t, m]`; the result has the same.
    pub fn forward(&self, x: Input, dropout: Option<&Dropout>) -> Tensor<3> {
        let [gate, up] = forward_all(&self.inputs, x, [self.width; 2], dropout); // [b, t, f]
        self.down_proj.forward(gated(self.gate, gate, up), dropout) // [b, t, m]
    }
}
