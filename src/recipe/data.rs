//! `[data]`: what is learnt, and which of its tokens.

use serde::{Deserialize, Serialize};

use super::{RecipeError, bad};

/// The training data and how it becomes tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A json, jsonl or gzipped file, here or a hub's: `datasets/org/name/FILE`.
    pub source: String,
    /// `auto`, `messages`, `prompt-completion` or `alpaca`.
    #[serde(default = "auto")]
    pub format: String,
    /// The names of the two fields of a `prompt-completion` file.
    #[serde(default)]
    pub fields: Fields,
    /// Use only this many records, drawn by the seed; 0 is all.
    #[serde(default)]
    pub limit: usize,
    /// The share of the records that is held out to watch the loss.
    #[serde(default = "tenth")]
    pub validation: f64,
    /// A file of its own to watch the loss on, instead of a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_source: Option<String>,
    /// `model` is the checkpoint's own chat template, `none` joins prompt and completion, else a file.
    #[serde(default = "own_template")]
    pub template: String,
    /// The date that templates which print one are given, `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// A system message put before every conversation that has none; empty for none.
    #[serde(default)]
    pub system: String,
    /// Which tokens the loss covers: `completion` (the last answer), `assistant` (every answer) or `all`.
    #[serde(default)]
    pub loss_on: LossOn,
    /// What happens to a sample above `max_tokens`: `error`, `drop` or `truncate`.
    #[serde(default)]
    pub too_long: TooLong,
    /// The most tokens a sample may have.
    #[serde(default = "thousand")]
    pub max_tokens: usize,
}

/// The fields of a record that hold the two halves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    pub prompt: String,
    pub completion: String,
}

impl Default for Fields {
    fn default() -> Self {
        Self { prompt: "prompt".to_owned(), completion: "completion".to_owned() }
    }
}

/// Which tokens the loss covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossOn {
    #[default]
    Completion,
    Assistant,
    All,
}

/// What happens to a sample above the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TooLong {
    #[default]
    Error,
    Drop,
    Truncate,
}

fn auto() -> String {
    "auto".to_owned()
}
fn tenth() -> f64 {
    0.1 // The paper holds out a tenth.
}
fn own_template() -> String {
    "model".to_owned()
}
fn thousand() -> usize {
    1024 // The paper's cut-off.
}

impl Data {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        if !(0.0..1.0).contains(&self.validation) {
            return Err(bad("data.validation", self.validation, "a share of at least 0 and below 1"));
        }
        if self.max_tokens < 2 {
            return Err(bad("data.max_tokens", self.max_tokens, "at least 2"));
        }
        let formats = ["auto", "messages", "prompt-completion", "alpaca"];
        if !formats.contains(&self.format.as_str()) {
            return Err(bad(
                "data.format",
                format!("`{}`", self.format),
                &format!("one of {}", formats.join(", ")),
            ));
        }
        match &self.date {
            Some(date) if chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_err() => {
                Err(bad("data.date", format!("`{date}`"), "a date such as `2026-01-31`"))
            }
            _ => Ok(()),
        }
    }
}
