//! `finetune inspect`: which layers carry a model's refusals, and which numbers what a file teaches hangs on.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::eval::recipe_of;
use super::{at_least_one, print, progress, stop_on_signals};
use crate::device::DeviceSpec;
use crate::hub::Transfer;
use crate::recipe::Recipe;
use crate::run::inspect::{self, Asked, Of, Probe};
use crate::run::{Failure, Options};

/// What is looked into.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Find the layers that refusals hang on: put each back to the base, scale it, or compare its hidden states
    #[command(
        override_usage = "finetune inspect layers RUN --probe restore|scaling|cosine\n       finetune inspect layers --model DIR|ID --probe scaling|cosine --suite TASK=FILE"
    )]
    Layers(LayersArgs),
    /// Score every number of a model by what a file teaches it (SNIP), for merges that go by scores such as safepatch
    #[command(
        override_usage = "finetune inspect scores RUN --data FILE [--tuned]\n       finetune inspect scores --model DIR|ID --data FILE"
    )]
    Scores(ScoresArgs),
}

#[derive(Debug, Args)]
pub struct ScoresArgs {
    /// The folder of a run whose training is finished
    #[arg(value_name = "RUN", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// Any model instead: a folder or a hub's id
    #[arg(long, value_name = "DIR|ID")]
    model: Option<String>,
    /// The records whose loss is looked at, read as `[data]` of a recipe reads them
    #[arg(long, value_name = "FILE")]
    data: String,
    /// Score a run's tuned model and not its base
    #[arg(long, requires = "run")]
    tuned: bool,
    /// Set a key of the recipe, such as 'data.fields={text="goal"}' with data.template=none for the loss on requests
    /// alone; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// With `--model`, the folder in which `inspect/` is made [default: runs/inspect-<model>-<digest>]
    #[arg(long, value_name = "DIR", requires = "model")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LayersArgs {
    /// The folder of a run whose training is finished
    #[arg(value_name = "RUN", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// Any model instead: a folder or a hub's id
    #[arg(long, value_name = "DIR|ID")]
    model: Option<String>,
    /// How its layers are looked into
    #[arg(long, value_enum)]
    probe: Probe,
    /// What is asked, at most 50 prompts if it does not say `limit`: a task and its file, then keys of the recipe's
    /// `[[eval.suites]]`: harmful=bad.csv,field=goal; `--probe cosine` needs two, harmful requests and others [default:
    /// those of the run that choose λ]
    #[arg(long, value_name = "TASK=FILE")]
    suite: Vec<String>,
    /// Layers that are put back or scaled together, such as 4-7; may be repeated [default: each layer alone]
    #[arg(long, value_name = "A-B", value_parser = range)]
    layers: Vec<[usize; 2]>,
    /// With `--probe scaling`, what weights are multiplied with; may be repeated
    #[arg(long, value_name = "X", default_values_t = [1.1, 0.9])]
    factor: Vec<f64>,
    /// With `--probe scaling` and `cosine`, look into a run's tuned model and not into its base
    #[arg(long, requires = "run")]
    tuned: bool,
    /// Set a key of the recipe, such as eval.limit=20; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Rows that generate together; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    eval_rows: Option<usize>,
    /// With `--model`, the folder in which `inspect/` is made [default: runs/inspect-<model>-<digest>]
    #[arg(long, value_name = "DIR", requires = "model")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks into what was asked for, and prints what is found.
///
/// # Errors
///
/// Whatever is wrong with the run, the model, the suites or the device.
pub fn inspect(what: &What) -> Result<(), Failure> {
    match what {
        What::Layers(args) => layers(args),
        What::Scores(args) => scores(args),
    }
}

fn of(run: Option<&PathBuf>, model: Option<&String>) -> Of {
    match (run, model) {
        (Some(run), _) => Of::Run(run.clone()),
        (None, model) => Of::Model(model.expect("clap requires one of the two").clone()),
    }
}

fn scores(args: &ScoresArgs) -> Result<(), Failure> {
    let of = of(args.run.as_ref(), args.model.as_ref());
    let options = Options { out: args.out.clone(), ..Options::on(args.device.parse::<DeviceSpec>()?) };
    let stop = stop_on_signals();
    let (mut progress, mut transfers) = (progress::Progress::new(), progress::Transfers::default());
    let mut watch = |event| progress.show(&event);
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    let asked = (args.data.as_str(), args.set.as_slice(), args.tuned);
    let path = inspect::scores(&of, asked, &options, (&stop, &mut watch), &mut tell)?;
    progress::say(&format!("scores {}", path.display()));
    Ok(())
}

fn layers(args: &LayersArgs) -> Result<(), Failure> {
    let suites = match args.suite.as_slice() {
        [] => Vec::new(),
        suites => Recipe::parse(&recipe_of(suites)?, "--suite", &[])?.eval.suites,
    };
    let of = of(args.run.as_ref(), args.model.as_ref());
    let asked = Asked {
        of,
        probe: args.probe,
        suites,
        set: args.set.clone(),
        tuned: args.tuned,
        ranges: args.layers.clone(),
        factors: args.factor.clone(),
    };
    let options = Options {
        out: args.out.clone(),
        eval_rows: args.eval_rows,
        ..Options::on(args.device.parse::<DeviceSpec>()?)
    };
    let stop = stop_on_signals();
    let (mut progress, mut transfers) = (progress::Progress::new(), progress::Transfers::default());
    let mut watch = |event| progress.show(&event);
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    let (found, path) = inspect::layers(&asked, &options, &stop, &mut watch, &mut tell)?;
    print(&match args.json {
        true => serde_json::to_string_pretty(&found).expect("an inspection is plain data"),
        false => found.terminal(progress::width()),
    });
    progress::say(&format!("inspection {}", path.display()));
    Ok(())
}

/// `3` or `4-7`.
pub(super) fn range(text: &str) -> Result<[usize; 2], String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let layer =
        |word: &str| word.parse::<usize>().map_err(|_| "expected a layer or a range, such as 4-7".to_owned());
    Ok([layer(from)?, layer(to)?])
}
