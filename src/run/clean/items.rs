//! What one run holds that can go.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::caches;
use super::own::{Found, bytes, entries, is_file, is_folder, is_partial};
use crate::folders::{SETTINGS_BYTES, read_text};
use crate::merge;
use crate::recipe::{Ingredients, Recipe};
use crate::report::Report;
use crate::report::cleaning::{Kept, What};
use crate::run::diff::Recorded;
use crate::run::preview::duration;
use crate::run::reproduce::check_inputs;
use crate::run::session::folder::merged_folder;
use crate::snapshot::files::read_json;
use crate::train::checkpoint::{AVERAGE, Checkpoints, OPTIMIZER, STATE, WEIGHTS};

/// What can go of a run, and what stays though it looks so.
#[derive(Default)]
pub(super) struct OfRun {
    pub items: Vec<Found>,
    pub kept: Vec<Kept>,
}

impl OfRun {
    fn stays(&mut self, path: &Path, why: &str) {
        self.kept.push(Kept { path: path.display().to_string(), why: why.to_owned() });
    }

    fn goes(&mut self, what: What, path: PathBuf, cost: String) {
        let bytes = bytes(&path);
        self.items.push(Found::new(what, path, bytes, cost));
    }
}

/// What can go of one run; `study` is that of which it is a cell.
pub(super) fn of_run(recorded: &Recorded, study: Option<&Path>) -> OfRun {
    let run = &recorded.folder;
    let mut found = OfRun { items: partial(run), kept: Vec::new() };
    let inside = ["train", "merged", "inspect", "landscape"].map(|name| run.join(name));
    for folder in inside.into_iter().chain(entries(&run.join("eval"))) {
        if folder.is_symlink() {
            found.stays(&folder, "it is a link");
        }
        found.items.extend(partial(&folder));
    }
    checkpoints(recorded, study, &mut found);
    merges(recorded, &mut found);
    found.items.extend(caches::of_run(run, &recorded.manifest));
    found
}

/// What killed processes were writing in a folder.
pub(super) fn partial(folder: &Path) -> Vec<Found> {
    let left = entries(folder).into_iter().filter(|path| is_partial(path));
    let item = |path: PathBuf| {
        let bytes = bytes(&path);
        Found::new(What::Partial, path, bytes, "nothing: it is half-written".to_owned())
    };
    left.map(item).collect()
}

/// The checkpoints of a finished training but for its last, which merges and evaluations read.
fn checkpoints(recorded: &Recorded, study: Option<&Path>, found: &mut OfRun) {
    let train = recorded.folder.join("train");
    let is_exported = ["adapter", "model", "guard"].iter().any(|name| is_folder(&train.join(name)));
    let result = train.join("result.json");
    let of_training =
        entries(&train).into_iter().filter(|path| path.extension().is_some_and(|e| e == "damaged"));
    for path in of_training.filter(|path| step_of(&path.with_extension("")).is_some() && is_folder(path)) {
        found.goes(What::Partial, path, "nothing: it was damaged, and put aside".to_owned());
    }
    if !is_folder(&train) || !is_file(&result) || !is_exported {
        return;
    }
    let all = Checkpoints::new(&train, 0);
    let mut steps = all.steps();
    steps.pop();
    let needed = compared_by(recorded, study);
    let seconds = recorded.manifest["seconds"]["train"].as_f64();
    let seconds = seconds.or_else(|| read_json::<Value>(&result).ok()?["elapsed_s"].as_f64());
    let time = seconds.map_or(String::new(), |seconds| format!(" of {}", duration(seconds)));
    for path in steps.into_iter().map(|step| all.path(step)) {
        let own = [WEIGHTS, OPTIMIZER, AVERAGE, STATE];
        match (&needed, stranger(&path, |name| own.contains(&name))) {
            (Some(why), _) => found.stays(&path, why),
            (None, Some(why)) => found.stays(&path, &why),
            (None, None) => found.goes(
                What::Checkpoint,
                path,
                format!("another training{time}; only merges that compare checkpoints read it"),
            ),
        }
    }
}

