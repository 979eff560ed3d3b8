//! Merging model folders into a model folder, without training: from mergekit's YAML, or from a base
//! and one tuned model.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Failure;
use crate::merge::{MergeReport, Merged, Rounding, resolve};
use crate::recipe::Spec;
use crate::snapshot::adapter::{Adapter, Folded};
use crate::snapshot::{Dtype, Snapshot, SnapshotError, Weights, writer};

mod config;
mod output;
mod verify;

pub use output::write;
pub use verify::{Verified, VerifyError, verify};

const HEAD: &str = "lm_head.weight";

/// What is merged: all that decides the result, besides the models' files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub models: Models,
    /// Draws random masks and stochastic rounding.
    pub seed: u64,
    /// Round up or down by chance instead of to the nearest.
    pub stochastic: bool,
}

/// Which models are merged, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Models {
    /// A base and one tuned model, or an adapter on the base.
    Pair {
        pre: PathBuf,
        post: PathBuf,
        /// `METHOD:λ[,key=value]…`.
        merge: String,
        /// The format of the result; the base's own if absent.
        dtype: Option<Dtype>,
    },
    /// mergekit's YAML; its paths are seen from `root`.
    Config { name: String, text: String, root: PathBuf },
}

impl Models {
    /// Those of a YAML file, with its paths seen from `root`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn of_file(path: &Path, root: &Path) -> Result<Self, SnapshotError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SnapshotError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self::Config { name: path.display().to_string(), text, root: root.to_owned() })
    }
}

/// What a merge leaves aside to be faster, and whom it tells how far it is.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Figures of what the merge did to each weight.
    pub statistics: bool,
    /// Digests of every input and shard.
    pub digests: bool,
    /// Is told how many of how many weights are written.
    pub tell: &'a (dyn Fn(usize, usize) + Sync),
}

/// What a merge left behind.
#[derive(Debug)]
pub struct Written {
    /// Absent without statistics.
    pub report: Option<MergeReport>,
    pub n_weights: usize,
}

/// A merge that is set up: what it computes and what goes beside its weights.
struct Asked<'a> {
    merged: Merged<'a>,
    title: String,
    /// The base's folder.
    base: Option<PathBuf>,
    /// Every folder that is read.
    folders: Vec<PathBuf>,
    /// The folder whose configuration the result takes.
    donor: PathBuf,
    edit: &'a dyn Fn(&mut Map<String, Value>),
    finish: &'a dyn Fn(&Path) -> Result<(), SnapshotError>,
}

/// What a merge would write.
#[derive(Debug)]
pub struct Outline {
    pub title: String,
    /// Every weight with its shape and format.
    pub weights: Vec<(String, Vec<usize>, Dtype)>,
    /// Bytes of all weights together.
    pub bytes: u64,
}

/// What [`write`] would do, without reading a number.
///
/// # Errors
///
/// As there.
pub fn outline(request: &Request) -> Result<Outline, Failure> {
    with_merge(request, |asked| {
        let infos = asked.merged.infos();
        let bytes = infos.values().map(|info| info.bytes() as u64).sum();
        let weights = infos.iter().map(|(name, info)| (name.clone(), info.shape.clone(), info.dtype));
        Ok(Outline { title: asked.title, weights: weights.collect(), bytes })
    })
}

/// Opens the models and settles every weight; nothing is computed yet.
fn with_merge<T>(
    request: &Request,
    use_it: impl FnOnce(Asked<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let rounding = match request.stochastic {
        true => Rounding::Stochastic { seed: request.seed },
        false => Rounding::Nearest,
    };
    let use_it = |asked: Asked<'_>| use_it(Asked { merged: asked.merged.rounded(rounding), ..asked });
    match &request.models {
        Models::Pair { pre, post, merge, dtype } => with_pair(pre, post, merge, *dtype, use_it),
        Models::Config { name, text, root } => config::with_config(text, name, root, request.seed, use_it),
    }
}

fn with_pair<T>(
    pre: &Path,
    post: &Path,
    merge: &str,
    dtype: Option<Dtype>,
    use_it: impl FnOnce(Asked<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let spec: Spec = merge.parse()?;
    let method = resolve(&spec)?;
    let base = Snapshot::open(pre)?;
    let dtype = dtype.or(base.config.dtype()).unwrap_or(Dtype::F32);
    let tuned: Box<dyn Weights> = if post.join("adapter_config.json").is_file() {
        Box::new(Folded::new(&base.weights, Cow::Owned(Adapter::read(post)?))?)
    } else {
        Box::new(Snapshot::open(post)?.weights)
    };
    let merged = Merged::new(spec.to_string(), &base.weights, tuned.as_ref(), method, dtype)?;
    let edit = |config: &mut Map<String, Value>| writer::set_dtype(config, Some(dtype));
    let finish = |folder: &Path| writer::copy_side_files(pre, folder);
    use_it(Asked {
        merged,
        title: spec.to_string(),
        base: Some(pre.to_owned()),
        folders: vec![pre.to_owned(), post.to_owned()],
        donor: pre.to_owned(),
        edit: &edit,
        finish: &finish,
    })
}
