//! `[train]`: how long, how fast, from which seed.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::{MethodKind, Place, RecipeError, bad};

/// The optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// Passes over the data; `steps` wins over it.
    pub epochs: f64,
    /// Optimizer steps of the whole schedule; 0 takes `epochs`.
    pub steps: usize,
    /// Stop after this step of the schedule; 0 runs it to its end.
    pub stop_at: usize,
    /// Sequences per optimizer step.
    pub batch: usize,
    /// The highest rate of the schedule.
    pub learning_rate: f64,
    /// LoRA+: how many times that rate an adapter's B learns at, and DoRA's row lengths; 0: the same rate for all.
    #[serde(skip_serializing_if = "is_default")]
    pub lora_plus: f64,
    /// After the warm-up: `cosine` or `linear` to 0, or `constant`.
    pub schedule: Schedule,
    /// Linear rise from 0: a share of the steps below 1, else a number of steps.
    pub warmup: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// AdamW's decay of the first and second moment.
    pub betas: [f64; 2],
    /// Added to the root of AdamW's second moment.
    pub epsilon: f64,
    /// What remembers the gradients: `adamw`, or `adamw_8bit`, whose two moments take a byte a number each in place of four.
    #[serde(skip_serializing_if = "is_default")]
    pub optimizer: OptimizerKind,
    /// The largest norm of all gradients together; 0 does not clip.
    pub clip: f64,
    /// Decides the split, the order, the adapter's start and the dropout.
    pub seed: u64,
    /// What stays as it is: places such as `["layers.4-7", "*.q_proj"]`. Full tuning gives these weights no gradient and
    /// no optimizer state, LoRA attaches no adapter there. Or `"auto"`: the layers that refusals hang on, found by the
    /// cosine probe on the base; `"auto:RUN"`: by the restore probe of that run.
    #[serde(deserialize_with = "places")]
    pub freeze: Vec<String>,
    /// The format activations are computed in: `auto`, `f32` or `bf16`.
    pub compute: Compute,
    /// What is computed again on the way back instead of kept in memory: `none`, every `block`, or `auto` by free memory.
    pub recompute: Recompute,
    /// Steps between two looks at the validation loss; 0 looks once, at the end.
    pub validate_every: usize,
    /// Steps between two checkpoints; 0 writes one every five minutes.
    pub checkpoint_every: usize,
    /// How many checkpoints are kept; 0 keeps all.
    pub keep_checkpoints: usize,
    /// Also keeps a moving average of the weights, which is a candidate and merged by `of=ema`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<Ema>,
}

/// An exponential moving average of the weights: θ̄ ← η·θ̄ + (1 − η)·θ after each step, from the weights before the
/// first one on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// The share of the schedule's steps after which what went into the average counts half; above 0 and at most 1.
    pub half_life: f64,
    /// What is averaged of an adapter. Full tuning has none, and averages every weight.
    #[serde(default)]
    pub lora: OfAdapter,
}

/// What is averaged of an adapter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OfAdapter {
    /// The weights with the adapter in them: four bytes for each number of an adapted weight.
    #[default]
    Exact,
    /// Its factors, each apart, which is an adapter again: the product of two averages is not the average of products.
    Factors,
}

impl Ema {
    /// 1 − η, what a step of a schedule of `steps` moves the average by, with `η = 0.5^(1 / (half_life · steps))`.
    pub fn share(&self, steps: usize) -> f64 {
        -(-std::f64::consts::LN_2 / (self.half_life * steps as f64)).exp_m1()
    }
}

/// How the frozen layers are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoFreeze {
    /// By the hidden states of normal and malicious prompts in the base.
    Cosine,
    /// By what was put back in the tuned model of this run folder.
    Restored(String),
}

impl AutoFreeze {
    /// What a word of `train.freeze` asks for, if it is none of a place.
    fn of(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == AUTO => Some(Self::Cosine),
            Some((AUTO, run)) if !run.is_empty() => Some(Self::Restored(run.to_owned())),
            _ => None,
        }
    }
}

/// The word of `train.freeze` for layers that are found.
const AUTO: &str = "auto";

/// Whether a setting is left out of what is written: so it leaves the keys and the records of runs of before alone.
fn is_default<T: Default + PartialEq>(setting: &T) -> bool {
    *setting == T::default()
}

/// A list of places, or the word alone.
fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Word(String),
        Places(Vec<String>),
    }
    match Written::deserialize(deserializer) {
        Ok(Written::Places(places)) => Ok(places),
        Ok(Written::Word(word)) if AutoFreeze::of(&word).is_some() => Ok(vec![word]),
        _ => {
            Err(D::Error::custom("expected places such as `[\"layers.4-7\"]`, `\"auto\"` or `\"auto:RUN\"`"))
        }
    }
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    #[default]
    Cosine,
    Linear,
    Constant,
}

/// What makes new weights of gradients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OptimizerKind {
    /// AdamW with its moments in f32.
    #[default]
    #[serde(rename = "adamw")]
    Adamw,
    /// AdamW with its moments in blocks of 8-bit codes: Dettmers et al. 2022, arXiv 2110.02861, as torchao's `AdamW8bit`.
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
}

/// The format activations are computed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    #[default]
    Auto,
    F32,
    Bf16,
}

