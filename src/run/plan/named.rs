//! Models of one's own that are asked beside base, tuned model and merges: `[[eval.candidates]]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::model::{Base, Model};
use super::sources::Sources;
use crate::model::Decoder;
use crate::recipe::{HARDENED, NamedCandidate};
use crate::run::failure::Failure;
use crate::snapshot::adapter::{self, Adapter, Folded};
use crate::snapshot::digest::{Algorithm, known, of_json};
use crate::snapshot::files::WeightFiles;
use crate::snapshot::{SharedWeights, SnapshotError};

/// A model by its name in reports.
pub struct Named {
    pub name: String,
    pub weights: SharedWeights,
    /// The digest of what decides its weights.
    pub key: String,
}

impl Named {
    /// Opens what the recipe names; every one is of the base's shape.
    ///
    /// # Errors
    ///
    /// One is nowhere, broken, or of another model.
    pub fn all(
        candidates: &[NamedCandidate],
        model: &Model,
        base: &Base,
        sources: &mut Sources<'_>,
    ) -> Result<Vec<Self>, Failure> {
        let mut all = Vec::new();
        for NamedCandidate { name, source } in candidates {
            let folder = given_folder(source, sources)?;
            let (weights, key) = match folder.join(adapter::CONFIG).is_file() {
                true => adapter_on(base, &folder)?,
                false => {
                    let files = WeightFiles::open(&folder)?;
                    Decoder::check(&model.shape, &files, &folder.display().to_string())?;
                    let paths: Vec<PathBuf> = files.paths().map(Path::to_owned).collect();
                    (Arc::new(files) as SharedWeights, key(base, &paths)?)
                }
            };
            all.push(Self { name: name.clone(), weights, key });
        }
        Ok(all)
    }
}

/// The base with the adapter in `folder`, and the digest of what decides the two.
///
/// # Errors
///
/// The adapter is broken, or one of another model.
pub fn adapter_on(base: &Base, folder: &Path) -> Result<(SharedWeights, String), Failure> {
    let mut files = [adapter::WEIGHTS, adapter::CONFIG].map(|name| folder.join(name)).to_vec();
    let start = match start_of(folder)? {
        None => base.weights.clone(),
        Some(hardened) => {
            files.extend(hardened.paths().map(Path::to_owned));
            Arc::new(hardened)
        }
    };
    let folded = Folded::new(start, Arc::new(Adapter::read(folder)?))?;
    Ok((Arc::new(folded), key(base, &files)?))
}

/// What was tuned in place of the base, if the run that left `path`, an adapter or a checkpoint, hardened the base.
///
/// # Errors
///
/// A file of it is missing or broken.
pub fn start_of(path: &Path) -> Result<Option<WeightFiles>, SnapshotError> {
    let beside = path.with_file_name(HARDENED);
    beside.join("config.json").is_file().then(|| WeightFiles::open(&beside)).transpose()
}

/// The digest of some files' numbers beside a base.
///
/// # Errors
///
/// One cannot be read.
pub fn key(base: &Base, files: &[PathBuf]) -> Result<String, SnapshotError> {
    let digests = files.iter().map(|file| known(file, Algorithm::Blake3)).collect::<Result<Vec<_>, _>>()?;
    Ok(of_json(&json!([base.key, digests])))
}

/// The folder of a model or adapter that a recipe gives: of a run folder what it exported, of a hub's repository the
/// one in the cache, weights and all.
///
/// # Errors
///
/// It is nowhere, or the hub does not give it.
pub fn given_folder(source: &str, sources: &mut Sources<'_>) -> Result<PathBuf, Failure> {
    let folder = sources.model(source)?;
    // Its settings come first, and with them the commit that the weights are of.
    sources.weights(source)?;
    let inside = ["train/adapter", "train/model"].into_iter().find(|name| folder.join(name).is_dir());
    let Some(inside) = inside else { return Ok(folder) };
    let folder = folder.join(inside);
    sources.traces.note(&format!("{source}/{inside}"), &folder);
    Ok(folder)
}
