//! Why a guard cannot be used.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// Why a guard cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum GuardError {
    #[error("`{}` holds no guard: it has no `guard.json`", folder.display())]
    #[diagnostic(
        code(guard::not_a_guard),
        help("`finetune guard train` makes one; name its run folder, or `train/guard` inside")
    )]
    NotAGuard { folder: PathBuf },
    #[error("`{file}` of `{}` is not the one that the guard's threshold was fitted with", folder.display())]
    #[diagnostic(
        code(guard::other_files),
        help(
            "train the guard again, or take the folder as it was exported: the threshold is of those weights"
        )
    )]
    OtherFiles { folder: PathBuf, file: String },
    #[error("`{word}` is no token of the tokenizer in `{}`", folder.display())]
    #[diagnostic(code(guard::no_token), help("take the folder as `finetune guard train` exported it"))]
    NoToken { folder: PathBuf, word: String },
    #[error("`guard.candidates` names `{name}`, which is no candidate of this run")]
    #[diagnostic(code(guard::no_candidate), help("{help}"))]
    NoCandidate { name: String, help: String },
    #[error("`{}` has no column of requests that is known; its columns are {columns}", path.display())]
    #[diagnostic(code(guard::no_requests), help("name it: `--field prompt=COLUMN`"))]
    NoRequests { path: PathBuf, columns: String },
    #[error("`{}` has no column `{column}`; its columns are {columns}", path.display())]
    #[diagnostic(code(guard::no_column), help("name one of them with `--field`"))]
    NoColumn { path: PathBuf, column: String, columns: String },
    #[error("{place} has the label {found}, expected `harmful`, `safe`, true, false, 1 or 0")]
    #[diagnostic(
        code(guard::bad_label),
        help("change the label there, or name another column: `--field label=COLUMN`")
    )]
    BadLabel { place: String, found: String },
}

impl GuardError {
    /// Whether a word of the recipe or the command line is wrong, not the world.
    pub fn is_recipe(&self) -> bool {
        !matches!(self, Self::OtherFiles { .. } | Self::NoToken { .. })
    }
}
