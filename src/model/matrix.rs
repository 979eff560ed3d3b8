//! A weight as it lies in memory, and every product that is made with it.
//!
//! No other file multiplies by a weight of the model, so that a format is one more form in here: its
//! products, and what is exact of it in f32.

use std::sync::Arc;

use burn::tensor::{DType, Int, Tensor, TensorData, module};

use super::Param;
use super::blocks::Blocks;
use crate::device::kernels::{
    Again, Format, Inputs, Mask, Quantised, Weight, held_back, held_linear, low_rank_linear, matmul,
    thin_linear,
};
use crate::device::{cpu, is_cpu};

/// A matrix of the model, `[rows, columns]`, in f32 or the shorter format that the device computes in; on the processor
/// in f32, bf16 or f16, which are exact in its f32. A frozen one may be kept in fewer bits.
#[derive(Debug, Clone)]
pub struct Matrix {
    kept: Kept,
    /// What it is multiplied with is rounded to this.
    inputs: Inputs,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "most are of the largest kind")]
enum Kept {
    Param(Param),
    /// In 4 or 8 bits on the processor.
    Host(String, Arc<Quantised>),
    /// The same on another device, multiplied in a format of that device.
    Device(String, Box<Blocks>, DType),
}

impl Matrix {
    /// The matrix as it was put on the device, multiplied with inputs as they are.
    pub fn new(param: Param) -> Self {
        Self { kept: Kept::Param(param), inputs: Inputs::Exact }
    }

    /// The same; on the processor, inputs are rounded to this.
    pub fn with_inputs(self, inputs: Inputs) -> Self {
        Self { inputs, ..self }
    }

    /// The same in fewer bits, frozen; products with it are made in the format that it had.
    pub fn quantised(self, format: Format) -> Self {
        let Kept::Param(Param { name, value, .. }) = self.kept else { return self };
        let (device, dtype, dims) = (value.device(), value.dtype(), value.dims());
        let values = value.inner().cast(DType::F32).into_data_as::<f32>();
        let values = values.as_slice::<f32>().expect("numbers in f32");
        let weight = Quantised::of(format, values, dims);
        let kept = match is_cpu(&device) {
            true => Kept::Host(name, Arc::new(weight)),
            false => Kept::Device(name, Box::new(Blocks::new(&weight, &device)), dtype),
        };
        Self { kept, ..self }
    }

    /// The weight's name on disk.
    pub fn name(&self) -> &str {
        match &self.kept {
            Kept::Param(param) => &param.name,
            Kept::Host(name, _) | Kept::Device(name, ..) => name,
        }
    }

    /// `[rows, columns]`.
    pub fn dims(&self) -> [usize; 2] {
        match &self.kept {
            Kept::Param(param) => param.value.dims(),
            Kept::Host(_, weight) => weight.dims,
            Kept::Device(_, blocks, _) => blocks.dims,
        }
    }

    /// What full tuning changes, and what another model's weights take the place of; none of a matrix in fewer bits.
    pub fn param_mut(&mut self) -> Option<&mut Param> {
        match &mut self.kept {
            Kept::Param(param) => Some(param),
            Kept::Host(..) | Kept::Device(..) => None,
        }
    }

    /// The same, outside any gradient.
    pub fn frozen(&self) -> Self {
        let mut frozen = self.clone();
        if let Some(param) = frozen.param_mut() {
            param.value = param.frozen();
        }
        frozen
    }

    /// Its numbers in f32, outside any gradient.
    pub fn to_f32(&self) -> Tensor<2> {
        match &self.kept {
            Kept::Param(param) => param.frozen().cast(DType::F32),
            Kept::Host(..) => self.value(),
            Kept::Device(_, blocks, _) => blocks.numbers(DType::F32),
        }
    }

    /// `x Wᵀ`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[n, columns]`
    /// - result: `[n, rows]`
    pub fn multiply(&self, x: &Tensor<2>) -> Tensor<2> {
        if let Some(y) = self.thin(x) {
            return y;
        }
        let held = self.held().and_then(|weight| held_linear(x, weight, self.inputs));
        held.unwrap_or_else(|| matmul(x.clone(), self.value().transpose()))
    }

    fn thin(&self, x: &Tensor<2>) -> Option<Tensor<2>> {
        match &self.kept {
            Kept::Param(param) => thin_linear(x, &param.value, self.inputs),
            Kept::Host(..) | Kept::Device(..) => None,
        }
    }

    /// `x Wᵀ + s · drop(x) Aᵀ Bᵀ` in one pass, if there is one for this format and device; what can be made again of `x` is
    /// not kept for the way back.
    ///
    /// # Shapes
    ///
    /// - `x`: `[n, columns]`, `a`: `[r, columns]`, `b`: `[rows, r]`
    /// - result: `[n, rows]`
    pub fn multiply_updated(
        &self,
        x: &Tensor<2>,
        again: Option<Again>,
        factors: [&Tensor<2>; 2],
        scale: f64,
        mask: Option<&Mask>,
    ) -> Option<Tensor<2>> {
        low_rank_linear(x, again, self.held()?, factors, scale, (mask, self.inputs))
    }

    /// `y W`: the gradient of [`Matrix::multiply`] for its input.
    ///
    /// # Shapes
    ///
    /// - `y`: `[n, rows]`
    /// - result: `[n, columns]`
    pub fn multiply_back(&self, y: Tensor<2>) -> Tensor<2> {
        let held = self.held().and_then(|weight| held_back(&y, weight, self.inputs));
        held.unwrap_or_else(|| matmul(y, self.value()))
    }

    /// The rows with these numbers.
    ///
    /// # Shapes
    ///
    /// - `ids`: `[b, t]`
    /// - result: `[b, t, columns]`
    pub fn rows(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let rows = module::embedding(self.value(), ids);
        if is_cpu(&rows.device()) { rows.cast(DType::F32) } else { rows }
    }

    /// What kernels of the processor take.
    fn held(&self) -> Option<Weight<'_>> {
        match &self.kept {
            Kept::Param(param) => Some(Weight::Tensor(&param.value)),
            Kept::Host(_, weight) => Some(Weight::Quantised(weight)),
            Kept::Device(..) => None,
        }
    }

    /// As a tensor of the format that is multiplied in.
    fn value(&self) -> Tensor<2> {
        match &self.kept {
            Kept::Param(param) => param.value.clone(),
            Kept::Host(_, weight) => Tensor::from_data(TensorData::new(weight.to_f32(), weight.dims), &cpu()),
            Kept::Device(_, blocks, dtype) => blocks.numbers(*dtype),
        }
    }
}
