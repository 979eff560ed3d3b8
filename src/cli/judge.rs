//! `finetune judge` and `finetune report`: stored answers judged again and shown.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{print, progress, stop_on_signals};
use crate::device::DeviceSpec;
use crate::eval::{judges, rubrics};
use crate::hub::Transfer;
use crate::recipe::{RecipeError, RubricJudge};
use crate::report::sheet::Which;
use crate::report::study::StudyReport;
use crate::report::{self, Report};
use crate::run::compare;
use crate::run::review::{self, OtherJudges};
use crate::run::{Failure, Options, pages, publish, study};
use crate::snapshot::files::read_json;

#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// A run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// A rule (`finetune list judges`), RUBRIC=MODEL with a model folder or hub id, or guard:FOLDER; may be repeated
    #[arg(long, value_name = "JUDGE", required = true)]
    judge: Vec<String>,
    /// The base URL of an OpenAI-compatible chat endpoint; MODEL is then its name there
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The environment variable that holds the endpoint's key
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    key_variable: Option<String>,
    /// The most tokens of a judge's reply, thinking included; the rubric's own number if absent
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<std::num::NonZeroUsize>,
    /// The endpoint's model thinks before it answers: send `max_completion_tokens` and no temperature
    #[arg(long, requires = "endpoint")]
    reasoning: bool,
    /// Let the tables show the rates of the first of these judges from now on
    #[arg(long)]
    headline: bool,
    /// Where judges that are models run
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run folder, or the folder of a study
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Show every prompt with the answers of all candidates, which may be harmful text; also writes
    /// answers.html into the run folder, or into that of every cell of a study
    #[arg(long)]
    answers: bool,
    /// Which prompts to show
    #[arg(long, value_enum, default_value_t = Which::All, requires = "answers")]
    show: Which,
    /// Show only this candidate's answers: two of them make a pair; may be repeated
    #[arg(long, value_name = "NAME", requires = "answers")]
    candidate: Vec<String>,
    /// Show only what this judge says; may be repeated
    #[arg(long, value_name = "NAME", requires = "answers")]
    judge: Vec<String>,
    /// Also copy the numbers into this folder, without answers and weights: to show, or to go on from elsewhere
    #[arg(long, value_name = "DIR", conflicts_with = "answers")]
    publish: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders; the others are compared with the first
    #[arg(value_name = "RUN", num_args = 2..=26, required = true)]
    runs: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Compares runs.
///
/// # Errors
///
/// A folder is no finished run, or the runs have nothing in common.
pub fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let found = compare::compare(&args.runs)?;
    print(&match args.json {
        true => serde_json::to_string_pretty(&found).expect("a comparison is plain data"),
        false => found.terminal(progress::width()),
    });
    Ok(())
}

/// Judges a run's stored answers.
///
/// # Errors
///
/// The folder is no run, a judge is unknown or cannot be asked, or answers are missing.
pub fn judge(args: &JudgeArgs) -> Result<(), Failure> {
    let mut asked = OtherJudges::default();
    for name in &args.judge {
        if let Some(guard) = RubricJudge::of_guard(name) {
            asked.rubrics.push(guard);
            continue;
        }
        match name.split_once('=') {
            Some((rubric, model)) => asked.rubrics.push(RubricJudge {
                rubric: rubric.to_owned(),
                model: model.to_owned(),
                endpoint: args.endpoint.clone(),
                key_variable: args.key_variable.clone(),
                max_new_tokens: args.max_new_tokens.map(Into::into),
                reasoning: args.reasoning,
            }),
            // A rubric without its model is told as such, and not as a word that nobody knows.
            None if rubrics::find(name).is_some() => {
                return Err(RecipeError::BadValue {
                    key: "--judge".to_owned(),
                    found: format!("`{name}` alone"),
                    expected: format!("its model too, `{name}=MODEL`"),
                }
                .into());
            }
            None => {
                judges::find(name)?;
                asked.rules.push(name.clone());
            }
        }
    }
    if args.headline {
        let first = args.judge[0].split('=').next().expect("a text has a first part");
        asked.headline = Some(first.to_owned());
    }
    let options = Options::on(args.device.parse::<DeviceSpec>()?);
    let stop = stop_on_signals();
    let (mut progress, mut transfers) = (progress::Progress::new(), progress::Transfers::default());
    let mut watch = |event| progress.show(&event);
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    let report = review::judge(&args.run, &asked, &options, &stop, &mut watch, &mut tell)?;
    show(&report, args.json);
    Ok(())
}

/// Prints a run's report, or its answers.
///
/// # Errors
///
/// The folder is no finished run, or answers are missing.
pub fn report(args: &ReportArgs) -> Result<(), Failure> {
    let path = args.run.join("report.json");
    if let Some(folder) = &args.publish {
        let n = publish::publish(&args.run, folder)?;
        progress::say(&format!(
            "numbers of {n} {} in {}",
            if n == 1 { "run" } else { "runs" },
            folder.display()
        ));
    }
    if let Ok(report) = read_json::<StudyReport>(&path) {
        if args.answers {
            if args.show != Which::All || !args.candidate.is_empty() || !args.judge.is_empty() {
                return Err(RecipeError::BadValue {
                    key: "--show, --candidate or --judge".to_owned(),
                    found: "with the folder of a study".to_owned(),
                    expected: "the folder of one of its cells; the pages have filters of their own"
                        .to_owned(),
                }
                .into());
            }
            let n = study::pages::answers(&args.run, &report)?;
            progress::say(&format!(
                "answers of {n} cells, behind {}",
                args.run.join("report.html").display()
            ));
        } else {
            redrawn(&args.run, study::pages::write(&args.run, &report));
        }
        show_study(&report, args.json);
        return Ok(());
    }
    let report: Report = read_json(&path)?;
    if !args.answers {
        redrawn(&args.run, pages::write(&args.run, &report));
        show(&report, args.json);
        return Ok(());
    }
    // The page has filters of its own: it has all answers, whatever is printed.
    let whole = review::sheet(&args.run)?;
    let sheet = whole.clone().only(&args.candidate, &args.judge)?;
    if args.json {
        print(&serde_json::to_string_pretty(&sheet).expect("a sheet is plain data"));
        return Ok(());
    }
    let width = if std::io::stdout().is_terminal() { usize::from(progress::width()) } else { 100 };
    print(&sheet.terminal(args.show, width));
    pages::write_answers(&args.run, &report, &whole)?;
    pages::write(&args.run, &report)?;
    progress::say(&format!("answers {}", args.run.join(pages::ANSWERS).display()));
    Ok(())
}

/// A report is printed all the same where its page cannot be drawn anew.
fn redrawn(folder: &Path, result: Result<(), Failure>) {
    if let Err(failure) = result {
        progress::say(&format!("the page in `{}` stays as it was: {failure}", folder.display()));
    }
}

pub(super) fn show(report: &Report, as_json: bool) {
    if as_json {
        print(&serde_json::to_string_pretty(report).expect("a report is plain data"));
    } else {
        print(&report::terminal(report, progress::width()));
    }
}

pub(super) fn show_study(report: &StudyReport, as_json: bool) {
    if as_json {
        print(&serde_json::to_string_pretty(report).expect("a report is plain data"));
    } else {
        print(&report::study::terminal(report, progress::width()));
    }
}
