//! Which base an adapter was trained on: recorded beside it, and compared before it is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::snapshot::digest::{Algorithm, known};
use crate::snapshot::{SnapshotError, files, writer};

/// PEFT leaves this file of an adapter's folder alone.
const FILE: &str = "base.json";

/// The base of an adapter.
#[derive(Debug, Serialize, Deserialize)]
struct Base {
    /// As the recipe named it.
    model: String,
    /// BLAKE3 of each file of weights.
    blake3: BTreeMap<String, String>,
}

/// Records in an adapter's folder what it was trained on.
///
/// # Errors
///
/// A file of the base cannot be read, or the disk refuses.
pub fn record(adapter: &Path, model: &str, weights: &[PathBuf]) -> Result<(), SnapshotError> {
    let base = Base { model: model.to_owned(), blake3: digests_of(weights)? };
    writer::write_json(&adapter.join(FILE), &json!(base))
}

/// A sentence, if an adapter was trained on other weights than these.
///
/// # Errors
///
/// A file of the base cannot be read.
pub fn compare(adapter: &Path, weights: &[PathBuf]) -> Result<Option<String>, SnapshotError> {
    // Folders of other programs do not tell.
    let Ok(base) = files::read_json::<Base>(&adapter.join(FILE)) else { return Ok(None) };
    let found = digests_of(weights)?;
    let other = found.iter().find(|(name, digest)| base.blake3.get(*name) != Some(*digest));
    let Some((name, _)) = other.filter(|_| !base.blake3.is_empty()) else { return Ok(None) };
    Ok(Some(format!(
        "warning: adapter `{}` was trained on other weights, those of `{}`: `{name}` differs",
        adapter.display(),
        base.model
    )))
}

fn digests_of(weights: &[PathBuf]) -> Result<BTreeMap<String, String>, SnapshotError> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    weights.iter().map(|path| Ok((name(path), known(path, Algorithm::Blake3)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_tells_the_base_that_it_was_trained_on() {
        let folder = tempfile::tempdir().unwrap();
        let (adapter, weights) = (folder.path().join("adapter"), folder.path().join("model.safetensors"));
        std::fs::create_dir(&adapter).unwrap();
        std::fs::write(&weights, b"one").unwrap();
        let weights = [weights];
        assert_eq!(compare(&adapter, &weights).unwrap(), None); // PEFT's own folders say nothing.
        record(&adapter, "base", &weights).unwrap();
        assert_eq!(compare(&adapter, &weights).unwrap(), None);
        std::fs::write(&weights[0], b"other").unwrap();
        let said = compare(&adapter, &weights).unwrap().unwrap();
        assert!(
            said.contains("trained on other weights, those of `base`: `model.safetensors` differs"),
            "{said}"
        );
    }
}
