//! Why a reward model cannot score the tokens of answers.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// Why a reward model cannot score the tokens of answers.
#[derive(Debug, Error, Diagnostic)]
pub enum RewardError {
    #[error("`{}` is no reward model: it has no weight `score.weight`", folder.display())]
    #[diagnostic(
        code(reward::no_head),
        help(
            "take a folder that transformers saved of a model for sequence classification with one label \
             (`AutoModelForSequenceClassification`, `num_labels=1`){found}"
        )
    )]
    NoHead { folder: PathBuf, found: String },
    #[error("the head of `{}` has the shape {found:?}, expected [1, {width}]", folder.display())]
    #[diagnostic(
        code(reward::bad_head),
        help("a reward model says one number; a classifier of several labels has one row for each")
    )]
    BadHead { folder: PathBuf, found: Vec<usize>, width: usize },
    #[error("`{}` has another vocabulary than the base: {why}", folder.display())]
    #[diagnostic(
        code(reward::other_vocabulary),
        help(
            "scores are of the base's tokens: take a reward model with the base's tokenizer, or write scores into the file \
             (`chosen_scores`, `rejected_scores`) and leave `objective.reward_model` out"
        )
    )]
    OtherVocabulary { folder: PathBuf, why: String },
}
