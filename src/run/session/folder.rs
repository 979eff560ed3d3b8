//! The run folder: where each stage writes, and who may write there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::event::Unwritable;
use crate::folders::{self, SETTINGS_BYTES};
use crate::recipe::HARDENED;
use crate::run::failure::FolderError;
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::of_json;
use crate::snapshot::files::read_json;
use crate::snapshot::writer::{file_at_once, no_links, write_json};
use crate::train::importance;

/// What a folder was made for: the digest, and beside it the parts.
const KEY: &str = "key";
const KEY_PARTS: &str = "key.json";

/// What a run folder holds, as a digest and as the parts that it is the digest of.
#[derive(Debug, Clone)]
pub struct Key {
    pub digest: String,
    /// An object; its entries are named where two runs differ.
    pub parts: Value,
}

impl Key {
    /// The key of these parts.
    pub fn new(parts: Value) -> Self {
        Self { digest: of_json(&parts), parts }
    }
}

/// What of a run differs from what was made in its folder, in words.
fn differences(before: &Value, now: &Value) -> String {
    let mut found = Vec::new();
    if before.is_object() {
        differing("", before, now, &mut found);
    }
    match found.len() {
        0 => "an earlier version of this program made it".to_owned(),
        1 => format!("{} differs", found[0]),
        _ => format!("{} differ", found.join(", ")),
    }
}

/// The places at which two values differ.
pub fn differing(place: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let new = now.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(new) {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                let part = |all: &serde_json::Map<String, Value>| all.get(key).cloned().unwrap_or_default();
                differing(&place, &part(before), &part(now), found);
            }
        }
        _ if before == now => {}
        _ => found.push(format!("`{place}`")),
    }
}

/// A run folder that this process holds.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held until the process ends.
    _lock: File,
}

impl Folder {
    /// Makes or opens a run folder and holds it.
    ///
    /// # Errors
    ///
    /// Another process holds it, it belongs to another run or is none of ours, or the disk refuses.
    pub fn hold(path: &Path, key: Option<&Key>) -> Result<Self, FolderError> {
        let unwritable = |source| Unwritable { folder: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(unwritable)?;
        if !is_ours(path).map_err(unwritable)? {
            return Err(FolderError::NotARun { folder: path.to_owned() });
        }
        let lock = lock(path, path)?;
        let folder = Self { path: path.to_owned(), _lock: lock };
        key.map(|key| folder.claim(key)).transpose()?;
        folder.sweep();
        Ok(folder)
    }

    /// Takes away what a killed process was writing; nobody else can be writing here now.
    fn sweep(&self) {
        for folder in
            [self.path.clone(), self.train(), self.path.join("merged"), self.path.join(importance::FOLDER)]
        {
            // What a link leads to is no part of the run.
            let own = Some(folder).filter(|folder| *folder == self.path || !folder.is_symlink());
            for entry in own.map(std::fs::read_dir).into_iter().flatten().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with(".new-") {
                    let _ = std::fs::remove_dir_all(entry.path());
                } else if name.starts_with(".tmp") {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Notes what is made here, or checks the note.
    fn claim(&self, key: &Key) -> Result<(), FolderError> {
        let (note, parts) = (self.path.join(KEY), self.path.join(KEY_PARTS));
        match folders::read_text(&note, SETTINGS_BYTES) {
            Ok(found) if found.trim() == key.digest => Ok(()),
            Ok(_) => {
                let before: Value = read_json(&parts).unwrap_or_default();
                let why = differences(&before, &key.parts);
                Err(FolderError::OtherRun { folder: self.path.clone(), why })
            }
            Err(_) => {
                let write = write_json(&parts, &key.parts)
                    .and_then(|()| file_at_once(&note, format!("{}\n", key.digest).as_bytes()));
                let unwritable = |error: SnapshotError| Unwritable {
                    folder: self.path.clone(),
                    source: std::io::Error::other(error.to_string()),
                };
                Ok(write.map_err(unwritable)?)
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn train(&self) -> PathBuf {
        self.path.join("train")
    }

    /// Where the base lies that `[harden]` made: beside what was trained on it.
    pub fn hardened(&self) -> PathBuf {
        self.train().join(HARDENED)
    }

    /// Where a candidate's answers lie.
    pub fn eval(&self, candidate: &str) -> PathBuf {
        eval_folder(&self.path, candidate)
    }

    /// Where a merged model is written when asked for.
    pub fn merged(&self, merge: &str) -> PathBuf {
        merged_folder(&self.path, merge)
    }
}

/// Whether a folder is empty but for a lock of commits that a run goes by, or has what a run leaves first of all.
fn is_ours(folder: &Path) -> std::io::Result<bool> {
    if [KEY, LOCK].iter().any(|name| folder.join(name).is_file()) {
        return Ok(true);
    }
    let mut entries = std::fs::read_dir(folder)?.flatten();
    Ok(entries.all(|entry| entry.file_name() == "recipe.lock"))
}

/// Where a candidate's answers lie in the run folder `run`.
pub fn eval_folder(run: &Path, candidate: &str) -> PathBuf {
    run.join("eval").join(file_name(candidate))
}

/// Where a merged model is written in the run folder `run`.
pub fn merged_folder(run: &Path, merge: &str) -> PathBuf {
    run.join("merged").join(file_name(merge))
}

/// A candidate's name as a file name every system takes.
fn file_name(name: &str) -> String {
    name.replace([':', ',', '/', '\\'], "_")
}

/// The file in a folder that the process working there holds; it has its pid.
pub const LOCK: &str = ".lock";

/// The process that works in `folder`, if one does; nothing is written.
///
/// # Errors
///
/// Whether one does cannot be found out.
pub fn holder(folder: &Path) -> Result<Option<String>, FolderError> {
    let unwritable = |source| Unwritable { folder: folder.to_owned(), source };
    let mut file = match no_links(OpenOptions::new().read(true)).open(folder.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unwritable(source).into()),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(unwritable)?;
            Ok(Some(pid.trim().to_owned()))
        }
        Err(TryLockError::Error(source)) => Err(unwritable(source).into()),
    }
}

/// Holds `folder`, which errors call `place`, until the file that comes back is closed.
///
/// # Errors
///
/// Another process holds it, or the disk refuses.
pub fn lock(folder: &Path, place: &Path) -> Result<File, FolderError> {
    let unwritable = |source| Unwritable { folder: place.to_owned(), source };
    let mut options = OpenOptions::new();
    let file = no_links(options.read(true).write(true).create(true).truncate(false)).open(folder.join(LOCK));
    let mut file = file.map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(unwritable)?;
            return Err(FolderError::Busy { folder: place.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(unwritable(source).into()),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(unwritable)?;
    Ok(file)
}
