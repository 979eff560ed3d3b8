//! BLAKE3 digests of files, remembered from one command to the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::snapshot::{SnapshotError, files, writer};

/// The file's digest in hexadecimal, as `b3sum` prints it.
///
/// # Errors
///
/// The file cannot be read.
pub fn fresh(path: &Path) -> Result<String, SnapshotError> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_mmap_rayon(path)
        .map_err(|source| SnapshotError::Unreadable { path: path.to_owned(), source })?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// As [`fresh`], from the cache if a file of this path, size, time and inode was read before.
///
/// # Errors
///
/// As there. A cache that cannot be read or written is done without.
pub fn known(path: &Path) -> Result<String, SnapshotError> {
    let Some(cache) = cache_folder().map(|cache| cache.join("digests.json")) else { return fresh(path) };
    let key = identity(path)?;
    let mut all: BTreeMap<String, String> = files::read_json(&cache).unwrap_or_default();
    if let Some(digest) = all.get(&key) {
        return Ok(digest.clone());
    }
    let digest = fresh(path)?;
    all.insert(key, digest.clone());
    let json = serde_json::to_value(all).expect("text is JSON");
    let _ = writer::write_json(&cache, &json);
    Ok(digest)
}

/// `$XDG_CACHE_HOME/finetune` or `~/.cache/finetune`.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("finetune"))
}

/// Path, size, time and inode: a file that has all of these is the file that had them before.
///
/// # Errors
///
/// There is no such file.
pub fn identity(path: &Path) -> Result<String, SnapshotError> {
    let unreadable = |source| SnapshotError::Unreadable { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    let time = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Ok(format!("{} {} {} {}", path.display(), meta.len(), time.as_nanos(), inode(&meta)))
}

/// The SHA-256 of some JSON.
pub fn digest(value: &serde_json::Value) -> String {
    use sha2::{Digest, Sha256};
    files::hex(&Sha256::digest(value.to_string()))
}

#[cfg(unix)]
fn inode(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}
#[cfg(not(unix))]
fn inode(_meta: &std::fs::Metadata) -> u64 {
    0
}
