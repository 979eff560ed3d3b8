//! A study: every cell of a grid as a run of its own, and what they say together.
//!
//! A cell's run lies in `cells/NAME-DIGEST` of the study's folder, held by whoever runs it, so that several processes
//! share a study: each does the cells that are missing and writes the report of what is there, by renaming. What a
//! finished cell was made of is noted in it ([`done`]), and a cell whose note still holds is not looked at again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::json;

mod candidates;
mod choices;
mod contrasts;
mod done;
mod gather;
mod outlook;
pub mod pages;
mod series;
pub mod slurm;
mod soup;
mod twin;

pub use outlook::outlook;

use super::alone::{Given, Settled};
use super::failure::{CellsFailed, Failure, FolderError, StudyError};
use super::plan::sources::Sources;
use super::plan::{Options, Shared};
use super::session::folder::lock;
use super::work::Work;
use crate::catalog::did_you_mean;
use crate::event::{Event, Listener, Unwritable};
use crate::hub;
use crate::recipe::{Cell, Gate, Grid, Init, Recipe};
use crate::report::study::{self, StudyReport};
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::of_json;
use crate::snapshot::files::read_json;
use crate::snapshot::writer::{file_at_once, write_json};
use done::Done;

pub use done::NOTE;

/// The recipe of a study as it was given; what makes a folder a study's.
pub const RECIPE: &str = "study.toml";

/// A recipe with a grid, settled as far as its text goes.
pub struct Study {
    pub name: String,
    /// The recipe as it was written, and where it was found.
    pub text: String,
    pub origin: String,
    pub grid: Grid,
    pub gates: Vec<Gate>,
    /// All of them; those that merge the models of others come last.
    pub cells: Vec<Cell>,
    /// The one that is to be run, if not all are.
    only: Option<String>,
    pub options: Options,
    pub folder: PathBuf,
}

impl Study {
    /// The study of `recipe`, which has a grid, with these cells.
    ///
    /// # Errors
    ///
    /// A question of the grid is about something that no cell has.
    pub fn new(
        recipe: Recipe,
        cells: Vec<Cell>,
        (text, origin): (String, String),
        options: Options,
    ) -> Result<Self, Failure> {
        let (grid, gates) = (recipe.grid.unwrap_or_default(), recipe.gates);
        contrasts::check(&grid, &cells)?;
        candidates::check_gates(&gates, &cells)?;
        soup::check(&cells)?;
        let folder = options.out.clone().unwrap_or_else(|| Path::new("runs").join(&recipe.name));
        // A cell's folder follows from the study's.
        let options = Options { out: None, ..options };
        Ok(Self { name: recipe.name, text, origin, grid, gates, cells, only: None, options, folder })
    }

