//! Asking one candidate everything that no stored answer covers.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::pace::{Left, Pace};
use super::pass::{Exam, Pass};
use super::shared::Shelf;
use super::steered::Classified;
use super::stores::{Keys, Stores, is_of_judge};
use crate::folders;
use crate::merge::MergeReport;
use crate::model::Decoder;
use crate::report::steering::Steered;
use crate::run::cast::{Candidate, Cast};
use crate::run::failure::Failure;
use crate::run::plan::questions::Questions;
use crate::run::session::Session;
use crate::snapshot::SnapshotError;
use crate::snapshot::files::read_json;
use crate::snapshot::writer::{file_at_once, write_json};

/// What judges found out about one candidate's answers to one suite is less than this.
const VERDICT_BYTES: u64 = 1 << 30;

/// One candidate and its stores.
pub struct Asking<'a> {
    pub(super) exam: Exam<'a>,
    pub candidate: &'a Candidate,
    /// Where the candidate's files lie.
    pub path: PathBuf,
    /// By suite.
    pub(super) stores: Vec<Stores>,
    /// What the weights, and what steers them, depend on.
    weights: String,
    /// Which way prompts are pushed, where the candidate is steered.
    classified: Option<Classified<'a>>,
    /// Its place among all candidates, counted from 1, and how many there are.
    place: (usize, usize),
}

impl<'a> Asking<'a> {
    /// Opens the stores of a candidate.
    pub fn open(exam: Exam<'a>, cast: &'a Cast, nth: usize, session: &Session<'_>) -> Result<Self, Failure> {
        let candidate = &cast.candidates[nth];
        let path = session.folder().eval(&candidate.name);
        let suites = exam.evaluation.suites.iter();
        let stores = suites.map(|suite| Stores::open(&path, &suite.posed.suite.name));
        let stores = stores.collect::<Result<_, _>>()?;
        let place = (nth + 1, cast.candidates.len());
        let weights = cast.key(nth);
        let classified = cast.steering(candidate);
        let classified =
            classified.map(|steering| Classified::open(steering, exam.evaluation, &path, &weights));
        Ok(Self { exam, candidate, path, stores, weights, classified: classified.transpose()?, place })
    }

    /// Suite by suite, its stores and the keys of what is asked.
    pub fn suites(&self) -> impl Iterator<Item = (&'a Questions, &Stores, Keys<'_>)> {
        let suites = self.exam.evaluation.suites.iter().zip(&self.stores);
        suites.map(|(suite, stores)| (suite, stores, Keys { weights: &self.weights, suite }))
    }

    /// What the weights depend on.
    pub fn weights(&self) -> &str {
        &self.weights
    }

    /// What is being done, for whoever watches.
    pub fn title(&self) -> String {
        let (nth, n) = self.place;
        format!("evaluate {} ({nth} of {n})", self.candidate.name)
    }

    /// Everything that is asked, answered or not.
    pub fn n_all(&self) -> usize {
        let scores = self.classified.as_ref().map_or(0, Classified::n_all);
        self.exam.evaluation.suites.iter().map(Questions::n_parts).sum::<usize>() + scores
    }

    /// What is left to compute, by suite.
    pub fn left(&self) -> Vec<Left> {
        self.suites().map(|(_, stores, keys)| stores.left(keys)).collect()
    }

    /// Tells how long the answers are that are there.
    pub fn tell_lengths(&self, pace: &mut Pace) {
        for (nth, (_, stores, keys)) in self.suites().enumerate() {
            stores.lengths(keys).into_iter().for_each(|n_tokens| pace.know(nth, n_tokens));
        }
    }

    fn n_missing(&self) -> usize {
        let scores = self.classified.as_ref().map_or(0, Classified::n_missing);
        self.suites().map(|(_, stores, keys)| stores.n_missing(keys)).sum::<usize>() + scores
    }

    /// Whether nothing is left to ask and nothing to note.
    pub fn is_done(&self) -> bool {
        self.n_missing() == 0 && self.figures().is_ok()
    }

    /// How it is steered, if it is.
    pub fn steered(&self) -> Option<Steered> {
        self.classified.as_ref().map(Classified::figures)
    }

    fn figures_path(&self) -> PathBuf {
        self.path.join(format!("merge-{}.json", &self.weights[..16]))
    }

