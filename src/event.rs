//! What happens during a run, for whoever listens: a terminal, a log, `events.jsonl`.

use std::path::PathBuf;

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One thing that happened. Numbers are final: a listener never computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage began; `total` counts what [`Event::Progress`] will count, besides those that were there already.
    Stage {
        name: String,
        total: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reused: Option<u64>,
    },
    /// So many of the stage's parts are done, and so long it will take from here, where that was measured.
    Progress { done: u64, remaining: Option<Remaining> },
    /// The stage is over.
    StageDone { name: String, elapsed_s: f64 },
    /// A stage's result was there already, in so many parts where they are counted.
    Reused {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parts: Option<u64>,
    },
    /// An optimizer step.
    Step(StepEvent),
    /// So many of the parts of a look at the validation loss are done.
    Validating { done: usize, total: usize },
    /// So many of the parts of what the base says of all samples are done.
    Reference { done: usize, total: usize },
    /// So many of the parts of a reward model's scores of all samples are done.
    Scores { done: usize, total: usize },
    /// A look at the validation loss.
    Validation { step: usize, loss: f64, tokens: usize },
    /// A checkpoint is complete.
    Checkpoint { step: usize, elapsed_s: f64 },
    /// Training went on from a checkpoint.
    Resumed { step: usize },
    /// Something the user should know.
    Note { text: String },
    /// The run has its report.
    RunDone,
    /// So many of a study's cells are done.
    Cells { done: usize, all: usize },
    /// A cell of a study begins, the `nth` of the `of` that were missing, counted from 1.
    Cell { name: String, nth: usize, of: usize },
}

/// Seconds until the end, as far as was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Remaining {
    /// Of the stage.
    pub stage_s: f64,
    /// Of the stage and all like it that follow.
    pub run_s: f64,
}

/// The figures of one optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    /// Counted from 1.
    pub step: usize,
    /// Steps until training stops.
    pub last_step: usize,
    pub epoch: f64,
    /// Mean cross-entropy of the step's trained tokens, in nats.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    pub learning_rate: f64,
    /// Trained tokens of the step.
    pub trained_tokens: usize,
    /// Real tokens of the step, trained or not.
    pub tokens: usize,
    /// Share of the computed positions that were padding.
    pub padding: f64,
    pub elapsed_s: f64,
    /// Of a preference loss.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairFigures>,
    /// What penalties added to the loss, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
}

/// What a model thinks of a step's pairs, as means: a reward is β times the log-probability gained on the base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairFigures {
    pub reward_chosen: f64,
    pub reward_rejected: f64,
    pub reward_margin: f64,
    /// The share of pairs in which the chosen answer has the higher reward.
    pub reward_accuracy: f64,
}

/// Whoever is told.
pub type Listener<'a> = dyn FnMut(Event) + 'a;

/// Whoever writes down what happens; what cannot be written down ends the work.
pub type Recorder<'a> = dyn FnMut(Event) -> Result<(), Unwritable> + 'a;

/// A folder that is written to refuses.
#[derive(Debug, Error, Diagnostic)]
#[error("cannot write in `{}`", folder.display())]
#[diagnostic(
    code(run::unwritable),
    help("check its rights and the space on its disk, or name another with `--out`")
)]
pub struct Unwritable {
    pub folder: PathBuf,
    pub source: std::io::Error,
}
