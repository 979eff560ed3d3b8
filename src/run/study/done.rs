//! Which cells are finished: a note in each says what it was made of, and holds as long as that is what it was.
//!
//! A folder that was carried here from another machine names files of that one. Its cells are finished if they were made
//! of the same: recipe, program, key, and the digest of every file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::recipe::{Cell, Ingredients, Soup};
use crate::run::failure::Failure;
use crate::run::manifest;
use crate::run::work::Work;
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::{Algorithm, fresh, identity, of_json};
use crate::snapshot::files::read_json;
use crate::snapshot::writer::write_json;

/// The name of the note in a cell's run folder.
pub const NOTE: &str = "cell.json";

/// What a finished cell was made of.
#[derive(Serialize, Deserialize)]
pub(super) struct Note {
    /// The cell's recipe and this program's version, as a digest.
    asked: String,
    /// Every file that was read, by path, size, time and inode.
    read: Vec<String>,
    /// A digest of what it found.
    pub(super) found: String,
}

/// The cells that are finished, as far as was looked.
pub(super) struct Done<'a> {
    all: &'a [Cell],
    /// By cell, the run folders that may be its own.
    folders: HashMap<String, Vec<PathBuf>>,
    /// Identities that were looked up; cells read the same files.
    known: HashMap<String, bool>,
}

impl<'a> Done<'a> {
    /// Looks through the folder of a study's cells; `all` are the study's.
    pub(super) fn of(cells: &Path, all: &'a [Cell]) -> Self {
        let mut folders: HashMap<String, Vec<PathBuf>> = HashMap::new();
        for entry in std::fs::read_dir(cells).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some((cell, _)) = name.rsplit_once('-') {
                folders.entry(cell.to_owned()).or_default().push(entry.path());
            }
        }
        Self { all, folders, known: HashMap::new() }
    }

    /// Where the finished run of a cell lies.
    pub(super) fn folder(&mut self, cell: &Cell) -> Option<PathBuf> {
        let asked = asked(cell, &self.members(cell)?);
        let folders = self.folders.get(&cell.name)?.clone();
        folders.into_iter().find(|folder| {
            let note = note(folder);
            note.is_some_and(|note| note.asked == asked && note.read.iter().all(|line| self.holds(line)))
        })
    }

    /// Whether a run of a cell was once finished, of whatever that was made.
    pub(super) fn is_noted(&self, cell: &Cell) -> bool {
        self.folders
            .get(&cell.name)
            .is_some_and(|folders| folders.iter().any(|folder| note(folder).is_some()))
    }

    /// Where the finished runs lie whose models a cell merges; none while one is missing.
    pub(super) fn members(&mut self, cell: &Cell) -> Option<Vec<PathBuf>> {
        let all = self.all;
        let member = |name: &String| self.folder(all.iter().find(|cell| cell.name == *name)?);
        cell.over.iter().map(member).collect()
    }

    /// Where the numbers of a cell lie that was finished on another machine; `work` is the cell, settled on this one.
    ///
    /// # Errors
    ///
    /// A file that was read is gone.
    pub(super) fn carried(&mut self, work: &Work, cell: &Cell) -> Result<Option<PathBuf>, SnapshotError> {
        let (Some(members), Some(folders)) = (self.members(cell), self.folders.get(&cell.name)) else {
            return Ok(None);
        };
        let asked = asked(cell, &members);
        let is_asked = |folder: &&PathBuf| note(folder).is_some_and(|note| note.asked == asked);
        let folders: Vec<&PathBuf> = folders.iter().filter(is_asked).collect();
        if folders.is_empty() {
            return Ok(None);
        }
        let now = work.manifest()?;
        let is_same = |folder: &&&PathBuf| {
            let Ok(then) = read_json::<Value>(&folder.join(manifest::FILE)) else { return false };
            // Of a cell that merges others these may have left nothing but their numbers; they are among what is asked.
            let is_key = !cell.over.is_empty() || then["key"] == now["key"];
            let whole = note(folder).is_some_and(|note| found(folder).is_ok_and(|found| found == note.found));
            is_key && whole && have_digests(&then["inputs"], &now["inputs"])
        };
        Ok(folders.iter().find(is_same).map(|folder| (*folder).clone()))
    }

    /// Whether a file is what it was.
    fn holds(&mut self, line: &str) -> bool {
        if let Some(known) = self.known.get(line) {
            return *known;
        }
        // Path, then three marks.
        let path = line.rsplitn(4, ' ').nth(3).map(PathBuf::from);
        let holds = path.is_some_and(|path| identity(&path).is_ok_and(|now| now == line));
        self.known.insert(line.to_owned(), holds);
        holds
    }
}

/// The note of a finished cell.
pub(super) fn note(folder: &Path) -> Option<Note> {
    read_json(&folder.join(NOTE)).ok()
}

/// Whether everything that is read now was read then, with the same digest.
fn have_digests(then: &Value, now: &Value) -> bool {
    let mut inputs = now.as_object().into_iter().flatten();
    inputs.all(|(name, input)| input["sha256"].is_string() && then[name]["sha256"] == input["sha256"])
}

/// Notes that a cell is finished, in the folder of its run.
pub(super) fn mark(folder: &Path, work: &Work, cell: &Cell, members: &[PathBuf]) -> Result<(), Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in work.found() {
        match path.is_dir() {
            true => files.extend(
                std::fs::read_dir(path)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| path.is_file()),
            ),
            false => files.push(path.clone()),
        }
    }
    files.sort();
    let read = files.iter().map(|path| identity(path)).collect::<Result<_, _>>()?;
    let note = Note { asked: asked(cell, members), read, found: found(folder)? };
    Ok(write_json(&folder.join(NOTE), &json!(note))?)
}

/// A digest of what the run in a folder found.
fn found(folder: &Path) -> Result<String, SnapshotError> {
    let digest = |name: &str| fresh(&folder.join(name), Algorithm::Blake3);
    Ok(of_json(&json!([digest("report.json")?, digest("outcomes.json")?])))
}

/// What a cell is asked to be, of these runs if it merges some.
fn asked(cell: &Cell, members: &[PathBuf]) -> String {
    let members: Vec<_> =
        members.iter().filter_map(|folder| folder.file_name()).map(|name| name.to_string_lossy()).collect();
    let version = env!("CARGO_PKG_VERSION");
    match (cell.soup, cell.ingredients) {
        (Soup::Uniform, Ingredients::Last) => of_json(&json!([cell.recipe, members, version])),
        (soup, Ingredients::Last) => of_json(&json!([cell.recipe, members, version, soup])),
        (soup, ingredients) => of_json(&json!([cell.recipe, members, version, soup, ingredients])),
    }
}
