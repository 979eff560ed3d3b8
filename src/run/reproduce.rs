//! A run made again in a new folder, from what its own folder tells, and compared with itself.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use super::alone::Settled;
use super::diff::{Recorded, causes, diff};
use super::failure::{Failure, ReproduceError};
use super::manifest::{self, Input};
use super::plan::sources::{LOCK, Sources};
use super::plan::{Options, Shared};
use super::work::Work;
use crate::device::{self, DeviceSpec};
use crate::event::Listener;
use crate::folders::{SETTINGS_BYTES, read};
use crate::hub;
use crate::recipe::{Recipe, Spec};
use crate::report::Report;
use crate::report::difference::{Cause, Difference};
use crate::snapshot::digest::{Algorithm, known};
use crate::snapshot::files::read_json;
use crate::snapshot::writer::{file_at_once, write_json};

/// What is written into the new folder.
const FILE: &str = "reproduction.json";

/// A run that is to be made again, settled.
pub struct Again {
    recorded: Recorded,
    work: Work,
    folder: PathBuf,
    /// What besides program and machine differs between then and now.
    pub causes: Vec<Cause>,
}

/// Where a run is made again unless another folder is named: beside it, and of a study's cell in the study's folder.
pub fn folder(recorded: &Recorded) -> PathBuf {
    let path = std::path::absolute(&recorded.folder).unwrap_or_else(|_| recorded.folder.clone());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match recorded.study() {
        Some(study) => study.join("reproduced").join(name),
        None => path.with_file_name(format!("{name}-reproduced")),
    }
}

/// In what program and machine differ from those of the run; `device` is the one that is used now.
///
/// # Errors
///
/// The device is not there.
pub fn unlike(recorded: &Recorded, device: &DeviceSpec) -> Result<Vec<Cause>, Failure> {
    let mut now = recorded.manifest.clone();
    now["program"] = manifest::program();
    now["device"] = manifest::machine(device, &device::open(device)?);
    Ok(causes([&recorded.manifest, &now], [&Value::Null, &Value::Null]))
}

/// That every file which the run read, and which is still where it was, is what it was.
///
/// # Errors
///
/// One has another digest.
pub fn check_inputs(recorded: &Recorded) -> Result<(), Failure> {
    let inputs = recorded.manifest["inputs"].as_object().into_iter().flatten();
    for (name, input) in inputs {
        let Ok(Input { path, sha256 }) = serde_json::from_value(input.clone()) else { continue };
        // One that was moved may be found by its name; if not, that name is told.
        if path.is_file() {
            let found = known(&path, Algorithm::Sha256)?;
            if found != sha256 {
                let (name, recorded) = (name.clone(), sha256);
                return Err(ReproduceError::Changed { name, path, recorded, found }.into());
            }
        }
    }
    Ok(())
}

/// Adds the merges of candidates that earlier calls brought to the run's report.
///
/// # Errors
///
/// A merge of the recipe cannot be read.
pub fn with_earlier_merges(recorded: &Recorded, recipe: &mut Recipe) -> Result<(), Failure> {
    let Ok(report) = read_json::<Report>(&recorded.folder.join("report.json")) else { return Ok(()) };
    let now: Vec<String> = recipe.merge.specs()?.iter().map(ToString::to_string).collect();
    for candidate in report.candidates {
        let is_merge = candidate.method.is_some() && candidate.steered.is_none();
        let spec = candidate.name.parse::<Spec>().ok().filter(|_| is_merge);
        recipe.merge.methods.extend(spec.map(|spec| spec.to_string()).filter(|name| !now.contains(name)));
    }
    Ok(())
}

