//! Why a self-test could not be made or did not pass.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::snapshot::SnapshotError;

/// Why a self-test could not be made or did not pass.
#[derive(Debug, Error, Diagnostic)]
pub enum SelftestError {
    #[error("there are no golden cases in `{}`", folder.display())]
    #[diagnostic(
        code(selftest::no_cases),
        help("give the folder that has `golden.safetensors` in its sub-folders")
    )]
    NoCases { folder: PathBuf },
    #[error("golden case `{}` is broken: {why}", path.display())]
    #[diagnostic(code(selftest::broken_case), help("make the case again"))]
    Broken { path: PathBuf, why: String },
    #[error("device `{device}` computes wrongly: {figures}")]
    #[diagnostic(
        code(selftest::wrong_device),
        help(
            "update its driver, or use `--device cpu`; `finetune doctor --selftest --device {device}` shows every figure"
        )
    )]
    WrongDevice { device: String, figures: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Snapshot(#[from] SnapshotError),
}
