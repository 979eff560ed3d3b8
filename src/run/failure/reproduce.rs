//! Why a run cannot be made again.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// Why a run cannot be made again, or was not.
#[derive(Debug, Error, Diagnostic)]
pub enum ReproduceError {
    #[error("`{}` holds no run: {why}", folder.display())]
    #[diagnostic(code(run::no_run), help("{help}"))]
    NotARun { folder: PathBuf, why: String, help: String },
    #[error("`{}` is a study, and {why}", folder.display())]
    #[diagnostic(code(reproduce::study), help("name one of its cells with `--cell`: {cells}"))]
    Study { folder: PathBuf, why: String, cells: String },
    #[error("`{name}` is no longer what the run read: `{}` has {}, and the run had {}", path.display(), short(found), short(recorded))]
    #[diagnostic(
        code(reproduce::changed),
        help("put the file back as it was; `finetune diff` compares with a run of the file as it is now")
    )]
    Changed { name: String, path: PathBuf, recorded: String, found: String },
    #[error("{what} is no longer what the run had")]
    #[diagnostic(
        code(reproduce::other_template),
        help("`recipe.lock` and `manifest.json` of the run have the digests of what it read")
    )]
    OtherTemplate { what: String },
    #[error("the reproduction in `{}` is not equal to the run to the last bit", folder.display())]
    #[diagnostic(code(reproduce::not_equal), help("`reproduction.json` there has every number that moved"))]
    NotEqual { folder: PathBuf },
}

/// The beginning of a digest.
fn short(digest: &str) -> String {
    match digest.get(..12) {
        Some(start) => format!("sha256 {start}…"),
        None => "none".to_owned(),
    }
}
