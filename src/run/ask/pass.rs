//! One candidate on the device, asked one suite after the other.

use super::pace::{Left, Pace};
use super::steered::Classified;
use super::stores::{Answer, Keys, Likely, Stores};
use crate::data::Sample;
use crate::generate::{self, Choice, Generator, Query, likelihoods_pushed};
use crate::model::{Decoder, Push};
use crate::run::failure::Failure;
use crate::run::plan::questions::Questions;
use crate::run::plan::{Evaluation, Model};
use crate::run::session::Session;
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

/// One candidate being asked.
pub(super) struct Pass<'a, 's, 'l> {
    pub(super) decoder: &'a Decoder,
    pub(super) exam: Exam<'a>,
    pub(super) weights: &'a str,
    pub(super) classified: Option<&'a Classified<'a>>,
    /// Items so far.
    pub(super) done: u64,
    /// The suite that is being asked, what is left of each, and of the candidates that follow.
    pub(super) nth: usize,
    pub(super) left: Vec<Left>,
    pub(super) later: &'s [Vec<Left>],
    pub(super) pace: &'s mut Pace,
    pub(super) session: &'s mut Session<'l>,
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

    /// Generates the suite's missing answers.
    pub(super) fn generate(&mut self, suite: &Questions, stores: &mut Stores) -> Result<(), Failure> {
        let keys = Keys { weights: self.weights, suite };
        let missing = stores.missing_answers(keys);
        let push = |item: usize| self.classified?.push(self.nth, item);
        let queries: Vec<Query<'_>> = missing
            .iter()
            .map(|(item, sample)| Query {
                ids: &suite.tokens().prompts[*item],
                sample: *sample,
                push: push(*item),
            })
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
    pub(super) fn read(&mut self, suite: &Questions, stores: &mut Stores) -> Result<(), Failure> {
        let keys = Keys { weights: self.weights, suite };
        for part in stores.missing_texts(keys).chunks(self.exam.evaluation.rows) {
            let samples =
                part.iter().flat_map(|i| suite.tokens().texts[*i].iter().map(move |text| (*i, text.clone())));
            let (items, samples): (Vec<usize>, Vec<Sample>) = samples.unzip();
            let pushes: Vec<_> =
                items.iter().zip(&samples).map(|(item, sample)| self.push_of(*item, sample)).collect();
            let micro_tokens = self.exam.machine.micro_tokens;
            let go_on = || self.session.go_on();
            let found = likelihoods_pushed(self.decoder, &samples, &pushes, micro_tokens, go_on)?;
            let mut found = found.into_iter();
            let lines = part.iter().map(|i| {
                let windows: Vec<_> = found.by_ref().take(suite.tokens().texts[*i].len()).collect();
                let log_likelihood = vec![windows.iter().map(|window| window.sum).sum()];
                let n_tokens = vec![windows.iter().map(|window| window.n_tokens).sum()];
                (keys.text(*i), Likely { item: suite.posed.items[*i].id.clone(), log_likelihood, n_tokens })
            });
            let lines: Vec<_> = lines.collect();
            stores.put_texts(lines)?;
            let positions =
                part.iter().flat_map(|i| &suite.tokens().texts[*i]).map(|sample| sample.ids.len()).sum();
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
            let options = part
                .iter()
                .flat_map(|i| suite.tokens().choices[*i].choices.iter().map(move |option| (*i, option)));
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
                let options: Vec<_> = found.by_ref().take(suite.tokens().choices[*i].choices.len()).collect();
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
    pub(super) fn choose(&mut self, suite: &Questions, stores: &mut Stores) -> Result<(), Failure> {
        if self.classified.is_some() {
            return self.choose_pushed(suite, stores);
        }
        let keys = Keys { weights: self.weights, suite };
        let missing = stores.missing_choices(keys);
        let questions: Vec<_> = missing.iter().map(|i| suite.tokens().choices[*i].clone()).collect();
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
