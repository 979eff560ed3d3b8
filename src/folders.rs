//! Where a user's own files lie.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The user's cache by the XDG rules: `$XDG_CACHE_HOME`, or `.cache` in `$HOME`; a relative path counts as none.
pub fn cache() -> Option<PathBuf> {
    cache_of(|name| std::env::var_os(name))
}

/// This program's own part of the cache.
pub fn own_cache() -> Option<PathBuf> {
    Some(cache()?.join(env!("CARGO_PKG_NAME")))
}

fn cache_of(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(Path::new(".cache"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_the_first_absolute_folder_of_the_two() {
        let cache = |xdg: Option<&str>, home: Option<&str>| {
            let variable = |name: &str| match name {
                "XDG_CACHE_HOME" => xdg.map(OsString::from),
                _ => home.map(OsString::from),
            };
            cache_of(variable).map(|path| path.display().to_string())
        };
        assert_eq!(cache(Some("/x"), Some("/h")).as_deref(), Some("/x"));
        for xdg in [None, Some(""), Some("x"), Some("~/x")] {
            assert_eq!(cache(xdg, Some("/h")).as_deref(), Some("/h/.cache"));
            assert_eq!(cache(xdg, Some("h")), None);
            assert_eq!(cache(xdg, None), None);
        }
    }
}
