//! Why a judge that is a model cannot judge.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::eval::endpoint::EndpointError;

/// Why a judge that is a model cannot judge.
#[derive(Debug, Error, Diagnostic)]
pub enum JudgeError {
    #[error("there is no rubric `{name}`")]
    #[diagnostic(code(judge::unknown_rubric), help("{help}"))]
    UnknownRubric { name: String, help: String },
    #[error("rubric `{name}` stands twice in `eval.rubrics`")]
    #[diagnostic(code(judge::twice), help("name each rubric once"))]
    Twice { name: String },
    #[error("rubric `{name}` reads probabilities or writes its own prompt, which an endpoint does not allow")]
    #[diagnostic(code(judge::no_endpoint), help("give it a model folder: remove `endpoint` and set `model`"))]
    NoEndpoint { name: String },
    #[error("rubric `{name}` reads probabilities: it writes no reply that `max_new_tokens` could limit")]
    #[diagnostic(code(judge::writes_nothing), help("remove `max_new_tokens` from this rubric"))]
    WritesNothing { name: String },
    #[error("rubric `{name}` needs the chat template of its model, and `{}` has none", folder.display())]
    #[diagnostic(code(judge::no_template), help("add the model's `chat_template.jinja` to the folder"))]
    NoTemplate { name: String, folder: PathBuf },
    #[error("rubric `{name}` fits none of the suites: it judges answers to harmful requests")]
    #[diagnostic(code(judge::idle), help("remove it, or add a safety suite to `eval.suites`"))]
    Idle { name: String },
    #[error("the recipe would send the key in `{variable}` to `{url}` for rubric `{name}`")]
    #[diagnostic(
        code(judge::key_not_given),
        help(
            "a recipe may not choose both alone; if you trust that address with it: `--key {name}={variable}`"
        )
    )]
    KeyNotGiven { name: String, variable: String, url: String },
    #[error("`--key {written}` names no rubric of the recipe that has an endpoint")]
    #[diagnostic(code(judge::key_of_nobody), help("write it as `--key RUBRIC=VARIABLE`; {there}"))]
    KeyOfNobody { written: String, there: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Endpoint(#[from] EndpointError),
}

impl JudgeError {
    /// Whether a word of the recipe is wrong, not the world.
    pub fn is_recipe(&self) -> bool {
        !matches!(self, Self::Endpoint(_) | Self::NoTemplate { .. })
    }
}
