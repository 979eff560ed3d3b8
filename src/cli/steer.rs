//! `finetune steer`: vectors that steer hidden states, and their classifier as a guard of prompts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::eval::recipe_of;
use super::inspect::range;
use super::{at_least_one, print, progress, stop_on_signals};
use crate::device::DeviceSpec;
use crate::generate::scans::{ALPHA, LastLayer, Precision, SUFFIX};
use crate::hub::Transfer;
use crate::recipe::{Recipe, Suite};
use crate::run::inspect::Of;
use crate::run::steer::{self, Fit, Score};
use crate::run::{Failure, Options};

/// What is done with vectors.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Fit vectors, threshold and layers on harmful and harmless anchors, as in SCANS, into one safetensors file
    #[command(
        override_usage = "finetune steer fit RUN --harmful TASK=FILE --harmless TASK=FILE\n       finetune steer fit --model DIR|ID --harmful TASK=FILE --harmless TASK=FILE"
    )]
    Fit(FitArgs),
    /// Score prompts by the classifier alone: how harmful each is, AUROC where both kinds are given
    #[command(
        override_usage = "finetune steer score VECTORS --run RUN --harmful TASK=FILE --harmless TASK=FILE\n       finetune steer score VECTORS --model DIR|ID --harmful TASK=FILE --harmless TASK=FILE"
    )]
    Score(ScoreArgs),
}

#[derive(Debug, Args)]
pub struct FitArgs {
    /// The folder of a run whose training is finished
    #[arg(value_name = "RUN", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// Harmful anchors: a task and its file, then keys of the recipe's `[[eval.suites]]`: harmful=bad.csv,field=goal
    #[arg(long, value_name = "TASK=FILE")]
    harmful: String,
    /// Harmless anchors: benign=good.csv,field=prompt
    #[arg(long, value_name = "TASK=FILE")]
    harmless: String,
    /// Harmful anchors that set the threshold [default: what is left of the harmful ones]
    #[arg(long, value_name = "TASK=FILE")]
    held_out_harmful: Option<String>,
    /// Harmless anchors that set it [default: what is left of the harmless ones]
    #[arg(long, value_name = "TASK=FILE")]
    held_out_harmless: Option<String>,
    /// Anchors of each kind that directions are fitted on, at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    anchors: usize,
    /// Anchors of each kind that set the threshold, at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    held_out: usize,
    /// A test set that may hold no anchor, besides those of the run; may be repeated
    #[arg(long, value_name = "TASK=FILE")]
    test: Vec<String>,
    /// Layers to steer, such as 10-19 [default: the third whose direction raises words of refusals most through the head]
    #[arg(long, value_name = "A-B", value_parser = range)]
    layers: Option<[usize; 2]>,
    /// Layers whose cosines are the score [default: from the first that is steered to the last]
    #[arg(long, value_name = "A-B", value_parser = range)]
    score_layers: Option<[usize; 2]>,
    /// A word of refusals that layers are chosen by; may be repeated [default: sorry, cannot and others]
    #[arg(long, value_name = "WORD", conflicts_with = "layers")]
    word: Vec<String>,
    /// How far states are pushed, in lengths of the unit vectors; a recipe may say otherwise
    #[arg(long, value_name = "X", default_value_t = ALPHA)]
    alpha: f64,
    /// From which score on a prompt counts as harmful, no higher than the default [default: what tells the held-out anchors apart
    /// best]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// What is put behind a prompt while it is classified
    #[arg(long, value_name = "TEXT", default_value = SUFFIX)]
    suffix: String,
    /// Whence the last layer's state: the block's output, or behind the final norm as in the authors' program
    #[arg(long, value_enum, default_value_t = LastLayer::Block)]
    last_layer: LastLayer,
    /// How states are rounded before means and cosines: not, or to f16 as in the authors' program
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    states: Precision,
    /// Draws anchors from their files
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// The folder or file that `finetune steer fit` wrote
    #[arg(value_name = "VECTORS")]
    vectors: String,
    /// The folder of a run whose training is finished
    #[arg(long, value_name = "RUN", required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// Harmful prompts: harmful=bad.csv,field=goal; may be repeated
    #[arg(long, value_name = "TASK=FILE", required_unless_present = "harmless")]
    harmful: Vec<String>,
    /// Harmless prompts: benign=good.csv,field=prompt; may be repeated
    #[arg(long, value_name = "TASK=FILE")]
    harmless: Vec<String>,
    /// From which score on a prompt counts as harmful [default: the file's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    threshold: Option<f64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Any model instead: a folder or a hub's id
    #[arg(long, value_name = "DIR|ID")]
    model: Option<String>,
    /// Read a run's tuned model and not its base
    #[arg(long, conflicts_with = "model")]
    tuned: bool,
    /// Set a key of the recipe, such as eval.system=…; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Positions that are computed at once; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    micro_tokens: Option<usize>,
    /// The folder that is written [default: steer/ of the run, or runs/steer-<model>-<digest>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Common {
    fn of(&self, run: Option<&PathBuf>) -> Of {
        match (run, &self.model) {
            (Some(run), _) => Of::Run(run.clone()),
            (None, model) => Of::Model(model.clone().expect("clap requires one of the two")),
        }
    }

