//! What a run or a study holds that can be had again, listed with its price, and removed when told.
//!
//! Only what is known as this program's own is touched: a checkpoint with the files that a checkpoint has, a merged
//! model of a name in the report, what begins as half-written files do. No link is followed, and nobody is disturbed:
//! a folder in which a process works stays as it is.

use std::path::{Path, PathBuf};

mod caches;
mod items;
mod own;

use super::diff::Recorded;
use super::failure::{Failure, FolderError, ReproduceError};
use super::manifest;
use super::session::folder::{holder, lock};
use crate::event::Unwritable;
use crate::report::cleaning::{Cleaning, Kept, SCHEMA, What};
use own::{Found, is_folder};

/// What makes a folder a study's.
const STUDY: &str = "study.toml";
/// Where runs lie in a study's folder.
const RUNS: [&str; 3] = ["cells", "bases", "reproduced"];

/// Lists what can go from the run or the study in `folder`, and removes it if `remove`.
///
/// # Errors
///
/// The folder is none of these, a process works in a run that is to be cleaned, or the disk refuses.
pub fn clean(folder: &Path, remove: bool) -> Result<Cleaning, Failure> {
    let (mut items, mut kept) = (Vec::new(), Vec::new());
    let is_study = folder.join(STUDY).is_file();
    for run in runs(folder, &mut kept)? {
        if let Some(pid) = holder(&run)? {
            if remove && !is_study {
                return Err(FolderError::Busy { folder: run, pid }.into());
            }
            let why = format!("process {pid} is working there");
            kept.push(Kept { path: run.display().to_string(), why });
            continue;
        }
        // Held while it is looked at and cleaned, so that nobody begins to work there.
        let _held = remove.then(|| lock(&run, &run)).transpose()?;
        let found = items::of_run(&Recorded::read(&run, None)?, is_study.then_some(folder));
        if remove {
            found.items.iter().try_for_each(take)?;
        }
        kept.extend(found.kept);
        items.extend(found.items.into_iter().map(|item| item.told));
    }
    if is_study {
        let found = items::partial(folder);
        if remove {
            found.iter().try_for_each(take)?;
        }
        items.extend(found.into_iter().map(|item| item.told));
    }
    Ok(Cleaning { schema: SCHEMA, folder: folder.display().to_string(), items, kept, removed: remove })
}

/// The runs that are meant: the folder's own, or those in a study's.
fn runs(folder: &Path, kept: &mut Vec<Kept>) -> Result<Vec<PathBuf>, Failure> {
    if !folder.join(STUDY).is_file() {
        return match is_run(folder) {
            true => Ok(vec![folder.to_owned()]),
            false => Err(ReproduceError::NotARun {
                folder: folder.to_owned(),
                why: "it lacks `key` or `manifest.json`, which every run has".to_owned(),
                help: "name the folder that a run or a study wrote; nothing was touched".to_owned(),
            }
            .into()),
        };
    }
    let mut found = Vec::new();
    for part in RUNS.map(|name| folder.join(name)).into_iter().filter(|part| is_folder(part)) {
        for entry in std::fs::read_dir(part).into_iter().flatten().flatten() {
            let path = entry.path();
            let stays = |why: &str| Kept { path: path.display().to_string(), why: why.to_owned() };
            if path.is_symlink() {
                kept.push(stays("it is a link"));
            } else if is_run(&path) {
                found.push(path);
            } else if path.is_dir() && !own::is_partial(&path) {
                kept.push(stays("it is no run of this program"));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_run(folder: &Path) -> bool {
    ["key", manifest::FILE].iter().all(|name| own::is_file(&folder.join(name)))
}

/// Removes one item.
fn take(item: &Found) -> Result<(), Failure> {
    let refused = |source| Unwritable { folder: item.path.clone(), source };
    let removed = match (item.told.what, &item.without) {
        // An index that other runs share loses this run's lines.
        (What::Cache, Some(rest)) => return Ok(caches::put(&item.path, rest)?),
        _ if is_folder(&item.path) => std::fs::remove_dir_all(&item.path),
        _ => std::fs::remove_file(&item.path),
    };
    Ok(removed.map_err(refused)?)
}
