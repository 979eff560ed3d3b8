//! Asking one candidate everything that no stored answer covers, and judging what is stored.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answers::Answers;
use super::evaluate::Candidate;
use super::failure::Stopped;
use super::folder::{Folder, FolderError};
use super::plan::{Plan, PlannedSuite, digest};
use super::sides::Sides;
use super::{Failure, Sink};
use crate::eval::{self, Completion, Finish, Scores};
use crate::event::Event;
use crate::generate::{Ended, Generator, likelihoods};
use crate::merge::MergeReport;
use crate::model::Decoder;
use crate::snapshot::SnapshotError;

/// One stored answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Answer {
    item: String,
    text: String,
    n_tokens: usize,
    finish: Finish,
}

/// One stored log-likelihood.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Likely {
    item: String,
    log_likelihood: f64,
    n_tokens: usize,
}

/// One candidate and its stores.
pub struct Asking<'a> {
    plan: &'a Plan,
    candidate: &'a Candidate,
    /// Where the candidate's files lie.
    path: std::path::PathBuf,
    answers: Vec<Answers<Answer>>,
    likely: Vec<Answers<Likely>>,
    run_folder: String,
}

impl<'a> Asking<'a> {
    pub fn open(plan: &'a Plan, folder: &Folder, candidate: &'a Candidate) -> Result<Self, Failure> {
        let path = folder.eval(&candidate.name());
        let file = |suite: &PlannedSuite, kind: &str| path.join(format!("{}{kind}.jsonl", suite.suite.name));
        let answers = plan.suites.iter().map(|suite| Answers::open(&file(suite, "")));
        let answers = answers.collect::<Result<_, _>>()?;
        let likely = plan.suites.iter().filter(|suite| !suite.references.is_empty());
        let likely = likely.map(|suite| Answers::open(&file(suite, ".likelihood")));
        let likely = likely.collect::<Result<_, FolderError>>()?;
        let run_folder = folder.path().display().to_string();
        Ok(Self { plan, candidate, path, answers, likely, run_folder })
    }

    /// What an answer is a function of, the prompt aside.
    fn weights_key(&self) -> String {
        let weights = match self.candidate {
            // The base is the same whatever is trained on it.
            Candidate::Base => json!([self.plan.digests, self.plan.recipe.model.init]),
            Candidate::Tuned => json!(self.plan.key),
            Candidate::Merge(spec) => {
                let mut all = vec![json!(self.plan.key), json!(spec.to_string())];
                all.extend(self.plan.besides(spec));
                json!(all)
            }
        };
        digest(&json!([weights, self.plan.dtype]))
    }

    fn answer_key(weights: &str, suite: &PlannedSuite, item: usize) -> String {
        digest(&json!([weights, suite.prompts[item], suite.decoding]))[..32].to_owned()
    }

    fn likely_key(weights: &str, suite: &PlannedSuite, item: usize) -> String {
        let sample = &suite.references[item];
        digest(&json!([weights, sample.ids, sample.trained]))[..32].to_owned()
    }

    /// The suites with log-likelihoods, and the store of each.
    fn likely_suites(&self) -> impl Iterator<Item = (&'a PlannedSuite, &Answers<Likely>)> {
        self.plan.suites.iter().filter(|suite| !suite.references.is_empty()).zip(&self.likely)
    }

    fn missing(&self, suite: usize) -> Vec<usize> {
        let (weights, planned) = (self.weights_key(), &self.plan.suites[suite]);
        let missing = |i: &usize| self.answers[suite].get(&Self::answer_key(&weights, planned, *i)).is_none();
        (0..planned.items.len()).filter(missing).collect()
    }

    fn missing_likely(&self) -> Vec<Vec<usize>> {
        let weights = self.weights_key();
        let of = |(suite, store): (&PlannedSuite, &Answers<Likely>)| {
            let missing = |i: &usize| store.get(&Self::likely_key(&weights, suite, *i)).is_none();
            (0..suite.items.len()).filter(missing).collect()
        };
        self.likely_suites().map(of).collect()
    }

