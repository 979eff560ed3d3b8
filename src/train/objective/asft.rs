//! AsFT: how far an adapter's update leads out of what alignment changed.
//!
//! Yang et al., "AsFT: Anchoring Safety During LLM Fine-Tuning Within Narrow Safety Basin", 2025, arXiv 2506.08473. With
//! `V` the aligned less the unaligned weight and `C = V Vᵀ / ‖V‖`, as in the authors' program, the penalty of an update
//! `B A` is `‖(I − C) B A‖²`. The program sums it over matrices and leaves alpha / rank out; here it may also be a mean, or
//! be measured in each update's own length. The paper has the exact projector on V's columns in the place of C, which is
//! the identity wherever V has full row rank, and the norm unsquared.

use burn::tensor::{DType, Tensor, TensorData};

use super::projector;
use crate::recipe::{Measure, Projection};

/// An alignment shorter than this is none.
const NO_LENGTH: f32 = 1e-9;

/// The penalty of one matrix with its gradients, for `[r, in]` and `[out, r]`.
#[derive(Debug)]
pub struct Part {
    pub value: f64,
    pub a: Tensor<2>,
    pub b: Tensor<2>,
}

/// `I − C`, or `I − P`, `[out, out]` in f32, of one matrix of the base and the unaligned model.
///
/// # Shapes
///
/// - `base`, `unaligned`: `[out, in]` in f32
pub fn outside(base: Tensor<2>, unaligned: Tensor<2>, projection: Projection) -> Tensor<2> {
    let v = base - unaligned;
    if projection == Projection::Exact {
        return projector::outside(v);
    }
    let [n_out, _] = v.dims();
    let length = scalar(v.clone().square().sum().sqrt());
    let identity: Vec<f32> = (0..n_out * n_out).map(|i| f32::from(u8::from(i % (n_out + 1) == 0))).collect();
    let identity = Tensor::from_data(TensorData::new(identity, [n_out, n_out]), (&v.device(), DType::F32));
    if length < NO_LENGTH {
        return identity;
    }
    identity - v.clone().matmul(v.transpose()) / length
}

/// The penalty of one matrix; `scale` is what the update B A is multiplied by.
///
/// # Shapes
///
/// - `outside`: `[out, out]`, `a`: `[r, in]`, `b`: `[out, r]`, all in f32
pub fn part(outside: &Tensor<2>, a: &Tensor<2>, b: &Tensor<2>, measure: Measure, scale: f64) -> Part {
    let out = outside.clone().matmul(b.clone()); // [out, r]
    // I − C is symmetric, and so is I − P.
    let back = outside.clone().matmul(out.clone()); // [out, r]
    let gram = a.clone().matmul(a.clone().transpose()); // [r, r]
    let length = |x: &Tensor<2>| {
        let squares = x.clone().transpose().matmul(x.clone()) * gram.clone(); // [r, r]
        f64::from(scalar(squares.sum()))
    };
    let lost = length(&out);
    let (d_a, d_b) =
        (b.clone().transpose().matmul(back.clone()).matmul(a.clone()), back.matmul(gram.clone()));
    if measure == Measure::Norm {
        let length = lost.max(0.0).sqrt();
        if length == 0.0 {
            // Nothing leads out, or there is no update yet: the norm has no slope of its own there.
            return Part { value: 0.0, a: d_a.zeros_like(), b: d_b.zeros_like() };
        }
        let by = scale / length;
        return Part { value: length * scale, a: d_a * by, b: d_b * by };
    }
    if measure != Measure::Relative {
        let by = scale * scale;
        return Part { value: lost * by, a: d_a * (2.0 * by), b: d_b * (2.0 * by) };
    }
    let whole = length(b);
    if whole <= 0.0 {
        // Before the first step there is no update, and nowhere that it leads.
        return Part { value: 0.0, a: d_a.zeros_like(), b: d_b.zeros_like() };
    }
    let share = lost / whole;
    let own_a = b.clone().transpose().matmul(b.clone()).matmul(a.clone()); // [r, in]
    let own_b = b.clone().matmul(gram.clone()); // [out, r]
    let by = 2.0 / whole;
    Part { value: share, a: (d_a - own_a * share) * by, b: (d_b - own_b * share) * by }
}

fn scalar(x: Tensor<1>) -> f32 {
    x.try_into_vec_as::<f32>().expect("a device that opened gives its results back")[0]
}
