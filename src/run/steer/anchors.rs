//! Prompts of files, each text once, with where they end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::eval::Item;
use crate::generate::scans::file::digest_of;
use crate::generate::scans::read::Probe;
use crate::recipe::Suite;
use crate::run::failure::{Failure, SteerError};
use crate::run::inspect::subject::Subject;
use crate::run::plan::probing::greedy;
use crate::run::plan::questions::{self, Questions};
use crate::run::plan::sources::Sources;
use crate::run::plan::steering::probe;
use crate::run::plan::writing;
use crate::snapshot::digest::{Algorithm, known, of_json};

/// A prompt of a file.
pub(super) struct Prompt {
    pub id: String,
    pub probe: Probe,
}

/// The items of a file, not yet as tokens.
pub(super) struct Pool {
    questions: Questions,
}

impl Pool {
    /// Reads a file: all of it, or as many as the suite says.
    ///
    /// # Errors
    ///
    /// It is nowhere, or something is wrong with it.
    pub fn read(suite: &Suite, subject: &Subject, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        let suite = Suite { limit: suite.limit.or(Some(0)), ..suite.clone() };
        let mut all = questions::draw(&greedy(&subject.recipe.eval, vec![suite]), sources)?;
        Ok(Self { questions: all.remove(0) })
    }

    /// The same in the order that `seed` draws, texts that say the same once.
    pub fn drawn(mut self, seed: u64) -> Self {
        let posed = Arc::make_mut(&mut self.questions.posed);
        let by_text: BTreeMap<String, Item> =
            posed.items.drain(..).rev().map(|item| (digest_of(&item.prompt), item)).collect();
        let mut items: Vec<(String, Item)> =
            by_text.into_iter().map(|(digest, item)| (of_json(&json!([seed, digest])), item)).collect();
        items.sort_by(|a, b| a.0.cmp(&b.0));
        posed.items = items.into_iter().map(|(_, item)| item).collect();
        self
    }

    /// The first `n`, and the rest.
    pub fn cut(self, n: usize) -> (Self, Self) {
        let (mut first, mut rest) = (self.questions.clone(), self.questions);
        let n = n.min(rest.posed.items.len());
        let after = Arc::make_mut(&mut rest.posed).items.split_off(n);
        first.posed = rest.posed.clone();
        Arc::make_mut(&mut rest.posed).items = after;
        (Self { questions: first }, Self { questions: rest })
    }

    pub fn len(&self) -> usize {
        self.questions.posed.items.len()
    }

    pub fn path(&self) -> &Path {
        &self.questions.posed.suite.path
    }

    /// The file's name.
    pub fn file(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.questions.posed.items.iter().map(|item| item.prompt.as_str())
    }

    /// Its prompts as tokens, as an evaluation would ask them.
    ///
    /// # Errors
    ///
    /// A prompt cannot be written, or the suffix adds nothing to it.
    pub fn prompts(&self, suffix: &str, subject: &Subject) -> Result<Vec<Prompt>, Failure> {
        let Subject { model, recipe, .. } = subject;
        let both = writing::unopened(&self.questions, &recipe.eval, model.reader(), suffix)?;
        let items = self.questions.posed.items.iter().zip(both);
        let prompt = |(item, [prompt, with_suffix]): (&Item, [Vec<u32>; 2])| {
            Ok(Prompt { id: item.id.clone(), probe: probe(&prompt, with_suffix, suffix, model)? })
        };
        items.map(prompt).collect()
    }

    /// That it has enough anchors.
    ///
    /// # Errors
    ///
    /// It has not.
    pub fn check(&self, kind: &'static str, least: usize) -> Result<(), SteerError> {
        match self.len() < least {
            true => Err(SteerError::FewAnchors { file: self.file(), kind, n: self.len(), least }),
            false => Ok(()),
        }
    }
}

/// The digests of all texts, of which none stands in two pools.
///
/// # Errors
///
/// One does.
pub(super) fn texts(pools: &[&Pool]) -> Result<BTreeSet<String>, SteerError> {
    let (mut known, mut shared) = (BTreeSet::new(), Vec::new());
    for text in pools.iter().flat_map(|pool| pool.texts()) {
        if !known.insert(digest_of(text)) {
            shared.push(text);
        }
    }
    match shared.first() {
        None => Ok(known),
        Some(first) => {
            Err(SteerError::SharedAnchors { n: shared.len(), first: first.chars().take(80).collect() })
        }
    }
}

/// SHA-256 of files, by their names.
///
/// # Errors
///
/// One cannot be read.
pub(super) fn digests(pools: &[&Pool]) -> Result<BTreeMap<String, String>, Failure> {
    let paths: BTreeSet<PathBuf> = pools.iter().map(|pool| pool.path().to_owned()).collect();
    let digest = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, known(&path, Algorithm::Sha256)?))
    };
    paths.into_iter().map(digest).collect()
}
