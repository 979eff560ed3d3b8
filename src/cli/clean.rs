//! `finetune clean`: what can be removed, and removing it.

use std::path::PathBuf;

use clap::Args;

use super::{pretty, print, progress};
use crate::run::Failure;
use crate::run::clean::clean as cleaned;

#[derive(Debug, Args)]
pub struct CleanArgs {
    /// The folder of a run or of a study
    #[arg(value_name = "RUN|STUDY")]
    folder: PathBuf,
    /// Remove what is listed
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists what can go, and removes it if told.
///
/// # Errors
///
/// The folder is none of a run or a study, a process works there, or the disk refuses.
pub fn clean(args: &CleanArgs) -> Result<(), Failure> {
    let found = cleaned(&args.folder, args.yes)?;
    print(&match args.json {
        true => pretty(&found),
        false => found.terminal(progress::width()),
    });
    Ok(())
}
