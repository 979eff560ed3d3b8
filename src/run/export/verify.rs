//! Whether a merged folder is what its manifest says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use rand::seq::IndexedRandom;

use super::manifest::{MANIFEST, Manifest};
use super::{Layout, prepare};
use crate::run::Failure;
use crate::run::failure::VerifyError;
use crate::seed;
use crate::snapshot::digest::{self, Algorithm};
use crate::snapshot::{SnapshotError, WeightFiles, Weights, adapter, files};

/// What was checked.
#[derive(Debug)]
pub struct Verified {
    /// Files whose digests are those recorded: inputs and shards.
    pub n_files: usize,
    /// Weights that were computed again and are the same bit for bit.
    pub weights: Vec<String>,
}

/// Checks every digest and computes `n` weights again, drawn by `seed`.
///
/// # Errors
///
/// The folder has no manifest, an input is gone, or something differs.
pub fn verify(folder: &Path, n: usize, seed: u64) -> Result<Verified, Failure> {
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        let help = "only folders that `finetune merge` wrote can be verified";
        return Err(SnapshotError::MissingFile { path, help }.into());
    }
    let manifest: Manifest = files::read_json(&path)?;
    let shards = manifest.shards.iter().map(|(name, digest)| (Cow::Owned(folder.join(name)), digest));
    let recorded: BTreeMap<Cow<'_, Path>, &String> = manifest
        .inputs
        .iter()
        .map(|(path, digest)| (Cow::Borrowed(path.as_path()), digest))
        .chain(shards)
        .collect();
    for (path, expected) in &recorded {
        let found = digest::fresh(path, Algorithm::Blake3)?;
        if found != **expected {
            let (path, expected) = (path.to_path_buf(), (*expected).clone());
            return Err(VerifyError::OtherFile { path, found, expected }.into());
        }
    }
    let draft = prepare(&manifest.request.seen_from(&manifest.seen_from))?;
    let written = match draft.layout {
        Layout::Model => WeightFiles::open(folder)?,
        Layout::Adapter => WeightFiles::open_file(&folder.join(adapter::WEIGHTS))?,
    };
    let merged = draft.merged.tracked(None);
    let names: Vec<&String> = merged.infos().keys().collect();
    let sample: Vec<&String> = names.sample(&mut seed::rng(seed, "verify"), n).copied().collect();
    for name in &sample {
        let (found, expected) = (written.weight(name)?, merged.weight(name)?);
        if found.info != expected.info || found.bytes != expected.bytes {
            let (folder, name) = (folder.to_owned(), (*name).clone());
            return Err(VerifyError::OtherWeight { folder, name }.into());
        }
    }
    Ok(Verified { n_files: recorded.len(), weights: sample.into_iter().cloned().collect() })
}
