//! `finetune guard train|score|route`: a small model that labels requests and answers the harmful ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::asked::Asked;
use super::{at_least_one, print, progress, stop_on_signals};
use crate::device::DeviceSpec;
use crate::hub::Transfer;
use crate::recipe::{self, Field, Form, Recipe, RecipeError};
use crate::run::guard::{route, score};
use crate::run::plan::guard::{Card, FILE};
use crate::run::{self, Failure, Options, preview};
use crate::snapshot::files::read_json;

/// What is done with a guard.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Train a guard on labelled requests, and fit its threshold on those held out
    #[command(
        override_usage = "finetune guard train RECIPE\n       finetune guard train --model DIR|ID --labels FILE"
    )]
    Train(TrainArgs),
    /// Label the requests of a file, and measure the labels where the file has them
    Score(ScoreArgs),
    /// Put a guard in front of a model: harmful requests get its safe answer, all others go to the model
    Route(RouteArgs),
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// A recipe with `data.format = "guard"`: a file, or the name of a shipped one
    #[arg(value_name = "RECIPE", required_unless_present = "model", conflicts_with = "model")]
    recipe: Option<String>,
    /// Without a recipe, the small model: a folder or a hub's id
    #[arg(long, value_name = "DIR|ID", requires = "labels")]
    model: Option<String>,
    /// The labelled requests: columns `prompt`, `label` (harmful, safe), perhaps `category` and `answer`
    #[arg(long, value_name = "FILE", requires = "model")]
    labels: Option<String>,
    /// Set a key of the recipe, such as train.steps=200; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// The run folder itself [default: runs/<name>-<digest>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Positions per micro-batch; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    micro_tokens: Option<usize>,
    /// Say what would happen, with estimates, and start nothing
    #[arg(long)]
    plan: bool,
    /// Print guard.json
    #[arg(long)]
    json: bool,
}

/// What both ways to use a guard are told.
#[derive(Debug, Args)]
struct Common {
    /// The guard: the folder that was exported, or that of its run
    #[arg(long, value_name = "DIR")]
    guard: String,
    /// What the file calls its columns: prompt=COLUMN, label=COLUMN; may be repeated
    #[arg(long, value_name = "FIELD=COLUMN")]
    field: Vec<String>,
    /// From which probability of harm on the guard answers [default: its own]
    #[arg(long, value_name = "P", value_parser = probability)]
    threshold: Option<f64>,
    /// The most tokens of a guard's answer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one())]
    guard_tokens: usize,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Rows that are computed together; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    eval_rows: Option<usize>,
    /// The folder of what is said [default: runs/guard-<digest>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// A file of requests
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    common: Common,
    /// Harmless requests that look harmful: how many of them does the guard stop?
    #[arg(long, value_name = "FILE")]
    benign: Option<String>,
    /// Answer every request behind this label, whatever the guard would have chosen
    #[arg(long, value_name = "LABEL")]
    force: Option<Label>,
    /// Answer the requests that reach the threshold
    #[arg(long)]
    answers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Label {
    Harm,
    Safe,
}

#[derive(Debug, Args)]
pub struct RouteArgs {
    /// A file of requests
    #[arg(value_name = "FILE", required_unless_present = "prompt")]
    file: Option<String>,
    /// A request; may be repeated
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// The model behind the guard: a folder or a hub's id
    #[arg(long, value_name = "DIR|ID")]
    model: String,
    /// An adapter on it, or the run that trained one
    #[arg(long, value_name = "DIR")]
    adapter: Option<String>,
    /// A system message for the model
    #[arg(long, value_name = "TEXT", default_value = "")]
    system: String,
    /// The most tokens of the model's answer
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one())]
    max_new_tokens: usize,
}

/// Trains, measures or uses a guard.
///
/// # Errors
///
/// Whatever is wrong with the recipe, the model, the file or the device.
pub fn guard(what: &What) -> Result<(), Failure> {
    match what {
        What::Train(args) => train(args),
        What::Score(args) => score_file(args),
        What::Route(args) => route_requests(args),
    }
}

