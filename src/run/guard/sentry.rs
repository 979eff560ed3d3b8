//! A guard with a memory: what it said of a request is stored and asked once.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Guard, Said};
use crate::eval::Finish;
use crate::run::cast::numerics;
use crate::run::failure::Failure;
use crate::run::plan::guard::GuardPlan;
use crate::run::session::Session;
use crate::run::session::store::Store;
use crate::snapshot::digest::of_json;
use crate::train::Machine;

/// A probability of harm, as it is stored.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Score {
    p_harm: f64,
}

/// An answer of a guard, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    pub text: String,
    pub n_tokens: usize,
    pub finish: Finish,
}

/// A guard in use; its model is loaded when somebody asks what is not stored.
pub struct Sentry<'a> {
    plan: &'a GuardPlan,
    machine: &'a Machine,
    rows: usize,
    key: String,
    scores: Store<Score>,
    replies: Store<Reply>,
    guard: Option<Guard>,
}

impl<'a> Sentry<'a> {
    /// Opens what is stored of this guard in `folder`.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn open(
        plan: &'a GuardPlan,
        (machine, rows): (&'a Machine, usize),
        folder: &Path,
    ) -> Result<Self, Failure> {
        let scores = Store::open(&folder.join("labels.jsonl"))?;
        let replies = Store::open(&folder.join("replies.jsonl"))?;
        let key = numerics(&plan.key, machine);
        Ok(Self { plan, machine, rows, key, scores, replies, guard: None })
    }

    /// The guard, loaded.
    ///
    /// # Errors
    ///
    /// A weight cannot be read.
    pub fn guard(&mut self) -> Result<&Guard, Failure> {
        if self.guard.is_none() {
            let GuardPlan { model, labels, .. } = self.plan;
            let weights = model.weights()?;
            self.guard = Some(Guard::load(model.clone(), *labels, &weights, self.machine)?);
        }
        Ok(self.guard.as_ref().expect("it was just loaded"))
    }

    fn key(&self, request: &str, of_reply: Option<bool>) -> String {
        let reply = of_reply.map(|is_harmful| json!([is_harmful, self.plan.max_new_tokens]));
        of_json(&json!([self.key, request, reply]))[..32].to_owned()
    }

    /// The probability that each request is harmful.
    ///
    /// # Errors
    ///
    /// The guard cannot be loaded, the disk refuses, or the run was asked to stop.
    pub fn probabilities(
        &mut self,
        requests: &[&str],
        session: &mut Session<'_>,
    ) -> Result<Vec<f64>, Failure> {
        let keys: Vec<String> = requests.iter().map(|request| self.key(request, None)).collect();
        let missing = missing(&keys, requests, |key| self.scores.get(key).is_some());
        if !missing.is_empty() {
            let reused = (requests.len() - missing.len()) as u64;
            session.stage("the guard labels requests", (missing.len() as u64, Some(reused)), |session| {
                self.guard()?;
                let Self { guard: Some(guard), scores, .. } = self else {
                    unreachable!("it was just loaded")
                };
                let texts: Vec<&str> = missing.iter().map(|(_, request)| *request).collect();
                let mut done = 0;
                guard.probabilities(&texts, &mut |found| {
                    done += found.len() as u64;
                    let line = |(nth, p_harm): (usize, f64)| (missing[nth].0.to_owned(), Score { p_harm });
                    scores.append(found.into_iter().map(line))?;
                    session.advance(done, None)
                })
            })?;
        }
        let p = |key: &String| self.scores.get(key).map(|score| score.p_harm);
        Ok(keys.iter().map(|key| p(key).expect("everything was just asked")).collect())
    }

    /// What the guard says to each request behind this label, whatever it would have chosen.
    ///
    /// # Errors
    ///
    /// As [`Sentry::probabilities`].
    pub fn replies(
        &mut self,
        requests: &[&str],
        is_harmful: bool,
        session: &mut Session<'_>,
    ) -> Result<Vec<Reply>, Failure> {
        let keys: Vec<String> = requests.iter().map(|request| self.key(request, Some(is_harmful))).collect();
        let missing = missing(&keys, requests, |key| self.replies.get(key).is_some());
        if !missing.is_empty() {
            let reused = (requests.len() - missing.len()) as u64;
            session.stage("the guard answers", (missing.len() as u64, Some(reused)), |session| {
                let settings = (self.plan.max_new_tokens, self.rows, session.stop());
                self.guard()?;
                let Self { guard: Some(guard), replies, .. } = self else {
                    unreachable!("it was just loaded")
                };
                let texts: Vec<&str> = missing.iter().map(|(_, request)| *request).collect();
                let mut done = 0;
                guard.answers(&texts, is_harmful, settings, &mut |found| {
                    done += found.len() as u64;
                    let line = |(nth, said): (usize, Said)| {
                        let Said { category, text, n_tokens, finish } = said;
                        (missing[nth].0.to_owned(), Reply { category, text, n_tokens, finish })
                    };
                    replies.append(found.into_iter().map(line))?;
                    session.advance(done, None)
                })?;
                Ok(session.go_on()?)
            })?;
        }
        let reply = |key: &String| {
            let reply = self.replies.get(key).expect("everything was just asked").clone();
            // Nobody who asks for harm is left without an answer.
            let is_none = is_harmful && reply.text.is_empty();
            if is_none { Reply { text: self.plan.card.answer.clone(), ..reply } } else { reply }
        };
        Ok(keys.iter().map(reply).collect())
    }
}

/// The keys and requests that nothing is stored of, each once.
fn missing<'k>(
    keys: &'k [String],
    requests: &[&'k str],
    is_known: impl Fn(&str) -> bool,
) -> Vec<(&'k str, &'k str)> {
    let mut seen = HashSet::new();
    let pairs = keys.iter().map(String::as_str).zip(requests.iter().copied());
    pairs.filter(|(key, _)| !is_known(key) && seen.insert(*key)).collect()
}

/// The places of requests by what is decided of them.
pub(super) fn places(probabilities: &[f64], threshold: f64) -> HashMap<bool, Vec<usize>> {
    let mut found: HashMap<bool, Vec<usize>> = HashMap::new();
    for (nth, p) in probabilities.iter().enumerate() {
        found.entry(*p >= threshold).or_default().push(nth);
    }
    found
}
