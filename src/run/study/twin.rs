//! Cells that differ in what is asked or merged alone have one training: the second takes it over from the first.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::event::Unwritable;
use crate::run::failure::Failure;
use crate::run::plan::Plan;
use crate::run::session::Session;
use crate::snapshot::writer::folder_at_once;

/// Gives a cell the finished training of another cell with the same key, if it has none of its own.
pub(super) fn adopt(plan: &Plan, cells: &Path, stop: &AtomicBool) -> Result<(), Failure> {
    let own = plan.folder.join("train");
    if own.exists() {
        return Ok(());
    }
    let ending = format!("-{}", &plan.key.digest[..8]);
    let is_twin = |folder: &Path| {
        if !folder.to_string_lossy().ends_with(&ending) {
            return false;
        }
        let key = std::fs::read_to_string(folder.join("key")).unwrap_or_default();
        key.trim() == plan.key.digest && folder.join("train/result.json").is_file()
    };
    let entries = std::fs::read_dir(cells).into_iter().flatten().flatten().map(|entry| entry.path());
    let Some(twin) = entries.filter(|folder| is_twin(folder)).min() else { return Ok(()) };
    // Held, so that the folder is the cell's before anything lies in it.
    let mut ignore = |_| ();
    let session = Session::open(&plan.folder, Some(&plan.key), stop, &mut ignore)?;
    let target = session.folder().train();
    folder_at_once::<Failure>(&target, |files| {
        copy(&twin.join("train"), files)
            .map_err(|source| Unwritable { folder: files.to_owned(), source }.into())
    })
}

/// The files of a finished training never change, so where the file system can, both cells have the same ones.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)?.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy(&path, &target)?;
        } else if std::fs::hard_link(&path, &target).is_err() {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