    pub fn n_missing(&self) -> usize {
        let answers: usize = (0..self.answers.len()).map(|suite| self.missing(suite).len()).sum();
        answers + self.missing_likely().iter().map(Vec::len).sum::<usize>()
    }

    fn figures_path(&self) -> std::path::PathBuf {
        self.path.join(format!("merge-{}.json", &self.weights_key()[..16]))
    }

    /// Whether the figures of a merge are missing, or of a version that noted others.
    pub fn needs_figures(&self) -> bool {
        self.figures().is_err()
    }

    /// What a merge did to the weights, as stored when it was made.
    pub fn figures(&self) -> Result<Option<MergeReport>, Failure> {
        if !matches!(self.candidate, Candidate::Merge(_)) {
            return Ok(None);
        }
        let path = self.figures_path();
        let bytes = std::fs::read(&path)
            .map_err(|source| SnapshotError::Unreadable { path: path.clone(), source })?;
        let report =
            serde_json::from_slice(&bytes).map_err(|source| SnapshotError::BadJson { path, source })?;
        Ok(Some(report))
    }

    /// Takes over the answers of an earlier candidate whose weights are the same, bit for bit: SLERP falls
    /// back to a line where training moved little, and rounding can make neighbours of one λ equal.
    fn take_over(
        &mut self,
        earlier: &[Self],
        figures: &MergeReport,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let mut twin = None;
        for other in earlier {
            if other.figures()?.is_some_and(|other| other.blake3 == figures.blake3) {
                twin = Some(other);
            }
        }
        let Some(twin) = twin else { return Ok(()) };
        let (mine, its) = (self.weights_key(), twin.weights_key());
        let name = twin.candidate.name();
        for (i, planned) in self.plan.suites.iter().enumerate() {
            let known = self.missing(i).into_iter().filter_map(|item| {
                let answer = twin.answers[i].get(&Self::answer_key(&its, planned, item))?.clone();
                Some((Self::answer_key(&mine, planned, item), answer))
            });
            let known: Vec<_> = known.collect();
            self.answers[i].append(known)?;
        }
        let suites: Vec<&PlannedSuite> = self.likely_suites().map(|(suite, _)| suite).collect();
        for (i, (planned, missing)) in suites.into_iter().zip(self.missing_likely()).enumerate() {
            let known = missing.into_iter().filter_map(|item| {
                let found = twin.likely[i].get(&Self::likely_key(&its, planned, item))?.clone();
                Some((Self::likely_key(&mine, planned, item), found))
            });
            let known: Vec<_> = known.collect();
            self.likely[i].append(known)?;
        }
        let name =
            format!("{}: answers of {name}, whose weights are the same bit for bit", self.candidate.name());
        Ok(sink.event(Event::Note { text: name })?)
    }

    /// Loads the candidate, in the place of the decoder that is there, and generates what is missing.
    pub fn answer(
        &mut self,
        sides: &Sides<'_>,
        there: Option<Decoder>,
        earlier: &[Self],
        stop: &AtomicBool,
        sink: &mut Sink<'_>,
    ) -> Result<Decoder, Failure> {
        let started = Instant::now();
        let name = format!("evaluate {}", self.candidate.name());
        sink.event(Event::Stage { name: name.clone(), total: self.n_missing() as u64 })?;
        let (decoder, figures) = sides.load(self.candidate, there)?;
        if let Some(figures) = figures {
            crate::snapshot::writer::write_json(&self.figures_path(), &json!(figures))?;
            self.take_over(earlier, &figures, sink)?;
        }
        let mut done = 0;
        for suite in 0..self.answers.len() {
            self.generate(&decoder, suite, &mut done, stop, sink)?;
        }
        self.measure(&decoder, &mut done, stop, sink)?;
        sink.event(Event::StageDone { name, elapsed_s: started.elapsed().as_secs_f64() })?;
        Ok(decoder)
    }

