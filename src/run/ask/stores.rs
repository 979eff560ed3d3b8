//! What one candidate has said so far, on disk: answers, log-likelihoods and choices, by what they depend on.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::pace::Left;
use crate::eval::Finish;
use crate::event::Unwritable;
use crate::run::plan::questions::Questions;
use crate::run::session::store::Store;
use crate::snapshot::digest::of_json;

/// One stored answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    pub item: String,
    #[serde(default, skip_serializing_if = "is_first")]
    pub sample: u64,
    pub text: String,
    pub n_tokens: usize,
    pub finish: Finish,
    /// Of a candidate behind a guard: what the guard made of the request, and who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Watched>,
}

/// A request as a guard saw it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// The probability that it is harmful.
    pub p_harm: f64,
    pub by: Speaker,
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    Guard,
    Model,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(sample: &u64) -> bool {
    *sample == 0
}

/// The log-likelihoods of an item's text, or of its options.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Likely {
    pub item: String,
    pub log_likelihood: Vec<f64>,
    pub n_tokens: Vec<usize>,
}

/// The stores of one suite.
#[derive(Debug)]
pub struct Stores {
    answers: Store<Answer>,
    /// Of references or pages.
    texts: Store<Likely>,
    /// Of options.
    choices: Store<Likely>,
}

/// What is asked of a candidate: by its weights, one suite.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    pub weights: &'a str,
    pub suite: &'a Questions,
}

impl Keys<'_> {
    pub fn answer(&self, item: usize, sample: u64) -> String {
        let (prompt, decoding) = (&self.suite.tokens().prompts[item], &self.suite.decoding);
        let mut parts = vec![json!(self.weights), json!(prompt), json!(decoding)];
        parts.extend((sample > 0).then(|| json!(sample)));
        short(&json!(parts))
    }

    pub fn text(&self, item: usize) -> String {
        let parts = self.suite.tokens().texts[item].iter().map(|sample| json!([sample.ids, sample.labels]));
        short(&json!([self.weights, parts.collect::<Vec<_>>()]))
    }

    pub fn choice(&self, item: usize) -> String {
        let choices = self.suite.tokens().choices[item].choices.iter();
        let choices = choices.map(|choice| json!([choice.ids, choice.n_context]));
        short(&json!([self.weights, choices.collect::<Vec<_>>()]))
    }

    /// The keys of everything that is asked.
    pub fn all(self) -> SuiteKeys {
        let samples = 0..self.suite.posed.n_samples as u64;
        SuiteKeys {
            answers: (0..self.suite.tokens().prompts.len())
                .map(|item| samples.clone().map(|sample| self.answer(item, sample)).collect())
                .collect(),
            texts: (0..self.suite.tokens().texts.len()).map(|item| self.text(item)).collect(),
            choices: (0..self.suite.tokens().choices.len()).map(|item| self.choice(item)).collect(),
        }
    }
}

/// The keys of what a candidate said to one suite.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuiteKeys {
    /// By item and sample.
    pub answers: Vec<Vec<String>>,
    /// By item.
    pub texts: Vec<String>,
    pub choices: Vec<String>,
}

fn short(value: &serde_json::Value) -> String {
    of_json(value)[..32].to_owned()
}

/// Whether a file beside answers holds what a judge found out about them.
pub fn is_of_judge(file: &str) -> bool {
    ["judge", "programs", "bert_score"].iter().any(|kind| file.ends_with(&format!(".{kind}.jsonl")))
}

/// Where a suite's answers, texts and choices are stored.
fn files(folder: &Path, suite: &str) -> [std::path::PathBuf; 3] {
    ["", ".likelihood", ".choices"].map(|kind| folder.join(format!("{suite}{kind}.jsonl")))
}

impl Stores {
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn open(folder: &Path, suite: &str) -> Result<Self, Unwritable> {
        let [answers, texts, choices] = files(folder, suite);
        Ok(Self {
            answers: Store::open(&answers)?,
            texts: Store::open(&texts)?,
            choices: Store::open(&choices)?,
        })
    }

    /// What is there by now, nothing touched: the stores may be another run's.
    pub fn peek(folder: &Path, suite: &str) -> Self {
        let [answers, texts, choices] = files(folder, suite);
        Self { answers: Store::peek(&answers), texts: Store::peek(&texts), choices: Store::peek(&choices) }
    }

