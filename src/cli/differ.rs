//! `finetune reproduce` and `finetune diff`: a run made again, and two runs cause by cause.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{pretty, print, progress, stop_on_signals, trust};
use crate::device::DeviceSpec;
use crate::hub::Transfer;
use crate::report::difference::{Cause, Difference};
use crate::run::diff::{Recorded, diff as compared};
use crate::run::reproduce::{Again, check_inputs, folder, require_equal, unlike, with_earlier_merges};
use crate::run::{Failure, Options};

#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// The folder of a finished run, or of a study with `--cell`
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The cell of the study
    #[arg(long, value_name = "NAME")]
    cell: Option<String>,
    /// The new folder [default: RUN-reproduced, of a cell STUDY/reproduced/CELL]
    #[arg(long, value_name = "NEW")]
    out: Option<PathBuf>,
    /// auto, cpu, cuda[:i] or webgpu[:i] [default: the run's own]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// End with exit code 5 unless everything is equal to the last bit
    #[arg(long)]
    exact: bool,
    /// Send the key in this environment variable to the endpoint of this rubric; may be repeated
    #[arg(long, value_name = "RUBRIC=VARIABLE")]
    key: Vec<String>,
    /// The run's own word is not enough: programs that models wrote run without a sandbox
    #[arg(long)]
    unprotected_programs: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A run folder
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Another
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Of two studies, or of one, compare this cell
    #[arg(long, value_name = "NAME")]
    cell: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Says how two runs differ, and runs nothing.
///
/// # Errors
///
/// A folder is none of a run.
pub fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let read = |folder: &PathBuf| {
        let cell = args.cell.as_deref().filter(|_| folder.join("study.toml").is_file());
        Recorded::read(folder, cell)
    };
    show(&compared(&read(&args.a)?, &read(&args.b)?)?, args.json);
    Ok(())
}

/// Makes a run again and says which of its numbers moved.
///
/// # Errors
///
/// The folder is none of a run, a file that it read is another now, or whatever ends a run.
pub fn reproduce(args: &ReproduceArgs) -> Result<(), Failure> {
    let mut recorded = Recorded::read(&args.run, args.cell.as_deref())?;
    let out = args.out.clone().unwrap_or_else(|| folder(&recorded));
    let out = std::path::absolute(&out).unwrap_or(out);
    let (mut recipe, origin) = recorded.recipe()?;
    let unprotected = args.unprotected_programs.then(|| "eval.unprotected_programs=true".to_owned());
    trust::settle(&mut recipe.eval, &args.key, unprotected.as_slice())?;
    let device = args.device.as_ref().map_or(Ok(recorded.device()), |device| device.parse::<DeviceSpec>())?;
    tell_causes(&unlike(&recorded, &device)?);
    check_inputs(&recorded)?;
    with_earlier_merges(&recorded, &mut recipe)?;
    let options = Options {
        micro_tokens: recorded.portion("micro_tokens"),
        eval_rows: recorded.portion("rows"),
        ..Options::on(device)
    };
    // The paths of its recipe are seen from where it was started.
    if let Some(there) = recorded.seen_from() {
        recorded.folder = std::path::absolute(&recorded.folder).unwrap_or(recorded.folder);
        let _ = std::env::set_current_dir(there);
    }
    let mut transfers = progress::Transfers::default();
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    let again = Again::settle(recorded, (recipe, origin), &out, options, &mut tell)?;
    tell_causes(&again.causes);
    progress::say(&format!("run folder {}", out.display()));
    let stop = stop_on_signals();
    let mut progress = progress::Progress::new();
    let found = again.run(&stop, &mut |event| progress.show(&event))?;
    show(&found, args.json);
    progress::say(&format!("reproduction {}", out.join("reproduction.json").display()));
    if args.exact {
        require_equal(&found, &out)?;
    }
    Ok(())
}

/// Says what is otherwise than it was when the run was made.
fn tell_causes(causes: &[Cause]) {
    let value = |value: &Value| match value {
        Value::Null => "not noted".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for Cause { kind, key, a, b } in causes {
        progress::say(&format!("unlike the run: {kind} {key}: {} then, {} now", value(a), value(b)));
    }
}

fn show(found: &Difference, as_json: bool) {
    print(&match as_json {
        true => pretty(found),
        false => found.terminal(progress::width()),
    });
}
