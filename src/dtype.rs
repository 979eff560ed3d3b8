//! The number formats that weights are stored in.

use std::fmt;

use half::{bf16, f16, slice::HalfBitsSliceExt, slice::HalfFloatSliceExt};
use serde::{Deserialize, Serialize};

use crate::simd::vectorised;

/// A floating-point format that weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The format called `name` in a recipe, a safetensors header or a `config.json`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "f32" | "F32" | "float32" => Some(Self::F32),
            "f16" | "F16" | "float16" => Some(Self::F16),
            "bf16" | "BF16" | "bfloat16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// The name that Hugging Face configurations use.
    pub fn hugging_face_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Reads little-endian numbers of this format, exactly; returns the largest magnitude as the bits
    /// of an f32, which of NaN and infinity are larger than those of any number.
    ///
    /// # Panics
    ///
    /// `bytes` are not those of as many numbers as `out` has.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) -> u32 {
        assert_eq!(bytes.len(), out.len() * self.size(), "bytes and numbers do not fit");
        match self {
            Self::F32 => decode_f32(bytes, out),
            Self::F16 => {
                let bits: Vec<u16> =
                    bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
                bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
                largest(out)
            }
            Self::Bf16 => decode_bf16(bytes, out),
        }
    }

    /// The largest number of this format.
    pub fn largest(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
        }
    }

    /// Writes numbers in this format, each rounded up or down by chance so that the mean is right.
    ///
    /// # Panics
    ///
    /// As [`Self::decode`].
    pub fn encode_stochastic(self, numbers: &[f32], mut random: impl FnMut() -> u32, out: &mut [u8]) {
        let one = |x: &f32| {
            let bits = x.to_bits();
            let exponent = (bits >> 23 & 0xff) as i32 - 127;
            // How many of the number's last bits this format lacks.
            let dropped = match self {
                Self::F32 => 0,
                Self::F16 => (13 + (-14 - exponent).max(0)).min(31),
                Self::Bf16 => 16,
            };
            let mask = (1u32 << dropped) - 1;
            f32::from_bits(((bits & 0x7fff_ffff) + (random() & mask)) & !mask | bits & 0x8000_0000)
        };
        self.encode(&numbers.iter().map(one).collect::<Vec<_>>(), out);
    }

    /// Writes numbers in this format, rounded to nearest, ties to even; returns the largest magnitude
    /// before rounding as [`Self::decode`] does.
    ///
    /// # Panics
    ///
    /// As [`Self::decode`].
    pub fn encode(self, numbers: &[f32], out: &mut [u8]) -> u32 {
        assert_eq!(out.len(), numbers.len() * self.size(), "bytes and numbers do not fit");
        match self {
            Self::F32 => encode_f32(numbers, out),
            Self::F16 => {
                let mut bits = vec![0u16; numbers.len()];
                bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(numbers);
                for (out, bits) in out.as_chunks_mut().0.iter_mut().zip(bits) {
                    *out = bits.to_le_bytes();
                }
                largest(numbers)
            }
            Self::Bf16 => encode_bf16(numbers, out),
        }
    }

    pub(crate) fn to_safetensors(self) -> safetensors::Dtype {
        match self {
            Self::F32 => safetensors::Dtype::F32,
            Self::F16 => safetensors::Dtype::F16,
            Self::Bf16 => safetensors::Dtype::BF16,
        }
    }

    pub(crate) fn from_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        match dtype {
            safetensors::Dtype::F32 => Some(Self::F32),
            safetensors::Dtype::F16 => Some(Self::F16),
            safetensors::Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

/// The bits of a number's magnitude, which have the order of magnitudes.
#[inline(always)]
pub fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// The number of some bf16.
#[inline(always)]
pub fn f32_of(bf16: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bf16)) << 16)
}

/// The bf16 nearest to a number, ties to even.
#[inline(always)]
fn bf16_of(x: f32) -> [u8; 2] {
    let is_nan = magnitude(x) > 0x7f80_0000;
    if is_nan { ((x.to_bits() >> 16) as u16 | 0x40).to_le_bytes() } else { bf16_of_number(x) }
}

/// As [`bf16_of`], of what is not NaN.
#[inline(always)]
pub fn bf16_of_number(x: f32) -> [u8; 2] {
    let bits = x.to_bits();
    ((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16).to_le_bytes()
}

vectorised! {
    /// The largest magnitude of some numbers, as [`Dtype::decode`] tells it.
    pub fn largest<'a>(x: &'a [f32]) -> u32 {
        x.iter().map(|x| magnitude(*x)).fold(0, u32::max)
    }

    fn decode_f32<'a>(bytes: &'a [u8], out: &'a mut [f32]) -> u32 {
        let mut largest = 0;
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f32::from_le_bytes(*bytes);
            largest = largest.max(magnitude(*out));
        }
        largest
    }

    fn decode_bf16<'a>(bytes: &'a [u8], out: &'a mut [f32]) -> u32 {
        let mut largest = 0;
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = f32_of(*bytes);
            largest = largest.max(magnitude(*out));
        }
        largest
    }

    fn encode_f32<'a>(numbers: &'a [f32], out: &'a mut [u8]) -> u32 {
        let mut largest = 0;
        for (out, x) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
            *out = x.to_le_bytes();
            largest = largest.max(magnitude(*x));
        }
        largest
    }

    fn encode_bf16<'a>(numbers: &'a [f32], out: &'a mut [u8]) -> u32 {
        let mut largest = 0;
        for (out, x) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
            *out = bf16_of(*x);
            largest = largest.max(magnitude(*x));
        }
        largest
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}
