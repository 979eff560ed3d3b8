//! Why a file that a recipe names cannot be had.

use miette::Diagnostic;
use thiserror::Error;

use crate::snapshot::SnapshotError;

/// Why a file that a recipe names cannot be had.
#[derive(Debug, Error, Diagnostic)]
pub enum SourceError {
    #[error("`{key}` names `{name}`, which is not there")]
    #[diagnostic(code(source::not_found), help("{help}"))]
    NotFound { key: String, name: String, help: String },
    #[error("`{key}` names `{name}`, a whole repository of the hub, expected one file of it")]
    #[diagnostic(
        code(source::whole_repository),
        help("write `datasets/org/name/FILE`; `finetune fetch {name}` shows what there is")
    )]
    WholeRepository { key: String, name: String },
    #[error("cannot unpack the shipped file `{name}`")]
    #[diagnostic(
        code(source::unpack),
        help("`XDG_CACHE_HOME` or `HOME` must name a folder that can be written")
    )]
    Unpack { name: String, source: SnapshotError },
}
