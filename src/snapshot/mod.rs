//! The aligned base as it lies on disk, and every set of named weights.
//!
//! A [`Snapshot`] is a Hugging Face folder that was checked before anything starts: its
//! configuration, its weights (a memory map, read when asked for), its tokenizer and chat template.
//! The base is never written to.
//!
//! [`Weights`] is the one seam between disk, merging and model: files, files with an adapter folded
//! in, and a merge are the same thing to whoever loads or writes them. What reads other weights shares
//! them as [`SharedWeights`], so that it can be handed on and kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod adapter;
pub mod config;
pub mod digest;
mod dtypes;
pub mod files;
pub mod grown;
pub mod guarded;
pub mod rights;
pub mod template;
pub mod tokenizer;
pub mod weight;
pub mod writer;

mod error;
mod peft;
mod segments;
pub use config::Config;
pub use dtypes::Dtypes;
pub use error::SnapshotError;
pub use files::WeightFiles;
pub use weight::{Factors, Near, Numbers, Weight, WeightInfo};

pub use crate::dtype::Dtype;

/// Named weights, one at a time.
///
/// Names are those of the checkpoint on disk. Asking for a weight may read a memory map, fold an
/// adapter in or compute a merge; nothing is kept.
pub trait Weights: Send + Sync {
    /// Every weight's name with its shape and the dtype that [`Weights::weight`] returns, by name.
    fn infos(&self) -> &BTreeMap<String, WeightInfo>;

    /// The weight called `name`.
    ///
    /// # Errors
    ///
    /// There is no such weight, or computing it failed.
    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError>;

    /// The numbers of the weight called `name`, to be read in any parts.
    ///
    /// # Errors
    ///
    /// As [`Weights::weight`].
    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        Ok(Numbers::Stored(self.weight(name)?))
    }

    /// Hands the weight's bytes as `dtype` to `put`, part by part and in any order.
    ///
    /// # Errors
    ///
    /// As [`Weights::weight`], and what `put` returns.
    fn write_to(&self, name: &str, dtype: Dtype, put: Put<'_>) -> Result<(), SnapshotError> {
        self.weight(name)?.write_to(dtype, put)
    }
}

/// Weights that several read, such as a base under every merge of it.
pub type SharedWeights = Arc<dyn Weights>;

/// Takes some bytes of a weight: these, of all it has.
pub type Put<'a> = &'a (dyn Fn(Range<usize>, Fill<'_>) -> Result<(), SnapshotError> + Sync);

/// Writes the bytes where they go, in one or more parts in order: told where the part begins among them.
pub type Fill<'a> = &'a mut dyn FnMut(usize, &mut [u8]);

/// Fills with what is there already.
pub fn copy_of(bytes: &[u8]) -> impl FnMut(usize, &mut [u8]) {
    |from, out| out.copy_from_slice(&bytes[from..from + out.len()])
}

impl<W: Weights + ?Sized> Weights for Arc<W> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        (**self).infos()
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        (**self).weight(name)
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        (**self).numbers(name)
    }

    fn write_to(&self, name: &str, dtype: Dtype, put: Put<'_>) -> Result<(), SnapshotError> {
        (**self).write_to(name, dtype, put)
    }
}

/// A model folder in the Hugging Face layout whose every file was looked at.
#[derive(Debug)]
pub struct Snapshot {
    pub folder: PathBuf,
    pub config: Config,
    pub weights: Arc<WeightFiles>,
}

impl Snapshot {
    /// Opens a model folder: reads `config.json` and the header of every shard.
    ///
    /// # Errors
    ///
    /// The folder or a file is missing, truncated, or contradicts itself.
    pub fn open(folder: &Path) -> Result<Self, SnapshotError> {
        if !folder.is_dir() {
            return Err(SnapshotError::NoFolder { folder: folder.to_owned() });
        }
        let config = Config::read(folder)?;
        let weights = Arc::new(WeightFiles::open(folder)?);
        Ok(Self { folder: folder.to_owned(), config, weights })
    }
}