    fn options(&self) -> Result<Options, Failure> {
        let (out, micro_tokens) = (self.out.clone(), self.micro_tokens);
        Ok(Options { out, micro_tokens, ..Options::on(self.device.parse::<DeviceSpec>()?) })
    }
}

/// Does what was asked for, and prints what came of it.
///
/// # Errors
///
/// Whatever is wrong with the model, the files, the vectors or the device.
pub fn steer(what: &What) -> Result<(), Failure> {
    let stop = stop_on_signals();
    let (mut progress, mut transfers) = (progress::Progress::new(), progress::Transfers::default());
    let mut watch = |event| progress.show(&event);
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    match what {
        What::Fit(args) => {
            let asked = fit_of(args)?;
            let (found, path) = steer::fit(&asked, &args.common.options()?, &stop, &mut watch, &mut tell)?;
            print(&match args.common.json {
                true => serde_json::to_string_pretty(&found).expect("a fit is plain data"),
                false => found.terminal(),
            });
            progress::say(&format!("vectors {}", path.display()));
        }
        What::Score(args) => {
            let asked = Score {
                of: args.common.of(args.run.as_ref()),
                tuned: args.common.tuned,
                vectors: args.vectors.clone(),
                threshold: args.threshold,
                harmful: suites(&args.harmful)?,
                harmless: suites(&args.harmless)?,
                set: args.common.set.clone(),
            };
            let (found, path) = steer::score(&asked, &args.common.options()?, &stop, &mut watch, &mut tell)?;
            print(&match args.common.json {
                true => serde_json::to_string_pretty(&found).expect("scores are plain data"),
                false => found.terminal(),
            });
            progress::say(&format!("scores {}", path.display()));
        }
    }
    Ok(())
}

fn fit_of(args: &FitArgs) -> Result<Fit, Failure> {
    let held_out = [&args.held_out_harmful, &args.held_out_harmless];
    let [harmful, harmless] = held_out.map(|text| text.as_ref().map(|text| suite(text)).transpose());
    Ok(Fit {
        of: args.common.of(args.run.as_ref()),
        tuned: args.common.tuned,
        harmful: suite(&args.harmful)?,
        harmless: suite(&args.harmless)?,
        held_out: [harmful?, harmless?],
        n_anchors: args.anchors,
        n_held_out: args.held_out,
        tests: suites(&args.test)?,
        layers: args.layers,
        score_layers: args.score_layers,
        words: args.word.clone(),
        alpha: args.alpha,
        threshold: args.threshold,
        suffix: args.suffix.clone(),
        last_layer: args.last_layer,
        states: args.states,
        seed: args.seed,
        set: args.common.set.clone(),
    })
}

/// A file as a suite: `TASK=FILE,key=value`.
fn suite(text: &str) -> Result<Suite, Failure> {
    let recipe = Recipe::parse(&recipe_of(&[text.to_owned()])?, "--suite", &[])?;
    Ok(recipe.eval.suites.into_iter().next().expect("one was written"))
}

fn suites(texts: &[String]) -> Result<Vec<Suite>, Failure> {
    texts.iter().map(|text| suite(text)).collect()
}
