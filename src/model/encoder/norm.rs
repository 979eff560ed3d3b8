//! Layer normalisation: Ba et al., 2016, arXiv 1607.06450.

use burn::tensor::Tensor;

use crate::model::Param;

/// `(x - mean) / √(variance + ε) · weight + bias`, over the last dimension.
#[derive(Debug, Clone)]
pub(super) struct LayerNorm {
    /// `[1, m]`.
    pub weight: Param,
    /// `[1, m]`.
    pub bias: Param,
    pub epsilon: f64,
}

impl LayerNorm {
    /// # Shapes
    ///
    /// - `x`: `[b, t, m]`; the result has the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() - x.mean_dim(2);
        let variance = x.clone().square().mean_dim(2); // [b, t, 1]
        let normed = x / (variance + self.epsilon).sqrt();
        normed * self.weight.value.clone().unsqueeze::<3>() + self.bias.value.clone().unsqueeze::<3>()
    }
}
