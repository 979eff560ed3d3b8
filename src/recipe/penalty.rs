//! `objective.kl` and `objective.asft`: what is added to the loss of every step, whatever the objective.

use serde::{Deserialize, Serialize};

use super::{Fields, Form, Merge, Method, MethodKind, RecipeError, Variant, bad, merge::Helper};

/// The distance of the model's next tokens from the base's, at the answers of given conversations, or where answers
/// to given prompts would begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kl {
    /// The conversations or prompts: a file in any form that `[data]` has.
    pub source: String,
    /// As in `[data]`; prompts without answers are `fields = { prompt = "…", completion = "" }`.
    #[serde(default)]
    pub format: Form,
    /// As in `[data]`.
    #[serde(default)]
    pub fields: Fields,
    /// What the mean over all positions of a step is multiplied by.
    #[serde(default = "one")]
    pub weight: f64,
    /// What logits are divided by.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Which of the two is the measure: `base-to-model` is KL(base ‖ model).
    #[serde(default)]
    pub direction: Direction,
    /// Conversations in a step.
    #[serde(default = "eight")]
    pub batch: usize,
}

/// From which distribution to which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// KL(base ‖ model): the model must not lose what the base would say.
    #[default]
    BaseToModel,
    /// KL(model ‖ base): the model must not say what the base would not.
    ModelToBase,
}

/// How far an adapter's update leads out of the alignment: AsFT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asft {
    /// The model that the base was aligned from; absent, that of `merge.models`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unaligned: Option<String>,
    /// What the penalty is multiplied by.
    #[serde(default = "one")]
    pub weight: f64,
    /// `relative` (to each update), `mean` (over matrices), `sum` (as the authors' program) or `norm` (as the paper).
    #[serde(default)]
    pub measure: Measure,
    /// What stands for the directions of the alignment: `weighted` (as the authors' program) or `exact` (as the paper).
    #[serde(default, skip_serializing_if = "Projection::is_weighted")]
    pub projection: Projection,
    /// Whether the update is taken with alpha / rank, which the authors' program leaves out; `relative` has no scale.
    #[serde(default)]
    pub scaled: bool,
}

/// What is made of the matrices' parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The mean of ‖(I − C) Δ‖² / ‖Δ‖².
    #[default]
    Relative,
    /// The mean of ‖(I − C) Δ‖².
    Mean,
    /// Its sum: it grows with the model.
    Sum,
    /// The sum of the norms, not squared.
    Norm,
}

/// What is taken out of an update before it is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// C = V Vᵀ / ‖V‖ of it: the directions of the alignment by their weight.
    #[default]
    Weighted,
    /// All that lies in the space of V's columns; where V has full row rank nothing is left to be measured.
    Exact,
}

impl Projection {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_weighted(&self) -> bool {
        *self == Self::Weighted
    }
}

fn one() -> f64 {
    1.0
}
fn eight() -> usize {
    8
}

impl Kl {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        for (key, value) in [("weight", self.weight), ("temperature", self.temperature)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(bad(&format!("objective.kl.{key}"), value, "a number above 0"));
            }
        }
        if self.batch == 0 || self.batch > 1 << 20 {
            return Err(bad("objective.kl.batch", self.batch, "1 to 1048576"));
        }
        super::form::check_form("objective.kl", self.format, &self.fields)
    }
}

impl Asft {
    /// The model that the base was aligned from.
    pub fn unaligned<'r>(&'r self, merge: &'r Merge) -> Option<&'r String> {
        self.unaligned.as_ref().or_else(|| merge.models.get(&Helper::Unaligned))
    }

    pub(super) fn check(&self, method: &Method, merge: &Merge) -> Result<(), RecipeError> {
        if !(self.weight.is_finite() && self.weight > 0.0) {
            return Err(bad("objective.asft.weight", self.weight, "a number above 0"));
        }
        if method.kind == MethodKind::Full || method.variant == Variant::Dora {
            let expected = "an update B A of its own: `method.kind = \"lora\"`, and no `variant = \"dora\"`";
            return Err(bad("objective.asft", "set without one", expected));
        }
        if self.unaligned(merge).is_none() {
            let expected =
                format!("a folder or a hub's id, here or in `merge.models`: {}", Helper::Unaligned.origin());
            return Err(bad("objective.asft.unaligned", "missing", &expected));
        }
        Ok(())
    }
}
