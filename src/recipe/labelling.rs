//! `[data.guard]`: how a guard learns from labelled requests.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How labelled requests are learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labelling {
    /// How many times the loss of a label counts that of another token.
    pub label_weight: f64,
    /// What the guard learns to say to harmful requests whose record has no answer.
    pub answer: String,
    /// How the threshold is found on what is held out: `f1` (the best F1), or `recall:0.95` (the highest threshold that
    /// finds so many of the harmful requests).
    pub threshold: FittedBy,
}

impl Default for Labelling {
    fn default() -> Self {
        Self {
            // A label is one token beside the twenty or so of an answer.
            label_weight: 4.0,
            answer: "I cannot help with that.".to_owned(),
            threshold: FittedBy::F1,
        }
    }
}

/// What the threshold of a guard is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FittedBy {
    F1,
    /// At least this share of the harmful requests.
    Recall(f64),
}

impl TryFrom<String> for FittedBy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no way to fit a threshold: `f1`, or `recall:0.95`");
        match text.split_once(':') {
            None if text == "f1" => Ok(Self::F1),
            Some(("recall", share)) => {
                let share: f64 = share.parse().map_err(|_| wrong())?;
                (share > 0.0 && share <= 1.0).then_some(Self::Recall(share)).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl From<FittedBy> for String {
    fn from(by: FittedBy) -> Self {
        by.to_string()
    }
}

impl fmt::Display for FittedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F1 => f.write_str("f1"),
            Self::Recall(share) => write!(f, "recall:{share}"),
        }
    }
}
