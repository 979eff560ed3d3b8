//! A weight as it lies in memory, and every product that is made with it.
//!
//! No other file multiplies by a weight of the model, so that a format is one more form in here: its
//! products, and what is exact of it in f32.

use burn::tensor::{DType, Int, Tensor, module};

use super::Param;
use crate::device::is_cpu;
use crate::device::kernels::{Inputs, Mask, held_back, held_linear, low_rank_linear, matmul, thin_linear};

/// A matrix of the model, `[rows, columns]`, in f32 or the shorter format that the device computes in; on the processor
/// in f32, bf16 or f16, which are exact in its f32.
#[derive(Debug, Clone)]
pub struct Matrix {
    param: Param,
    /// What it is multiplied with is rounded to this.
    inputs: Inputs,
}

impl Matrix {
    /// The matrix as it was put on the device, multiplied with inputs as they are.
    pub fn new(param: Param) -> Self {
        Self { param, inputs: Inputs::Exact }
    }

    /// The same; on the processor, inputs are rounded to this.
    pub fn with_inputs(self, inputs: Inputs) -> Self {
        Self { inputs, ..self }
    }

    /// The weight's name on disk.
    pub fn name(&self) -> &str {
        &self.param.name
    }

    /// `[rows, columns]`.
    pub fn dims(&self) -> [usize; 2] {
        self.param.value.dims()
    }

    /// What full tuning changes, and what another model's weights take the place of.
    pub fn param_mut(&mut self) -> &mut Param {
        &mut self.param
    }

    /// The same, outside any gradient.
    pub fn frozen(&self) -> Self {
        Self { param: Param { value: self.param.frozen(), ..self.param.clone() }, inputs: self.inputs }
    }

    /// Its numbers in f32, outside any gradient.
    pub fn to_f32(&self) -> Tensor<2> {
        self.param.frozen().cast(DType::F32)
    }

    /// `x Wᵀ`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[n, columns]`
    /// - result: `[n, rows]`
    pub fn multiply(&self, x: &Tensor<2>) -> Tensor<2> {
        let weight = &self.param.value;
        thin_linear(x, weight, self.inputs)
            .or_else(|| held_linear(x, weight, self.inputs))
            .unwrap_or_else(|| matmul(x.clone(), weight.clone().transpose()))
    }

    /// `x Wᵀ + s · drop(x) Aᵀ Bᵀ` in one pass, if there is one for this format and device.
    ///
    /// # Shapes
    ///
    /// - `x`: `[n, columns]`, `a`: `[r, columns]`, `b`: `[rows, r]`
    /// - result: `[n, rows]`
    pub fn multiply_updated(
        &self,
        x: &Tensor<2>,
        factors: [&Tensor<2>; 2],
        scale: f64,
        mask: Option<&Mask>,
    ) -> Option<Tensor<2>> {
        low_rank_linear(x, &self.param.value, factors, scale, (mask, self.inputs))
    }

    /// `y W`: the gradient of [`Matrix::multiply`] for its input.
    ///
    /// # Shapes
    ///
    /// - `y`: `[n, rows]`
    /// - result: `[n, columns]`
    pub fn multiply_back(&self, y: Tensor<2>) -> Tensor<2> {
        let weight = &self.param.value;
        held_back(&y, weight, self.inputs).unwrap_or_else(|| matmul(y, weight.clone()))
    }

    /// The rows with these numbers.
    ///
    /// # Shapes
    ///
    /// - `ids`: `[b, t]`
    /// - result: `[b, t, columns]`
    pub fn rows(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let rows = module::embedding(self.param.value.clone(), ids);
        if is_cpu(&rows.device()) { rows.cast(DType::F32) } else { rows }
    }
}
