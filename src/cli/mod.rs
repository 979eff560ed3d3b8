//! The command line: what may be typed, and which part of the library it calls. No logic.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};

mod again;
mod asked;
mod bench;
mod clean;
mod data;
mod differ;
mod doctor;
mod eval;
mod fetch;
mod guard;
mod guide;
mod init;
mod inspect;
mod jobs;
mod judge;
mod landscape;
mod list;
mod manners;
mod manual;
mod merge;
mod progress;
pub mod screen;
mod slurm;
mod steer;
mod study;
mod trust;
mod typed;
mod view;
mod watch;

use asked::Asked;
pub use typed::parse;

use crate::folders;
use crate::report::gates::{self, GateResult};
use crate::run::alone::Settled;
use crate::run::{self, Failure, Work, preview};

/// Keep a safety-aligned language model safe through fine-tuning: snapshot the base, fine-tune,
/// merge before and after, evaluate safety and task, report.
#[derive(Debug, Parser)]
#[command(
    name = "finetune",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    override_usage = "finetune [OPTIONS] <RECIPE>\n       finetune <COMMAND>"
)]
#[command(
    after_help = "Exit codes: 0 done, 1 unexpected, 2 recipe or command line, 3 the environment (file, hub, device,\nmemory), 4 training diverged, 5 a bound of the recipe is not kept, 6 stopped on request; the same command goes on."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    manners: manners::Manners,
}

#[derive(Debug, Args)]
struct RecipeArgs {
    /// The recipe, with or without `--recipe`
    #[arg(value_name = "RECIPE", required_unless_present = "recipe", conflicts_with = "recipe")]
    named: Option<String>,
    /// A recipe file, or the name of a shipped recipe
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<String>,
    /// Merge to make and evaluate, instead of the recipe's: METHOD:λ, METHOD:λ,λ or METHOD:a..b/step; may be
    /// repeated
    #[arg(long, value_name = "SPEC")]
    merge: Vec<String>,
    /// Set a key of the recipe, such as train.steps=20; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// The run folder itself, or a study's [default: runs/<name>-<digest>, runs/<name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Say what would happen, with estimates, and start nothing
    #[arg(long)]
    plan: bool,
    /// Of a recipe with a `[grid]`, run this cell alone
    #[arg(long, value_name = "NAME")]
    cell: Option<String>,
    /// Of a recipe with a `[grid]`, run the cells on these devices, a process for each: cuda:0,cuda:1
    #[arg(long, value_name = "DEVICES", value_delimiter = ',', conflicts_with_all = ["cell", "plan"])]
    jobs: Vec<String>,
    /// Of a recipe with a `[grid]`, ask every base once and run no cell
    #[arg(long, conflicts_with = "cell")]
    bases: bool,
    /// Of a recipe with a `[grid]`, write the report of the cells that are there and run none
    #[arg(long, conflicts_with_all = ["cell", "bases"])]
    gather: bool,
    /// With `--plan`, print the recipe too, every default filled in
    #[arg(long, requires = "plan")]
    resolved: bool,
    /// Write every merged model as a folder that transformers loads
    #[arg(long)]
    keep_merged: bool,
    /// Print the report, or with `--plan` the plan, as JSON
    #[arg(long)]
    json: bool,
    /// Positions per micro-batch; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    micro_tokens: Option<usize>,
    /// Rows that generate together; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    eval_rows: Option<usize>,
    /// Go on from a checkpoint that another kind of device made
    #[arg(long)]
    allow_device_change: bool,
    /// Send the key in this environment variable to the endpoint of this rubric; may be repeated
    #[arg(long, value_name = "RUBRIC=VARIABLE")]
    key: Vec<String>,
}

