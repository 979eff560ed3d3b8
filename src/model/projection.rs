//! A linear map, with an optional low-rank adapter on its input: `x Wᵀ + s · drop(x) Aᵀ Bᵀ`.
//!
//! Hu et al., "LoRA", 2021, arXiv 2106.09685. The update is applied to activations, never formed
//! as a dense matrix: backward then costs two thin products and no dense weight gradient.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{Dropout, Matrix, Param};
use crate::device::kernels::{Again, Input, Mask, dropped};
use crate::snapshot::adapter::{Adapter, MAGNITUDE, Pair};

/// A linear map from `in` to `out` features, its weight stored as on disk: `[out, in]`.
#[derive(Debug, Clone)]
pub struct Projection {
    pub weight: Matrix,
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
    fn factor(&self, weight: &Matrix, lora: &Lora) -> Tensor<2> {
        let (a, b) = (lora.a.frozen(), lora.b.frozen());
        let across = weight.to_f32().matmul(a.clone().transpose()); // [out, r]
        let within = b.clone().matmul(a.clone().matmul(a.transpose())); // [out, r]
        let s = lora.scale;
        let cross = (b * (across * (2.0 * s) + within * (s * s))).sum_dim(1).transpose(); // [1, out]
        self.magnitude.value.clone() / (self.squares.clone() + cross).sqrt()
    }
}

/// Applies maps that read the same input: one each, or one that is all of them, `widths` each.
pub(super) fn forward_all<const N: usize>(
    maps: &[Projection],
    x: Input,
    widths: [usize; N],
    dropout: Option<&Dropout>,
) -> [Tensor<3>; N] {
    match maps {
        [all] => {
            let (y, mut start) = (all.forward(x, dropout), 0);
            widths.map(|width| {
                start += width;
                y.clone().narrow(2, start - width, width)
            })
        }
        _ => std::array::from_fn(|i| maps[i].forward(x.clone(), dropout)),
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
            let squares = projection.weight.to_f32().square().sum_dim(1).transpose(); // [1, out]
            let mut magnitude = param(MAGNITUDE, &pair.magnitude, vec![*n_out], [1, pair.magnitude.len()]);
            // Before the first step the map is what it was.
            if pair.magnitude.is_empty() {
                magnitude.value = squares.clone().sqrt();
            }
            Dora { magnitude, squares }
        });
        let (a, b) = (factor("A.weight", a, [*rank, *n_in]), factor("B.weight", b, [*n_out, *rank]));
        Self { a, b, scale: adapter.scale(pair), dora }
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
    fn forward(
        &self,
        rows: Tensor<2>,
        again: Option<Again>,
        weight: &Matrix,
        mask: Option<&Mask>,
    ) -> Tensor<2> {
        let dtype = rows.dtype();
        let Some(dora) = &self.dora else { return self.updated(rows, again, weight, mask) };
        let factor = dora.factor(weight, self).cast(dtype); // [1, out]
        let Some(mask) = mask else { return self.updated(rows, again, weight, None) * factor };
        let left = dropped(rows.clone(), mask);
        // The reference turns only what is left of the input.
        weight.multiply(&rows) + weight.multiply(&left) * (factor.clone() - 1.0) + self.update(left) * factor
    }

    /// `x Wᵀ + s · drop(x) Aᵀ Bᵀ`.
    fn updated(
        &self,
        rows: Tensor<2>,
        again: Option<Again>,
        weight: &Matrix,
        mask: Option<&Mask>,
    ) -> Tensor<2> {
        let factors = [&self.a.value, &self.b.value];
        weight.multiply_updated(&rows, again, factors, self.scale, mask).unwrap_or_else(|| {
            let y = weight.multiply(&rows); // [n, out]
            y + self.update(match mask {
                Some(mask) => dropped(rows, mask),
                None => rows,
            })
        })
    }

    /// `s · x Aᵀ Bᵀ`.
    fn update(&self, rows: Tensor<2>) -> Tensor<2> {
        let dtype = rows.dtype();
        let low = rows.matmul(self.a.value.clone().cast(dtype).transpose()); // [n, r]
        low.matmul(self.b.value.clone().cast(dtype).transpose()) * self.scale
    }
}

impl Projection {
    /// # Shapes
    ///
    /// - `x`: `[b, t, in]`
    /// - result: `[b, t, out]`
    pub fn forward(&self, x: impl Into<Input>, dropout: Option<&Dropout>) -> Tensor<3> {
        let Input { value, again } = x.into();
        let [b, t, n_in] = value.dims();
        let rows = value.reshape([b * t, n_in]);
        let mut y = match &self.adapter {
            Some(lora) => {
                let mask = dropout.map(|dropout| dropout.mask(self.module()));
                lora.forward(rows, again, &self.weight, mask.as_ref())
            }
            None => self.weight.multiply(&rows),
        }; // [b*t, out]
        if let Some(bias) = &self.bias {
            y = y + bias.value.clone();
        }
        let n_out = y.dims()[1];
        y.reshape([b, t, n_out])
    }

    /// The name of the module: the weight's, less `.weight`.
    pub fn module(&self) -> &str {
        self.weight.name().trim_end_matches(".weight")
    }
}
