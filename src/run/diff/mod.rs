//! Two run folders compared without running anything: what each was given, and what came of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod answers;
mod causes;
mod numbers;
mod recorded;

pub use causes::causes;
pub use recorded::Recorded;

use super::failure::Failure;
use crate::doing;
use crate::report::difference::{Compared, Difference, SCHEMA};
use crate::snapshot::digest::{Algorithm, of_files};

/// What a training exports, by the folders in `train/`.
const EXPORTS: [&str; 4] = ["adapter", "model", "guard", "ema"];

/// Compares two runs.
///
/// # Errors
///
/// A folder is none of a run, or a file of it cannot be read.
pub fn diff(a: &Recorded, b: &Recorded) -> Result<Difference, Failure> {
    let folders = [a, b].map(|recorded| recorded.folder.display().to_string());
    let _doing = doing::now(format!("comparing `{}` with `{}`", folders[0], folders[1]));
    let mut notes = Vec::new();
    let (numbers, figures) = numbers::numbers([&a.folder, &b.folder], &mut notes)?;
    let answers = answers::answers([&a.folder, &b.folder], &mut notes)?;
    let [name_a, name_b] = folders;
    Ok(Difference {
        schema: SCHEMA,
        a: name_a,
        b: name_b,
        equal: false,
        causes: causes([&a.manifest, &b.manifest], [&a.key_parts(), &b.key_parts()]),
        weights: weights([&a.folder, &b.folder], &mut notes)?,
        numbers,
        figures,
        answers,
        notes,
    }
    .settled())
}

/// The files of trained weights that both runs exported, and which of them differ.
fn weights(runs: [&Path; 2], notes: &mut Vec<String>) -> Result<Compared<String>, Failure> {
    let [a, b] = [exported(runs[0]), exported(runs[1])];
    for (name, others, letter) in
        a.keys().map(|name| (name, &b, 'A')).chain(b.keys().map(|name| (name, &a, 'B')))
    {
        if !others.contains_key(name) {
            notes.push(format!("only {letter} has `{name}`"));
        }
    }
    let shared = |of: &BTreeMap<String, PathBuf>| -> Vec<(String, PathBuf)> {
        let both = of.iter().filter(|(name, _)| a.contains_key(*name) && b.contains_key(*name));
        both.map(|(name, path)| (name.clone(), path.clone())).collect()
    };
    let digests = [of_files(&shared(&a), Algorithm::Blake3)?, of_files(&shared(&b), Algorithm::Blake3)?];
    let differ = digests[0].iter().filter(|(name, digest)| digests[1].get(*name) != Some(*digest));
    let differ = differ.map(|(name, _)| name.clone()).collect();
    Ok(Compared { compared: digests[0].len(), differ })
}

/// The files of weights that a run's training exported, by their place in its folder.
fn exported(run: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for export in EXPORTS {
        let folder = run.join("train").join(export);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".safetensors") {
                found.insert(format!("train/{export}/{name}"), entry.path());
            }
        }
    }
    found
}
