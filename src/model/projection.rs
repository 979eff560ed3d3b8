//! A linear map, with an optional low-rank adapter on its input: `x Wᵀ + s · drop(x) Aᵀ Bᵀ`.
//!
//! Hu et al., "LoRA", 2021, arXiv 2106.09685. The update is applied to activations, never formed
//! as a dense matrix: backward then costs two thin products and no dense weight gradient.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::Param;
use crate::device::kernels::{low_rank_linear, matmul, thin_linear};
use crate::snapshot::adapter::{Adapter, MAGNITUDE, Pair};

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
    pub dora: Option<Dora>,
    /// The dropout mask of the batch at hand, `[b, t, in]`: 0 or `1 / (1 - p)`.
    pub mask: Option<Tensor<3>>,
}

/// The length of each row of the map as a weight of its own: `m · (W + s·B·A) / ‖W + s·B·A‖`.
///
/// Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024, arXiv 2402.09353. The norm is
/// outside the gradient, as there in section 4.3.
#[derive(Debug, Clone)]
pub struct Dora {
    /// `[1, out]`, in f32.
    pub magnitude: Param,
    /// The squared length of each row of `W`, `[1, out]` in f32.
    squares: Tensor<2>,
}

impl Dora {
    /// `m / ‖W + s·B·A‖`, `[1, out]`, from thin products only.
    fn factor(&self, weight: &Tensor<2>, lora: &Lora) -> Tensor<2> {
        let (a, b) = (lora.a.frozen(), lora.b.frozen());
        let weight = weight.clone().inner().cast(DType::F32);
        let across = weight.matmul(a.clone().transpose()); // [out, r]
        let within = b.clone().matmul(a.clone().matmul(a.transpose())); // [out, r]
        let s = lora.scale;
        let cross = (b * (across * (2.0 * s) + within * (s * s))).sum_dim(1).transpose(); // [1, out]
        self.magnitude.value.clone() / (self.squares.clone() + cross).sqrt()
    }
}

/// `x Wᵀ`.
///
/// # Shapes
///
/// - `x`: `[n, in]`, `weight`: `[out, in]`
/// - result: `[n, out]`
pub fn linear(x: &Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    thin_linear(x, weight).unwrap_or_else(|| matmul(x.clone(), weight.clone().transpose()))
}

/// Applies maps that read the same input: one each, or one that is all of them, `widths` each.
pub(super) fn forward_all<const N: usize>(
    maps: &[Projection],
    x: Tensor<3>,
    widths: [usize; N],
) -> [Tensor<3>; N] {
    match maps {
        [all] => {
            let (y, mut start) = (all.forward(x), 0);
            widths.map(|width| {
                start += width;
                y.clone().narrow(2, start - width, width)
            })
        }
        _ => std::array::from_fn(|i| maps[i].forward(x.clone())),
    }
}

impl Lora {
    /// The adapter's factors for `projection`, on its device.
    pub(super) fn new(projection: &Projection, adapter: &Adapter, pair: &Pair, device: &Device) -> Self {
        let param = |which: &str, values: &[f32], shape: Vec<usize>, rows: [usize; 2]| Param {
            name: format!("{}.lora_{which}", projection.module()),
            shape,
            value: Tensor::from_data(TensorData::new(values.to_vec(), rows), (device, DType::F32)),
        };
        let Pair { a, b, n_in, n_out, rank, .. } = pair;
        let factor = |which, values, rows: [usize; 2]| param(which, values, rows.to_vec(), rows);
        let dora = adapter.dora.then(|| {
            let weight = projection.weight.frozen().cast(DType::F32);
            let squares = weight.square().sum_dim(1).transpose(); // [1, out]
            let mut magnitude = param(MAGNITUDE, &pair.magnitude, vec![*n_out], [1, pair.magnitude.len()]);
            // Before the first step the map is what it was.
            if pair.magnitude.is_empty() {
                magnitude.value = squares.clone().sqrt();
            }
            Dora { magnitude, squares }
        });
        let (a, b) = (factor("A.weight", a, [*rank, *n_in]), factor("B.weight", b, [*n_out, *rank]));
        Self { a, b, scale: adapter.scale(pair), dora, mask: None }
    }

    /// What is trained.
    pub fn params_mut(&mut self) -> Vec<&mut Param> {
        let mut params = vec![&mut self.a, &mut self.b];
        params.extend(self.dora.as_mut().map(|dora| &mut dora.magnitude));
        params
    }

    /// The map of `weight` with this update.
    ///
    /// # Shapes
    ///
    /// - `rows`: `[n, in]`, `weight`: `[out, in]`
    /// - result: `[n, out]`
    fn forward(&self, rows: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
        let dtype = rows.dtype();
        let Some(dora) = &self.dora else { return self.updated(rows, weight) };
        let factor = dora.factor(weight, self).cast(dtype); // [1, out]
        let Some(left) = self.dropped(&rows) else { return self.updated(rows, weight) * factor };
        // The reference turns only what is left of the input.
        linear(&rows, weight) + linear(&left, weight) * (factor.clone() - 1.0) + self.update(left) * factor
    }

    /// `x Wᵀ + s · drop(x) Aᵀ Bᵀ`.
    fn updated(&self, rows: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
        let (a, b) = (&self.a.value, &self.b.value);
        if self.mask.is_none()
            && let Some(y) = low_rank_linear(&rows, weight, [a, b], self.scale)
        {
            return y;
        }
        let y = linear(&rows, weight); // [n, out]
        y + self.update(self.dropped(&rows).unwrap_or(rows))
    }

    /// `s · x Aᵀ Bᵀ`.
    fn update(&self, rows: Tensor<2>) -> Tensor<2> {
        let dtype = rows.dtype();
        let low = rows.matmul(self.a.value.clone().cast(dtype).transpose()); // [n, r]
        low.matmul(self.b.value.clone().cast(dtype).transpose()) * self.scale
    }

    /// The input less what is dropped, if anything is.
    fn dropped(&self, rows: &Tensor<2>) -> Option<Tensor<2>> {
        let mask = self.mask.as_ref()?;
        Some(rows.clone() * mask.clone().reshape(rows.dims()).cast(rows.dtype()))
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
