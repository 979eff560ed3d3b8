//! A linear map, with an optional low-rank adapter on its input: `x Wᵀ + s · drop(x) Aᵀ Bᵀ`.
//!
//! Hu et al., "LoRA", 2021, arXiv 2106.09685. The update is applied to activations, never formed
//! as a dense matrix: backward then costs two thin products and no dense weight gradient.

use burn::tensor::{DType, Tensor};

use super::Param;
use crate::device::kernels::{low_rank_linear, thin_linear};

/// A linear map from `in` to `out` features, its weight stored as on disk: `[out, in]`.
#[derive(Debug, Clone)]
pub struct Projection {
    pub weight: Param,
    /// `[1, out]`.
    pub bias: Option<Param>,
    pub adapter: Option<Lora>,
}

/// The trainable factors of one projection.
#[derive(Debug, Clone)]
pub struct Lora {
    /// `[r, in]`, in f32.
    pub a: Param,
    /// `[out, r]`, in f32.
    pub b: Param,
    pub scale: f64,
    /// The dropout mask of the batch at hand, `[b, t, in]`: 0 or `1 / (1 - p)`.
    pub mask: Option<Tensor<3>>,
}

/// `x Wᵀ`.
///
/// # Shapes
///
/// - `x`: `[n, in]`, `weight`: `[out, in]`
/// - result: `[n, out]`
pub fn linear(x: &Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    thin_linear(x, weight).unwrap_or_else(|| x.clone().matmul(weight.clone().transpose()))
}

impl Lora {
    /// The map of `weight` with this update.
    ///
    /// # Shapes
    ///
    /// - `rows`: `[n, in]`, `weight`: `[out, in]`
    /// - result: `[n, out]`
    fn forward(&self, rows: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
        let (a, b) = (&self.a.value, &self.b.value);
        if self.mask.is_none()
            && let Some(y) = low_rank_linear(&rows, weight, [a, b], self.scale)
        {
            return y;
        }
        let dtype = rows.dtype();
        let y = linear(&rows, weight); // [n, out]
        let rows = match &self.mask {
            Some(mask) => rows.clone() * mask.clone().reshape(rows.dims()).cast(dtype),
            None => rows,
        };
        let low = rows.matmul(a.clone().cast(dtype).transpose()); // [n, r]
        y + low.matmul(b.clone().cast(dtype).transpose()) * self.scale
    }
}

impl Projection {
    /// # Shapes
    ///
    /// - `x`: `[b, t, in]`
    /// - result: `[b, t, out]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, n_in] = x.dims();
        let rows = x.reshape([b * t, n_in]);
        let mut y = match &self.adapter {
            Some(lora) => lora.forward(rows, &self.weight.value),
            None => linear(&rows, &self.weight.value),
        }; // [b*t, out]
        if let Some(bias) = &self.bias {
            y = y + bias.value.clone();
        }
        let n_out = y.dims()[1];
        y.reshape([b, t, n_out])
    }

    /// The name of the module: the weight's, less `.weight`.
    pub fn module(&self) -> &str {
        self.weight.name.trim_end_matches(".weight")
    }

    /// The projection's own format, for casting what it is multiplied with.
    pub fn dtype(&self) -> DType {
        self.weight.value.dtype()
    }
}
