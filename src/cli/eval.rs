//! `finetune eval`: any model asked and judged, without a training.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{at_least_one, judge, keep_gates, progress, stop_on_signals, trust};
use crate::device::DeviceSpec;
use crate::hub::Transfer;
use crate::recipe::{self, Recipe, RecipeError};
use crate::run::alone::{Given, Settled};
use crate::run::plan::sources::Sources;
use crate::run::{Failure, Options, Shared};

/// What it is given.
pub const USAGE: &str = "finetune eval --model DIR|ID [--adapter DIR] [--pre DIR|ID --merge SPEC] --suite TASK=FILE\n       \
     finetune eval --model DIR|ID [--adapter DIR] [--pre DIR|ID --merge SPEC] --recipe RECIPE";

/// Who is asked what.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The model: a folder or a hub's id
    #[arg(long, value_name = "DIR|ID")]
    model: String,
    /// An adapter on it
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The model that it was tuned from, asked too
    #[arg(long, value_name = "DIR|ID")]
    pre: Option<String>,
    /// Merge of the two to ask as well: METHOD:λ or METHOD:a..b/step; may be repeated
    #[arg(long, value_name = "SPEC", requires = "pre")]
    merge: Vec<String>,
    /// What is asked: a task (`finetune list tasks`) and its file, then keys of the recipe's `[[eval.suites]]`:
    /// harmful=bad.csv,field=goal,limit=100; may be repeated
    #[arg(long, value_name = "TASK=FILE", required_unless_present = "recipe", conflicts_with = "recipe")]
    suite: Vec<String>,
    /// A recipe whose `[eval]` is asked
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<String>,
    /// Set a key of the recipe, such as eval.limit=50; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Rows that generate together; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    eval_rows: Option<usize>,
    /// The folder of answers and report [default: runs/eval-<model>-<digest>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Send the key in this environment variable to the endpoint of this rubric; may be repeated
    #[arg(long, value_name = "RUBRIC=VARIABLE")]
    key: Vec<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Asks, judges and prints the report.
///
/// # Errors
///
/// Whatever is wrong with the model, the suites or the device.
pub fn eval(args: &EvalArgs) -> Result<(), Failure> {
    let (text, origin) = match &args.recipe {
        Some(name) => recipe::find(name)?,
        None => (recipe_of(&args.suite)?, "--suite".to_owned()),
    };
    let mut recipe = Recipe::parse(&text, &origin, &args.set)?;
    // A recipe's own merges are of what it trains.
    recipe.merge.methods.clone_from(&args.merge);
    trust::settle(&mut recipe.eval, &args.key, &args.set)?;
    let given = Given {
        model: args.model.clone(),
        adapter: args.adapter.clone(),
        pre: args.pre.clone(),
        runs: Vec::new(),
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
    let sources = Sources::new(&origin, options.out.as_deref(), &mut tell);
    let settled = Settled::new(given, recipe, &origin, &options, sources, &mut Shared::default())?;
    let report = settled.run(&stop, &mut watch)?;
    judge::show(&report, args.json);
    progress::say(&format!("report {}", settled.folder.join("report.md").display()));
    keep_gates(&report.gates)
}

/// A recipe that asks these suites and trains nothing.
pub(super) fn recipe_of(suites: &[String]) -> Result<String, RecipeError> {
    let head = "schema = 1\nname = \"eval\"\n[model]\nsource = \"--model\"\n[data]\nsource = \"none\"";
    let mut lines = vec![head.to_owned()];
    for suite in suites {
        let wrong = || RecipeError::BadValue {
            key: "--suite".to_owned(),
            found: format!("`{suite}`"),
            expected: "TASK=FILE, then keys such as `,field=goal`".to_owned(),
        };
        let mut parts = suite.split(',');
        let (task, file) = parts.next().and_then(|first| first.split_once('=')).ok_or_else(wrong)?;
        lines.push(format!("[[eval.suites]]\ntask = {}\nsource = {}", json!(task), json!(file)));
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            // A bare word is a string: shells eat quotes.
            let is_toml = toml::from_str::<toml::Table>(&format!("value = {value}")).is_ok();
            let value = if is_toml { value.to_owned() } else { json!(value).to_string() };
            lines.push(format!("{key} = {value}"));
        }
    }
    Ok(lines.join("\n"))
}
