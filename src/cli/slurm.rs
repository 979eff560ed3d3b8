//! `finetune slurm`: a study submitted to a cluster.

use std::process::Command;

use clap::Args;

use super::again::start;
use super::{RunArgs, print, progress, study};
use crate::run::Failure;
use crate::run::failure::StudyError;
use crate::run::study::slurm;

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
    // Nodes have other devices and more memory than the machine that submits.
    study.options.elsewhere = true;
    if let Some(name) = &args.run.cell {
        study.only(name)?;
    }
    // A slip is found here, not by the first task to start.
    study::checked(&study)?;
    let jobs = slurm::jobs(&study, &start(&args.run, Some(&args.run.recipe.device))?);
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
