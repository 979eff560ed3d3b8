//! What one candidate has said so far, on disk: answers, log-likelihoods and choices, by what they depend on.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answers::Answers;
use super::folder::FolderError;
use super::plan::digest;
use super::questions::PlannedSuite;
use crate::eval::{Completion, Finish};

/// One stored answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Answer {
    pub item: String,
    #[serde(default, skip_serializing_if = "is_first")]
    pub sample: u64,
    pub text: String,
    pub n_tokens: usize,
    pub finish: Finish,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(sample: &u64) -> bool {
    *sample == 0
}

/// The log-likelihoods of an item's text, or of its options.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Likely {
    pub item: String,
    pub log_likelihood: Vec<f64>,
    pub n_tokens: Vec<usize>,
}

/// The stores of one suite.
#[derive(Debug)]
pub(super) struct Stores {
    answers: Answers<Answer>,
    /// Of references or pages.
    texts: Answers<Likely>,
    /// Of options.
    choices: Answers<Likely>,
}

/// What is asked of a candidate: by its weights, one suite.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub weights: &'a str,
    pub suite: &'a PlannedSuite,
}

impl Keys<'_> {
    pub fn answer(&self, item: usize, sample: u64) -> String {
        let (prompt, decoding) = (&self.suite.prompts[item], &self.suite.decoding);
        let mut parts = vec![json!(self.weights), json!(prompt), json!(decoding)];
        parts.extend((sample > 0).then(|| json!(sample)));
        short(&json!(parts))
    }

    pub fn text(&self, item: usize) -> String {
        let parts = self.suite.texts[item].iter().map(|sample| json!([sample.ids, sample.trained()]));
        short(&json!([self.weights, parts.collect::<Vec<_>>()]))
    }

    pub fn choice(&self, item: usize) -> String {
        let choices = self.suite.questions[item].choices.iter();
        let choices = choices.map(|choice| json!([choice.ids, choice.n_context]));
        short(&json!([self.weights, choices.collect::<Vec<_>>()]))
    }
}

fn short(value: &serde_json::Value) -> String {
    digest(value)[..32].to_owned()
}

impl Stores {
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn open(folder: &Path, suite: &PlannedSuite) -> Result<Self, FolderError> {
        let file = |kind: &str| folder.join(format!("{}{kind}.jsonl", suite.suite.name));
        Ok(Self {
            answers: Answers::open(&file(""))?,
            texts: Answers::open(&file(".likelihood"))?,
            choices: Answers::open(&file(".choices"))?,
        })
    }

    /// Items and samples without an answer.
    pub fn missing_answers(&self, keys: Keys<'_>) -> Vec<(usize, u64)> {
        let n_samples = keys.suite.n_samples as u64;
        let all =
            (0..keys.suite.prompts.len()).flat_map(|item| (0..n_samples).map(move |sample| (item, sample)));
        all.filter(|(item, sample)| self.answers.get(&keys.answer(*item, *sample)).is_none()).collect()
    }

    /// Items whose text was not measured.
    pub fn missing_texts(&self, keys: Keys<'_>) -> Vec<usize> {
        (0..keys.suite.texts.len()).filter(|item| self.texts.get(&keys.text(*item)).is_none()).collect()
    }

    /// Items whose options were not measured.
    pub fn missing_choices(&self, keys: Keys<'_>) -> Vec<usize> {
        (0..keys.suite.questions.len())
            .filter(|item| self.choices.get(&keys.choice(*item)).is_none())
            .collect()
    }

    pub fn n_missing(&self, keys: Keys<'_>) -> usize {
        self.missing_answers(keys).len() + self.missing_texts(keys).len() + self.missing_choices(keys).len()
    }

    pub fn put_answers(
        &mut self,
        lines: impl IntoIterator<Item = (String, Answer)>,
    ) -> Result<(), FolderError> {
        self.answers.append(lines)
    }

    pub fn put_texts(
        &mut self,
        lines: impl IntoIterator<Item = (String, Likely)>,
    ) -> Result<(), FolderError> {
        self.texts.append(lines)
    }

    pub fn put_choices(
        &mut self,
        lines: impl IntoIterator<Item = (String, Likely)>,
    ) -> Result<(), FolderError> {
        self.choices.append(lines)
    }

    /// All answers, by item and sample; an item that lacks one ends them.
    pub fn answers(&self, keys: Keys<'_>) -> Vec<Vec<Completion>> {
        let one = |item: usize, sample: u64| {
            let found = self.answers.get(&keys.answer(item, sample))?;
            // What a judge sees begins as the answer was made to begin.
            let text = format!("{}{}", keys.suite.opening, found.text);
            Some(Completion { text, n_tokens: found.n_tokens, finish: found.finish })
        };
        let of = |item| {
            (0..keys.suite.n_samples as u64).map(|sample| one(item, sample)).collect::<Option<Vec<_>>>()
        };
        (0..keys.suite.prompts.len()).map_while(of).collect()
    }

    pub fn texts(&self, keys: Keys<'_>) -> Vec<&Likely> {
        (0..keys.suite.texts.len()).map_while(|item| self.texts.get(&keys.text(item))).collect()
    }

    pub fn choices(&self, keys: Keys<'_>) -> Vec<&Likely> {
        (0..keys.suite.questions.len()).map_while(|item| self.choices.get(&keys.choice(item))).collect()
    }

    /// Takes over what a twin with the same weights has said.
    pub fn take_over(&mut self, keys: Keys<'_>, twin: &Self, its: Keys<'_>) -> Result<(), FolderError> {
        let found = self.missing_answers(keys).into_iter().filter_map(|(item, sample)| {
            Some((keys.answer(item, sample), twin.answers.get(&its.answer(item, sample))?.clone()))
        });
        let found: Vec<_> = found.collect();
        self.answers.append(found)?;
        let texts = self.missing_texts(keys).into_iter();
        let texts: Vec<_> = texts
            .filter_map(|item| Some((keys.text(item), twin.texts.get(&its.text(item))?.clone())))
            .collect();
        self.texts.append(texts)?;
        let choices = self.missing_choices(keys).into_iter();
        let choices: Vec<_> = choices
            .filter_map(|item| Some((keys.choice(item), twin.choices.get(&its.choice(item))?.clone())))
            .collect();
        self.choices.append(choices)
    }
}