impl Again {
    /// Settles the same run in `folder`.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the recipe now, or a file is another than it was.
    pub fn settle(
        recorded: Recorded,
        (recipe, origin): (Recipe, String),
        folder: &Path,
        options: Options,
        tell: &mut hub::Tell<'_>,
    ) -> Result<Self, Failure> {
        // The commits of what came from a hub.
        let lock = read(&recorded.folder.join(LOCK), SETTINGS_BYTES);
        if let (Ok(lock), false) = (lock, folder.join(LOCK).exists()) {
            file_at_once(&folder.join(LOCK), &lock)?;
        }
        let options = Options { out: Some(folder.to_owned()), own_answers: true, ..options };
        let work = match recorded.given() {
            None => {
                let text = recipe.to_toml();
                Work::new(recipe, (text, origin), options, &mut Shared::default(), tell)?
            }
            Some(given) => {
                let sources = Sources::new(&origin, options.out.as_deref(), tell);
                Work::Given(Box::new(Settled::new(
                    given,
                    recipe,
                    &origin,
                    &options,
                    sources,
                    &mut Shared::default(),
                )?))
            }
        };
        let now = work.manifest()?;
        check(&recorded.manifest, &now)?;
        let causes = causes([&recorded.manifest, &now], [&recorded.key_parts(), work.key_parts()]);
        // The merges of earlier calls are the run's, too.
        let is_new = |cause: &Cause| !cause.is_of_here() && cause.key != "merge.methods";
        let causes = causes.into_iter().filter(is_new).collect();
        Ok(Self { recorded, work, folder: folder.to_owned(), causes })
    }

    /// Runs it, or what is missing of it, and compares the two.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; what was finished before stays finished.
    pub fn run<'a>(
        &self,
        stop: &'a AtomicBool,
        watcher: &'a mut Listener<'a>,
    ) -> Result<Difference, Failure> {
        self.work.run(stop, watcher)?;
        let found = diff(&self.recorded, &Recorded::read(&self.folder, None)?)?;
        let causes = found.causes.into_iter().filter(|cause| cause.key != "merge.methods").collect();
        let found = Difference { causes, ..found };
        write_json(&self.folder.join(FILE), &json!(found))?;
        Ok(found)
    }
}

/// That a reproduction is equal to its run.
///
/// # Errors
///
/// It is not.
pub fn require_equal(found: &Difference, folder: &Path) -> Result<(), ReproduceError> {
    match found.equal {
        true => Ok(()),
        false => Err(ReproduceError::NotEqual { folder: folder.to_owned() }),
    }
}

/// That what is read now has the digests that the run noted, by the names that the recipe gives, and else by what it
/// is to the training.
fn check(recorded: &Value, now: &Value) -> Result<(), Failure> {
    let none = serde_json::Map::new();
    let entries = |manifest: &Value, key: &str| manifest[key].as_object().unwrap_or(&none).clone();
    let (was, is) = (entries(recorded, "inputs"), entries(now, "inputs"));
    for (name, input) in &was {
        let digest = |input: &Value| input["sha256"].as_str().unwrap_or_default().to_owned();
        let path = |input: &Value| PathBuf::from(input["path"].as_str().unwrap_or_default());
        let found = is.get(name);
        if found.map(digest).as_ref() != Some(&digest(input)) {
            return Err(ReproduceError::Changed {
                name: name.clone(),
                path: path(found.unwrap_or(input)),
                recorded: digest(input),
                found: found.map(digest).unwrap_or_default(),
            }
            .into());
        }
    }
    let (was, is) = (entries(recorded, "sha256"), entries(now, "sha256"));
    if let Some(name) = was.keys().find(|name| was.get(*name) != is.get(*name)) {
        let text = |all: &serde_json::Map<String, Value>| {
            all.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (recorded, found) = (text(&was), text(&is));
        return Err(ReproduceError::Changed { name: name.clone(), path: name.into(), recorded, found }.into());
    }
    if recorded["template_sha256"] != now["template_sha256"] {
        return Err(ReproduceError::OtherTemplate { what: "the chat template".to_owned() }.into());
    }
    Ok(())
}