/// A number of rows, positions or tokens.
fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1 << 30)
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first recipe for a model and a file of your own
    Init(init::InitArgs),
    /// Read the guide: a page for each part of the program
    Guide(guide::GuideArgs),
    /// Print a shipped recipe; `reference` has every key with its default
    Show(init::ShowArgs),
    /// Ask base, tuned and merged models of a finished run the same thing, side by side
    Chat(ChatArgs),
    /// Merge model folders into a model folder, without training
    #[command(override_usage = merge::USAGE)]
    Merge(merge::MergeArgs),
    /// Ask any model, with an adapter or merged with what it was before, and judge its answers; trains nothing
    #[command(override_usage = eval::USAGE)]
    Eval(eval::EvalArgs),
    /// Judge the stored answers of a run by other judges; generates nothing
    Judge(judge::JudgeArgs),
    /// Show the report of a run, or its answers side by side
    Report(judge::ReportArgs),
    /// Compare finished runs on the prompts they share: rates, paired differences, flips, mean ± sd over seeds
    Compare(judge::CompareArgs),
    /// Make a finished run again in a new folder, and say which of its numbers moved and by how much
    Reproduce(differ::ReproduceArgs),
    /// Show a run or a study that runs elsewhere, until it ends
    Watch(watch::WatchArgs),
    /// Say how two runs differ, from version to recipe key to the first answer that is another; runs nothing
    Diff(differ::DiffArgs),
    /// List what a run or a study can do without, with what it costs to get back; remove it with `--yes`
    Clean(clean::CleanArgs),
    /// Look into a model: which layers its refusals hang on
    #[command(subcommand)]
    Inspect(inspect::What),
    /// Steer hidden states towards or away from refusing (SCANS): fit vectors, score prompts; `[steer]` of a recipe uses them
    #[command(subcommand)]
    Steer(steer::What),
    /// A small model in front: train it on labelled requests, measure it, let it answer the harmful ones
    #[command(subcommand)]
    Guard(guard::What),
    /// Run the cells of a recipe with a `[grid]` on a cluster: writes job scripts and submits them
    Slurm(slurm::SlurmArgs),
    /// Safety and task along base → tuned and beyond, along random directions around a model (VISAGE), over planes
    #[command(override_usage = landscape::USAGE)]
    Landscape(landscape::LandscapeArgs),
    /// Fetch models and data sets from a Hugging Face hub into the cache that Python shares
    Fetch(fetch::FetchArgs),
    /// Make files of data
    #[command(subcommand)]
    Data(data::What),
    /// List methods, tasks, judges, families, objectives, recipes or devices
    List {
        what: list::What,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show devices, dtypes and memory; with --selftest, prove a device right
    Doctor(doctor::DoctorArgs),
    /// Print what a shell completes: source <(finetune completions bash)
    Completions(manual::CompletionsArgs),
    /// Write the manual as man pages
    Man(manual::ManArgs),
    /// Time a training step or generation on random weights
    #[command(hide = true)]
    Bench(bench::BenchArgs),
}

#[derive(Debug, Args)]
struct ChatArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one())]
    max_new_tokens: usize,
}

/// Runs what was typed. Results go to stdout, everything else to stderr.
///
/// # Errors
///
/// Whatever goes wrong, with its exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    cli.manners.hold();
    match cli.command {
        None => run_recipe(&cli.run),
        Some(Command::Init(args)) => init::init(&args),
        Some(Command::Guide(args)) => guide::guide(&args),
        Some(Command::Show(args)) => init::show(&args),
        Some(Command::Chat(args)) => chat(&args),
        Some(Command::Merge(args)) => merge::merge(&args),
        Some(Command::Eval(args)) => eval::eval(&args),
        Some(Command::Judge(args)) => judge::judge(&args),
        Some(Command::Report(args)) => judge::report(&args),
        Some(Command::Compare(args)) => judge::compare(&args),
        Some(Command::Reproduce(args)) => differ::reproduce(&args),
        Some(Command::Watch(args)) => watch::watch(&args),
        Some(Command::Diff(args)) => differ::diff(&args),
        Some(Command::Clean(args)) => clean::clean(&args),
        Some(Command::Inspect(what)) => inspect::inspect(&what),
        Some(Command::Steer(what)) => steer::steer(&what),
        Some(Command::Guard(what)) => guard::guard(&what),
        Some(Command::Slurm(args)) => slurm::slurm(&args),
        Some(Command::Landscape(args)) => landscape::landscape(&args),
        Some(Command::Fetch(args)) => fetch::fetch(&args),
        Some(Command::Data(what)) => data::data(&what),
        Some(Command::List { what, json }) => {
            list::list(what, json);
            Ok(())
        }
        Some(Command::Doctor(args)) => doctor::doctor(&args),
        Some(Command::Completions(args)) => {
            manual::completions(&args);
            Ok(())
        }
        Some(Command::Man(args)) => manual::man(&args),
        Some(Command::Bench(args)) => bench::bench(&args),
    }
}

