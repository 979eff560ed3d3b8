//! Which runs on this machine have asked the same weights: an index, by what decides the weights.
//!
//! Nothing that a model said lies here, only where it lies: each run folder keeps its own answers. What
//! another run has is copied line by line, under the same key, so it is what would have been generated
//! here; a run folder that is gone or has other answers gives nothing.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::folders::own_cache;
use crate::snapshot::digest::of_json;
use crate::snapshot::writer::file_at_once;

/// The most places that are remembered of the same weights: more runs hold the same answers again.
const MOST: usize = 32;

/// The index of one machine and one device: answers on another differ in rounding.
pub struct Shelf {
    folder: Option<PathBuf>,
}

impl Shelf {
    /// The index in the user's cache; without a cache there is none.
    pub fn of(device: &str) -> Self {
        let device = &of_json(&json!(device))[..16];
        Self { folder: own_cache().map(|cache| cache.join("answers").join(device)) }
    }

    /// One that has nothing and takes nothing.
    pub fn none() -> Self {
        Self { folder: None }
    }

    fn file(&self, weights: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(weights))
    }

    fn known(&self, weights: &str) -> Vec<PathBuf> {
        let text = self.file(weights).and_then(|file| std::fs::read_to_string(file).ok());
        text.unwrap_or_default().lines().map(PathBuf::from).collect()
    }

    /// Folders other than `own` that hold answers of these weights, the newest first.
    pub fn others(&self, weights: &str, own: &Path) -> Vec<PathBuf> {
        let own = std::path::absolute(own).unwrap_or_else(|_| own.to_owned());
        let mut known = self.known(weights);
        known.retain(|path| *path != own && path.is_dir());
        known.reverse();
        known
    }

    /// Remembers that `folder` holds answers of these weights.
    pub fn add(&self, weights: &str, folder: &Path) {
        let (Some(file), Ok(folder)) = (self.file(weights), std::path::absolute(folder)) else { return };
        let mut known = self.known(weights);
        if known.contains(&folder) {
            return;
        }
        known.retain(|path| path.is_dir());
        known.push(folder);
        let text: String =
            known.iter().rev().take(MOST).rev().map(|path| format!("{}\n", path.display())).collect();
        // Without the index another run asks again.
        let _ = file_at_once(&file, text.as_bytes());
    }
}
