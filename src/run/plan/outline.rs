//! How long a suite's questions are as tokens: all that a plan needs of them, kept from one command to the next, so
//! that they need not be written again before they are asked.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::kept;
use super::posed::Posed;
use crate::data::Sample;
use crate::eval::Form;
use crate::generate::Question;
use crate::snapshot::digest::of_bytes;
use crate::snapshot::tokenizer::Tokenizer;

/// A suite's questions as tokens.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// By item, where answers are written.
    pub prompts: Vec<Vec<u32>>,
    /// By item, where an option is chosen.
    pub choices: Vec<Question>,
    /// By item, the texts whose log-likelihood is measured, in as many parts as windows; empty where none are.
    pub texts: Vec<Vec<Sample>>,
}

impl Written {
    /// Every row of tokens that is asked.
    pub fn rows(&self) -> impl Iterator<Item = &Vec<u32>> {
        let choices = self.choices.iter().flat_map(|question| &question.choices).map(|choice| &choice.ids);
        self.prompts.iter().chain(choices).chain(self.texts.iter().flatten().map(|text| &text.ids))
    }

    /// The digest of everything that a model reads.
    pub fn digest(&self) -> String {
        // Where answers are written, texts are the references.
        let n_references = if self.prompts.is_empty() { 0 } else { self.texts.iter().flatten().count() };
        let n_read = self.rows().count() - n_references;
        let rows: Vec<&Vec<u32>> = self.rows().take(n_read).collect();
        of_bytes(&serde_json::to_vec(&rows).expect("numbers are JSON"))
    }
}

/// Questions in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outline {
    /// Of everything that a model reads.
    pub sha256: String,
    /// By item, tokens of its prompt, where answers are written.
    pub prompts: Vec<usize>,
    /// By item, tokens of its longest option with the question, and of all of them, where one is chosen.
    pub choices: Vec<[usize; 2]>,
    /// By item, tokens of the texts whose log-likelihood is measured.
    pub texts: Vec<usize>,
    /// Reference answers that are longer than answers may be.
    pub n_long: usize,
    /// Items whose opening has fewer tokens than was asked for.
    pub n_short: usize,
    /// The mean length of the first references.
    pub reference: Option<f64>,
    /// Where it is kept.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

/// References whose length is looked at, to guess that of answers.
const REFERENCES: usize = 50;

impl Outline {
    /// Counts what was written; an answer may have `most` tokens.
    pub fn of(written: &Written, posed: &Posed, most: usize, tokenizer: &Tokenizer) -> Self {
        let longest = |question: &Question| {
            let lengths = question.choices.iter().map(|choice| choice.ids.len());
            [lengths.clone().max().unwrap_or(0), lengths.sum()]
        };
        let length = |text: &String| tokenizer.encode(text).ok().map(|ids| ids.len());
        let is_answered = posed.suite.task.form == Form::Answer;
        let n_looked_at = if is_answered { posed.items.len() } else { REFERENCES };
        let references = posed.items.iter().filter_map(|item| item.reference.as_ref());
        let references: Vec<&String> = references.take(n_looked_at).collect();
        let lengths: Vec<Option<usize>> = references.par_iter().map(|text| length(text)).collect();
        let n_long = lengths.iter().flatten().filter(|n| is_answered && **n > most).count();
        let first: Vec<usize> = lengths.into_iter().take(REFERENCES).flatten().collect();
        let n_first = first.len();
        let mean = || first.iter().sum::<usize>() as f64 / n_first as f64;
        let wanted = posed.asked.prefill_tokens.filter(|_| posed.asked.prefill_field.is_some());
        let fewer = |text: &String| wanted.is_some_and(|wanted| length(text).is_some_and(|n| n < wanted));
        let fewer = |n_short: usize, text: &String| n_short + usize::from(fewer(text));
        Self {
            sha256: written.digest(),
            prompts: written.prompts.iter().map(Vec::len).collect(),
            choices: written.choices.iter().map(longest).collect(),
            texts: written.texts.iter().map(|parts| parts.iter().map(|text| text.ids.len()).sum()).collect(),
            n_long,
            n_short: posed.items.iter().map(|item| &item.opening).fold(0, fewer),
            reference: (n_first > 0).then(mean),
            path: None,
        }
    }

    /// Forgets what is kept of it.
    pub fn forget(&self) {
        kept::forget(self.path.as_ref());
    }
}
