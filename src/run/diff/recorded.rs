//! A run as its folder tells it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::catalog::did_you_mean;
use crate::device::DeviceSpec;
use crate::folders::{SETTINGS_BYTES, read_text};
use crate::recipe::Recipe;
use crate::run::alone::Given;
use crate::run::failure::{Failure, ReproduceError, StudyError};
use crate::run::manifest;
use crate::snapshot::files::read_json;

/// What makes a folder a study's, and where its cells lie.
const STUDY: &str = "study.toml";
const CELLS: &str = "cells";

/// A run by its folder and its manifest.
pub struct Recorded {
    pub folder: PathBuf,
    pub manifest: Value,
}

impl Recorded {
    /// The run in `folder`, or one cell of the study there.
    ///
    /// # Errors
    ///
    /// There is none, or no cell is named.
    pub fn read(folder: &Path, cell: Option<&str>) -> Result<Self, Failure> {
        let folder = match (folder.join(STUDY).is_file(), cell) {
            (true, Some(cell)) => cell_of(folder, cell)?,
            (true, None) => {
                let names = cells(folder).into_iter().map(|(name, _)| format!("`{name}`"));
                let cells = names.collect::<Vec<_>>().join(", ");
                let why = "one run is compared or made again at a time".to_owned();
                return Err(ReproduceError::Study { folder: folder.to_owned(), why, cells }.into());
            }
            (false, Some(_)) => return Err(StudyError::NoGrid { option: "--cell".to_owned() }.into()),
            (false, None) => folder.to_owned(),
        };
        let path = folder.join(manifest::FILE);
        let refused = |why: &str, help: &str| ReproduceError::NotARun {
            folder: folder.clone(),
            why: why.to_owned(),
            help: help.to_owned(),
        };
        if !path.is_file() {
            let help = "name the folder that a run wrote: it has `manifest.json` and `report.json`";
            return Err(refused("it has no `manifest.json`", help).into());
        }
        let manifest: Value = read_json(&path)?;
        if manifest["recipe"].is_null() && manifest["given"].is_null() {
            return Err(refused("`manifest.json` names no recipe", "another program made it").into());
        }
        Ok(Self { folder, manifest })
    }

    /// The recipe as it was settled, and where it was found.
    ///
    /// # Errors
    ///
    /// It is one of another version, or of a run that kept none.
    pub fn recipe(&self) -> Result<(Recipe, String), Failure> {
        let refused = |why: &str, help: &str| ReproduceError::NotARun {
            folder: self.folder.clone(),
            why: why.to_owned(),
            help: help.to_owned(),
        };
        let key = if self.manifest["recipe"].is_null() { "asked" } else { "recipe" };
        let found = &self.manifest[key];
        if found.is_null() {
            let why = "an older version asked given models there and kept no recipe";
            return Err(refused(why, "the command that made it, typed again, notes one").into());
        }
        let other = |_| refused("its recipe is one of another version", "reproduce it with that version");
        let recipe: Recipe = serde_json::from_value(found.clone()).map_err(other)?;
        let origin = self.manifest["recipe_origin"].as_str().unwrap_or_default().to_owned();
        Ok((Recipe::parse(&recipe.to_toml(), &origin, &[])?, origin))
    }

    /// The models that were given, where nothing was trained.
    pub fn given(&self) -> Option<Given> {
        serde_json::from_value(self.manifest["given"].clone()).ok()
    }

    /// The device that it ran on.
    pub fn device(&self) -> DeviceSpec {
        let used = self.manifest["device"]["used"].as_str();
        used.and_then(|used| used.parse().ok()).unwrap_or(DeviceSpec::Auto)
    }

    /// A number of `portions`, in which it computed.
    pub fn portion(&self, key: &str) -> Option<usize> {
        self.manifest["portions"][key].as_u64().and_then(|n| n.try_into().ok()).filter(|n| *n > 0)
    }

    /// The folder that its paths are seen from, if that is still there.
    pub fn seen_from(&self) -> Option<PathBuf> {
        self.manifest["seen_from"].as_str().map(PathBuf::from).filter(|folder| folder.is_dir())
    }

    /// The parts of what decides its models; null where they were not noted.
    pub fn key_parts(&self) -> Value {
        read_json(&self.folder.join("key.json")).unwrap_or_default()
    }

    /// The study that it is a cell of.
    pub fn study(&self) -> Option<PathBuf> {
        let folder = std::path::absolute(&self.folder).ok()?;
        let cells = folder.parent().filter(|parent| parent.ends_with(CELLS))?;
        cells.parent().filter(|study| study.join(STUDY).is_file()).map(Path::to_owned)
    }
}

/// The folders of a study's cells by name, finished ones first.
fn cells(study: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(study.join(CELLS)).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some((name, _)) = file.rsplit_once('-') else { continue };
        if entry.path().join(manifest::FILE).is_file() {
            found.push((name.to_owned(), entry.path()));
        }
    }
    let key = |(name, folder): &(String, PathBuf)| {
        (name.clone(), !folder.join("cell.json").is_file(), folder.clone())
    };
    found.sort_by_key(key);
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

/// Where the run of a study's cell lies: where the report says, else by its name.
fn cell_of(study: &Path, cell: &str) -> Result<PathBuf, Failure> {
    let report = read_text(&study.join("report.json"), SETTINGS_BYTES).unwrap_or_default();
    let report: Value = serde_json::from_str(&report).unwrap_or_default();
    let lines = report["cells"].as_array().into_iter().flatten();
    let mut told = lines.filter(|line| line["name"] == cell).filter_map(|line| line["folder"].as_str());
    if let Some(folder) = told.next().map(|folder| study.join(folder)).filter(|folder| folder.is_dir()) {
        return Ok(folder);
    }
    let all = cells(study);
    let found = all.iter().find(|(name, _)| name == cell).map(|(_, folder)| folder.clone());
    found.ok_or_else(|| {
        let help = did_you_mean(cell, all.iter().map(|(name, _)| name.as_str()));
        StudyError::NoCell { name: cell.to_owned(), help }.into()
    })
}
