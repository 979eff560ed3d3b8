//! Rotary position embedding in the convention of Hugging Face checkpoints: a head's first half
//! turns against its second half.
//!
//! Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021,
//! arXiv 2104.09864. The checkpoint's convention is kept, so no weight is permuted at load.

use std::f64::consts::TAU;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::device::kernels::{Angles, rotate};
use crate::snapshot::SnapshotError;
use crate::snapshot::config::{Config, Rope};

/// How far a position turns the heads of a kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeShape {
    pub theta: f64,
    pub scaling: RopeScaling,
    /// Numbers of each head that turn, from its start; the rest stays.
    pub dim: usize,
}

/// How a checkpoint stretches its positions beyond the length it was first trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    None,
    /// Every position divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Llama 3.1: slow frequencies divided by `factor`, fast ones kept, a ramp between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// Peng et al., "YaRN", 2023, arXiv 2309.00071: as there, the ramp over the frequencies' numbers,
    /// and everything that turns multiplied with `attention`.
    Yarn {
        factor: f64,
        /// The number of the first frequency that is not kept, and of the first divided in full.
        ramp: [f64; 2],
        attention: f64,
    },
    /// Ding et al., "LongRoPE", 2024, arXiv 2402.13753: each frequency divided by its own factor, by
    /// another beyond `original` positions.
    LongRope {
        short: Vec<f64>,
        long: Vec<f64>,
        original: f64,
        attention: f64,
    },
}

impl RopeShape {
    /// What a checkpoint's rotary settings ask for; `theta` is the family's own base.
    ///
    /// # Errors
    ///
    /// The kind is unknown or one of its numbers is missing.
    pub fn read(rope: &Rope, theta: f64, head_dim: usize) -> Result<Self, SnapshotError> {
        let values = &rope.values;
        let theta = values.number("rope_theta", theta)?;
        let share = values.number("partial_rotary_factor", 1.0)?;
        let dim = (head_dim as f64 * share) as usize;
        if dim == 0 || dim > head_dim || !dim.is_multiple_of(2) {
            return Err(values.wrong("partial_rotary_factor", "a share that makes an even number of a head"));
        }
        Ok(Self { theta, scaling: RopeScaling::read(rope, theta, dim)?, dim })
    }

    /// The most positions that turn by the short factors of LongRoPE, if that is the scaling.
    pub fn n_short(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::LongRope { original, .. } => Some(*original as usize),
            _ => None,
        }
    }

    /// The angle that one position adds, for each of the `dim / 2` pairs of a head, and what cosines
    /// and sines are multiplied with, when `longest` positions are in use.
    fn frequencies(&self, longest: usize) -> (Vec<f64>, f64) {
        let plain = (0..self.dim / 2).map(|i| self.theta.powf(-(2.0 * i as f64) / self.dim as f64));
        match &self.scaling {
            RopeScaling::None => (plain.collect(), 1.0),
            RopeScaling::Linear { factor } => (plain.map(|frequency| frequency / factor).collect(), 1.0),
            RopeScaling::Llama3 { .. } => (plain.map(|f| self.scaling.llama3(f)).collect(), 1.0),
            RopeScaling::Yarn { factor, ramp: [from, to], attention } => {
                let frequencies = plain.enumerate().map(|(i, frequency)| {
                    let divided = ((i as f64 - from) / (to - from)).clamp(0.0, 1.0);
                    frequency / factor * divided + frequency * (1.0 - divided)
                });
                (frequencies.collect(), *attention)
            }
            RopeScaling::LongRope { short, long, original, attention } => {
                let factors = if longest as f64 > *original { long } else { short };
                (plain.zip(factors).map(|(frequency, factor)| frequency / factor).collect(), *attention)
            }
        }
    }
}

