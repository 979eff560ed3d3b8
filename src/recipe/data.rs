//! `[data]`: what is learnt, and which of its tokens.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::form::{Fields, Form, check_form};
use super::labelling::Labelling;
use super::refusal_mix::RefusalMix;
use super::{RecipeError, bad};

/// The training data and how it becomes tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A json, jsonl, csv, tsv, parquet or txt file, all but parquet also in gzip or zstd; here or a
    /// hub's: `datasets/org/name/FILE`.
    #[serde(default)]
    pub source: String,
    /// Several files instead of one, each with its share.
    #[serde(default)]
    pub mixture: Vec<Part>,
    /// `auto`, `messages`, `sharegpt`, `prompt-completion`, `alpaca`, `text`, `preference`, `safe-harmful` or
    /// `guard`.
    #[serde(default)]
    pub format: Form,
    /// The names that the file has for the fields of its form.
    #[serde(default)]
    pub fields: Fields,
    /// What is done to the conversations before some are drawn, such as `dedupe` or `refuse:0.03`, in order.
    #[serde(default)]
    pub transforms: Vec<String>,
    /// Benign requests of other files that are refused, mixed into what is trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal_mix: Option<RefusalMix>,
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
    /// What the template is given besides, such as `{ enable_thinking = false }`, in training and evaluation.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
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
    /// How a guard learns from labelled requests, which `format = "guard"` reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Labelling>,
}

/// One file of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub source: String,
    /// The share of an epoch's records that comes from this file; all shares are 1 together.
    pub share: f64,
    /// Whether its records may come several times an epoch, if there are too few for the share.
    #[serde(default)]
    pub repeat: bool,
    /// As in `[data]`.
    #[serde(default)]
    pub format: Form,
    /// As in `[data]`.
    #[serde(default)]
    pub fields: Fields,
    /// As in `[data]`, for this file alone; those of `[data]` come after.
    #[serde(default)]
    pub transforms: Vec<String>,
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

fn tenth() -> f64 {
    0.1 // The paper holds out a tenth.
}
fn own_template() -> String {
    "model".to_owned()
}
fn thousand() -> usize {
    1024 // The paper's cut-off.
}

/// What every chat template is given, and no recipe sets.
const TEMPLATE_NAMES: [&str; 6] =
    ["messages", "add_generation_prompt", "bos_token", "eos_token", "tools", "documents"];

/// How far the shares of a mixture may be from 1 together: three times 0.33 is meant as a third each.
const SHARES_OFF: f64 = 0.0101;

impl Data {
    /// The files to train on, each with its key in the recipe.
    pub fn sources(&mut self) -> impl Iterator<Item = (String, &mut String)> {
        let parts = self.mixture.iter_mut().enumerate();
        let parts = parts.map(|(i, part)| (format!("data.mixture.{i}.source"), &mut part.source));
        let one = ("data.source".to_owned(), &mut self.source);
        let refused = self.refusal_mix.iter_mut().flat_map(|mix| mix.sources.iter_mut().enumerate());
        let refused =
            refused.map(|(i, one)| (format!("data.refusal_mix.sources.{i}.source"), &mut one.source));
        std::iter::once(one).filter(|(_, source)| !source.is_empty()).chain(parts).chain(refused)
    }

    /// Whether labelled requests are learned, and so a guard.
    pub fn is_of_guard(&self) -> bool {
        self.format == Form::Guard || self.mixture.iter().any(|part| part.format == Form::Guard)
    }

    /// How a guard learns, if one does.
    pub fn labelling(&self) -> Option<Labelling> {
        self.is_of_guard().then(|| self.guard.clone().unwrap_or_default())
    }

    pub(super) fn check(&self) -> Result<(), RecipeError> {
        if !(0.0..1.0).contains(&self.validation) {
            return Err(bad("data.validation", self.validation, "a share of at least 0 and below 1"));
        }
        if self.max_tokens < 2 {
            return Err(bad("data.max_tokens", self.max_tokens, "at least 2"));
        }
        check_form("data", self.format, &self.fields)?;
        let taken = TEMPLATE_NAMES.into_iter().find(|name| self.chat_template_kwargs.contains_key(*name));
        if let Some(name) = taken {
            let expected = "to come from the data and the model; only names of the template's own";
            return Err(bad("data.chat_template_kwargs", format!("a value for `{name}`"), expected));
        }
        self.check_mixture()?;
        self.refusal_mix.as_ref().map_or(Ok(()), |mix| mix.check("data.refusal_mix."))?;
        match &self.date {
            Some(date) if chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_err() => {
                Err(bad("data.date", format!("`{date}`"), "a date such as `2026-01-31`"))
            }
            _ => Ok(()),
        }
    }

    fn check_mixture(&self) -> Result<(), RecipeError> {
        match (self.source.is_empty(), self.mixture.is_empty()) {
            (true, true) => {
                return Err(bad("data.source", "missing", "a file, or `[[data.mixture]]` tables"));
            }
            (false, false) => {
                let expected = "either this or `[[data.mixture]]` tables, not both";
                return Err(bad("data.source", format!("`{}`", self.source), expected));
            }
            (false, true) => return Ok(()),
            (true, false) => {}
        }
        let is_idle = self.validation_source.is_none();
        if is_idle && (self.format, &self.fields) != (Form::Auto, &Fields::new()) {
            let expected = "to stand in the `[[data.mixture]]` tables, each of which has its own";
            return Err(bad("data.format", "set together with `data.fields`", expected));
        }
        for (i, part) in self.mixture.iter().enumerate() {
            let key = format!("data.mixture.{i}");
            if !(part.share > 0.0 && part.share <= 1.0) {
                return Err(bad(&format!("{key}.share"), part.share, "a share above 0 and at most 1"));
            }
            check_form(&key, part.format, &part.fields)?;
        }
        let sum: f64 = self.mixture.iter().map(|part| part.share).sum();
        if (sum - 1.0).abs() > SHARES_OFF {
            return Err(bad(
                "data.mixture",
                format!("{sum:.3} in sum of its shares"),
                "shares that are 1 together",
            ));
        }
        Ok(())
    }
}