    /// What a merge did to the weights, as stored when it was made.
    pub fn figures(&self) -> Result<Option<MergeReport>, SnapshotError> {
        match self.candidate.merge() {
            None => Ok(None),
            Some(_) => read_json(&self.figures_path()).map(Some),
        }
    }

    /// Takes over the answers of an earlier candidate whose weights are the same, bit for bit: SLERP falls
    /// back to a line where training moved little, and rounding can make neighbours of one λ equal.
    fn take_over(
        &mut self,
        earlier: &[Self],
        figures: &MergeReport,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let mut twin = None;
        for other in earlier {
            if other.figures()?.is_some_and(|other| other.blake3 == figures.blake3) {
                twin = Some(other);
            }
        }
        let Some(twin) = twin else { return Ok(()) };
        for (stores, (suite, other, its)) in self.stores.iter_mut().zip(twin.suites()) {
            stores.take_over(Keys { weights: &self.weights, suite }, other, its)?;
        }
        let (name, twin) = (&self.candidate.name, &twin.candidate.name);
        Ok(session.note(format!("{name}: answers of {twin}, whose weights are the same bit for bit"))?)
    }

    /// Takes over what other runs on this machine have heard from the same weights.
    pub fn borrow(&mut self, shelf: &Shelf, session: &mut Session<'_>) -> Result<(), Failure> {
        for other in shelf.others(&self.weights, &self.path) {
            if self.n_missing() == 0 {
                break;
            }
            let mut n = 0;
            for (stores, suite) in self.stores.iter_mut().zip(&self.exam.evaluation.suites) {
                let keys = Keys { weights: &self.weights, suite };
                n += stores.take_over(keys, &Stores::peek(&other, &suite.posed.suite.name), keys)?;
            }
            if n > 0 {
                self.borrow_verdicts(&other)?;
                let name = &self.candidate.name;
                let from = other.display();
                session.note(format!("{name}: {n} answers of the same weights taken over from `{from}`"))?;
            }
        }
        Ok(())
    }

    /// Takes over what judges found out about answers in `other`, where nothing was found here: each finding is known by
    /// the judge, the item and the answer that it is of.
    fn borrow_verdicts(&self, other: &Path) -> Result<(), Failure> {
        for entry in std::fs::read_dir(other).into_iter().flatten().flatten() {
            let own = self.path.join(entry.file_name());
            if is_of_judge(&entry.file_name().to_string_lossy()) && !own.exists() {
                let found = folders::read(&entry.path(), VERDICT_BYTES);
                // Without them a judge is asked again.
                if let Ok(found) = found {
                    file_at_once(&own, &found)?;
                }
            }
        }
        Ok(())
    }

    /// Puts the candidate on the shelf where other runs look.
    pub fn lend(&self, shelf: &Shelf) {
        shelf.add(&self.weights, &self.path);
    }

    /// Loads the candidate, in the place of the decoder that is there, and generates what is missing.
    pub fn answer(
        &mut self,
        cast: &Cast,
        (there, earlier): (Option<Decoder>, &[Self]),
        (pace, later): (&mut Pace, &[Vec<Left>]),
        session: &mut Session<'_>,
    ) -> Result<Decoder, Failure> {
        cast.settle(self.candidate, session)?;
        let n_missing = self.n_missing();
        let parts = (n_missing as u64, Some((self.n_all() - n_missing) as u64));
        session.stage(&self.title(), parts, |session| {
            let Exam { model, machine, .. } = self.exam;
            let (decoder, figures) = cast.load(self.candidate, &model.shape, machine, there)?;
            if let Some(figures) = figures.filter(|_| self.candidate.merge().is_some()) {
                write_json(&self.figures_path(), &json!(figures))?;
                self.take_over(earlier, &figures, session)?;
            }
            let classified = self.classified.as_mut();
            let done = classified.map_or(Ok(0), |scores| scores.classify(&decoder, machine, session))?;
            let left = self.left();
            pace.resume();
            let mut pass = Pass {
                decoder: &decoder,
                exam: self.exam,
                weights: &self.weights,
                classified: self.classified.as_ref(),
                done,
                nth: 0,
                left,
                later,
                pace,
                session,
            };
            for (nth, (stores, suite)) in self.stores.iter_mut().zip(&self.exam.evaluation.suites).enumerate()
            {
                pass.nth = nth;
                pass.generate(suite, stores)?;
                pass.read(suite, stores)?;
                pass.choose(suite, stores)?;
            }
            Ok(decoder)
        })
    }
}