impl RopeScaling {
    fn read(rope: &Rope, theta: f64, dim: usize) -> Result<Self, SnapshotError> {
        let values = &rope.values;
        let required =
            |key: &str| values.optional_number(key)?.ok_or_else(|| values.wrong(key, "a number above 0"));
        let original = || required("original_max_position_embeddings");
        match rope.kind.as_str() {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear { factor: required("factor")? }),
            "llama3" => Ok(Self::Llama3 {
                factor: required("factor")?,
                low: required("low_freq_factor")?,
                high: required("high_freq_factor")?,
                original: original()?,
            }),
            "yarn" => Self::yarn(values, theta, dim, required("factor")?, original()?),
            "longrope" | "su" => {
                let original = original()?;
                let factor = match values.optional_number("factor")? {
                    Some(factor) => factor,
                    None => required("max_position_embeddings")? / original,
                };
                let attention = (1.0 + factor.max(1.0).ln() / original.ln()).sqrt();
                Ok(Self::LongRope {
                    short: values.numbers("short_factor", dim / 2)?,
                    long: values.numbers("long_factor", dim / 2)?,
                    original,
                    attention: values.number("attention_factor", attention)?,
                })
            }
            kind => Err(values.wrong_value(
                "rope_type",
                &format!("`{kind}`"),
                "`default`, `linear`, `llama3`, `yarn` or `longrope`",
            )),
        }
    }

    fn yarn(
        values: &Config,
        theta: f64,
        dim: usize,
        factor: f64,
        original: f64,
    ) -> Result<Self, SnapshotError> {
        let scale = |by: f64| 1.0 + 0.1 * by * factor.max(1.0).ln();
        let attention = match (values.optional_number("mscale")?, values.optional_number("mscale_all_dim")?) {
            (Some(one), Some(all)) => scale(one) / scale(all),
            _ => scale(1.0),
        };
        // The number of the frequency that makes so many turns over the original length.
        let number = |turns: f64| dim as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (from, to) =
            (number(values.number("beta_fast", 32.0)?), number(values.number("beta_slow", 1.0)?));
        let (from, to) = match values.switch("truncate", true)? {
            true => (from.floor(), to.ceil()),
            false => (from, to),
        };
        let (from, to) = (from.max(0.0), to.min(dim as f64 - 1.0));
        let to = if from == to { to + 0.001 } else { to };
        Ok(Self::Yarn { factor, ramp: [from, to], attention: values.number("attention_factor", attention)? })
    }

    fn llama3(&self, frequency: f64) -> f64 {
        let Self::Llama3 { factor, low, high, original } = self else { return frequency };
        let wavelength = TAU / frequency;
        if wavelength < original / high {
            frequency
        } else if wavelength > original / low {
            frequency / factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    }
}

/// Cosines and sines of the positions of one batch.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// `[b or 1, 1, t, dim]`, the half repeated.
    cos: Tensor<4>,
    /// `[b or 1, 1, t, dim]`, the first half negated: what multiplies the swapped halves.
    sin: Tensor<4>,
    angles: Angles,
    /// Numbers of each head that turn.
    dim: usize,
}

impl Rotation {
    /// The rotation for `positions`, the texts of every row, `t` in all, or those of a single row for all.
    pub fn new(shape: &RopeShape, positions: &[Vec<Vec<usize>>], device: &Device) -> Self {
        let (b, t) = (positions.len(), positions[0].iter().map(Vec::len).sum());
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for text in positions.iter().flatten() {
            let longest = text.iter().max().map_or(0, |position| position + 1);
            let (frequencies, factor) = shape.frequencies(longest);
            for (position, frequency) in text.iter().flat_map(|p| frequencies.iter().map(move |f| (p, f))) {
                // In f32, as the reference computes it: position times frequency, rounded once.
                let angle = f64::from(*position as f32 * *frequency as f32);
                cos.push((angle.cos() * factor) as f32);
                sin.push((angle.sin() * factor) as f32);
            }
        }
        let tensor = |first: &dyn Fn(f32) -> f32, values: &[f32]| {
            let halves = values.chunks(shape.dim / 2);
            let whole = halves.flat_map(|half| half.iter().map(|x| first(*x)).chain(half.iter().copied()));
            Tensor::from_data(TensorData::new(whole.collect::<Vec<f32>>(), [b, 1, t, shape.dim]), device)
        };
        Self {
            cos: tensor(&|x| x, &cos),
            sin: tensor(&|x| -x, &sin),
            angles: Angles { cos: Arc::new(cos), sin: Arc::new(sin), half: shape.dim / 2 },
            dim: shape.dim,
        }
    }

    /// Cosines and sines on the processor.
    pub(super) fn angles(&self) -> &Angles {
        &self.angles
    }

    /// Turns every head of `x` by its position.
    ///
    /// # Shapes
    ///
    /// - `x`: `[b, heads, t, d]`, in any float format; the result has the same.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let d = x.dims()[3];
        if self.dim == d {
            return self.turn(x);
        }
        let still = x.clone().narrow(3, self.dim, d - self.dim);
        Tensor::cat(vec![self.turn(x.narrow(3, 0, self.dim)), still], 3)
    }

    fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        rotate(x, &self.angles, |x| {
            let (dtype, half) = (x.dtype(), self.dim / 2);
            let x = x.cast(burn::tensor::DType::F32);
            let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
            (x * self.cos.clone() + swapped * self.sin.clone()).cast(dtype)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::RopeScaling;

    #[test]
    fn llama3_scaling_keeps_fast_frequencies_and_divides_slow_ones() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        assert_eq!(scaling.llama3(1.0), 1.0);
        assert_eq!(scaling.llama3(1e-5), 1e-5 / 8.0);
        let middle = scaling.llama3(0.002);
        assert!(middle < 0.002 && middle > 0.002 / 8.0);
    }
}