    /// Items and samples without an answer.
    pub fn missing_answers(&self, keys: Keys<'_>) -> Vec<(usize, u64)> {
        let n_samples = keys.suite.posed.n_samples as u64;
        let all = (0..keys.suite.outline.prompts.len())
            .flat_map(|item| (0..n_samples).map(move |sample| (item, sample)));
        all.filter(|(item, sample)| self.answers.get(&keys.answer(*item, *sample)).is_none()).collect()
    }

    /// Items whose text was not measured.
    pub fn missing_texts(&self, keys: Keys<'_>) -> Vec<usize> {
        (0..keys.suite.outline.texts.len())
            .filter(|item| self.texts.get(&keys.text(*item)).is_none())
            .collect()
    }

    /// Items whose options were not measured.
    pub fn missing_choices(&self, keys: Keys<'_>) -> Vec<usize> {
        (0..keys.suite.outline.choices.len())
            .filter(|item| self.choices.get(&keys.choice(*item)).is_none())
            .collect()
    }

    pub fn n_missing(&self, keys: Keys<'_>) -> usize {
        self.missing_answers(keys).len() + self.missing_texts(keys).len() + self.missing_choices(keys).len()
    }

    /// What is left to compute.
    pub fn left(&self, keys: Keys<'_>) -> Left {
        let suite = keys.suite;
        let answers = self.missing_answers(keys);
        let prompts = answers.iter().map(|(item, _)| suite.tokens().prompts[*item].len());
        let texts = self.missing_texts(keys).into_iter().flat_map(|item| &suite.tokens().texts[item]);
        let options =
            self.missing_choices(keys).into_iter().flat_map(|item| &suite.tokens().choices[item].choices);
        let positions = prompts
            .chain(texts.map(|sample| sample.ids.len()))
            .chain(options.map(|choice| choice.ids.len()))
            .sum();
        Left { positions, answers: answers.len(), begun: 0 }
    }

    /// The lengths of the answers that are there, in tokens.
    pub fn lengths(&self, keys: Keys<'_>) -> Vec<usize> {
        let samples = keys.suite.posed.n_samples as u64;
        let all = (0..keys.suite.outline.prompts.len())
            .flat_map(|item| (0..samples).map(move |sample| (item, sample)));
        let found = all.filter_map(|(item, sample)| self.answers.get(&keys.answer(item, sample)));
        found.map(|answer| answer.n_tokens).collect()
    }

    pub fn put_answers(
        &mut self,
        lines: impl IntoIterator<Item = (String, Answer)>,
    ) -> Result<(), Unwritable> {
        self.answers.append(lines)
    }

    pub fn put_texts(&mut self, lines: impl IntoIterator<Item = (String, Likely)>) -> Result<(), Unwritable> {
        self.texts.append(lines)
    }

    pub fn put_choices(
        &mut self,
        lines: impl IntoIterator<Item = (String, Likely)>,
    ) -> Result<(), Unwritable> {
        self.choices.append(lines)
    }

    /// The answer, the text's and the options' log-likelihoods with these keys.
    pub fn answer(&self, key: &str) -> Option<&Answer> {
        self.answers.get(key)
    }

    pub fn text(&self, key: &str) -> Option<&Likely> {
        self.texts.get(key)
    }

    pub fn choice(&self, key: &str) -> Option<&Likely> {
        self.choices.get(key)
    }

    /// Takes over what a twin with the same weights has said; says how much that was.
    pub fn take_over(&mut self, keys: Keys<'_>, twin: &Self, its: Keys<'_>) -> Result<usize, Unwritable> {
        let answers = self.missing_answers(keys).into_iter().filter_map(|(item, sample)| {
            Some((keys.answer(item, sample), twin.answers.get(&its.answer(item, sample))?.clone()))
        });
        let answers: Vec<_> = answers.collect();
        let texts = self.missing_texts(keys).into_iter();
        let texts: Vec<_> = texts
            .filter_map(|item| Some((keys.text(item), twin.texts.get(&its.text(item))?.clone())))
            .collect();
        let choices = self.missing_choices(keys).into_iter();
        let choices: Vec<_> = choices
            .filter_map(|item| Some((keys.choice(item), twin.choices.get(&its.choice(item))?.clone())))
            .collect();
        let n = answers.len() + texts.len() + choices.len();
        self.answers.append(answers)?;
        self.texts.append(texts)?;
        self.choices.append(choices)?;
        Ok(n)
    }
}
