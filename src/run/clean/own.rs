//! What can go, and files and folders looked at without following a link.

use std::fs::{FileType, Metadata, symlink_metadata};
use std::path::{Path, PathBuf};

use crate::report::cleaning::{Removable, What};

/// Something that can go.
pub(super) struct Found {
    pub told: Removable,
    pub path: PathBuf,
    /// What stays of a file that is not the run's alone.
    pub without: Option<String>,
}

impl Found {
    pub(super) fn new(what: What, path: PathBuf, bytes: u64, to_get_back: String) -> Self {
        let told = Removable { what, path: path.display().to_string(), bytes, to_get_back };
        Self { told, path, without: None }
    }
}

fn kind(path: &Path) -> Option<FileType> {
    symlink_metadata(path).ok().map(|about| about.file_type())
}

/// A folder, and no link to one.
pub(super) fn is_folder(path: &Path) -> bool {
    kind(path).is_some_and(|kind| kind.is_dir())
}

/// A file, and no link to one.
pub(super) fn is_file(path: &Path) -> bool {
    kind(path).is_some_and(|kind| kind.is_file())
}

/// Whether it bears the name of something half-written: a folder or a file that a kill left.
pub(super) fn is_partial(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (name.starts_with(".new-") && is_folder(path)) || (name.starts_with(".tmp") && is_file(path))
}

/// What lies in a folder; nothing in what is none.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = is_folder(folder).then(|| std::fs::read_dir(folder).ok()).flatten();
    let mut paths: Vec<PathBuf> = found.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Bytes that are freed with a file or a folder; of a file that lies in another folder too, none.
pub(super) fn bytes(path: &Path) -> u64 {
    match symlink_metadata(path) {
        Ok(about) if about.is_dir() => entries(path).iter().map(|entry| bytes(entry)).sum(),
        Ok(about) if about.is_file() && n_links(&about) == 1 => about.len(),
        _ => 0,
    }
}

#[cfg(unix)]
fn n_links(about: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(about)
}
#[cfg(not(unix))]
fn n_links(_about: &Metadata) -> u64 {
    1
}
