//! Why a training cannot go on.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::event::Unwritable;
use crate::snapshot::SnapshotError;

/// Why a training cannot go on.
#[derive(Debug, Error, Diagnostic)]
pub enum TrainError {
    #[error("{what} at step {step} (learning rate {learning_rate:.1e})")]
    #[diagnostic(
        code(train::diverged),
        help(
            "lower `train.learning_rate`, lengthen `train.warmup` or set `train.clip`; the last checkpoint is kept"
        )
    )]
    Diverged { step: usize, what: String, learning_rate: f64 },
    #[error("weight `{name}` has a number that is none after step {step}")]
    #[diagnostic(
        code(train::not_finite),
        help(
            "lower `train.learning_rate`, lengthen `train.warmup` or set `train.clip`; the last checkpoint is kept"
        )
    )]
    NotFinite { name: String, step: usize },
    #[error("`{target}` of `method.targets` is none of the model's linear maps")]
    #[diagnostic(
        code(train::no_target),
        help("{help}; `all-linear` is all of them, `attn`, `mlp` and `layers.0-3` are some")
    )]
    NoTarget { target: String, help: String },
    #[error("`{target}` of `method.targets` is the model's `{module}`, which is not adapted")]
    #[diagnostic(
        code(train::not_adapted),
        help(
            "leave it out: adapters are for the linear maps of the layers, and `all-linear` is all of them; to train \
             `{module}` set `method.kind = \"full\"`"
        )
    )]
    NotAdapted { target: String, module: &'static str },
    #[error("`{place}` of `{key}` goes past the model's last layer, {last}")]
    #[diagnostic(
        code(train::past_the_layers),
        help("is the recipe for another model? Layers are counted from 0")
    )]
    PastTheLayers { key: &'static str, place: String, last: usize },
    #[error("`{place}` of `train.freeze` holds none of the weights that are trained")]
    #[diagnostic(code(train::nothing_to_freeze), help("{help}"))]
    NothingToFreeze { place: String, help: String },
    #[error("`train.freeze` leaves nothing to train")]
    #[diagnostic(
        code(train::all_frozen),
        help(
            "take a place out of {places}, or leave `train.freeze` away: `--plan` says how much is trained"
        )
    )]
    AllFrozen { places: String },
    #[error("checkpoint `{}` cannot be used: {why}", path.display())]
    #[diagnostic(
        code(train::bad_checkpoint),
        help(
            "remove that folder and `result.json` beside it; the run goes on from the checkpoint before it, or from the start"
        )
    )]
    BadCheckpoint { path: PathBuf, why: String },
    #[error("the checkpoints were made on `{made_on}` and this is `{device}`")]
    #[diagnostic(
        code(train::device_change),
        help("add `--allow-device-change` to go on all the same; the report will say so")
    )]
    DeviceChange { made_on: String, device: String },
    #[error("the samples are no longer what an earlier command found them to be")]
    #[diagnostic(code(train::other_samples), help("type the same command again: it looks at them anew"))]
    OtherSamples,
    #[error("no token of any of {n_pairs} pairs counts by the reward model's scores")]
    #[diagnostic(
        code(train::nothing_counts),
        help(
            "lower `objective.mask_threshold` or `mask_hysteresis`: `train/scores.json` of the run folder has the scores. A \
             reward model that was trained on comparisons alone has its zero anywhere"
        )
    )]
    NothingCounts { n_pairs: usize },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Unwritable(#[from] Unwritable),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Snapshot(#[from] SnapshotError),
}
