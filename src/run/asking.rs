//! Asking one candidate everything that no stored answer covers, and judging what is stored.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::json;

use super::evaluate::Candidate;
use super::failure::Incomplete;
use super::folder::Folder;
use super::plan::{Plan, digest};
use super::sides::Sides;
use super::stores::{Answer, Keys, Likely, Stores};
use super::{Failure, Sink};
use crate::eval::Completion;
use crate::event::Event;
use crate::generate::{self, Ask, Generator, likelihoods};
use crate::merge::MergeReport;
use crate::model::Decoder;
use crate::snapshot::SnapshotError;

/// One candidate and its stores.
pub struct Asking<'a> {
    plan: &'a Plan,
    candidate: &'a Candidate,
    /// Where the candidate's files lie.
    path: std::path::PathBuf,
    /// By suite.
    stores: Vec<Stores>,
    weights: String,
    run_folder: String,
}

impl<'a> Asking<'a> {
    pub fn open(plan: &'a Plan, folder: &Folder, candidate: &'a Candidate) -> Result<Self, Failure> {
        let path = folder.eval(&candidate.name());
        let stores = plan.suites.iter().map(|suite| Stores::open(&path, suite)).collect::<Result<_, _>>()?;
        let run_folder = folder.path().display().to_string();
        Ok(Self { plan, candidate, stores, weights: weights_key(plan, candidate), path, run_folder })
    }

    pub fn candidate(&self) -> &Candidate {
        self.candidate
    }

    /// Where the candidate's files lie.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The run folder, for messages.
    pub fn run_folder(&self) -> &str {
        &self.run_folder
    }

    /// The error that answers are missing and none may be generated.
    pub fn incomplete(&self) -> Incomplete {
        Incomplete { candidate: self.candidate.name(), n: self.n_missing(), folder: self.run_folder.clone() }
    }

