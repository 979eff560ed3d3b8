//! Which way the prompts of a candidate that is steered are pushed: every prompt is scored once, and scores are stored.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::eval::MetricKind;
use crate::eval::measures::roc::auroc;
use crate::event::Unwritable;
use crate::generate::scans::read::{Probe, states};
use crate::model::{Decoder, Push};
use crate::report::steering::{Pushed, Steered};
use crate::run::failure::Failure;
use crate::run::plan::steering::Prompt;
use crate::run::plan::{Evaluation, Steering};
use crate::run::session::Session;
use crate::run::session::store::Store;
use crate::snapshot::digest::of_json;
use crate::train::Machine;

/// Scores that are written down together.
const TOGETHER: usize = 64;

/// One stored score.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Scored {
    item: String,
    /// From −1 to 1; harmful from the threshold on.
    score: f64,
}

/// A candidate that is steered, and the scores of its prompts.
pub(super) struct Classified<'a> {
    steering: &'a Steering,
    evaluation: &'a Evaluation,
    weights: String,
    /// By suite.
    stores: Vec<Store<Scored>>,
}

impl<'a> Classified<'a> {
    /// Opens the scores in a candidate's folder.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub(super) fn open(
        steering: &'a Steering,
        evaluation: &'a Evaluation,
        folder: &Path,
        weights: &str,
    ) -> Result<Self, Unwritable> {
        let name = |nth: usize| format!("{}.steer.jsonl", evaluation.suites[nth].posed.suite.name);
        let stores = (0..evaluation.suites.len()).map(|nth| Store::open(&folder.join(name(nth))));
        let stores = stores.collect::<Result<_, _>>()?;
        Ok(Self { steering, evaluation, weights: weights.to_owned(), stores })
    }

    fn prompts(&self, suite: usize) -> &'a [Prompt] {
        &self.steering.prompts[suite]
    }

    fn key(&self, Prompt { probe, .. }: &Prompt) -> String {
        of_json(&json!([self.weights, "score", probe.ids, probe.end]))[..32].to_owned()
    }

    fn score(&self, suite: usize, item: usize) -> Option<f64> {
        let prompt = self.prompts(suite).get(item)?;
        Some(self.stores[suite].get(&self.key(prompt))?.score)
    }

    /// The prompts of a suite that have no score.
    fn missing(&self, suite: usize) -> Vec<usize> {
        (0..self.prompts(suite).len()).filter(|item| self.score(suite, *item).is_none()).collect()
    }

    /// How many prompts there are.
    pub(super) fn n_all(&self) -> usize {
        self.steering.prompts.iter().map(Vec::len).sum()
    }

    /// How many have no score.
    pub(super) fn n_missing(&self) -> usize {
        (0..self.stores.len()).map(|suite| self.missing(suite).len()).sum()
    }

    /// Scores what has no score; returns how many that were.
    ///
    /// # Errors
    ///
    /// The disk refuses, or the run was asked to stop.
    pub(super) fn classify(
        &mut self,
        decoder: &Decoder,
        machine: &Machine,
        session: &mut Session<'_>,
    ) -> Result<u64, Failure> {
        let mut done = 0;
        for suite in 0..self.stores.len() {
            let missing = self.missing(suite);
            for items in missing.chunks(TOGETHER) {
                let probes: Vec<Probe> =
                    items.iter().map(|item| self.prompts(suite)[*item].probe.clone()).collect();
                let mut scores = vec![0.0; probes.len()];
                states(decoder, &probes, self.steering.reading(machine), |nth, states| {
                    scores[nth] = self.steering.scans.score(&states);
                    done += 1;
                    session.advance(done, None)
                })?;
                let posed = &self.evaluation.suites[suite].posed;
                let lines = items.iter().zip(scores).map(|(item, score)| {
                    let key = self.key(&self.prompts(suite)[*item]);
                    (key, Scored { item: posed.items[*item].id.clone(), score })
                });
                let lines: Vec<_> = lines.collect();
                self.stores[suite].append(lines)?;
            }
        }
        Ok(done)
    }

    /// How the states of an answer to an item are pushed, if it is a prompt.
    pub(super) fn push(&self, suite: usize, item: usize) -> Option<Push> {
        self.push_from(suite, item, self.prompts(suite).get(item)?.from)
    }

    /// The same where the answer's first token is at this place of the tokens.
    pub(super) fn push_before(&self, suite: usize, item: usize, answer: usize) -> Option<Push> {
        self.push_from(suite, item, self.steering.from(answer))
    }

    fn push_from(&self, suite: usize, item: usize, from: usize) -> Option<Push> {
        Some(self.steering.scans.push(self.score(suite, item)?, from))
    }

    /// What a report says of it.
    pub(super) fn figures(&self) -> Steered {
        let (mut harmful, mut harmless, mut suites) = (Vec::new(), Vec::new(), Vec::new());
        for (nth, suite) in self.evaluation.suites.iter().enumerate() {
            let scores: Vec<f64> =
                (0..self.prompts(nth).len()).filter_map(|item| self.score(nth, item)).collect();
            if scores.is_empty() {
                continue;
            }
            let towards = scores.iter().filter(|score| self.steering.scans.sign(**score) > 0).count();
            suites.push(Pushed { suite: suite.posed.suite.name.clone(), n: scores.len(), towards });
            match suite.posed.suite.task.kind {
                MetricKind::Safety => harmful.extend(scores),
                MetricKind::OverRefusal => harmless.extend(scores),
                MetricKind::Task | MetricKind::Degeneration => {}
            }
        }
        let settings = &self.steering.scans.settings;
        Steered {
            vectors: self.steering.source.clone(),
            fitted_on: self.steering.about.which.clone(),
            alpha: settings.alpha,
            layers: settings.layers,
            threshold: settings.threshold,
            suites,
            auroc: auroc(&harmful, &harmless),
        }
    }
}
