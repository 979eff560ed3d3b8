//! What a candidate is asked, what it answered, and what a judge says of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::generate::Finish;

/// One thing to ask a candidate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The same for the same row of the same file, in every run: pairs are made by it.
    pub id: String,
    /// The text of the user's turn, before any chat template.
    pub prompt: String,
    /// The right answer as the file has it, where there is one.
    pub reference: Option<String>,
    /// The file's own grouping, such as a kind of harm; rates are also given by it.
    pub category: Option<String>,
    /// What stands before the examples, or before the prompt.
    pub description: String,
    /// Worked examples, each a prompt and its answer.
    pub shots: Vec<(String, String)>,
    /// The options, where one is to be chosen.
    pub choices: Option<MultipleChoice>,
    /// What a judge needs besides: a program's tests, instructions to follow, calls to make.
    pub details: Value,
    /// How its answers begin, where its suite takes that from a field of the file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub opening: String,
}

impl Item {
    /// The right answers, where a file has several; a judge takes the one that fits best.
    pub fn references(&self) -> impl Iterator<Item = &str> + Clone {
        let several = self.details["references"].as_array().map_or(&[][..], Vec::as_slice);
        let one = self.reference.as_deref().filter(|_| several.is_empty());
        several.iter().filter_map(Value::as_str).chain(one)
    }
}

/// Options of which one is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultipleChoice {
    /// As they stand behind the prompt, without what joins the two.
    pub texts: Vec<String>,
    /// The place of the right one.
    pub gold: usize,
}

/// What a candidate answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The answer, cut at the stop strings.
    pub text: String,
    /// New tokens, the stop token not counted.
    pub n_tokens: usize,
    pub finish: Finish,
}

/// A judge's answer to its own question ("was it refused?", "is it right?", "how good is it?").
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Yes,
    No,
    /// The number that was asked for.
    Score(f64),
    /// The judge found nothing to decide on. Such an item stays in the denominator and is counted.
    Unscored,
}
