//! Merging model folders into a model folder, without training: from mergekit's YAML, or from a base
//! and what was tuned from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Failure;
use crate::folders::{self, SETTINGS_BYTES};
use crate::merge::{Bare, EMBEDDING, HEAD, MergeError, MergeReport, Merged, Rounding, Unmatched, mergekit};
use crate::recipe::Helper;
use crate::snapshot::tokenizer::FILE;
use crate::snapshot::writer::{self, Shard};
use crate::snapshot::{Config, Dtype, SharedWeights, SnapshotError, WeightFiles, Weights, adapter};

mod card;
mod config;
mod depth;
pub mod lineage;
pub mod located;
mod manifest;
mod output;
mod pair;
mod partial;
pub(super) mod post;
pub mod run_card;
mod tokenizer;
mod verify;

pub use output::write;
pub use verify::{Verified, verify};

/// What is merged: all that decides the result, besides the models' files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub models: Models,
    /// Draws random masks and stochastic rounding.
    pub seed: u64,
    /// Round up or down by chance instead of to the nearest.
    pub stochastic: bool,
    /// Merge numbers that are NaN or infinite as arithmetic does, and count them.
    pub lenient: bool,
    /// The most bytes that one file of weights has.
    pub shard_bytes: u64,
}

/// Which models are merged, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Models {
    Pair(PairRequest),
    /// mergekit's YAML; its paths are seen from `root`.
    Config {
        name: String,
        text: String,
        root: PathBuf,
    },
}

/// A base and what was tuned from it, merged by a spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairRequest {
    pub pre: PathBuf,
    /// Model folders, adapters on the base, checkpoints or run folders of this program.
    pub post: Vec<PathBuf>,
    /// `METHOD:λ[,key=value]…`.
    pub merge: String,
    /// The format of the result; the base's own if absent.
    pub dtype: Option<Dtype>,
    pub unmatched: Unmatched,
    /// Importance of the base's numbers and of the tuned model's.
    #[serde(rename = "fisher")]
    pub importance: Option<[PathBuf; 2]>,
    /// What the method looks at besides the two.
    #[serde(rename = "models", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub helpers: BTreeMap<Helper, PathBuf>,
    /// Write an adapter and not a whole model.
    pub adapter_only: bool,
}

impl Request {
    /// A merge to the nearest with seed 0, in shards of the usual size.
    pub fn new(models: Models) -> Self {
        let shard_bytes = writer::SHARD_BYTES;
        Self { models, seed: 0, stochastic: false, lenient: false, shard_bytes }
    }

    /// The same with every path seen from `folder`.
    fn seen_from(&self, folder: &Path) -> Self {
        let mut request = self.clone();
        match &mut request.models {
            Models::Config { root, .. } => *root = folder.join(&root),
            Models::Pair(pair) => {
                let paths = pair.post.iter_mut().chain(pair.importance.iter_mut().flatten());
                let paths = paths.chain(pair.helpers.values_mut());
                paths.chain([&mut pair.pre]).for_each(|path| *path = folder.join(&path));
            }
        }
        request
    }
}

impl Models {
    /// What a YAML file calls its models, adapters apart; nothing of a pair, whose models are paths.
    ///
    /// # Errors
    ///
    /// It is no YAML of mergekit's.
    pub fn names(&self) -> Result<Vec<String>, MergeError> {
        let Self::Config { name, text, .. } = self else { return Ok(Vec::new()) };
        let yaml = mergekit::Config::parse(text, name)?;
        let whole = |name: &str| name.split_once('+').map_or(name, |(model, _)| model).to_owned();
        Ok(yaml.models().into_iter().map(whole).collect())
    }

    /// Those of a YAML file, with its paths seen from `root`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn of_file(path: &Path, root: &Path) -> Result<Self, SnapshotError> {
        let text = folders::read_text(path, SETTINGS_BYTES)
            .map_err(|source| SnapshotError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self::Config { name: path.display().to_string(), text, root: root.to_owned() })
    }
}

/// What a merge leaves aside to be faster, whom it tells how far it is, and who stops it.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Figures of what the merge did to each weight.
    pub statistics: bool,
    /// Digests of every input and shard.
    pub digests: bool,
    /// Is told how many of how many weights are written.
    pub tell: &'a (dyn Fn(usize, usize) + Sync),
    /// Is told what the user should know before the start.
    pub say: &'a dyn Fn(&str),
    /// Set when the merge should stop; what is finished stays.
    pub stop: &'a AtomicBool,
}

