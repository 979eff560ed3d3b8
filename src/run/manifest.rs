//! What `manifest.json` says of program, machine, files and time, beside what a plan settles.
//!
//! Nothing here is part of a run's key: a manifest is written anew by every call, and no folder is refused for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use crate::device::{self, DeviceSpec, Opened};
use crate::folders::{self, SETTINGS_BYTES};
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::{Algorithm, of_files};
use crate::snapshot::files::read_json;
use crate::snapshot::writer::write_json;

/// The file in a run folder.
pub const FILE: &str = "manifest.json";

/// The kinds of files in a folder that are read as a model's or an adapter's.
const OF_MODELS: [&str; 5] = ["json", "jinja", "model", "safetensors", "txt"];

/// How many folders above a file a run folder is looked for: `RUN/train/adapter/FILE`.
const ABOVE: usize = 4;

/// One file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Where it was found, from the root on.
    pub path: PathBuf,
    pub sha256: String,
}

/// A run that another one was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub run: PathBuf,
    /// The digest of what decides its models.
    pub key: String,
}

/// The program: version, commit, features, burn.
pub fn program() -> Value {
    json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "commit": commit(),
        "features": device::features(),
        "burn": env!("FINETUNE_BURN"),
    })
}

/// The commit that this program was built from; `-modified` where the sources were changed; none outside a repository.
pub fn commit() -> Option<&'static str> {
    Some(env!("FINETUNE_COMMIT")).filter(|commit| !commit.is_empty())
}

/// The device that was asked for and the one that is used, its driver, and the threads that compute beside it.
pub fn machine(asked: &DeviceSpec, opened: &Opened) -> Value {
    json!({
        "asked": asked,
        "used": opened.spec,
        "name": opened.name,
        "driver": device::driver(opened),
        "threads": rayon::current_num_threads(),
    })
}

/// The digests of all that was found under the names that a recipe gives them; a folder's files follow its name.
///
/// # Errors
///
/// One cannot be read.
pub fn inputs(found: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, Input>, SnapshotError> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (name, path) in found {
        if path.is_file() {
            files.insert(name.clone(), path.clone());
            continue;
        }
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            let ends = path.extension().is_some_and(|end| OF_MODELS.iter().any(|known| end == *known));
            if ends && path.is_file() {
                let file = entry.file_name().to_string_lossy().into_owned();
                files.insert(format!("{}/{file}", name.trim_end_matches('/')), path);
            }
        }
    }
    let named: Vec<(String, PathBuf)> = files.into_iter().collect();
    let mut digests = of_files(&named, Algorithm::Sha256)?;
    let input = |(name, path): (String, PathBuf)| {
        let sha256 = digests.remove(&name).unwrap_or_default();
        (name, Input { path: std::path::absolute(&path).unwrap_or(path), sha256 })
    };
    Ok(named.into_iter().map(input).collect())
}

/// The runs that some of the files lie in.
pub fn parents<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<Parent> {
    let mut found: Vec<Parent> = Vec::new();
    for path in paths {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let run = path.ancestors().take(ABOVE).find_map(|run| Some((run, key_of(run)?)));
        if let Some((run, key)) = run.filter(|(run, _)| found.iter().all(|parent| parent.run != *run)) {
            found.push(Parent { run: run.to_owned(), key });
        }
    }
    found.sort_by(|a, b| a.run.cmp(&b.run));
    found
}

/// The key of a run folder.
fn key_of(run: &Path) -> Option<String> {
    let is_run = run.join(FILE).is_file();
    let key = is_run.then(|| folders::read_text(&run.join("key"), SETTINGS_BYTES).ok()).flatten()?;
    Some(key.trim().to_owned())
}

/// Adds to the manifest in `run` how long its stages took, over all calls.
///
/// # Errors
///
/// The disk refuses.
pub fn finish(run: &Path) -> Result<(), Failure> {
    let path = run.join(FILE);
    let mut manifest: Value = read_json(&path)?;
    manifest["seconds"] = json!(seconds(run));
    Ok(write_json(&path, &manifest)?)
}

/// Seconds by stage, as `events.jsonl` tells them: evaluations of all candidates together; of a training that was
/// killed and resumed every step that was made.
pub fn seconds(run: &Path) -> BTreeMap<String, f64> {
    let mut all: BTreeMap<String, f64> = BTreeMap::new();
    // Of a training that is not over, the time until its last step.
    let mut training = 0.0;
    let text = folders::read_text(&run.join("events.jsonl"), u64::MAX).unwrap_or_default();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    for event in events {
        let number = || event.get("elapsed_s").and_then(Value::as_f64).unwrap_or_default();
        let name = || event.get("name").and_then(Value::as_str).unwrap_or_default();
        match event.get("event").and_then(Value::as_str).unwrap_or_default() {
            "step" => training = number(),
            "stage" => *all.entry("train".to_owned()).or_default() += std::mem::take(&mut training),
            "stage_done" => {
                training = 0.0;
                let stage = name().split(' ').next().unwrap_or_default();
                *all.entry(stage.to_owned()).or_default() += number();
            }
            _ => {}
        }
    }
    *all.entry("train".to_owned()).or_default() += training;
    all.retain(|_, seconds| *seconds > 0.0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_those_of_all_calls() {
        let run = tempfile::tempdir().unwrap();
        let lines = [
            json!({"event": "stage", "name": "train", "total": 4}),
            json!({"event": "step", "step": 1, "elapsed_s": 2.0}),
            json!({"event": "step", "step": 2, "elapsed_s": 3.5}),
            // Killed, and resumed by another call.
            json!({"event": "stage", "name": "train", "total": 4}),
            json!({"event": "step", "step": 2, "elapsed_s": 1.0}),
            json!({"event": "stage_done", "name": "train", "elapsed_s": 2.0}),
            json!({"event": "stage_done", "name": "evaluate base (1 of 2)", "elapsed_s": 0.5}),
            json!({"event": "stage_done", "name": "evaluate tuned (2 of 2)", "elapsed_s": 0.25}),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(run.path().join("events.jsonl"), text + "{\"half").unwrap();
        let expected = [("evaluate", 0.75), ("train", 5.5)].map(|(name, s)| (name.to_owned(), s));
        assert_eq!(seconds(run.path()), expected.into());
    }

    #[test]
    fn a_folder_s_files_follow_its_name_and_a_run_that_they_lie_in_is_a_parent() {
        let root = tempfile::tempdir().unwrap();
        let adapter = root.path().join("run/train/adapter");
        std::fs::create_dir_all(&adapter).unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors", "README.md"] {
            std::fs::write(adapter.join(name), name).unwrap();
        }
        std::fs::write(root.path().join("run/key"), "abc\n").unwrap();
        std::fs::write(root.path().join("run/manifest.json"), "{}").unwrap();
        std::fs::write(root.path().join("d.csv"), "goal\n").unwrap();
        let found = [("d.csv", root.path().join("d.csv")), ("run/train/adapter", adapter.clone())];
        let found = found.map(|(name, path)| (name.to_owned(), path)).into();
        let all = inputs(&found).unwrap();
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        let expected =
            ["d.csv", "run/train/adapter/adapter_config.json", "run/train/adapter/adapter_model.safetensors"];
        assert_eq!(names, expected);
        assert_eq!(all["d.csv"].sha256.len(), 64);
        let run = parents([adapter.as_path(), root.path()]);
        assert_eq!(run, [Parent { run: root.path().join("run"), key: "abc".to_owned() }]);
    }
}