fn train(args: &TrainArgs) -> Result<(), Failure> {
    let (text, origin) = match (&args.recipe, &args.model, &args.labels) {
        (Some(name), ..) => recipe::find(name)?,
        (None, Some(model), Some(labels)) => {
            let (model, labels) = (json!(model), json!(labels));
            let text = format!(
                "schema = 1\nname = \"guard\"\n\n[model]\nsource = {model}\n\n[data]\nsource = {labels}\nformat = \"guard\"\ntoo_long = \"drop\"\n"
            );
            (text, "--labels".to_owned())
        }
        _ => unreachable!("clap requires a recipe, or `--model` with `--labels`"),
    };
    progress::say(&format!("recipe {origin}"));
    let recipe = Recipe::parse(&text, &origin, &args.set)?;
    if !recipe.data.is_of_guard() {
        return Err(RecipeError::BadValue {
            key: "data.format".to_owned(),
            found: format!("`{}`", recipe.data.format.name()),
            expected: format!("`{}`: labelled requests", Form::Guard.name()),
        }
        .into());
    }
    let options = Options {
        out: args.out.clone(),
        micro_tokens: args.micro_tokens,
        ..Options::on(args.device.parse::<DeviceSpec>()?)
    };
    let plan = Asked { text, origin, recipe, options }.plan()?;
    let stop = stop_on_signals();
    if args.plan {
        print(&format!("{}\n", preview::facts(&plan, false)?));
        print(&preview::estimates(&plan, &mut |doing| progress::say(doing))?);
        return Ok(());
    }
    progress::say(&format!("run folder {}", plan.folder.display()));
    let mut progress = progress::Progress::new();
    run::run(&plan, &stop, &mut |event| progress.show(&event))?;
    let folder = plan.folder.join("train/guard");
    let card: Card = read_json(&folder.join(FILE))?;
    print(&match args.json {
        true => serde_json::to_string_pretty(&card).expect("a card is plain data"),
        false => card.terminal(),
    });
    progress::say(&format!("guard {}", folder.display()));
    Ok(())
}

fn score_file(args: &ScoreArgs) -> Result<(), Failure> {
    let Common { guard, threshold, guard_tokens, json, .. } = &args.common;
    let asked = score::Asked {
        guard: guard.clone(),
        file: args.file.clone(),
        fields: fields(&args.common.field)?,
        benign: args.benign.clone(),
        threshold: *threshold,
        force: args.force.map(|label| label == Label::Harm),
        answers: args.answers,
        max_new_tokens: *guard_tokens,
    };
    let options = options(&args.common)?;
    let stop = stop_on_signals();
    let (mut progress, mut transfers) = (progress::Progress::new(), progress::Transfers::default());
    let mut watch = |event| progress.show(&event);
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    let (found, path) = score::score(&asked, &options, &stop, &mut watch, &mut tell)?;
    print(&match json {
        true => serde_json::to_string_pretty(&found).expect("a report is plain data"),
        false => found.terminal(),
    });
    progress::say(&format!("requests {}", path.display()));
    Ok(())
}

fn route_requests(args: &RouteArgs) -> Result<(), Failure> {
    let Common { guard, threshold, guard_tokens, json, .. } = &args.common;
    let asked = route::Asked {
        guard: guard.clone(),
        model: args.model.clone(),
        adapter: args.adapter.clone(),
        file: args.file.clone(),
        fields: fields(&args.common.field)?,
        prompts: args.prompt.clone(),
        system: args.system.clone(),
        threshold: *threshold,
        max_new_tokens: args.max_new_tokens,
        guard_tokens: *guard_tokens,
    };
    let options = options(&args.common)?;
    let stop = stop_on_signals();
    let (mut progress, mut transfers) = (progress::Progress::new(), progress::Transfers::default());
    let mut watch = |event| progress.show(&event);
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    let (found, path) = route::route(&asked, &options, &stop, &mut watch, &mut tell)?;
    for line in &found {
        print(&match json {
            true => serde_json::to_string(line).expect("a line is plain data"),
            false => format!("{} ({:.4})  {}\n    {}", line.by, line.p_harm, line.prompt, line.answer),
        });
    }
    let n = found.iter().filter(|line| line.by == "guard").count();
    progress::say(&format!("{n} of {} answered by the guard; {}", found.len(), path.display()));
    Ok(())
}

fn options(args: &Common) -> Result<Options, Failure> {
    let on = Options::on(args.device.parse::<DeviceSpec>()?);
    Ok(Options { out: args.out.clone(), eval_rows: args.eval_rows, ..on })
}

/// `prompt=question`, `label=toxicity`.
fn fields(written: &[String]) -> Result<BTreeMap<Field, String>, RecipeError> {
    let known = [Field::Prompt, Field::Label];
    let one = |text: &String| {
        let (field, name) = text.split_once('=')?;
        let field = known.into_iter().find(|known| known.name() == field)?;
        (!name.is_empty()).then(|| (field, name.to_owned()))
    };
    let wrong = |text: &String| RecipeError::BadValue {
        key: "--field".to_owned(),
        found: format!("`{text}`"),
        expected: "prompt=COLUMN or label=COLUMN".to_owned(),
    };
    written.iter().map(|text| one(text).ok_or_else(|| wrong(text))).collect()
}

fn probability(text: &str) -> Result<f64, String> {
    let p = text.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p));
    p.ok_or_else(|| "expected a probability from 0 to 1".to_owned())
}
