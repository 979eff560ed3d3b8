//! In which format a weight is kept on a device.

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use rayon::prelude::*;

use super::Param;
use crate::device::is_cpu;
use crate::device::kernels::Inputs;
use crate::dtype::Dtype;
use crate::snapshot::weight::InFile;
use crate::snapshot::{Near, Numbers, SnapshotError, WeightInfo, Weights};

/// The formats that a model's weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// All in this one, which is computed in.
    All(DType),
    /// On the processor: matrices as they are stored, the rest in f32.
    Stored,
    /// On the processor: matrices and what they are multiplied with in bf16, the rest in f32.
    Bf16,
}

impl Kept {
    pub(super) fn of(device: &Device, compute: DType) -> Self {
        match (is_cpu(device), compute) {
            (false, _) => Self::All(compute),
            (true, DType::BF16) => Self::Bf16,
            (true, _) => Self::Stored,
        }
    }

    /// What matrices are multiplied with is rounded to this.
    pub(super) fn inputs(self) -> Inputs {
        if self == Self::Bf16 { Inputs::Bf16 } else { Inputs::Exact }
    }

    /// The format of activations.
    pub(super) fn activations(self) -> DType {
        match self {
            Self::All(dtype) => dtype,
            Self::Stored | Self::Bf16 => DType::F32,
        }
    }

    /// Of a weight.
    pub(super) fn dtype(self, info: &WeightInfo) -> DType {
        match (self, info.shape.len(), info.dtype) {
            (Self::All(dtype), ..) => dtype,
            (Self::Bf16, 2, _) | (Self::Stored, 2, Dtype::Bf16) => DType::BF16,
            (Self::Stored, 2, Dtype::F16) => DType::F16,
            _ => DType::F32,
        }
    }
}

/// Weights on a device. Several are decoded at once; the device takes them one by one on the thread that will compute with
/// them: a tensor made on another one is waited for at each use.
pub(super) fn params(
    names: &[String],
    weights: &dyn Weights,
    device: &Device,
    kept: Kept,
) -> Result<Vec<Param>, SnapshotError> {
    let mut params = Vec::with_capacity(names.len());
    for names in names.chunks(rayon::current_num_threads()) {
        let read: Vec<Read> =
            names.par_iter().map(|name| read(name, weights, kept)).collect::<Result<_, _>>()?;
        params.extend(read.into_iter().map(|read| read.put(device)));
    }
    Ok(params)
}

/// One weight on the device.
pub(super) fn param(
    name: &str,
    weights: &dyn Weights,
    device: &Device,
    kept: Kept,
) -> Result<Param, SnapshotError> {
    Ok(read(name, weights, kept)?.put(device))
}

/// A weight on its way to a device, vectors as rows.
struct Read {
    name: String,
    shape: Vec<usize>,
    data: TensorData,
    dtype: DType,
}

impl Read {
    fn put(self, device: &Device) -> Param {
        let Self { name, shape, data, dtype } = self;
        Param { name, shape, value: Tensor::from_data(data, (device, dtype)) }
    }
}

fn read(name: &str, weights: &dyn Weights, kept: Kept) -> Result<Read, SnapshotError> {
    let numbers = weights.numbers(name)?;
    let of = |info: &WeightInfo, bytes: &[u8]| {
        let shape = info.shape.clone();
        let rows = if shape.len() == 1 { 1 } else { shape[0] };
        let dims = [rows, shape[shape.len() - 1]];
        let dtype = kept.dtype(info);
        let pairs = bytes.as_chunks::<2>().0.iter();
        let data = match (info.dtype, dtype) {
            (Dtype::Bf16, DType::BF16) => {
                TensorData::new(pairs.map(|bytes| bf16::from_le_bytes(*bytes)).collect(), dims)
            }
            (Dtype::F16, DType::F16) => {
                TensorData::new(pairs.map(|bytes| f16::from_le_bytes(*bytes)).collect(), dims)
            }
            (stored, _) => {
                let mut values = vec![0.0; info.n_elements()];
                stored.decode(bytes, &mut values);
                TensorData::new(values, dims)
            }
        };
        Read { name: name.to_owned(), shape, data, dtype }
    };
    Ok(match &numbers {
        // Read and not mapped, or all that was read would count as memory of this process.
        Numbers::InFile(InFile { weight, .. }) => {
            match numbers.near(0, weight.info.n_elements(), &mut Vec::new()) {
                Near::Bytes(_, bytes) => of(&weight.info, bytes),
                Near::Made(..) => of(&weight.info, &weight.bytes),
            }
        }
        Numbers::Stored(weight) => of(&weight.info, &weight.bytes),
        Numbers::Made(_) | Numbers::Updated(..) => {
            let weight = weights.weight(name)?;
            of(&weight.info, &weight.bytes)
        }
    })
}