/// What a merge left behind.
#[derive(Debug)]
pub struct Written {
    /// Absent without statistics.
    pub report: Option<MergeReport>,
    pub n_weights: usize,
}

/// What kind of folder comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Model,
    Adapter,
}

/// A merged model before it is written: its weights, none computed yet, and what goes beside them.
struct Draft {
    merged: Merged,
    title: String,
    layout: Layout,
    /// The base's folder.
    base: Option<PathBuf>,
    /// Every file that decides the result.
    files: Vec<PathBuf>,
    /// The folder whose configuration the result takes.
    donor: PathBuf,
    /// What the user should know before the start.
    said: Vec<String>,
    /// The format of all weights, where it is one.
    dtype: Option<Dtype>,
    /// What the configuration says otherwise than the donor's.
    settings: Map<String, Value>,
    finish: Finish,
}

/// Puts into the folder what lies beside weights and configuration.
type Finish = Box<dyn Fn(&Path) -> Result<(), Failure>>;

impl Draft {
    fn is_adapter(&self) -> bool {
        self.layout == Layout::Adapter
    }

    /// Which weights go into which file.
    fn shards(&self, most: u64) -> Vec<Shard<'_>> {
        match self.layout {
            Layout::Model => writer::shards(&self.merged, None, most),
            Layout::Adapter => {
                let mut shards = writer::shards(&self.merged, None, u64::MAX);
                for shard in &mut shards {
                    adapter::WEIGHTS.clone_into(&mut shard.file);
                }
                shards
            }
        }
    }
}

/// A model folder's files that decide a merge: weights, configuration, tokenizer.
fn files_of_model(folder: &Path, weights: &WeightFiles) -> Vec<PathBuf> {
    let beside = ["config.json", FILE].map(|name| folder.join(name));
    let beside = beside.into_iter().filter(|path| path.is_file());
    weights.paths().map(Path::to_owned).chain(beside).collect()
}

/// A model's weights without a head that its configuration says is not used; embedding and head are matrices.
fn headed(weights: SharedWeights, config: &Config) -> Result<SharedWeights, SnapshotError> {
    for name in [EMBEDDING, HEAD] {
        if let Some(info) = weights.infos().get(name).filter(|info| info.shape.len() != 2) {
            let (name, found) = (name.to_owned(), info.shape.clone());
            let expected = vec![config.count("vocab_size")?, config.count("hidden_size")?];
            let place = config.json()["model_type"].to_string();
            return Err(SnapshotError::BadShape { name, place, found, expected });
        }
    }
    let both = [HEAD, EMBEDDING].iter().all(|name| weights.infos().contains_key(*name));
    Ok(match both && config.tied()? {
        true => Arc::new(Bare::new(weights)),
        false => weights,
    })
}

/// What a merge would write.
#[derive(Debug)]
pub struct Outline {
    pub title: String,
    /// Every weight with its shape and format.
    pub weights: Vec<(String, Vec<usize>, Dtype)>,
    /// Bytes of all weights together.
    pub bytes: u64,
    pub n_shards: usize,
    /// What the user should know before the start.
    pub said: Vec<String>,
}

/// What [`write`] would do, without reading a number.
///
/// # Errors
///
/// As there.
pub fn outline(request: &Request) -> Result<Outline, Failure> {
    let draft = prepare(request)?;
    let shards = draft.shards(request.shard_bytes);
    let weights = draft.merged.infos().iter();
    Ok(Outline {
        weights: weights.map(|(name, info)| (name.clone(), info.shape.clone(), info.dtype)).collect(),
        bytes: shards.iter().map(|shard| shard.bytes).sum(),
        n_shards: shards.len(),
        said: draft.said.clone(),
        title: draft.title.clone(),
    })
}

/// Opens the models and settles every weight; nothing is computed yet.
fn prepare(request: &Request) -> Result<Draft, Failure> {
    let rounding = match request.stochastic {
        true => Rounding::Stochastic { seed: request.seed },
        false => Rounding::Nearest,
    };
    let draft = match &request.models {
        Models::Pair(pair) if pair.adapter_only => pair::prepare_adapter(pair, request.seed)?,
        Models::Pair(pair) => pair::prepare(pair, request.seed)?,
        Models::Config { name, text, root } => config::prepare(text, name, root, request.seed)?,
    };
    let merged = draft.merged.rounded(rounding).lenient(request.lenient);
    Ok(Draft { merged, ..draft })
}
