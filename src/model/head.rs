//! From the stream to logits.

use burn::tensor::{DType, Tensor};

use super::Matrix;
use crate::device::kernels::soft_cap;

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