/// What the way back computes again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Blocks, where keeping what they need would take more than half of the free memory.
    #[default]
    Auto,
    None,
    Block,
}

impl Default for Train {
    /// The paper's settings where it has them (Farn et al. 2024, section 4).
    fn default() -> Self {
        Self {
            epochs: 3.0,
            steps: 0,
            stop_at: 0,
            batch: 8,
            learning_rate: 1e-4,
            lora_plus: 0.0,
            schedule: Schedule::Cosine,
            warmup: 0.1,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            optimizer: OptimizerKind::Adamw,
            clip: 1.0,
            seed: 42,
            freeze: Vec::new(),
            compute: Compute::Auto,
            recompute: Recompute::Auto,
            validate_every: 0,
            checkpoint_every: 0,
            keep_checkpoints: 2,
            ema: None,
        }
    }
}

/// A step of a hundredth of a second would take eleven days for so many.
pub const MOST_STEPS: usize = 100_000_000;
/// Conversations in one step: sixteen times the largest batch that is told of.
const MOST_ROWS: usize = 1 << 20;

impl Train {
    /// The places that stay as they are.
    ///
    /// # Errors
    ///
    /// One is a broken pattern; the error is its text.
    pub fn frozen(&self) -> Result<Vec<Place>, String> {
        self.freeze.iter().map(|text| text.parse().map_err(|_| text.clone())).collect()
    }

    /// How the places that stay as they are are found, where the recipe does not name them.
    pub fn auto_freeze(&self) -> Option<AutoFreeze> {
        match self.freeze.as_slice() {
            [word] => AutoFreeze::of(word),
            _ => None,
        }
    }

    pub(super) fn check(&self, kind: MethodKind) -> Result<(), RecipeError> {
        if let Some(word) =
            self.freeze.iter().find(|word| self.freeze.len() > 1 && AutoFreeze::of(word).is_some())
        {
            let expected = "it to stand alone: it finds the places by itself";
            return Err(bad("train.freeze", format!("`{word}` beside places"), expected));
        }
        let positive = |key: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(bad(key, value, "a number above 0")),
        };
        positive("train.learning_rate", self.learning_rate)?;
        positive("train.epsilon", self.epsilon)?;
        if self.steps == 0 {
            positive("train.epochs", self.epochs)?;
        }
        self.check_lora_plus(kind)?;
        if self.batch == 0 || self.batch > MOST_ROWS {
            return Err(bad("train.batch", self.batch, "1 to 1048576"));
        }
        for (key, steps) in [("train.steps", self.steps), ("train.stop_at", self.stop_at)] {
            if steps > MOST_STEPS {
                return Err(bad(key, steps, "at most 100000000"));
            }
        }
        for (key, value) in [
            ("train.weight_decay", self.weight_decay),
            ("train.clip", self.clip),
            ("train.warmup", self.warmup),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(bad(key, value, "a number of at least 0"));
            }
        }
        if self.warmup >= 1.0 && self.warmup.fract() != 0.0 {
            return Err(bad("train.warmup", self.warmup, "a share below 1 or a whole number of steps"));
        }
        if self.betas.iter().any(|beta| !(0.0..1.0).contains(beta)) {
            return Err(bad(
                "train.betas",
                format!("{:?}", self.betas),
                "two numbers of at least 0 and below 1",
            ));
        }
        if let Some(ema) = self.ema.as_ref().filter(|ema| !(ema.half_life > 0.0 && ema.half_life <= 1.0)) {
            let expected = "a share of the run's steps above 0 and at most 1, such as 0.25";
            return Err(bad("train.ema.half_life", ema.half_life, expected));
        }
        if i64::try_from(self.seed).is_err() {
            return Err(bad("train.seed", self.seed, "at most 9223372036854775807"));
        }
        let places = self.frozen().map(drop);
        places.map_err(|text| bad("train.freeze", format!("`{text}`"), "a pattern such as `*.q_proj`"))
    }

    fn check_lora_plus(&self, kind: MethodKind) -> Result<(), RecipeError> {
        let expected = match (self.lora_plus, kind) {
            (0.0, _) => return Ok(()),
            (ratio, _) if !(ratio.is_finite() && ratio >= 1.0) => {
                "a number of at least 1, such as 16, or 0 for the same rate of A and B"
            }
            (_, MethodKind::Full) => "0 with `method.kind = \"full\"`, which has no B to learn faster",
            (_, MethodKind::Lora) => return Ok(()),
        };
        Err(bad("train.lora_plus", self.lora_plus, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::{Ema, OfAdapter};

    #[test]
    fn after_its_half_life_an_average_has_forgotten_half() {
        let ema = |half_life| Ema { half_life, lora: OfAdapter::Exact };
        for (half_life, steps) in [(0.25, 8), (0.25, 1000), (1.0, 7), (0.01, 300)] {
            let decay = 1.0 - ema(half_life).share(steps);
            let left = decay.powf(half_life * steps as f64);
            assert!((left - 0.5).abs() < 1e-12, "{half_life} of {steps}: {left}");
        }
        // The toy's 0.995 over 300 steps is a half-life of 0.46 of the run.
        assert!((ema(0.461).share(300) - 0.005).abs() < 1e-5);
        // One step of one: half of the start and half of what the step made.
        assert!((ema(1.0).share(1) - 0.5).abs() < 1e-15);
    }
}
