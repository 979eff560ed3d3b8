//! Files of golden numbers, integers among them.

use std::path::{Path, PathBuf};

use safetensors::{Dtype as StDtype, SafeTensors};

use crate::run::failure::SelftestError;

/// A safetensors file of golden numbers, integers among them.
pub(super) struct Tensors {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Tensors {
    pub(super) fn open(path: &Path) -> Result<Self, SelftestError> {
        let broken = |why: String| SelftestError::Broken { path: path.to_owned(), why };
        let bytes = std::fs::read(path).map_err(|error| broken(error.to_string()))?;
        SafeTensors::deserialize(&bytes).map_err(|error| broken(error.to_string()))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("checked when opened")
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.file().names().into_iter().map(ToOwned::to_owned).collect()
    }

    fn raw(&self, name: &str, dtype: StDtype) -> Result<(Vec<usize>, Vec<u8>), SelftestError> {
        let broken = |why: String| SelftestError::Broken { path: self.path.clone(), why };
        let file = self.file();
        let view = file.tensor(name).map_err(|_| broken(format!("no `{name}`")))?;
        if view.dtype() != dtype {
            return Err(broken(format!("`{name}` is {:?}, expected {dtype:?}", view.dtype())));
        }
        Ok((view.shape().to_vec(), view.data().to_vec()))
    }

    pub(super) fn floats(&self, name: &str) -> Result<Vec<f32>, SelftestError> {
        let (_, bytes) = self.raw(name, StDtype::F32)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    pub(super) fn ints<const D: usize>(&self, name: &str) -> Result<(Vec<i64>, [usize; D]), SelftestError> {
        let (shape, bytes) = self.raw(name, StDtype::I64)?;
        let shape = shape.try_into().map_err(|shape| SelftestError::Broken {
            path: self.path.clone(),
            why: format!("`{name}` has shape {shape:?}"),
        })?;
        let value = |b: &[u8]| i64::from_le_bytes(b.try_into().expect("eight bytes"));
        Ok((bytes.chunks_exact(8).map(value).collect(), shape))
    }
}
