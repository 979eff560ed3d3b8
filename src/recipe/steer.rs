//! `[steer]`: which candidates are also asked while their hidden states are steered.

use serde::{Deserialize, Serialize};

use super::{RecipeError, bad};

/// What stands for every merge among the candidates.
pub const MERGES: &str = "merges";

/// Steering by stored vectors: every candidate that is named gets a twin, `NAME+steer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// What `finetune steer fit` wrote.
    pub vectors: String,
    /// How far states are pushed, in lengths of the vectors; the file's own if absent. 0 changes nothing, bit for bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// From which score on a prompt counts as harmful: the file's own if absent, and no higher than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The layers that are steered, `[from, to]`, both ends included; the file's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<[usize; 2]>,
    /// From which token on states are pushed.
    #[serde(default, skip_serializing_if = "First::is_prompt_end")]
    pub first: First,
    /// Who is steered, by the names of reports; `merges` stands for all merges, and absent means everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Vec<String>>,
}

/// The first token whose states are pushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// The prompt's last, from which the answer's first token follows.
    #[default]
    PromptEnd,
    /// The answer's first.
    Answer,
}

impl First {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_prompt_end(&self) -> bool {
        *self == Self::PromptEnd
    }
}

impl Steer {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        // Without a bound below 0 the classifier's decision could be turned round: what it finds harmful would be freed
        // of its refusal.
        if let Some(alpha) = self.alpha.filter(|alpha| !(alpha.is_finite() && *alpha >= 0.0)) {
            return Err(bad(
                "steer.alpha",
                alpha,
                "0 or more; which way a prompt is pushed the classifier says",
            ));
        }
        if let Some(threshold) = self.threshold.filter(|threshold| !(-1.0..=1.0).contains(threshold)) {
            return Err(bad("steer.threshold", threshold, "a mean of cosines, from -1 to 1"));
        }
        if let Some([from, to]) = self.layers.filter(|[from, to]| from > to) {
            return Err(bad(
                "steer.layers",
                format!("[{from}, {to}]"),
                "a first and a last layer, such as [10, 19]",
            ));
        }
        match &self.candidates {
            Some(names) if names.is_empty() => {
                Err(bad("steer.candidates", "empty", "names of candidates; without the key all are steered"))
            }
            _ => Ok(()),
        }
    }
}
