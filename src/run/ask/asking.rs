//! Asking one candidate everything that no stored answer covers.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::pace::{Left, Pace};
use super::shared::Shelf;
use super::steered::Classified;
use super::stores::{Answer, Keys, Likely, Stores, is_of_judge};
use crate::data::Sample;
use crate::folders;
use crate::generate::{self, Choice, Generator, Query, likelihoods_pushed};
use crate::merge::MergeReport;
use crate::model::{Decoder, Push};
use crate::report::steering::Steered;
use crate::run::cast::{Candidate, Cast};
use crate::run::failure::Failure;
use crate::run::plan::questions::Questions;
use crate::run::plan::{Evaluation, Model};
use crate::run::session::Session;
use crate::snapshot::SnapshotError;
use crate::snapshot::files::read_json;
use crate::snapshot::writer::{file_at_once, write_json};
use crate::train::Machine;

/// What is asked, of models of which shape, and where that is computed.
#[derive(Clone, Copy)]
pub struct Exam<'a> {
    pub model: &'a Model,
    pub evaluation: &'a Evaluation,
    pub machine: &'a Machine,
    /// The device's own name: answers of another differ in rounding.
    pub device: &'a str,
}

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

/// One candidate being asked.
struct Pass<'a, 's, 'l> {
    decoder: &'a Decoder,
    exam: Exam<'a>,
    weights: &'a str,
    classified: Option<&'a Classified<'a>>,
    /// Items so far.
    done: u64,
    /// The suite that is being asked, what is left of each, and of the candidates that follow.
    nth: usize,
    left: Vec<Left>,
    later: &'s [Vec<Left>],
    pace: &'s mut Pace,
    session: &'s mut Session<'l>,
}

