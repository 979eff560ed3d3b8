//! The merged model's folder while it is being filled, which the same command goes on with after a
//! kill: every shard that is finished stays.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::merge::WeightReport;
use crate::run::Failure;
use crate::run::session::folder::{self, LOCK};
use crate::snapshot::digest::{self, Algorithm};
use crate::snapshot::{SnapshotError, files, writer};

const KEY: &str = ".key";
/// What is noted of a finished shard lies beside it under its name and this.
const NOTE: &str = ".done.json";

/// A folder beside its place that this process fills.
pub(super) struct Partial {
    path: PathBuf,
    /// Held until the folder is done or the process ends.
    _lock: File,
}

/// What is known of a finished shard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    /// Of the file; absent without digests.
    pub blake3: Option<String>,
    /// Of the file, and when it was written, by which it is known again.
    identity: String,
    /// What the merge did to its weights.
    pub weights: BTreeMap<String, WeightReport>,
}

impl Partial {
    /// Opens the folder that becomes `out`; what another `key` left there is removed.
    ///
    /// # Errors
    ///
    /// Another process fills it, or the disk refuses.
    pub fn open(out: &Path, key: &str) -> Result<Self, Failure> {
        let Some(name) = out.file_name().filter(|_| !out.is_symlink()) else {
            return Err(SnapshotError::TargetExists { path: out.to_owned() }.into());
        };
        let name = name.to_string_lossy();
        let path = writer::parent(out).join(format!(".{name}.partial"));
        let unwritable = |source| SnapshotError::Unwritable { path: path.clone(), source };
        if path.is_symlink() {
            return Err(SnapshotError::TargetExists { path }.into());
        }
        fs::create_dir_all(&path).map_err(unwritable)?;
        let lock = folder::lock(&path, out)?;
        let partial = Self { path, _lock: lock };
        if fs::read_to_string(partial.path.join(KEY)).ok().as_deref() != Some(key) {
            partial.sweep(|name| name != LOCK)?;
            writer::file_at_once(&partial.path.join(KEY), key.as_bytes())?;
        }
        // What a kill cut off.
        partial.sweep(|name| name.starts_with(".new-") || name.starts_with(".tmp"))?;
        Ok(partial)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The note of a shard that is finished and still what it was.
    pub fn finished(&self, file: &str) -> Option<Finished> {
        let finished: Finished = files::read_json(&self.path.join(format!("{file}{NOTE}"))).ok()?;
        let path = self.path.join(file);
        let same = digest::identity(&path).ok()? == finished.identity;
        let same = same
            && finished
                .blake3
                .as_ref()
                .is_none_or(|b| digest::fresh(&path, Algorithm::Blake3).is_ok_and(|f| f == *b));
        same.then_some(finished)
    }

    /// Makes a shard appear that `write` wrote, with its note; the figures are asked for then.
    /// `write` gives its digest, if that is noted.
    pub fn finish(
        &self,
        file: &str,
        write: impl FnOnce(&Path) -> Result<Option<blake3::Hash>, SnapshotError>,
        weights: impl FnOnce() -> BTreeMap<String, WeightReport>,
    ) -> Result<Finished, SnapshotError> {
        let (beside, path) = (self.path.join(format!(".new-{file}")), self.path.join(file));
        let unwritable = |source| SnapshotError::Unwritable { path: path.clone(), source };
        let blake3 = write(&beside)?.map(|digest| digest.to_hex().to_string());
        File::open(&beside).and_then(|file| file.sync_data()).map_err(unwritable)?;
        fs::rename(&beside, &path).map_err(unwritable)?;
        let finished = Finished { blake3, identity: digest::identity(&path)?, weights: weights() };
        writer::write_json(&self.path.join(format!("{file}{NOTE}")), &json!(finished))?;
        Ok(finished)
    }

    /// Puts the folder, now whole, in its place.
    pub fn settle(self, out: &Path) -> Result<(), SnapshotError> {
        writer::must_be_free(out)?;
        self.sweep(|name| name == LOCK || name == KEY || name.ends_with(NOTE))?;
        writer::settle(&self.path, out)
    }

    /// Removes everything; for a merge that cannot be made.
    pub fn discard(self) {
        // What is left is found and removed by the next merge into the same place.
        let _ = fs::remove_dir_all(&self.path);
    }

    fn sweep(&self, goes: impl Fn(&str) -> bool) -> Result<(), SnapshotError> {
        let unwritable = |source| SnapshotError::Unwritable { path: self.path.clone(), source };
        for entry in fs::read_dir(&self.path).map_err(unwritable)?.flatten() {
            if goes(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).map_err(unwritable)?;
            }
        }
        Ok(())
    }
}