fn run_recipe(args: &RunArgs) -> Result<(), Failure> {
    folders::sweep_own_cache();
    let asked = Asked::find(&args.recipe, Some(args))?;
    if asked.recipe.grid.is_some() {
        return study::study(args, asked);
    }
    let of_grid = args.cell.as_ref().map(|name| format!("--cell {name}"));
    let of_grid = of_grid.or((!args.jobs.is_empty()).then(|| "--jobs".to_owned()));
    let of_grid =
        of_grid.or(args.bases.then(|| "--bases".to_owned())).or(args.gather.then(|| "--gather".to_owned()));
    if let Some(option) = of_grid {
        return Err(run::failure::StudyError::NoGrid { option }.into());
    }
    let work = asked.work()?;
    // From here on: a plan has nothing to save, and may be waiting for a download.
    let stop = stop_on_signals();
    let plan = match &work {
        Work::Trained(plan) => plan,
        Work::Given(settled) => return run_given(args, settled, &stop),
    };
    if args.plan && args.json {
        print(&pretty(&preview::json(plan, &mut |doing| progress::say(doing))?));
        return Ok(());
    }
    if args.plan {
        if args.resolved {
            print(&format!("# recipe {}, every default filled in\n{}\n", plan.origin, plan.recipe.to_toml()));
        }
        print(&format!("{}\n", preview::facts(plan, manners::colours())?));
        print(&preview::estimates(plan, &mut |doing| progress::say(doing))?);
        return Ok(());
    }
    progress::say(&format!("run folder {}", plan.folder.display()));
    if let Some(time) = preview::expected(plan) {
        progress::say(&format!("expected, if nothing is there yet, {time}"));
    }
    let mut progress = progress::Progress::new();
    let report = run::run(plan, &stop, &mut |event| progress.show(&event))?;
    judge::show(&report, args.json);
    progress::say(&format!("report {}", plan.folder.join("report.md").display()));
    keep_gates(&report.gates)
}

/// Merges and asks what the recipe's `[model] tuned` names.
fn run_given(args: &RunArgs, settled: &Settled, stop: &AtomicBool) -> Result<(), Failure> {
    let folder = settled.folder.display();
    if args.plan && args.json {
        print(&pretty(&settled.outlook()?));
        return Ok(());
    }
    if args.plan {
        print(&format!(
            "run folder  {folder}\ncandidates  {}, of given weights: nothing is trained",
            settled.n_candidates()
        ));
        return Ok(());
    }
    progress::say(&format!("run folder {folder}"));
    let mut progress = progress::Progress::new();
    let report = settled.run(stop, &mut |event| progress.show(&event))?;
    judge::show(&report, args.json);
    progress::say(&format!("report {}", settled.folder.join("report.md").display()));
    keep_gates(&report.gates)
}

/// An error if a bound of the recipe is not kept.
fn keep_gates(gates: &[GateResult]) -> Result<(), Failure> {
    match gates::broken(gates) {
        Some((n, which)) => Err(run::failure::GateFailed { n, which }.into()),
        None => Ok(()),
    }
}

fn chat(args: &ChatArgs) -> Result<(), Failure> {
    let plan = Asked::find(&args.recipe, None)?.plan()?;
    let input = std::io::stdin();
    let prompt = input.is_terminal();
    let mut output = screen::Screen(std::io::stdout());
    run::chat::chat(&plan, args.max_new_tokens, &mut input.lock(), &mut output, prompt)
}

/// Sets a flag on Ctrl-C and SIGTERM; a second one ends the process at once.
fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
    for signal in signals {
        let code = 128 + signal;
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .expect("these two signals can be handled");
    }
    let mut heard = signal_hook::iterator::Signals::new(signals).expect("these two signals can be handled");
    std::thread::spawn(move || {
        // The second ends the process.
        if heard.forever().next().is_some() {
            progress::say(
                "stopping: what is whole is kept, answers that are not finished are given up; once more ends at once",
            );
        }
    });
    stop
}

/// Plain data as JSON.
fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data prints")
}

/// Writes a result to stdout; a closed pipe is the reader's choice.
fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", screen::plain(text.trim_end()));
}
