//! `finetune fetch`: models and data sets of a hub, into the cache.

use clap::Args;

use super::{print, progress};
use crate::hub::{Hub, HubError, Name, RepoKind, Wanted, is_revision};
use crate::run::Failure;

/// What is fetched.
#[derive(Debug, Args)]
#[command(
    after_help = "The cache is Python's: HF_HOME, or ~/.cache/huggingface. HF_ENDPOINT names another hub. HF_TOKEN has a token,\n\
    or the file that `hf auth login` writes. HF_HUB_OFFLINE=1 forbids the network."
)]
pub struct FetchArgs {
    /// org/model, org/model@revision, datasets/org/name, or a file or pattern of it:
    /// datasets/org/name/train-*.jsonl
    #[arg(value_name = "MODEL|DATA", required = true)]
    names: Vec<String>,
    /// A branch, a tag or a commit, for names without their own
    #[arg(long, value_name = "REVISION", default_value = "main")]
    revision: String,
}

/// Brings what the cache lacks and prints the folders, one a line.
///
/// # Errors
///
/// A name is none, the hub refuses or cannot be reached, or the disk refuses.
pub fn fetch(args: &FetchArgs) -> Result<(), Failure> {
    let read = |text: &String| Name::parse(text).ok_or_else(|| HubError::BadName { name: text.clone() });
    if !is_revision(&args.revision) {
        return Err(HubError::BadName { name: format!("{}@{}", args.names[0], args.revision) }.into());
    }
    let names = args.names.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let hub = Hub::from_env()?;
    for name in names {
        let name = if name.revision == "main" { name.at(&args.revision) } else { name };
        let wanted = match name.kind {
            RepoKind::Model => Wanted::Model,
            RepoKind::Dataset => Wanted::Data,
        };
        let mut transfers = progress::Transfers::default();
        let fetched = hub.fetch(&name, wanted, &mut |transfer| transfers.show(transfer))?;
        progress::say(&format!("{name} is at commit {}", fetched.commit));
        print(&fetched.folder.display().to_string());
    }
    Ok(())
}