    /// Only the cell of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn only(&mut self, name: &str) -> Result<(), Failure> {
        if self.cells.iter().all(|cell| cell.name != name) {
            let help = did_you_mean(name, self.cells.iter().map(|cell| cell.name.as_str()));
            return Err(StudyError::NoCell { name: name.to_owned(), help }.into());
        }
        self.only = Some(name.to_owned());
        Ok(())
    }

    /// The cells that are to be run and are not done.
    fn missing(&self) -> Vec<&Cell> {
        let mut done = self.done();
        self.wanted().filter(|cell| done.folder(cell).is_none()).collect()
    }

    /// The names of the cells that are missing: those that stand alone, and those that merge others.
    pub fn missing_names(&self) -> [Vec<String>; 2] {
        let (joint, alone): (Vec<&Cell>, Vec<&Cell>) =
            self.missing().into_iter().partition(|cell| !cell.over.is_empty());
        [alone, joint].map(|cells| cells.into_iter().map(|cell| cell.name.clone()).collect())
    }

    /// The cells that are to be run.
    fn wanted(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| self.wants(cell))
    }

    fn wants(&self, cell: &Cell) -> bool {
        self.only.as_ref().is_none_or(|only| *only == cell.name)
    }

    fn done(&self) -> Done<'_> {
        Done::of(&self.cells_folder(), &self.cells)
    }

    /// A cell's run, settled; of one that merges the models of others, `members` are where these lie.
    fn settle(
        &self,
        cell: &Cell,
        members: Vec<PathBuf>,
        shared: &mut Shared,
        tell: &mut hub::Tell<'_>,
    ) -> Result<Work, Failure> {
        let (recipe, options) = (cell.recipe.clone(), self.options.clone());
        let mut work = match cell.over.as_slice() {
            [] => Work::new(recipe, (cell.recipe.to_toml(), self.origin.clone()), options, shared, tell)?,
            _ => {
                let source = recipe.model.source.clone();
                let given = Given { model: source.clone(), adapter: None, pre: Some(source), runs: members };
                let sources = Sources::new(&self.origin, None, tell);
                Work::Given(Box::new(Settled::new(given, recipe, &self.origin, &options, sources, shared)?))
            }
        };
        work.place(self.cells_folder().join(format!("{}-{}", cell.name, &work.key()[..8])));
        Ok(work)
    }

    fn cells_folder(&self) -> PathBuf {
        self.folder.join("cells")
    }

    /// Makes the study's folder, or finds that it is one.
    ///
    /// # Errors
    ///
    /// It is another's, or the disk refuses.
    pub fn claim(&self) -> Result<(), Failure> {
        let unwritable = |source| Unwritable { folder: self.folder.clone(), source };
        let path = self.folder.join(RECIPE);
        if !path.is_file() {
            let is_empty =
                std::fs::read_dir(&self.folder).map_or(true, |mut entries| entries.next().is_none());
            if !is_empty {
                return Err(FolderError::NotARun { folder: self.folder.clone() }.into());
            }
        }
        std::fs::create_dir_all(self.cells_folder()).map_err(unwritable)?;
        Ok(file_at_once(&path, self.text.as_bytes())?)
    }

    /// Every cell with the folder of its run, if that is done.
    fn found(&self) -> Vec<(&Cell, Option<PathBuf>)> {
        let mut done = self.done();
        self.cells.iter().map(|cell| (cell, done.folder(cell))).collect()
    }

    /// Holds the study's folder, once nobody else does.
    fn hold(&self) -> Result<File, FolderError> {
        loop {
            match lock(&self.folder, &self.folder) {
                Err(FolderError::Busy { .. }) => std::thread::sleep(Duration::from_millis(20)),
                other => return other,
            }
        }
    }

    /// Settles every cell that is missing, and starts none.
    ///
    /// # Errors
    ///
    /// A slip in a cell.
    pub fn check(&self, tell: &mut hub::Tell<'_>) -> Result<(), Failure> {
        self.check_with(&mut Shared::default(), tell)
    }

    /// A cell whose numbers were carried here from another machine is noted as finished: a missing one, and one that is not
    /// to be run, for the report tells of all.
    fn check_with(&self, shared: &mut Shared, tell: &mut hub::Tell<'_>) -> Result<(), Failure> {
        let mut done = self.done();
        for cell in &self.cells {
            if done.folder(cell).is_some() || !(self.wants(cell) || done.is_noted(cell)) {
                continue;
            }
            let settled = match cell.over.as_slice() {
                [] => self.settle(cell, Vec::new(), shared, tell),
                // What it merges may not be there yet: the base stands for each.
                over => {
                    let base = Sources::new(&self.origin, None, tell).model(&cell.recipe.model.source)?;
                    self.settle(cell, vec![base; over.len()], shared, tell)
                }
            };
            let work = match settled {
                Err(_) if !self.wants(cell) => continue,
                settled => settled?,
            };
            if let Some(folder) = done.carried(&work, cell)? {
                let members = done.members(cell).unwrap_or_default();
                done::mark(&folder, &work, cell, &members)?;
            }
        }
        Ok(())
    }

    /// Asks every base of the missing cells once; the cells find its answers among those that this machine's runs share.
    ///
    /// # Errors
    ///
    /// A slip in a cell, or whatever ends the asking.
    pub fn ask_bases(
        &self,
        stop: &AtomicBool,
        watcher: &mut Listener<'_>,
        tell: &mut hub::Tell<'_>,
    ) -> Result<(), Failure> {
        let mut shared = Shared::default();
        self.check_with(&mut shared, tell)?;
        self.claim()?;
        let mut asked: Vec<String> = Vec::new();
        for cell in self.missing() {
            let recipe = &cell.recipe;
            let data = &recipe.data;
            let key = of_json(&json!([
                recipe.model,
                recipe.eval,
                data.template,
                data.date,
                data.chat_template_kwargs
            ]));
            // What is drawn at random has no answers worth sharing.
            if recipe.model.init == Init::Random || asked.contains(&key) {
                continue;
            }
            let model = recipe.model.source.clone();
            let given = Given { model, adapter: None, pre: None, runs: Vec::new() };
            let mut recipe = recipe.clone();
            recipe.merge.methods.clear();
            recipe.steer = None;
            let out = self.folder.join("bases").join(&key[..8]);
            let options = Options { out: Some(out), ..self.options.clone() };
            let sources = Sources::new(&self.origin, None, tell);
            Settled::new(given, recipe, &self.origin, &options, sources, &mut shared)?
                .run(stop, &mut |event| watcher(event))?;
            asked.push(key);
        }
        Ok(())
    }

    /// Runs every cell that is missing and writes the report of all that are there.
    ///
    /// # Errors
    ///
    /// A slip in any cell, before the first is begun; whatever ends a cell, but for a training that diverges: then the
    /// others are run, and the error comes at the end.
    pub fn run(
        &self,
        stop: &AtomicBool,
        watcher: &mut Listener<'_>,
        tell: &mut hub::Tell<'_>,
    ) -> Result<StudyReport, Failure> {
        let mut shared = Shared::default();
        self.check_with(&mut shared, tell)?;
        let (missing, all) = (self.missing(), self.wanted().count());
        watcher(Event::Cells { done: all - missing.len(), all });
        if !missing.is_empty() {
            self.claim()?;
        }
        let mut failed: Vec<(String, Failure)> = Vec::new();
        for (nth, cell) in missing.iter().enumerate() {
            watcher(Event::Cell { name: cell.name.clone(), nth: nth + 1, of: missing.len() });
            match self.run_cell(cell, &mut shared, stop, watcher, tell) {
                Ok(()) => {}
                Err(error) if error.is_divergence() || (error.waits() && !failed.is_empty()) => {
                    watcher(Event::Note { text: format!("cell {} ended: {error}", cell.name) });
                    failed.push((cell.name.clone(), error));
                }
                Err(error) => return Err(error),
            }
        }
        let report = self.report()?;
        match failed.len() {
            0 => Ok(report),
            n => {
                let (cell, error) = failed.swap_remove(0);
                Err(CellsFailed { n, cell, why: error.to_string() }.into())
            }
        }
    }

    fn run_cell(
        &self,
        cell: &Cell,
        shared: &mut Shared,
        stop: &AtomicBool,
        watcher: &mut Listener<'_>,
        tell: &mut hub::Tell<'_>,
    ) -> Result<(), Failure> {
        let Some(members) = self.done().members(cell) else {
            let over = cell.over.join(", ");
            return Err(StudyError::Waits { cell: cell.name.clone(), over }.into());
        };
        let chosen = self.soup(cell, members.clone(), (stop, &mut *watcher), tell)?;
        let work = self.settle(cell, chosen, shared, tell)?;
        if let Work::Trained(plan) = &work {
            twin::adopt(plan, &self.cells_folder(), stop)?;
        }
        work.run(stop, &mut |event| watcher(event))?;
        done::mark(work.folder(), &work, cell, &members)
    }

    /// The report of the cells that are there, written anew if they are others than before.
    ///
    /// # Errors
    ///
    /// A cell's files cannot be read, or the disk refuses.
    pub fn report(&self) -> Result<StudyReport, Failure> {
        let path = self.folder.join("report.json");
        let known = |made_of: &str| {
            let before: Option<StudyReport> = read_json(&path).ok();
            before.filter(|before| before.made_of == made_of)
        };
        if let Some(before) = known(&gather::made_of(&self.found(), self)) {
            return Ok(before);
        }
        // Of several processes that finish a cell at once, one looks and writes after the other.
        let _held = self.hold()?;
        let found = self.found();
        let made_of = gather::made_of(&found, self);
        if let Some(before) = known(&made_of) {
            return Ok(before);
        }
        let gathered = gather::gather(self, &found, made_of)?;
        let file = |name: &str, bytes: &[u8]| file_at_once(&self.folder.join(name), bytes);
        let tidy = gathered.tidy();
        file("rows.csv", &tidy.csv())?;
        let parquet = tidy.parquet().map_err(|error| SnapshotError::Unwritable {
            path: self.folder.join("rows.parquet"),
            source: std::io::Error::other(error),
        })?;
        file("rows.parquet", &parquet)?;
        let report = gathered.report;
        pages::write(&self.folder, &report)?;
        file("report.tex", study::latex(&report).as_bytes())?;
        // Written last: what names its cells is whole.
        write_json(&path, &json!(report))?;
        Ok(report)
    }
}
