//! Models that a merge names: a folder, or a hub's that lies in the cache.

use std::path::{Path, PathBuf};

use crate::folders::expanded;
use crate::hub::{Hub, Name, RepoKind, Wanted};
use crate::run::Failure;

/// The model of a hub that `name`, seen from `root`, means: nothing of that name is there.
pub fn of_hub(root: &Path, name: &str) -> Option<Name> {
    let is_here = root.join(expanded(name)).exists();
    Name::parse(name).filter(|asked| !is_here && asked.kind == RepoKind::Model)
}

/// The folder that `name`, seen from `root`, means; the network is not touched.
///
/// # Errors
///
/// The cache cannot be told from the environment.
pub(super) fn folder(root: &Path, name: &str) -> Result<PathBuf, Failure> {
    let cached = match of_hub(root, name) {
        Some(asked) => Hub::from_env()?.cached(&asked, Wanted::Model).map(|fetched| fetched.folder),
        None => None,
    };
    Ok(cached.unwrap_or_else(|| root.join(expanded(name))))
}