    fn keys(&self, suite: usize) -> Keys<'_> {
        Keys { weights: &self.weights, suite: &self.plan.suites[suite] }
    }

    pub fn n_missing(&self) -> usize {
        self.stores.iter().enumerate().map(|(i, stores)| stores.n_missing(self.keys(i))).sum()
    }

    fn figures_path(&self) -> std::path::PathBuf {
        self.path.join(format!("merge-{}.json", &self.weights[..16]))
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
        for i in 0..self.stores.len() {
            let suite = &self.plan.suites[i];
            let (keys, its) = (Keys { weights: &self.weights, suite }, twin.keys(i));
            self.stores[i].take_over(keys, &twin.stores[i], its)?;
        }
        let (name, twin) = (self.candidate.name(), twin.candidate.name());
        let text = format!("{name}: answers of {twin}, whose weights are the same bit for bit");
        Ok(sink.event(Event::Note { text })?)
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
        let mut pass = Pass { decoder: &decoder, done: 0, stop, sink };
        for suite in 0..self.stores.len() {
            self.generate(suite, &mut pass)?;
            self.read(suite, &mut pass)?;
            self.choose(suite, &mut pass)?;
        }
        sink.event(Event::StageDone { name, elapsed_s: started.elapsed().as_secs_f64() })?;
        Ok(decoder)
    }

    fn generate(&mut self, suite: usize, pass: &mut Pass<'_, '_>) -> Result<(), Failure> {
        let planned = &self.plan.suites[suite];
        let keys = Keys { weights: &self.weights, suite: planned };
        let missing = self.stores[suite].missing_answers(keys);
        let asks: Vec<Ask<'_>> = missing
            .iter()
            .map(|(item, sample)| Ask { ids: &planned.prompts[*item], sample: *sample })
            .collect();
        let decode = |ids: &[u32]| self.plan.tokenizer.decode(ids, true);
        let generator = Generator { decoder: pass.decoder, decode: &decode, rows: self.plan.eval_rows };
        let (store, folder) = (&mut self.stores[suite], &self.run_folder);
        generator.complete(&asks, &planned.decoding, |batch| {
            let n = batch.len();
            let lines = batch.into_iter().map(|(i, completion)| {
                let (item, sample) = missing[i];
                let key = keys.answer(item, sample);
                let item = planned.items[item].id.clone();
                let n_tokens = completion.ids.len();
                (key, Answer { item, sample, text: completion.text, n_tokens, finish: completion.finish })
            });
            store.put_answers(lines)?;
            pass.count(n, folder)
        })
    }

    /// Measures how likely the candidate finds the suite's texts.
    fn read(&mut self, suite: usize, pass: &mut Pass<'_, '_>) -> Result<(), Failure> {
        let planned = &self.plan.suites[suite];
        let keys = Keys { weights: &self.weights, suite: planned };
        for part in self.stores[suite].missing_texts(keys).chunks(self.plan.eval_rows) {
            let samples: Vec<_> = part.iter().flat_map(|i| planned.texts[*i].iter().cloned()).collect();
            let mut found = likelihoods(pass.decoder, &samples, self.plan.machine.micro_tokens).into_iter();
            let lines = part.iter().map(|i| {
                let windows: Vec<_> = found.by_ref().take(planned.texts[*i].len()).collect();
                let log_likelihood = vec![windows.iter().map(|window| window.sum).sum()];
                let n_tokens = vec![windows.iter().map(|window| window.n_tokens).sum()];
                (keys.text(*i), Likely { item: planned.items[*i].id.clone(), log_likelihood, n_tokens })
            });
            let lines: Vec<_> = lines.collect();
            self.stores[suite].put_texts(lines)?;
            pass.count(part.len(), &self.run_folder)?;
        }
        Ok(())
    }

    /// Measures how likely the candidate finds the options of the suite's questions.
    fn choose(&mut self, suite: usize, pass: &mut Pass<'_, '_>) -> Result<(), Failure> {
        let planned = &self.plan.suites[suite];
        let keys = Keys { weights: &self.weights, suite: planned };
        let missing = self.stores[suite].missing_choices(keys);
        let questions: Vec<_> = missing.iter().map(|i| planned.questions[*i].clone()).collect();
        let (store, folder) = (&mut self.stores[suite], &self.run_folder);
        generate::choices(pass.decoder, &questions, self.plan.machine.micro_tokens, |batch| {
            let n = batch.len();
            let lines = batch.into_iter().map(|(i, found)| {
                let item = planned.items[missing[i]].id.clone();
                let log_likelihood = found.iter().map(|option| option.sum).collect();
                let n_tokens = found.iter().map(|option| option.n_tokens).collect();
                (keys.choice(missing[i]), Likely { item, log_likelihood, n_tokens })
            });
            store.put_choices(lines)?;
            pass.count(n, folder)
        })
    }

    /// All answers to a suite, by item and sample.
    pub fn answers(&self, suite: usize) -> Vec<Vec<Completion>> {
        self.stores[suite].answers(self.keys(suite))
    }

    /// The log-likelihood of each text of a suite, and its tokens.
    pub fn texts(&self, suite: usize) -> Vec<(f64, usize)> {
        let found = self.stores[suite].texts(self.keys(suite));
        found.into_iter().map(|found| (found.log_likelihood[0], found.n_tokens[0])).collect()
    }

    /// The log-likelihoods of the options of each question of a suite.
    pub fn choices(&self, suite: usize) -> Vec<Vec<f64>> {
        let found = self.stores[suite].choices(self.keys(suite));
        found.into_iter().map(|found| found.log_likelihood.clone()).collect()
    }
}

/// What an answer is a function of, the prompt aside.
fn weights_key(plan: &Plan, candidate: &Candidate) -> String {
    let weights = match candidate {
        // The base is the same whatever is trained on it.
        Candidate::Base => json!([plan.digests, plan.recipe.model.init]),
        Candidate::Tuned => json!(plan.key),
        Candidate::Merge(spec) => {
            let mut all = vec![json!(plan.key), json!(spec.to_string())];
            all.extend(plan.besides(spec));
            json!(all)
        }
    };
    digest(&json!([weights, plan.dtype]))
}

/// One candidate being asked.
struct Pass<'a, 'b> {
    decoder: &'a Decoder,
    /// Items so far.
    done: u64,
    stop: &'a AtomicBool,
    sink: &'a mut Sink<'b>,
}

impl Pass<'_, '_> {
    /// Counts `n` stored items; an error if the run was asked to stop.
    fn count(&mut self, n: usize, folder: &str) -> Result<(), Failure> {
        self.done += n as u64;
        self.sink.advance(self.done, self.stop, folder)
    }
}
