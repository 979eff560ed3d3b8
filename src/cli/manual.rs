//! `finetune completions` and `finetune man`: what shells and readers of manuals are told, from the same declarations as
//! `--help`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, print, progress};
use crate::event::Unwritable;
use crate::run::Failure;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh
    shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder that gets `finetune.1` and a page for each command
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs) {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut text);
    print(&String::from_utf8_lossy(&text));
}

/// Writes the manual.
///
/// # Errors
///
/// The disk refuses.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let unwritable = |source| Unwritable { folder: args.folder.clone(), source };
    std::fs::create_dir_all(&args.folder).map_err(unwritable)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(unwritable)?;
    progress::say(&format!("manual {}", args.folder.join("finetune.1").display()));
    Ok(())
}
