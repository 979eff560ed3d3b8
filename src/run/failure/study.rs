//! What is wrong with a study.

use miette::Diagnostic;
use thiserror::Error;

/// A study asks for what it has not.
#[derive(Debug, Error, Diagnostic)]
pub enum StudyError {
    #[error("the grid has no cell `{name}`")]
    #[diagnostic(code(study::no_cell), help("{help}; `--plan` lists the cells"))]
    NoCell { name: String, help: String },
    #[error("`{option}`: the recipe has no `[grid]`")]
    #[diagnostic(code(study::no_grid), help("leave it out, or give the recipe a grid"))]
    NoGrid { option: String },
    #[error("{what}: {why}")]
    #[diagnostic(
        code(study::slurm),
        help(
            "`--dry-run` prints the scripts; nothing more was submitted, and what is submitted stays so: `squeue` shows it"
        )
    )]
    Slurm { what: String, why: String },
    #[error("cannot start {what}: {why}")]
    #[diagnostic(
        code(study::start),
        help("the cells that are done stay done, and the same command does what is missing")
    )]
    Start { what: String, why: String },
    #[error("cell `{cell}` merges the models of {over}, and not all of these are done")]
    #[diagnostic(code(study::waits), help("run them first: the study without `--cell` does so"))]
    Waits { cell: String, over: String },
    #[error("cell `{cell}` takes a greedy soup, and no task suite is for validation")]
    #[diagnostic(
        code(study::nothing_to_choose_by),
        help("give a task's suite `purpose = \"validation\"`, on data that no other suite asks")
    )]
    NothingToChooseBy { cell: String },
    #[error("contrast `{name}`: {why}")]
    #[diagnostic(code(study::bad_contrast), help("change `[[grid.contrast]]` in the recipe"))]
    BadContrast { name: String, why: String },
}

/// Processes that ran cells of a study ended badly.
#[derive(Debug, Error, Diagnostic)]
#[error("{n} of the study's processes ended badly, first `{name}` with {code}")]
#[diagnostic(
    code(study::jobs_failed),
    help("`jobs/NAME.log` in the study's folder has why; the same command does what is missing")
)]
pub struct JobsFailed {
    pub n: usize,
    pub name: String,
    pub code: u8,
}

/// Trainings of a study diverged; the others were run.
#[derive(Debug, Error, Diagnostic)]
#[error("{n} of the study's trainings diverged, first that of cell `{cell}`: {why}")]
#[diagnostic(
    code(study::cells_failed),
    help("the other cells are done and reported; change the grid, or the same command tries these again")
)]
pub struct CellsFailed {
    pub n: usize,
    pub cell: String,
    pub why: String,
}
