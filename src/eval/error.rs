//! Every way an evaluation's words or files can be wrong.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::data::table::TableError;

/// Why a suite, its file or its answers cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum EvalError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Table(#[from] TableError),
    #[error("there is no suite `{name}`")]
    #[diagnostic(code(eval::unknown_suite), help("{help}"))]
    UnknownSuite { name: String, help: String },
    #[error(
        "{n} prompts of suite `{test}` stand in `{validation}` too, by which λ is chosen, such as \"{first}\""
    )]
    #[diagnostic(
        code(eval::leak),
        help("take files that have nothing in common: what chooses λ must not be what is reported")
    )]
    Leak { validation: String, test: String, n: usize, first: String },
    #[error(
        "`data.refusal_mix` teaches to refuse benign requests, and no suite measures how many are refused afterwards"
    )]
    #[diagnostic(
        code(eval::no_over_refusal),
        help(
            "add a suite of over-refusal, such as `task = \"xstest\"`, or `task = \"benign\"` with a file of harmless requests and its `field`"
        )
    )]
    NoOverRefusal,
    #[error("there is no judge `{name}`")]
    #[diagnostic(code(eval::unknown_judge), help("{help}"))]
    UnknownJudge { name: String, help: String },
    #[error("there is no preset `{name}`")]
    #[diagnostic(code(eval::unknown_preset), help("{help}"))]
    UnknownPreset { name: String, help: String },
    #[error("preset `{preset}` settles `eval.{key}` as {settled}, but the recipe says otherwise")]
    #[diagnostic(code(eval::preset_and_key), help("remove `{key}` from the recipe, or the preset"))]
    PresetAndKey { preset: &'static str, key: &'static str, settled: String },
    #[error("preset `{preset}` is judged by `{rubric}`, a model that the recipe does not give")]
    #[diagnostic(
        code(eval::preset_without_rubric),
        help("add a table `[[eval.rubrics]]` with `rubric = \"{rubric}\"` and `model = \"FOLDER\"`")
    )]
    PresetWithoutRubric { preset: &'static str, rubric: &'static str },
    #[error("the questions of suite `{suite}` are no longer what was counted before")]
    #[diagnostic(
        code(eval::other_questions),
        help("another version of this program counted them; the same command counts them anew")
    )]
    OtherQuestions { suite: String },
    #[error("judge `{judge}` says {says}, but suite `{suite}` measures {measures}")]
    #[diagnostic(code(eval::wrong_judge), help("judges for `{suite}` are: {fitting}"))]
    WrongJudge { judge: String, says: &'static str, suite: String, measures: &'static str, fitting: String },
    #[error("judge `{judge}` stands twice for suite `{suite}`")]
    #[diagnostic(code(eval::judge_twice), help("name each judge once"))]
    JudgeTwice { judge: &'static str, suite: &'static str },
    #[error("suite `{suite}` needs a field: which one of `{}` holds the prompt", path.display())]
    #[diagnostic(code(eval::no_field), help("set `field` to one of: {found}"))]
    NoField { suite: String, path: PathBuf, found: String },
    #[error("`{}` {place} is {found}, expected an object", path.display())]
    #[diagnostic(code(eval::not_an_object), help("is this the published file? Name the right one"))]
    NotAnObject { path: PathBuf, place: String, found: &'static str },
    #[error("`{}` {place} has no field `{field}`; it has {found}", path.display())]
    #[diagnostic(code(eval::missing_field), help("{help}"))]
    MissingField { path: PathBuf, place: String, field: String, found: String, help: String },
    #[error("field `{field}` in `{}` {place} is {found}, expected {expected}", path.display())]
    #[diagnostic(code(eval::bad_field), help("mend or remove this row; none is dropped silently"))]
    BadField { path: PathBuf, place: String, field: String, found: &'static str, expected: &'static str },
    #[error("`{}` holds no items for suite `{suite}`", path.display())]
    #[diagnostic(code(eval::no_items), help("is this the right file? A rate of nothing cannot be reported"))]
    NoItems { path: PathBuf, suite: String },
    #[error("suite `{suite}` has no category `{name}` to exclude")]
    #[diagnostic(code(eval::unknown_category), help("{help}"))]
    UnknownCategory { suite: String, name: String, help: String },
    #[error("`{}` is named after no task of BIG-Bench Hard", path.display())]
    #[diagnostic(
        code(eval::unknown_bbh_task),
        help("keep the file's published name, such as `navigate.json`")
    )]
    UnknownBbhTask { path: PathBuf },
    #[error("id `{id}` stands twice in `{}`", path.display())]
    #[diagnostic(
        code(eval::duplicate_id),
        help("answers are stored and paired by id: give each row its own, or drop the id column")
    )]
    DuplicateId { path: PathBuf, id: String },
    #[error("suite `{suite}` has {items} items but {answers} answers")]
    #[diagnostic(code(eval::answers_missing), help("remove the stored answers of this suite and run again"))]
    AnswersMissing { suite: String, items: usize, answers: usize },
    #[error("suite `{suite}` has no worked examples")]
    #[diagnostic(code(eval::no_shots), help("remove `shots` from this suite"))]
    NoShots { suite: String },
    #[error(
        "task `{task}` of suite `{suite}` does not make its items of rows with fields, so none is there to begin answers with"
    )]
    #[diagnostic(
        code(eval::no_openings),
        help(
            "begin all answers with one text, `prefill`, or ask the file with `task = \"harmful\"` and its `field`"
        )
    )]
    NoOpenings { suite: String, task: &'static str },
    #[error(
        "suite `{suite}` writes no answers that `prefill_field` could begin: its task `{task}` compares likelihoods"
    )]
    #[diagnostic(
        code(eval::opening_of_choice),
        help("remove `prefill_field` and `prefill_tokens` from this suite")
    )]
    OpeningOfChoice { suite: String, task: &'static str },
    #[error(
        "some openings of suite `{suite}` hold marks of thinking and others do not, such as that of `{item}`"
    )]
    #[diagnostic(
        code(eval::mixed_thinking),
        help("take the marks out of the field, or set `thinking = \"none\"` under `[eval]`")
    )]
    MixedThinking { suite: String, item: String },
    #[error("suite `{suite}` is to show {asked} worked examples, but `{}` has {found}", path.display())]
    #[diagnostic(
        code(eval::few_shots),
        help("ask for fewer with `shots`, or name a larger file with `shots_source`")
    )]
    FewShots { suite: String, asked: usize, path: PathBuf, found: usize },
    #[error("`{a}` and `{b}` were not asked the same items of suite `{suite}`: {why}")]
    #[diagnostic(code(eval::not_paired), help("evaluate both on one file with one limit and one seed"))]
    NotPaired { a: String, b: String, suite: String, why: String },
}

impl EvalError {
    /// Whether a word of the recipe is wrong, not a file.
    pub fn is_recipe(&self) -> bool {
        matches!(
            self,
            Self::UnknownSuite { .. }
                | Self::UnknownJudge { .. }
                | Self::Leak { .. }
                | Self::NoOverRefusal
                | Self::WrongJudge { .. }
                | Self::JudgeTwice { .. }
                | Self::NoShots { .. }
                | Self::NoOpenings { .. }
                | Self::OpeningOfChoice { .. }
                | Self::UnknownCategory { .. }
                | Self::UnknownPreset { .. }
                | Self::PresetAndKey { .. }
                | Self::PresetWithoutRubric { .. }
        )
    }
}
