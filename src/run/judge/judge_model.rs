//! A judge's model: prompts with values that cannot become special tokens, replies in words or probabilities.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::data::Message;
use crate::eval::rubrics::templates::Piece;
use crate::eval::rubrics::{Decode, Prompt, Reply, Rubric, Turn};
use crate::generate::{Choice, Decoding, Generator, Likelihood, Query, Question, choices};
use crate::model::Decoder;
use crate::snapshot::guarded::GuardedTokenizer;
use crate::snapshot::template::ChatTemplate;
use crate::train::Machine;

use crate::run::failure::{Failure, JudgeError};
use crate::run::plan::Model;

/// A judge, loaded.
pub struct JudgeModel {
    model: Model,
    decoder: Decoder,
    guarded: GuardedTokenizer,
    micro_tokens: usize,
}

impl JudgeModel {
    /// Loads the model in a folder.
    ///
    /// # Errors
    ///
    /// A file is missing or broken, or the family is unknown.
    pub fn load(folder: &Path, machine: &Machine) -> Result<Self, Failure> {
        let model = Model::at(folder, |tokenizer| Ok(ChatTemplate::load(folder, tokenizer, None).ok()))?;
        let weights = model.weights()?;
        let decoder = Decoder::load(&model.shape, &weights, &machine.device, machine.answers)?;
        let guarded = GuardedTokenizer::load(folder)?;
        Ok(Self { model, decoder, guarded, micro_tokens: machine.micro_tokens })
    }

    /// The first `n` tokens of an answer, as text.
    ///
    /// # Errors
    ///
    /// The vocabulary has no way to write it.
    pub fn clip(&self, answer: &str, n: usize) -> Result<String, Failure> {
        let pieces = self.model.tokenizer.encode_pieces(answer)?;
        let end = pieces.get(n).map_or(answer.len(), |piece| piece.start);
        Ok(answer.get(..end).unwrap_or(answer).to_owned())
    }

    /// The text of a prompt, its values guarded.
    fn text(&self, rubric: &Rubric, prompt: &Prompt) -> Result<String, Failure> {
        let join = |pieces: &[Piece]| {
            let piece = |piece: &Piece| match piece {
                Piece::Template(text) => text.clone(),
                Piece::Value(text) => self.guarded.value(text),
            };
            pieces.iter().map(piece).collect::<String>()
        };
        match prompt {
            Prompt::Raw(pieces) => Ok(join(pieces)),
            Prompt::Chat { turns, opening } => {
                let template = self.model.template.as_ref().ok_or_else(|| JudgeError::NoTemplate {
                    name: rubric.name.to_owned(),
                    folder: self.model.folder.clone(),
                })?;
                let message = |turn: &Turn| Message::new(turn.role, join(&turn.content));
                let messages: Vec<Message> = turns.iter().map(message).collect();
                let text = template.render(&messages, true)?;
                Ok(if text.ends_with(opening) { text } else { format!("{text}{opening}") })
            }
        }
    }

    /// The ids of a prompt.
    ///
    /// # Errors
    ///
    /// The judge has no template, or its vocabulary no way to write the prompt.
    pub fn prompt_ids(&self, rubric: &Rubric, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        Ok(self.guarded.encode(&self.text(rubric, prompt)?)?)
    }

    /// The replies to `prompts`; `done` gets them, with the place of their prompt, as soon as they are there, and
    /// none once it is to stop.
    ///
    /// # Errors
    ///
    /// As [`Self::prompt_ids`], and whatever `done` returns.
    pub fn replies(
        &self,
        rubric: &Rubric,
        prompts: &[&Prompt],
        (rows, stop): (usize, &AtomicBool),
        done: &mut dyn FnMut(Vec<(usize, Reply)>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let texts: Vec<String> =
            prompts.iter().map(|prompt| self.text(rubric, prompt)).collect::<Result<_, Failure>>()?;
        let ids: Vec<Vec<u32>> =
            texts.iter().map(|text| Ok(self.guarded.encode(text)?)).collect::<Result<_, Failure>>()?;
        match rubric.decode {
            Decode::Text { max_new_tokens } => {
                let queries: Vec<Query<'_>> = ids.iter().map(|ids| Query::once(ids)).collect();
                let decoding = Decoding {
                    stop_ids: self.model.tokenizer.stop_ids().to_vec(),
                    ..Decoding::greedy(max_new_tokens)
                };
                let decode = |ids: &[u32]| self.model.tokenizer.decode(ids, true);
                let generator = Generator { decoder: &self.decoder, decode: &decode, rows, stop: Some(stop) };
                generator.complete(&queries, &decoding, |news| {
                    done(news.ended.into_iter().map(|(i, said)| (i, Reply::Text(said.text))).collect())
                })
            }
            Decode::FirstToken { yes, no } => {
                let question = |(text, ids): (&String, &Vec<u32>)| -> Result<(Question, usize), Failure> {
                    let (yes, no) = (self.first_tokens(text, ids, yes)?, self.first_tokens(text, ids, no)?);
                    let n_yes = yes.len();
                    let choices = yes.into_iter().chain(no).map(|id| {
                        let ids: Vec<u32> = ids.iter().copied().chain([id]).collect();
                        Choice { n_context: ids.len() - 1, ids }
                    });
                    Ok((Question { choices: choices.collect() }, n_yes))
                };
                let questions: Vec<(Question, usize)> =
                    texts.iter().zip(&ids).map(question).collect::<Result<_, Failure>>()?;
                let (questions, n_yes): (Vec<Question>, Vec<usize>) = questions.into_iter().unzip();
                choices(&self.decoder, &questions, self.micro_tokens, |batch| {
                    let reply = |(i, found): (usize, Vec<Likelihood>)| {
                        let sum = |part: &[Likelihood]| {
                            let top = part.iter().map(|found| found.sum).fold(f64::MIN, f64::max);
                            top + part.iter().map(|found| (found.sum - top).exp()).sum::<f64>().ln()
                        };
                        let (yes, no) = found.split_at(n_yes[i]);
                        (i, Reply::FirstToken { yes: sum(yes), no: sum(no) })
                    };
                    done(batch.into_iter().map(reply).collect())
                })
            }
        }
    }

    /// The first token of each word behind a prompt, none twice.
    fn first_tokens(&self, text: &str, ids: &[u32], words: &[&str]) -> Result<Vec<u32>, Failure> {
        let mut tokens = Vec::new();
        for word in words {
            let with = self.guarded.encode(&format!("{text}{word}"))?;
            // Behind a prompt whose last token grows by the word, the word's own first token stands for it.
            let same = ids.iter().zip(&with).take_while(|(a, b)| a == b).count();
            let alone = || self.model.tokenizer.encode(word).map(|ids| ids.first().copied());
            let first = if same == ids.len() { with.get(same).copied() } else { alone()? };
            if let Some(id) = first.filter(|id| !tokens.contains(id)) {
                tokens.push(id);
            }
        }
        Ok(tokens)
    }
}