impl Pass<'_, '_, '_> {
    /// Counts `n` stored items, and tokens that were computed; an error if the run was asked to stop.
    fn count(&mut self, n: usize, positions: usize, new_tokens: usize) -> Result<(), Failure> {
        self.done += n as u64;
        self.pace.note(positions, new_tokens);
        let left = &mut self.left[self.nth];
        left.positions = left.positions.saturating_sub(positions);
        left.begun += new_tokens;
        let remaining = self.pace.remaining(&self.left, self.later);
        self.session.advance(self.done, remaining)
    }

    /// An answer has ended.
    fn ended(&mut self, n_tokens: usize) {
        self.pace.know(self.nth, n_tokens);
        let left = &mut self.left[self.nth];
        left.answers = left.answers.saturating_sub(1);
        left.begun = left.begun.saturating_sub(n_tokens);
    }

    fn generate(&mut self, suite: &Questions, stores: &mut Stores) -> Result<(), Failure> {
        let keys = Keys { weights: self.weights, suite };
        let missing = stores.missing_answers(keys);
        let push = |item: usize| self.classified?.push(self.nth, item);
        let queries: Vec<Query<'_>> = missing
            .iter()
            .map(|(item, sample)| Query { ids: &suite.prompts[*item], sample: *sample, push: push(*item) })
            .collect();
        let tokenizer = &self.exam.model.tokenizer;
        // Marks of thinking may be special tokens; in the text they stay.
        let marks = suite.decoding.thinking.iter().flat_map(|thinking| [&thinking.open, &thinking.close]);
        let marks: Vec<u32> = marks.filter_map(|mark| tokenizer.id_of(mark)).collect();
        let decode = |ids: &[u32]| tokenizer.decode_with(ids, &marks);
        let (rows, stop) = (self.exam.evaluation.rows, Some(self.session.stop()));
        let generator = Generator { decoder: self.decoder, decode: &decode, rows, stop };
        generator.complete(&queries, &suite.decoding, |news| {
            let n = news.ended.len();
            news.ended.iter().for_each(|(_, said)| self.ended(said.ids.len()));
            let lines = news.ended.into_iter().map(|(i, completion)| {
                let (item, sample) = missing[i];
                let key = keys.answer(item, sample);
                let item = suite.posed.items[item].id.clone();
                let n_tokens = completion.ids.len();
                (
                    key,
                    Answer {
                        item,
                        sample,
                        text: completion.text,
                        n_tokens,
                        finish: completion.finish,
                        guard: None,
                    },
                )
            });
            stores.put_answers(lines)?;
            self.count(n, news.n_prompt, news.n_new)
        })?;
        Ok(self.session.go_on()?)
    }

    /// Measures how likely the candidate finds the suite's texts.
    fn read(&mut self, suite: &Questions, stores: &mut Stores) -> Result<(), Failure> {
        let keys = Keys { weights: self.weights, suite };
        for part in stores.missing_texts(keys).chunks(self.exam.evaluation.rows) {
            let samples =
                part.iter().flat_map(|i| suite.texts[*i].iter().map(move |text| (*i, text.clone())));
            let (items, samples): (Vec<usize>, Vec<Sample>) = samples.unzip();
            let pushes: Vec<_> =
                items.iter().zip(&samples).map(|(item, sample)| self.push_of(*item, sample)).collect();
            let micro_tokens = self.exam.machine.micro_tokens;
            let go_on = || self.session.go_on();
            let found = likelihoods_pushed(self.decoder, &samples, &pushes, micro_tokens, go_on)?;
            let mut found = found.into_iter();
            let lines = part.iter().map(|i| {
                let windows: Vec<_> = found.by_ref().take(suite.texts[*i].len()).collect();
                let log_likelihood = vec![windows.iter().map(|window| window.sum).sum()];
                let n_tokens = vec![windows.iter().map(|window| window.n_tokens).sum()];
                (keys.text(*i), Likely { item: suite.posed.items[*i].id.clone(), log_likelihood, n_tokens })
            });
            let lines: Vec<_> = lines.collect();
            stores.put_texts(lines)?;
            let positions = part.iter().flat_map(|i| &suite.texts[*i]).map(|sample| sample.ids.len()).sum();
            self.count(part.len(), positions, 0)?;
        }
        Ok(())
    }

    /// How the states of a text are pushed from its answer on.
    fn push_of(&self, item: usize, text: &Sample) -> Option<Push> {
        let answer = text.labels.iter().position(Option::is_some)?;
        self.classified?.push_before(self.nth, item, answer)
    }

    /// Measures how likely the candidate finds the options of the suite's questions, each option by itself: where states
    /// are pushed, what options share is no longer the same.
    fn choose_pushed(&mut self, suite: &Questions, stores: &mut Stores) -> Result<(), Failure> {
        let keys = Keys { weights: self.weights, suite };
        for part in stores.missing_choices(keys).chunks(self.exam.evaluation.rows) {
            let options =
                part.iter().flat_map(|i| suite.choices[*i].choices.iter().map(move |option| (*i, option)));
            let sample = |(item, Choice { ids, n_context }): (usize, &Choice)| {
                let trained = (0..ids.len()).map(|i| i >= *n_context);
                (item, Sample::of_trained(ids.clone(), trained, 1.into()))
            };
            let (items, samples): (Vec<usize>, Vec<Sample>) = options.map(sample).unzip();
            let pushes: Vec<_> =
                items.iter().zip(&samples).map(|(item, sample)| self.push_of(*item, sample)).collect();
            let micro_tokens = self.exam.machine.micro_tokens;
            let go_on = || self.session.go_on();
            let found = likelihoods_pushed(self.decoder, &samples, &pushes, micro_tokens, go_on)?;
            let mut found = found.into_iter();
            let lines = part.iter().map(|i| {
                let options: Vec<_> = found.by_ref().take(suite.choices[*i].choices.len()).collect();
                let log_likelihood = options.iter().map(|option| option.sum).collect();
                let n_tokens = options.iter().map(|option| option.n_tokens).collect();
                (keys.choice(*i), Likely { item: suite.posed.items[*i].id.clone(), log_likelihood, n_tokens })
            });
            let lines: Vec<_> = lines.collect();
            stores.put_choices(lines)?;
            self.count(part.len(), samples.iter().map(|sample| sample.ids.len()).sum(), 0)?;
        }
        Ok(())
    }

    /// Measures how likely the candidate finds the options of the suite's questions.
    fn choose(&mut self, suite: &Questions, stores: &mut Stores) -> Result<(), Failure> {
        if self.classified.is_some() {
            return self.choose_pushed(suite, stores);
        }
        let keys = Keys { weights: self.weights, suite };
        let missing = stores.missing_choices(keys);
        let questions: Vec<_> = missing.iter().map(|i| suite.choices[*i].clone()).collect();
        generate::choices(self.decoder, &questions, self.exam.machine.micro_tokens, |batch| {
            let n = batch.len();
            let choices = batch.iter().flat_map(|(i, _)| &questions[*i].choices);
            let positions = choices.map(|choice| choice.ids.len()).sum();
            let lines = batch.into_iter().map(|(i, found)| {
                let item = suite.posed.items[missing[i]].id.clone();
                let log_likelihood = found.iter().map(|option| option.sum).collect();
                let n_tokens = found.iter().map(|option| option.n_tokens).collect();
                (keys.choice(missing[i]), Likely { item, log_likelihood, n_tokens })
            });
            stores.put_choices(lines)?;
            self.count(n, positions, 0)
        })
    }
}
