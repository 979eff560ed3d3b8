//! Why a run folder cannot be used.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::event::Unwritable;

/// Why a run folder cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum FolderError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Unwritable(#[from] Unwritable),
    #[error("process {pid} is working in `{}`", folder.display())]
    #[diagnostic(code(run::busy), help("wait for it, or name another folder with `--out`"))]
    Busy { folder: PathBuf, pid: String },
    #[error("`{}` is not empty and no run folder", folder.display())]
    #[diagnostic(
        code(run::not_a_run),
        help("name a new folder with `--out`; a run sweeps its own of what a kill left there")
    )]
    NotARun { folder: PathBuf },
    #[error("run folder `{}` belongs to another run: {why}", folder.display())]
    #[diagnostic(
        code(run::other_run),
        help("name another folder with `--out`; merges and evaluations may change, what is trained may not")
    )]
    OtherRun { folder: PathBuf, why: String },
    #[error("`{}` is no finished training: {why}", folder.display())]
    #[diagnostic(code(run::no_training), help("{help}"))]
    NoTraining { folder: PathBuf, why: String, help: String },
}