    fn generate(
        &mut self,
        decoder: &Decoder,
        suite: usize,
        done: &mut u64,
        stop: &AtomicBool,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let missing = self.missing(suite);
        let (weights, planned) = (self.weights_key(), &self.plan.suites[suite]);
        let keys: Vec<String> = missing.iter().map(|i| Self::answer_key(&weights, planned, *i)).collect();
        let prompts: Vec<Vec<u32>> = missing.iter().map(|i| planned.prompts[*i].clone()).collect();
        let decode = |ids: &[u32]| self.plan.tokenizer.decode(ids, true);
        let generator = Generator { decoder, decode: &decode, rows: self.plan.eval_rows };
        let (store, folder) = (&mut self.answers[suite], &self.run_folder);
        generator.complete(&prompts, &planned.decoding, |batch| {
            *done += batch.len() as u64;
            let lines = batch.into_iter().map(|(i, completion)| {
                let finish = match completion.ended {
                    Ended::Stop => Finish::Stop,
                    Ended::Length => Finish::Length,
                };
                let item = planned.items[missing[i]].id.clone();
                let n_tokens = completion.ids.len();
                (keys[i].clone(), Answer { item, text: completion.text, n_tokens, finish })
            });
            store.append(lines)?;
            sink.event(Event::Progress { done: *done })?;
            stop_if_asked(stop, folder)
        })
    }

    fn measure(
        &mut self,
        decoder: &Decoder,
        done: &mut u64,
        stop: &AtomicBool,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let weights = self.weights_key();
        let missing = self.missing_likely();
        let suites = self.plan.suites.iter().filter(|suite| !suite.references.is_empty());
        for (nth, (suite, missing)) in suites.zip(missing).enumerate() {
            for part in missing.chunks(self.plan.eval_rows) {
                let samples: Vec<_> = part.iter().map(|i| suite.references[*i].clone()).collect();
                let found = likelihoods(decoder, &samples, self.plan.machine.micro_tokens);
                let lines = part.iter().zip(found).map(|(i, found)| {
                    let item = suite.items[*i].id.clone();
                    let line = Likely { item, log_likelihood: found.sum, n_tokens: found.n_tokens };
                    (Self::likely_key(&weights, suite, *i), line)
                });
                let lines: Vec<_> = lines.collect();
                self.likely[nth].append(lines)?;
                *done += part.len() as u64;
                sink.event(Event::Progress { done: *done })?;
                stop_if_asked(stop, &self.run_folder)?;
            }
        }
        Ok(())
    }

    /// Judges the stored answers.
    pub fn scores(&self) -> Result<Vec<Scores>, Failure> {
        let (weights, seed) = (self.weights_key(), self.plan.recipe.train.seed);
        let mut scores = Vec::new();
        let mut likely: BTreeMap<&str, Scores> = BTreeMap::new();
        for (suite, store) in self.likely_suites() {
            let found =
                (0..suite.items.len()).filter_map(|i| store.get(&Self::likely_key(&weights, suite, i)));
            let per_token = found.map(|found| found.log_likelihood / found.n_tokens as f64).collect();
            let name = suite.suite.name.as_str();
            likely.insert(name, eval::likelihood(name, &suite.items, per_token, seed)?);
        }
        for (suite, store) in self.plan.suites.iter().zip(&self.answers) {
            let found =
                (0..suite.items.len()).filter_map(|i| store.get(&Self::answer_key(&weights, suite, i)));
            let completions: Vec<Completion> = found
                .map(|answer| Completion {
                    text: answer.text.clone(),
                    n_tokens: answer.n_tokens,
                    finish: answer.finish,
                })
                .collect();
            scores.push(eval::score(&suite.suite, &suite.items, &completions, seed)?);
            scores.extend(likely.remove(suite.suite.name.as_str()));
        }
        Ok(scores)
    }
}

fn stop_if_asked(stop: &AtomicBool, folder: &str) -> Result<(), Failure> {
    if stop.load(Ordering::Relaxed) {
        return Err(Stopped { folder: folder.to_owned() }.into());
    }
    Ok(())
}
