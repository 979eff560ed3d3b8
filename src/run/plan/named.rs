//! Models of one's own that are asked beside base, tuned model and merges: `[[eval.candidates]]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::model::{Base, Model};
use super::sources::Sources;
use crate::model::Decoder;
use crate::recipe::NamedCandidate;
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
            sources.weights(source)?;
            let folder = exported(sources.model(source)?);
            let place = folder.display().to_string();
            let (weights, files): (SharedWeights, Vec<PathBuf>) = if folder.join(adapter::CONFIG).is_file() {
                let folded = Folded::new(base.weights.clone(), Arc::new(Adapter::read(&folder)?))?;
                (Arc::new(folded), [adapter::WEIGHTS, adapter::CONFIG].map(|file| folder.join(file)).to_vec())
            } else {
                let files = WeightFiles::open(&folder)?;
                Decoder::check(&model.shape, &files, &place)?;
                let paths = files.paths().map(Path::to_owned).collect();
                (Arc::new(files), paths)
            };
            let digests = files
                .iter()
                .map(|file| known(file, Algorithm::Blake3))
                .collect::<Result<Vec<_>, SnapshotError>>()?;
            all.push(Self { name: name.clone(), weights, key: of_json(&json!([base.key, digests])) });
        }
        Ok(all)
    }
}

/// Of a run folder what it exported.
pub fn exported(folder: PathBuf) -> PathBuf {
    let inside = ["train/adapter", "train/model"].map(|name| folder.join(name));
    inside.into_iter().find(|path| path.is_dir()).unwrap_or(folder)
}
