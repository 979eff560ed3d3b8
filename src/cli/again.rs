//! This program as other processes start it: on the nodes of a cluster, on several devices.

use std::path::PathBuf;

use super::RunArgs;
use crate::run::Failure;
use crate::run::failure::StudyError;
use crate::run::study::slurm::Start;

/// The command line that processes of a study start this program with, on this device if one is named.
pub(super) fn start(args: &RunArgs, device: Option<&str>) -> Result<Start, Failure> {
    let unknown = |source: std::io::Error| StudyError::Start {
        what: "this program".to_owned(),
        why: source.to_string(),
    };
    let path = |path: PathBuf| path.display().to_string();
    let recipe = args.recipe.name();
    // A file is found from wherever the job starts; the name of a shipped recipe stays one.
    let recipe = if std::path::Path::new(recipe).is_file() {
        path(std::path::absolute(recipe).map_err(unknown)?)
    } else {
        recipe.to_owned()
    };
    let mut words = vec!["--recipe".to_owned(), recipe];
    words.extend(device.into_iter().flat_map(|device| ["--device".to_owned(), device.to_owned()]));
    let mut add = |option: &str, values: &[String]| {
        for value in values {
            words.extend([option.to_owned(), value.clone()]);
        }
    };
    add("--merge", &args.recipe.merge);
    add("--set", &args.recipe.set);
    add("--key", &args.key);
    add("--micro-tokens", &args.micro_tokens.map(|n| n.to_string()).into_iter().collect::<Vec<_>>());
    add("--eval-rows", &args.eval_rows.map(|n| n.to_string()).into_iter().collect::<Vec<_>>());
    words.extend(args.keep_merged.then(|| "--keep-merged".to_owned()));
    words.extend(args.allow_device_change.then(|| "--allow-device-change".to_owned()));
    Ok(Start {
        program: path(std::env::current_exe().map_err(unknown)?),
        words,
        here: path(std::env::current_dir().map_err(unknown)?),
    })
}
