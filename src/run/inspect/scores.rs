//! How much each number of a model matters to what a file teaches: SNIP's scores, for merges that go by them.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use super::subject::{Of, Subject};
use crate::doing;
use crate::event::Listener;
use crate::hub;
use crate::run::failure::{Failure, InspectError};
use crate::run::plan::Options;
use crate::run::plan::importance::samples;
use crate::run::plan::sources::Sources;
use crate::run::session::Session;
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::{Algorithm, known, of_json};
use crate::snapshot::files::read_json;
use crate::snapshot::writer::write_json;
use crate::train::importance::{Measure, write};

/// Writes the scores of a model's numbers over the records of a file into `inspect/` of the run folder, or of the folder
/// that the options name; returns the file. What is there already is not computed again.
///
/// `data` is read as `[data]` of the recipe says, to which `set` makes assignments. The scores are of the base, or of the
/// tuned model of a run where `tuned` says so.
///
/// # Errors
///
/// Whatever is wrong with the run, the model, the file or the device; or the wish to stop.
pub fn scores<'a>(
    of: &Of,
    (data, set, tuned): (&str, &[String], bool),
    options: &Options,
    (stop, watcher): (&'a AtomicBool, &'a mut Listener<'a>),
    tell: &mut hub::Tell<'_>,
) -> Result<PathBuf, Failure> {
    let _doing = doing::now(format!("scoring the numbers of `{of}`"));
    let source = format!("data.source={}", toml::Value::from(data));
    let (recipe, origin) = of.recipe(&[&[source], set].concat())?;
    let mut sources = Sources::new(&origin, of.run(), tell);
    let file = sources.find("data.source", &recipe.data.source)?;
    let subject = Subject::open(of, recipe, options, &mut sources)?;
    let Subject { recipe, model, machine, .. } = &subject;
    let (which, weights) =
        subject.one(tuned).ok_or_else(|| InspectError::NeedsRun { model: of.to_string() })?;
    let mut own = recipe.data.clone();
    own.source = file.display().to_string();
    let samples = samples(&own, model, recipe.train.seed)?;
    own.source = known(&file, Algorithm::Blake3)?;
    let key = of_json(&json!([weights.key, own, recipe.train.seed]));
    let folder = subject.folder.join("inspect");
    let mut session = Session::open(&folder, None, stop, watcher)?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let target = folder.join(format!("scores-{which}-{stem}"));
    let about = target.join("scores.json");
    let before: Value = read_json(&about).unwrap_or_default();
    if before["key"] != key.as_str() {
        if target.is_dir() {
            std::fs::remove_dir_all(&target)
                .map_err(|source| SnapshotError::Unwritable { path: target.clone(), source })?;
        }
        let n = samples.len() as u64;
        session.stage("scores", (n, None), |session| {
            let looked_at = (samples.as_slice(), Measure::Snip);
            write::<Failure>(&target, &model.shape, weights.weights.as_ref(), machine, looked_at, |done| {
                session.advance(done as u64, None)
            })
        })?;
        // Written last: with it the scores are whole.
        let found = json!({
            "schema": 1,
            "key": key,
            "of": of.to_string(),
            "model": which,
            "data": file,
            "data_blake3": own.source,
            "samples": samples.len(),
            "score": "mean over the samples of |weight x gradient of the mean cross-entropy|",
        });
        write_json(&about, &found)?;
    }
    Ok(target.join(Measure::Snip.file()))
}
