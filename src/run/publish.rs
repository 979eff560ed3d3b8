//! The numbers of a run or a study in a folder of their own: what can be shown to everybody, without answers and weights.
//!
//! A study goes on from such a folder on another machine: cells whose recipe, key and files are the same count as done.

use std::path::Path;

use super::failure::{Failure, FolderError};
use super::{manifest, pages, study};
use crate::event::Unwritable;
use crate::report::Report;
use crate::report::study::StudyReport;
use crate::snapshot::files::read_json;
use crate::snapshot::rights::show_to_all;
use crate::snapshot::writer::file_at_once;

/// What is told of a run. Item by item there are numbers and ids, no texts.
const OF_RUN: [&str; 9] = [
    "report.json",
    "outcomes.json",
    "metrics.csv",
    "recipe.toml",
    "recipe.lock",
    manifest::FILE,
    "key.json",
    "key",
    study::NOTE,
];
/// And of a study, beside its cells.
const OF_STUDY: [&str; 5] = ["report.json", "report.tex", "rows.csv", "rows.parquet", study::RECIPE];

/// Copies the numbers of the finished run or study in `from` to `to`, and draws the report there; what an earlier call left
/// in `to` is written over. Returns how many runs there are.
///
/// # Errors
///
/// `from` holds no report, `to` is somebody else's folder, or the disk refuses.
pub fn publish(from: &Path, to: &Path) -> Result<usize, Failure> {
    let n = numbers(from, to)?;
    show_to_all(to).map_err(|source| Unwritable { folder: to.to_owned(), source })?;
    Ok(n)
}

fn numbers(from: &Path, to: &Path) -> Result<usize, Failure> {
    let path = from.join("report.json");
    if let Ok(report) = read_json::<StudyReport>(&path) {
        claim(to, study::RECIPE)?;
        let cells: Vec<&String> = report.cells.iter().filter_map(|cell| cell.folder.as_ref()).collect();
        for cell in &cells {
            copy(&from.join(cell), &to.join(cell), &OF_RUN)?;
        }
        copy(from, to, &OF_STUDY)?;
        study::pages::write(to, &report)?;
        return Ok(cells.len());
    }
    let report: Report = read_json(&path)?;
    claim(to, manifest::FILE)?;
    copy(from, to, &OF_RUN)?;
    pages::write(to, &report)?;
    Ok(1)
}

/// That a folder is new, empty, or one of the kind that has `mark`.
fn claim(folder: &Path, mark: &str) -> Result<(), FolderError> {
    let is_empty = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    match is_empty || folder.join(mark).is_file() {
        true => Ok(()),
        false => Err(FolderError::NotARun { folder: folder.to_owned() }),
    }
}

fn copy(from: &Path, to: &Path, names: &[&str]) -> Result<(), Failure> {
    let unwritable = |source| Unwritable { folder: to.to_owned(), source };
    std::fs::create_dir_all(to).map_err(unwritable)?;
    for name in names {
        let path = from.join(name);
        if path.is_file() {
            file_at_once(&to.join(name), &std::fs::read(path).map_err(unwritable)?)?;
        }
    }
    Ok(())
}
