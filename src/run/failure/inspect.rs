//! What is wrong with an inspection.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// An inspection asks for what is not there.
#[derive(Debug, Error, Diagnostic)]
pub enum InspectError {
    #[error("`{}` is no folder of a run that trains", folder.display())]
    #[diagnostic(
        code(inspect::not_a_run),
        help("name the folder that `finetune RECIPE` wrote, or a model with `--model DIR`")
    )]
    NotATraining { folder: PathBuf },
    #[error("the training in `{}` is not finished", folder.display())]
    #[diagnostic(code(inspect::unfinished), help("the command that began it goes on with it"))]
    Unfinished { folder: PathBuf },
    #[error("`--probe restore` puts layers of a tuned model back to its base, and `{model}` is one model")]
    #[diagnostic(code(inspect::needs_run), help("name a run folder instead of `--model`"))]
    NeedsRun { model: String },
    #[error("there is no suite of {what} to ask")]
    #[diagnostic(
        code(inspect::no_suite),
        help(
            "name one, such as `--suite {example}`; of a run those with `purpose = \"validation\"` are taken by themselves"
        )
    )]
    NoSuite { what: &'static str, example: &'static str },
    #[error(
        "`train.freeze = \"auto\"` compares prompts, and no suite of {what} with `purpose = \"validation\"` is there"
    )]
    #[diagnostic(
        code(inspect::no_probe_prompts),
        help(
            "add one of harmful and one of other requests that are not reported, or name the layers: `train.freeze = [\"layers.4-7\"]`"
        )
    )]
    NoProbePrompts { what: &'static str },
    #[error("`{}` holds no layers that were put back", run.display())]
    #[diagnostic(
        code(inspect::not_restored),
        help("look first: `finetune inspect layers {} --probe restore`", run.display())
    )]
    NotRestored { run: PathBuf },
    #[error("`train.freeze = \"auto\"` finds no layer: {why}")]
    #[diagnostic(
        code(inspect::nothing_to_freeze),
        help("name layers, `train.freeze = [\"layers.4-7\"]`, or freeze nothing")
    )]
    NothingToFreeze { why: String },
    #[error("suite `{suite}` has no judge that says what a refusal is")]
    #[diagnostic(
        code(inspect::no_refusals),
        help("ask one whose answers are judged by refusals, such as `--suite harmful=FILE,field=goal`")
    )]
    NoRefusals { suite: String },
    #[error("suite `{suite}` has {n} prompts, and pairs of them are compared")]
    #[diagnostic(code(inspect::few_prompts), help("ask at least two: `limit=50` behind the suite's file"))]
    FewPrompts { suite: String, n: usize },
}