/// The step in a checkpoint's name.
fn step_of(path: &Path) -> Option<usize> {
    let name = path.file_name()?.to_str()?.strip_prefix("checkpoint-")?;
    (name.len() >= 6).then(|| name.parse().ok()).flatten()
}

/// Why the earlier checkpoints of a run are read again, if they are.
fn compared_by(recorded: &Recorded, study: Option<&Path>) -> Option<String> {
    let (recipe, _) = recorded.recipe().ok()?;
    let specs = recipe.merge.specs().unwrap_or_default();
    let compares = |spec: &&crate::recipe::Spec| {
        merge::resolve(spec, recipe.train.seed).is_ok_and(|found| found.method.needs.several_tuned())
    };
    if let Some(spec) = specs.iter().find(compares) {
        return Some(format!("`{spec}` of the recipe compares checkpoints"));
    }
    let study = study.map(Path::to_owned).or_else(|| recorded.study())?;
    let text = read_text(&study.join(super::STUDY), SETTINGS_BYTES).ok()?;
    let grid = Recipe::parse(&text, super::STUDY, &[]).ok()?.grid?;
    (grid.ingredients == Ingredients::Checkpoints).then(|| "soups of the study take checkpoints".to_owned())
}

/// Merged models that the same command writes again.
fn merges(recorded: &Recorded, found: &mut OfRun) {
    let folder = recorded.folder.join("merged");
    let all: Vec<PathBuf> = entries(&folder).into_iter().filter(|path| !is_partial(path)).collect();
    if all.is_empty() {
        return;
    }
    let report: Option<Report> = read_json(&recorded.folder.join("report.json")).ok();
    let names = report.iter().flat_map(|report| &report.candidates);
    let names = names.filter(|candidate| candidate.method.is_some());
    let known: Vec<PathBuf> = names.map(|one| merged_folder(&recorded.folder, &one.name)).collect();
    let train = recorded.folder.join("train");
    let last = Checkpoints::new(&train, 0).steps().pop();
    let is_there = last.is_some_and(|step| is_file(&Checkpoints::new(&train, 0).path(step).join(WEIGHTS)));
    let gone = gone(recorded);
    for path in all {
        let why = if path.is_symlink() {
            Some("it is a link".to_owned())
        } else if !known.contains(&path) {
            Some("the report names no such merge".to_owned())
        } else if !is_there {
            Some("the last checkpoint, which it is made of, is not there".to_owned())
        } else {
            gone.clone().or_else(|| stranger(&path, |_| true))
        };
        match why {
            Some(why) => found.stays(&path, &why),
            None => {
                let cost = "the command that made the run, with `--keep-merged`, writes it again".to_owned();
                found.goes(What::Merge, path, cost);
            }
        }
    }
}

/// Why what a run read cannot be read again, if so.
fn gone(recorded: &Recorded) -> Option<String> {
    let inputs = recorded.manifest["inputs"].as_object().into_iter().flatten();
    let mut paths = inputs.filter_map(|(name, input)| Some((name, input["path"].as_str()?)));
    if let Some((name, _)) = paths.find(|(_, path)| !Path::new(path).is_file()) {
        return Some(format!("`{name}`, which the run read, is gone"));
    }
    if recorded.manifest["inputs"].is_null() {
        return Some("an earlier version made it and did not note what it read".to_owned());
    }
    check_inputs(recorded).err().map(|error| error.to_string())
}

/// Why a folder is not known as this program's own: a file that it does not write, or no file at all.
fn stranger(folder: &Path, is_own: impl Fn(&str) -> bool) -> Option<String> {
    if !is_folder(folder) {
        return Some("it is no folder".to_owned());
    }
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let other = entries(folder).into_iter().find(|path| !is_file(path) || !is_own(&name(path)));
    other.map(|path| format!("`{}` in it is none of this program's", name(&path)))
}
