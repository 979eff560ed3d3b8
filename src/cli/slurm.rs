//! `finetune slurm`: a study submitted to a cluster.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use super::{RunArgs, print, progress, study};
use crate::run::Failure;
use crate::run::failure::StudyError;
use crate::run::study::slurm::{self, Start};

#[derive(Debug, Args)]
pub struct SlurmArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Print the scripts, and submit nothing
    #[arg(long)]
    dry_run: bool,
    /// Options of sbatch for every job, such as --partition=gpu --gres=gpu:1 --time=12:00:00
    #[arg(last = true, value_name = "SBATCH-OPTION")]
    sbatch: Vec<String>,
}

/// Writes the scripts of what is missing and submits them, each after the one before.
///
/// # Errors
///
/// The recipe has no grid, a cell has a slip, or Slurm refuses.
pub fn slurm(args: &SlurmArgs) -> Result<(), Failure> {
    let mut study = study::settled(&args.run)?;
    if let Some(name) = &args.run.cell {
        study.only(name)?;
    }
    // A slip is found here, not by the first task to start.
    study::checked(&study)?;
    let jobs = slurm::jobs(&study, &start(&args.run)?);
    if jobs.is_empty() {
        progress::say("every cell is done: nothing to submit");
        return Ok(());
    }
    if args.dry_run {
        for job in &jobs {
            print(&format!("# {}.sh\n{}", job.name, job.script));
        }
        return Ok(());
    }
    slurm::write(&study, &jobs)?;
    let mut before: Option<String> = None;
    for job in &jobs {
        let script = study.folder.join("slurm").join(format!("{}.sh", job.name));
        let id = submit(&script, &args.sbatch, before.as_deref())?;
        print(&format!("{id} {}", script.display()));
        before = Some(id);
    }
    Ok(())
}

/// The command line that the jobs start this program with.
fn start(args: &RunArgs) -> Result<Start, Failure> {
    let unknown = |source: std::io::Error| StudyError::Slurm {
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
    let mut words = vec!["--recipe".to_owned(), recipe, "--device".to_owned(), args.recipe.device.clone()];
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

/// Hands a script to sbatch, after the job `before` has ended; returns its number.
fn submit(script: &std::path::Path, options: &[String], before: Option<&str>) -> Result<String, StudyError> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(options);
    if let Some(before) = before {
        command.arg(format!("--dependency=afterany:{before}"));
    }
    let what = format!("sbatch {}", script.display());
    let refused = |why: String| StudyError::Slurm { what: what.clone(), why };
    let output = command.arg(script).output().map_err(|error| refused(error.to_string()))?;
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    // On several clusters the number is followed by a name.
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(said.split(';').next().unwrap_or_default().to_owned())
}
