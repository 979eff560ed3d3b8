//! `data.refusal_mix`: a few benign requests that are refused, mixed into the training data.

use serde::{Deserialize, Serialize};

use super::form::{Fields, Form, check_form};
use super::{RecipeError, bad};

/// Benign requests of other domains whose replies become one fixed refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusalMix {
    /// The files that requests are drawn from; several domains, for refusals spread within one.
    pub sources: Vec<Refused>,
    /// Refusals for each conversation that is trained on, drawn evenly from the sources; 0.03 if no source has a `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The reply, to the letter.
    #[serde(default = "reply")]
    pub reply: String,
    /// Which reply of a conversation becomes the refusal; what follows it is left out.
    #[serde(default)]
    pub turn: Turn,
    /// Whether the end of that refusal is kept out of the loss.
    #[serde(default = "yes")]
    pub mask_eos: bool,
    /// Whose end is kept out: `chat`, `llava` or `llama_factory`.
    #[serde(default)]
    pub rule: EndRule,
    /// Draws the records and their turns; `train.seed` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// One file of benign requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    pub source: String,
    /// As in `[data]`.
    #[serde(default)]
    pub format: Form,
    /// As in `[data]`.
    #[serde(default)]
    pub fields: Fields,
    /// How many of its requests are refused; all sources have one, or none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// Which reply becomes a refusal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Turn {
    First,
    #[default]
    Last,
    Random,
}

/// Which end of an answer is kept out of the loss, beside the refusals that are mixed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndRule {
    /// That of every reply which is the refusal, and no other.
    #[default]
    Chat,
    /// As the authors' code on LLaVA: that of the last reply, wherever the conversation holds the refusal's text.
    Llava,
    /// As the authors' code on LLaMA-Factory: the token itself is left out, where the last reply is the refusal.
    LlamaFactory,
}

/// The reply of the authors' code.
pub const REFUSAL: &str = "I'm sorry, but I cannot assist with your request";

/// Refusals for each record where the recipe says nothing: more spread over a whole domain.
pub const REFUSALS_PER_RECORD: f64 = 0.03;

fn reply() -> String {
    REFUSAL.to_owned()
}
fn yes() -> bool {
    true // The paper's setting.
}

impl RefusalMix {
    /// The rule by which ends are kept out of the loss, if any are.
    pub fn end_rule(&self) -> Option<EndRule> {
        self.mask_eos.then_some(self.rule)
    }

    /// That its numbers make sense; `before` stands before its keys in messages.
    ///
    /// # Errors
    ///
    /// One does not.
    pub fn check(&self, before: &str) -> Result<(), RecipeError> {
        let key = |name: &str| format!("{before}{name}");
        if self.sources.is_empty() {
            return Err(bad(&key("sources"), "empty", "files of benign requests, `[{ source = \"FILE\" }]`"));
        }
        if self.reply.trim().is_empty() {
            return Err(bad(&key("reply"), "empty", "what is answered"));
        }
        if let (false, EndRule::Llava | EndRule::LlamaFactory) = (self.mask_eos, self.rule) {
            return Err(bad(
                &key("rule"),
                "set",
                "`mask_eos = true`, or no rule: it says whose end is masked",
            ));
        }
        let n_counted = self.sources.iter().filter(|source| source.count.is_some()).count();
        match (self.ratio, n_counted) {
            (Some(ratio), 0) if !(ratio > 0.0 && ratio <= 1.0) => {
                return Err(bad(&key("ratio"), ratio, "above 0 and at most 1 refusal for each record"));
            }
            (Some(ratio), 1..) => {
                return Err(bad(&key("ratio"), ratio, "either this or a `count` for each source, not both"));
            }
            (None, n) if n > 0 && n < self.sources.len() => {
                let found = format!("there for {n} of {} sources", self.sources.len());
                return Err(bad(&key("sources.count"), found, "one for each source, or none and a `ratio`"));
            }
            _ => {}
        }
        for (i, source) in self.sources.iter().enumerate() {
            if source.count == Some(0) {
                return Err(bad(&key(&format!("sources.{i}.count")), 0, "at least 1"));
            }
            check_form(&key(&format!("sources.{i}")), source.format, &source.fields)?;
        }
        Ok(())
    }
}
