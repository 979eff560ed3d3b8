//! The language model: one decoder whose families differ in values.
//!
//! [`DecoderShape`] says what is computed, [`Decoder::load`] puts any [`Weights`] on a device,
//! every weight used exactly once. Modules and fields carry the names of the weights on disk.
//!
//! [`Weights`]: crate::snapshot::Weights

mod attention;
mod batch;
mod cache;
mod decoder;
mod dropout;
pub mod encoder;
pub mod families;
pub mod loss;
mod matrix;
mod mlp;
mod norm;
mod positions;
mod projection;
mod rope;
mod shape;
mod wanted;

pub use batch::{MicroBatch, micro_batches};
pub use cache::Cache;
pub use decoder::Decoder;
pub use dropout::Dropout;
pub use matrix::Matrix;
pub use norm::NormScale;
pub use positions::{Branched, Positions};
pub use projection::{Lora, Projection};
pub use rope::{RopeScaling, RopeShape};
pub use shape::{DecoderShape, Sizes};

use burn::tensor::{DType, Tensor};

use crate::device::kernels::soft_cap;

/// A weight on the device. Vectors are rows, `[1, n]`, so that every weight has one rank.
#[derive(Debug, Clone)]
pub struct Param {
    /// The weight's name on disk.
    pub name: String,
    /// The weight's shape on disk.
    pub shape: Vec<usize>,
    /// `[rows, columns]`.
    pub value: Tensor<2>,
}

impl Param {
    /// The value as constant: outside any gradient.
    pub fn frozen(&self) -> Tensor<2> {
        self.value.clone().inner()
    }
}

/// What turns the stream into logits, outside any gradient.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[v, m]`.
    pub weight: Matrix,
    /// Logits are kept between plus and minus this.
    pub softcap: Option<f64>,
}

impl Head {
    /// # Shapes
    ///
    /// - `hidden`: `[n, m]`
    /// - result: `[n, v]` in f32
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = self.weight.multiply(&hidden).cast(DType::F32);
        soft_cap(logits, self.softcap)
    }
}
