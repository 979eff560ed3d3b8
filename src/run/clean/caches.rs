//! What this program's cache holds of one run.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::own::{Found, bytes, entries, is_file, is_folder};
use crate::folders::{SETTINGS_BYTES, own_cache, read_text};
use crate::report::cleaning::What;
use crate::snapshot::SnapshotError;
use crate::snapshot::writer::file_at_once;

/// The lines by which other runs find this run's answers, and the counts of its encoded samples.
pub(super) fn of_run(run: &Path, manifest: &Value) -> Vec<Found> {
    let Some(cache) = own_cache() else { return Vec::new() };
    let mut found = Vec::new();
    let samples = manifest["caches"].as_str().map(PathBuf::from);
    // A manifest may be a stranger's: only what lies where such files lie is looked at.
    let samples = samples.filter(|path| path.parent() == Some(&cache.join("samples")) && is_file(path));
    if let Some(path) = samples {
        let cost = "the next command that reads the same data counts its tokens again".to_owned();
        let bytes = bytes(&path);
        found.push(Found::new(What::Cache, path, bytes, cost));
    }
    let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
    let devices = entries(&cache.join("answers"));
    for path in devices.iter().filter(|path| is_folder(path)).flat_map(|folder| entries(folder)) {
        let Ok(text) = read_text(&path, SETTINGS_BYTES) else { continue };
        let (own, rest): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| Path::new(line).starts_with(&run));
        if own.is_empty() || !is_file(&path) {
            continue;
        }
        let n = own.iter().map(|line| line.len() as u64 + 1).sum();
        let cost =
            "other runs of the same weights ask themselves what they would take over from here".to_owned();
        let rest = rest.into_iter().flat_map(|line| [line, "\n"]).collect();
        found.push(Found { without: Some(rest), ..Found::new(What::Cache, path, n, cost) });
    }
    found
}

/// Writes what an index of other runs still has; an empty one goes.
pub(super) fn put(path: &Path, rest: &str) -> Result<(), SnapshotError> {
    match rest.is_empty() {
        true => std::fs::remove_file(path)
            .map_err(|source| SnapshotError::Unwritable { path: path.to_owned(), source }),
        false => file_at_once(path, rest.as_bytes()),
    }
}
