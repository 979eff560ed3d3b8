//! Who may read what was written.

use std::fs;
use std::path::Path;

/// A temporary folder and what is written at once are private to their maker; a finished one follows the usual rights.
#[cfg(unix)]
pub(super) fn readable(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
#[cfg(not(unix))]
pub(super) fn readable(_path: &Path, _mode: u32) -> std::io::Result<()> {
    Ok(())
}

/// Gives everything in a folder that is for everybody the usual rights.
///
/// # Errors
///
/// The system refuses.
pub fn show_to_all(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => show_to_all(&entry.path())?,
            kind if kind.is_file() => readable(&entry.path(), 0o644)?,
            _ => {}
        }
    }
    readable(folder, 0o755)
}
