//! Root mean square normalisation.
//!
//! Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv 1910.07467.

use burn::tensor::{DType, Tensor};

use super::Param;
use crate::device::kernels::{Input, rms_norm};

/// `x / √(mean(x²) + ε) · weight`, over the last dimension, in f32 whatever the input's format.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// `[1, m]`.
    pub weight: Param,
    pub epsilon: f64,
    pub scale: NormScale,
}

/// What a norm's weight stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormScale {
    /// The factor itself.
    Weight,
    /// The factor's distance from one, as in Gemma.
    OnePlusWeight,
}

impl RmsNorm {
    /// # Shapes
    ///
    /// - `x`: `[b, t, m]`; the result has the same shape and format.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.input(x).value
    }

    /// The same for linear maps to read.
    pub fn input(&self, x: Tensor<3>) -> Input {
        let dtype = x.dtype();
        let weight = match self.scale {
            NormScale::Weight => self.weight.value.clone(),
            NormScale::OnePlusWeight => self.weight.value.clone().cast(DType::F32) + 1.0,
        };
        if let Some(y) = rms_norm(&x, &weight, self.epsilon) {
            return y;
        }
        let x = x.cast(DType::F32);
        let mean_square = x.clone().square().mean_dim(2); // [b, t, 1]
        let normed = x * (mean_square + self.epsilon).sqrt().recip();
        let normed = match self.scale {
            // The reference rounds before the weight is applied.
            NormScale::Weight => normed.cast(dtype).cast(DType::F32),
            NormScale::OnePlusWeight => normed,
        };
        (normed * weight.cast(DType::F32).unsqueeze::<3>()).cast(dtype).into()
    }
}
