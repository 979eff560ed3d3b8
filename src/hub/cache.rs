//! The cache on disk, in the layout of Python's `huggingface_hub`, which may share it.
//!
//! `models--org--name/` has `blobs/` with the contents, each named by its `ETag`, `snapshots/<commit>/`
//! with links to them, and `refs/<revision>`, a file with the commit that a branch or tag was at.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::HubError;
use super::name::{Name, is_commit};
use crate::snapshot::writer;

/// Who writes commits of revisions down takes turns under this name, which no digest has.
const REFS: &str = "refs";

/// The folder with every repository.
#[derive(Debug)]
pub struct Cache(pub PathBuf);

impl Cache {
    fn repository(&self, name: &Name) -> PathBuf {
        self.0.join(format!("{}--{}", name.kind.plural(), name.id.replace('/', "--")))
    }

    /// The files of one commit.
    pub fn snapshot(&self, name: &Name, commit: &str) -> PathBuf {
        self.repository(name).join("snapshots").join(commit)
    }

    pub fn blob(&self, name: &Name, etag: &str) -> PathBuf {
        self.repository(name).join("blobs").join(etag)
    }

    /// The commit that the revision was at when it was fetched last.
    pub fn commit(&self, name: &Name) -> Option<String> {
        if is_commit(&name.revision) {
            return Some(name.revision.clone());
        }
        let commit = fs::read_to_string(self.repository(name).join("refs").join(&name.revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes which commit the revision is at.
    pub fn note(&self, name: &Name, commit: &str) -> Result<(), HubError> {
        if name.revision == commit {
            return Ok(());
        }
        let path = self.repository(name).join("refs").join(&name.revision);
        let _turn = self.turn(name, REFS)?;
        // Not beside it: Python takes every file there for a revision, and what a kill leaves is no commit.
        let beside = self.locks(name).join(format!("{REFS}.new"));
        let written = fs::create_dir_all(writer::parent(&path))
            .and_then(|()| {
                let mut file = File::create(&beside)?;
                file.write_all(commit.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&beside, &path));
        written.map_err(|source| HubError::Unwritable { path, source })
    }

    fn locks(&self, name: &Name) -> PathBuf {
        let repository = self.repository(name);
        self.0.join(".locks").join(repository.file_name().expect("a repository has a name"))
    }

    /// Waits until no other process, Python's included, fetches this blob; the file holds the turn.
    pub fn turn(&self, name: &Name, etag: &str) -> Result<File, HubError> {
        let folder = self.locks(name);
        let path = folder.join(format!("{etag}.lock"));
        let lock = fs::create_dir_all(&folder).and_then(|()| File::create(&path)).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
        lock.map_err(|source| HubError::Unwritable { path, source })
    }

    /// Lets a file of a commit be a blob.
    pub fn link(&self, name: &Name, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(name, commit).join(file);
        let up = "../".repeat(2 + file.matches('/').count());
        let linked = fs::create_dir_all(writer::parent(&path)).and_then(|()| {
            // Another process made it meanwhile, and may be reading.
            if path.exists() {
                return Ok(());
            }
            // A link whose blob is gone.
            if path.is_symlink() {
                fs::remove_file(&path)?;
            }
            link(Path::new(&format!("{up}blobs/{etag}")), &self.blob(name, etag), &path)
        });
        linked.map_err(|source| HubError::Unwritable { path, source })
    }
}

#[cfg(unix)]
fn link(relative: &Path, _blob: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}
#[cfg(not(unix))]
fn link(_relative: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    // Symbolic links need rights that users of Windows do not have.
    fs::hard_link(blob, path)
}
