//! A recipe with a grid: planned, run, shown.

use super::asked::{Asked, amend};
use super::{RunArgs, jobs, judge, keep_gates, pretty, print, progress, stop_on_signals};
use crate::device::DeviceSpec;
use crate::hub::Transfer;
use crate::recipe;
use crate::run::Failure;
use crate::run::failure::StudyError;
use crate::run::study::{Study, outlook};

/// Plans or runs the cells of a study.
///
/// # Errors
///
/// Whatever ends a cell, or a slip in the recipe.
pub(super) fn study(args: &RunArgs, asked: Asked) -> Result<(), Failure> {
    let mut study = of(args, asked)?;
    if let Some(name) = &args.cell {
        study.only(name)?;
    }
    let mut transfers = progress::Transfers::default();
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    if args.plan {
        // A study that is planned here may be for a cluster.
        study.options.elsewhere = true;
        if args.resolved && !args.json {
            for cell in &study.cells {
                print(&format!("# cell {}, every default filled in\n{}\n", cell.name, cell.recipe.to_toml()));
            }
        }
        let found = outlook(&study, &mut tell, &mut |doing| progress::say(doing))?;
        print(&if args.json { pretty(&found.json) } else { found.text });
        return Ok(());
    }
    let stop = stop_on_signals();
    progress::say(&format!("study folder {}", study.folder.display()));
    let mut progress = progress::Progress::new();
    if args.bases {
        return study.ask_bases(&stop, &mut |event| progress.show(&event), &mut tell);
    }
    if !args.jobs.is_empty() {
        args.jobs.iter().try_for_each(|device| device.parse::<DeviceSpec>().map(drop))?;
        study.check(&mut tell)?;
        study.claim()?;
        jobs::run(args, &study, &args.jobs, &stop)?;
    }
    if args.gather {
        study.claim()?;
    }
    let report = match args.gather || !args.jobs.is_empty() {
        true => study.report()?,
        false => study.run(&stop, &mut |event| progress.show(&event), &mut tell)?,
    };
    judge::show_study(&report, args.json);
    progress::say(&format!("report {}", study.folder.join("report.md").display()));
    keep_gates(&report.gates)
}

/// The study that the command line names.
///
/// # Errors
///
/// The recipe has no grid, or a slip.
pub(super) fn settled(args: &RunArgs) -> Result<Study, Failure> {
    of(args, Asked::find(&args.recipe, Some(args))?)
}

fn of(args: &RunArgs, asked: Asked) -> Result<Study, Failure> {
    let Asked { text, origin, recipe, options } = asked;
    let Some(mut cells) = recipe::cells(&text, &origin, &args.recipe.set)? else {
        return Err(StudyError::NoGrid { option: "slurm".to_owned() }.into());
    };
    for cell in &mut cells {
        let own = cell.recipe.merge.methods.clone();
        amend(&mut cell.recipe, &args.recipe, Some(args))?;
        // `--merge` stands for the merges of what a cell trains.
        if !cell.over.is_empty() {
            cell.recipe.merge.methods = own;
        }
    }
    Study::new(recipe, cells, (text, origin), options)
}

/// That every cell that is missing can be settled.
///
/// # Errors
///
/// One cannot.
pub(super) fn checked(study: &Study) -> Result<(), Failure> {
    let mut transfers = progress::Transfers::default();
    study.check(&mut |transfer| transfers.show(transfer))
}
