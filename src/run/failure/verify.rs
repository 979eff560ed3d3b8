//! How a merged folder differs from its manifest.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// How a merged folder differs from its manifest.
#[derive(Debug, Error, Diagnostic)]
pub enum VerifyError {
    #[error("`{}` is not what was recorded: its BLAKE3 is {found}, expected {expected}", path.display())]
    #[diagnostic(code(merge::other_file), help("the file was changed after the merge; merge again"))]
    OtherFile { path: PathBuf, found: String, expected: String },
    #[error("weight `{name}` of `{}` is not what its inputs give", folder.display())]
    #[diagnostic(
        code(merge::other_weight),
        help("the folder was made from other inputs or by another version; merge again")
    )]
    OtherWeight { folder: PathBuf, name: String },
}
