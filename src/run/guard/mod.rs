//! A guard at work: the probability that a request is harmful, and the safe answer to one that is.
//!
//! "SLM as Guardian: Pioneering AI Safety with Small Language Models", 2024, arXiv 2405.19795: one small model labels a
//! request by a token at a place of its own, and goes on to write the safe answer itself; other requests go to the large
//! model. [`Guard`] is the model, [`Sentry`] one with a memory on disk, [`fit`] finds its threshold after a training,
//! [`score`] measures it, [`route`] puts it in front of a model.

pub mod fit;
pub mod requests;
pub mod route;
pub mod score;
mod sentry;

pub use sentry::{Reply, Sentry};

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::failure::Failure;
use super::plan::Model;
use crate::data::guard::{ANSWER, CATEGORY};
use crate::data::{Encoder, Message, Role};
use crate::generate::{Choice, Completion, Decoding, Finish, Generator, Query, Question, choices};
use crate::model::Decoder;
use crate::recipe::LossOn;
use crate::snapshot::Weights;
use crate::train::Machine;

/// A guard's model, loaded.
pub struct Guard {
    model: Arc<Model>,
    decoder: Decoder,
    /// The ids of the labels, harmful and safe.
    labels: [u32; 2],
    micro_tokens: usize,
}

/// What a guard said to a request, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub category: Option<String>,
    pub text: String,
    pub n_tokens: usize,
    pub finish: Finish,
}

/// Is given what is there by now; an error ends the work.
pub type Put<'a, T> = &'a mut dyn FnMut(Vec<(usize, T)>) -> Result<(), Failure>;

impl Guard {
    /// Puts a guard's weights on a device.
    ///
    /// # Errors
    ///
    /// A weight cannot be read or computed.
    pub fn load(
        model: Arc<Model>,
        labels: [u32; 2],
        weights: &dyn Weights,
        machine: &Machine,
    ) -> Result<Self, Failure> {
        let decoder = Decoder::load(&model.shape, weights, &machine.device, machine.answers)?;
        Ok(Self { model, decoder, labels, micro_tokens: machine.micro_tokens })
    }

    /// The model on the device.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The ids behind which the label of each request comes.
    ///
    /// # Errors
    ///
    /// The tokenizer has no way to write a request.
    pub fn prompts(&self, requests: &[&str]) -> Result<Vec<Vec<u32>>, Failure> {
        let Model { tokenizer, template, .. } = &*self.model;
        let encoder = Encoder::new(tokenizer, template.as_ref(), "", LossOn::Completion)?;
        let prompt = |request: &&str| Ok(encoder.prompt(&[Message::new(Role::User, *request)], "")?);
        requests.iter().map(prompt).collect()
    }

    /// The probability that each request is harmful: the softmax over the two labels alone, at the label's place.
    ///
    /// # Errors
    ///
    /// As [`Guard::prompts`], and whatever `put` returns.
    pub fn probabilities(&self, requests: &[&str], put: Put<'_, f64>) -> Result<(), Failure> {
        let question = |prompt: Vec<u32>| {
            let choice = |label: &u32| {
                let ids: Vec<u32> = prompt.iter().copied().chain([*label]).collect();
                Choice { n_context: prompt.len(), ids }
            };
            Question { choices: self.labels.iter().map(choice).collect() }
        };
        let questions: Vec<Question> = self.prompts(requests)?.into_iter().map(question).collect();
        choices(&self.decoder, &questions, self.micro_tokens, |found| {
            // Both are shares of one softmax, so their difference is that of the logits.
            let p =
                |labels: &[crate::generate::Likelihood]| 1.0 / (1.0 + (labels[1].sum - labels[0].sum).exp());
            put(found.into_iter().map(|(nth, labels)| (nth, p(&labels))).collect())
        })
    }

    /// What the guard goes on with behind a label that it is given, harmful or not, whatever it would have chosen.
    ///
    /// # Errors
    ///
    /// As [`Guard::prompts`], and whatever `put` returns.
    pub fn answers(
        &self,
        requests: &[&str],
        is_harmful: bool,
        (max_new_tokens, rows, stop): (usize, usize, &AtomicBool),
        put: Put<'_, Said>,
    ) -> Result<(), Failure> {
        let label = self.labels[usize::from(!is_harmful)];
        let prompts = self.prompts(requests)?.into_iter();
        let prompts: Vec<Vec<u32>> = prompts.map(|prompt| [prompt, vec![label]].concat()).collect();
        let queries: Vec<Query<'_>> = prompts.iter().map(|ids| Query::once(ids)).collect();
        let tokenizer = &self.model.tokenizer;
        let mut stop_ids = tokenizer.stop_ids().to_vec();
        stop_ids.extend(tokenizer.id_of(ANSWER[1]));
        let decoding = Decoding { stop_ids, ..Decoding::greedy(max_new_tokens) };
        let decode = |ids: &[u32]| tokenizer.decode(ids, true);
        let generator = Generator { decoder: &self.decoder, decode: &decode, rows, stop: Some(stop) };
        generator.complete(&queries, &decoding, |news| {
            put(news.ended.into_iter().map(|(nth, completion)| (nth, self.said(&completion))).collect())
        })
    }

    /// Takes the turn of a guard behind its label apart.
    fn said(&self, completion: &Completion) -> Said {
        let tokenizer = &self.model.tokenizer;
        let at = |token: &str| {
            let id = tokenizer.id_of(token)?;
            completion.ids.iter().position(|known| *known == id)
        };
        let answer = at(ANSWER[0]);
        let text = |ids: &[u32]| tokenizer.decode(ids, true).trim().to_owned();
        let category = at(CATEGORY).filter(|at| answer.is_none_or(|answer| at < &answer));
        let category =
            category.map(|at| text(&completion.ids[at + 1..answer.unwrap_or(completion.ids.len())]));
        let behind = answer.map_or(if category.is_some() { completion.ids.len() } else { 0 }, |at| at + 1);
        Said {
            category: category.filter(|text| !text.is_empty()),
            text: text(&completion.ids[behind..]),
            n_tokens: completion.ids.len(),
            finish: completion.finish,
        }
    }
}
