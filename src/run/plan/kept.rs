//! What a plan found out by reading and counting, kept from one command to the next by what decides it: digests of
//! files, settings, and this program's version. So it cannot be out of date.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::folders::own_cache;
use crate::run::failure::Failure;
use crate::snapshot::digest::of_json;
use crate::snapshot::files::read_json;
use crate::snapshot::writer::write_json;

/// What was found, and where it is kept; nowhere without a cache.
pub(super) struct Kept<T> {
    pub found: T,
    pub path: Option<PathBuf>,
}

/// What an earlier command kept of this `kind` by this `key`, else what `find` finds.
///
/// # Errors
///
/// Whatever `find` returns.
pub(super) fn kept<T: Serialize + DeserializeOwned>(
    kind: &str,
    key: &Value,
    find: impl FnOnce() -> Result<T, Failure>,
) -> Result<Kept<T>, Failure> {
    let key = of_json(&json!([env!("CARGO_PKG_VERSION"), key]));
    let path = own_cache().map(|cache| cache.join(kind).join(format!("{}.json", &key[..32])));
    if let Some(found) = path.as_ref().and_then(|path| read_json::<T>(path).ok()) {
        return Ok(Kept { found, path });
    }
    let found = find()?;
    // Without a cache every command looks again.
    let _ = path.as_ref().map(|path| write_json(path, &json!(found)));
    Ok(Kept { found, path })
}

/// Forgets what is kept there.
pub(super) fn forget(path: Option<&PathBuf>) {
    // What cannot be removed is found wrong again.
    let _ = path.map(std::fs::remove_file);
}
