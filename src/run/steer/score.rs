//! The classifier alone: prompts scored as a guard of prompts would score them.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::anchors::{Pool, Prompt};
use super::fit::told_apart;
use super::{SCHEMA, folder, loaded, read_from};
use crate::doing;
use crate::event::{Event, Listener};
use crate::generate::scans::read::{Probe, states};
use crate::hub;
use crate::recipe::{RecipeError, Suite};
use crate::report::steering::{Guarded, ScoredPrompt};
use crate::run::conclude::prove;
use crate::run::failure::Failure;
use crate::run::inspect::Of;
use crate::run::inspect::subject::Subject;
use crate::run::plan::Options;
use crate::run::plan::sources::Sources;
use crate::run::plan::steering::{self, reading};
use crate::run::session::Session;
use crate::snapshot::writer::{file_at_once, write_json};

/// What is scored by what.
#[derive(Debug, Clone)]
pub struct Score {
    pub of: Of,
    /// Read a run's tuned model and not its base.
    pub tuned: bool,
    /// The file of vectors, or its folder.
    pub vectors: String,
    /// The file's own if absent.
    pub threshold: Option<f64>,
    pub harmful: Vec<Suite>,
    pub harmless: Vec<Suite>,
    /// Assignments to the recipe's keys.
    pub set: Vec<String>,
}

/// Scores prompts and writes the scores into a folder; returns them and the file.
///
/// # Errors
///
/// Whatever is wrong with the model, the vectors, the prompts or the device; or the wish to stop.
pub fn score<'a>(
    asked: &Score,
    options: &Options,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
    tell: &mut hub::Tell<'_>,
) -> Result<(Guarded, PathBuf), Failure> {
    let _doing = doing::now(format!("scoring prompts by `{}`", asked.of));
    if let Some(threshold) = asked.threshold.filter(|threshold| !(-1.0..=1.0).contains(threshold)) {
        let (key, found) = ("--threshold".to_owned(), threshold.to_string());
        let expected = "a mean of cosines, from -1 to 1".to_owned();
        return Err(RecipeError::BadValue { key, found, expected }.into());
    }
    let (recipe, origin) = asked.of.recipe(&asked.set)?;
    let mut sources = Sources::new(&origin, asked.of.run(), tell);
    let subject = Subject::open(&asked.of, recipe, options, &mut sources)?;
    let (file, _) = steering::read("VECTORS", &asked.vectors, &subject.model, &mut sources)?;
    let mut scans = file.scans;
    scans.settings.threshold = asked.threshold.unwrap_or(scans.settings.threshold);
    let settings = &scans.settings;
    let kinds = [(&asked.harmful, "harmful"), (&asked.harmless, "harmless")];
    let mut prompts: Vec<(String, &'static str, Prompt)> = Vec::new();
    for (suite, kind) in
        kinds.into_iter().flat_map(|(suites, kind)| suites.iter().map(move |suite| (suite, kind)))
    {
        let pool = Pool::read(suite, &subject, &mut sources)?;
        let own = pool.prompts(&settings.suffix, &subject)?.into_iter();
        prompts.extend(own.map(|prompt| (pool.file(), kind, prompt)));
    }
    let (which, weights) = read_from(&asked.of, &subject, asked.tuned)?;
    let folder = folder(&asked.of, options.out.as_ref(), &subject);
    let mut session = Session::open(&folder, None, stop, watcher)?;
    prove(&subject.opened, &subject.model)?;
    let probes: Vec<Probe> = prompts.iter().map(|(_, _, prompt)| prompt.probe.clone()).collect();
    let scores = session.stage("score prompts", (probes.len() as u64, None), |session| {
        let decoder = loaded(&subject, &weights)?;
        let (mut scores, mut done) = (vec![0.0; probes.len()], 0);
        states(&decoder, &probes, reading(settings, &subject.machine), |nth, states| {
            scores[nth] = scans.score(&states);
            done += 1;
            session.event(Event::Progress { done, remaining: None })?;
            Ok::<(), Failure>(session.go_on()?)
        })?;
        Ok(scores)
    })?;
    let of_kind = |kind: &str| {
        let own = prompts.iter().zip(&scores).filter(|((_, own, _), _)| *own == kind);
        own.map(|(_, score)| *score).collect::<Vec<f64>>()
    };
    let told_apart = told_apart(settings.threshold, &of_kind("harmful"), &of_kind("harmless"));
    let scored = prompts.into_iter().zip(scores).map(|((file, kind, prompt), score)| {
        let flagged = scans.sign(score) > 0;
        ScoredPrompt { file, id: prompt.id, kind, score, flagged }
    });
    let guarded = Guarded {
        schema: SCHEMA,
        of: asked.of.to_string(),
        model: which.to_owned(),
        vectors: asked.vectors.clone(),
        threshold: settings.threshold,
        told_apart,
        prompts: scored.collect(),
    };
    let path = folder.join("scores.json");
    write_json(&path, &json!(guarded))?;
    file_at_once(&path.with_extension("csv"), guarded.csv().as_bytes())?;
    Ok((guarded, path))
}
