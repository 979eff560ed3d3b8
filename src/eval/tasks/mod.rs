//! What a candidate is asked: the catalog of suites and how each one's file becomes items.
//!
//! A suite reads one file that the user names. It knows nothing of models, templates or judges' insides: it gives
//! the text of the user's turn, where to stop, and which judges look at the answer.

mod bbh;
mod classify;
mod examples;
mod free_text;
mod gsm8k;
mod harmful;
mod hexphi;
mod humaneval;
mod ifeval;
mod options;
mod table;
mod tool_use;
mod wikitext;
mod xstest;

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use self::humaneval::FENCED;
use self::table::Columns;
use super::criterion::Criterion;
use super::error::EvalError;
use super::item::Item;
use crate::catalog::did_you_mean;

/// What the rate of a suite says about a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// A skill: more is better.
    Task,
    /// Harmful requests that were not refused: less is better.
    Safety,
    /// Harmless requests that were refused: less is better.
    OverRefusal,
    /// Answers that are no answers: less is better.
    Degeneration,
}

impl MetricKind {
    /// Whether a judge that asks this can measure it.
    pub fn fits(self, asks: Criterion) -> bool {
        match asks {
            Criterion::Correct { .. } | Criterion::Good { .. } => self == Self::Task,
            Criterion::Refused => matches!(self, Self::Safety | Self::OverRefusal),
            Criterion::Harmful => self == Self::Safety,
        }
    }

    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Task => "a skill",
            Self::Safety => "attack success",
            Self::OverRefusal => "over-refusal",
            Self::Degeneration => "degeneration",
        }
    }
}

/// A row of the catalog.
#[derive(Debug)]
pub struct Task {
    /// The name of the suite in recipes and reports. Where a harness has a task of this name, this is that task.
    pub name: &'static str,
    /// Counts up when what is asked or how it is scored changes.
    pub version: u32,
    pub summary: &'static str,
    pub source: &'static str,
    pub kind: MetricKind,
    /// Judges used where the recipe names none; the first is the headline.
    pub judges: &'static [&'static str],
    /// An answer ends before the first of these, stop tokens apart.
    pub stop: &'static [&'static str],
    /// Room for an answer where the recipe says nothing.
    pub max_new_tokens: usize,
    /// How its items are asked.
    pub form: Form,
    /// Worked examples before each prompt where the recipe does not say how many.
    pub shots: usize,
    /// Between a prompt and its answer in plain text; a chat template puts its own there.
    pub delimiter: &'static str,
    /// Asked as plain text where the recipe does not say otherwise, as the harness it comes from does.
    pub raw: bool,
    /// Answers are programs: the ways to read one, the headline first; empty where they are not.
    pub programs: &'static [Reading],
    /// Answers are texts that mean the same as the reference in other words, or do not: `BERTScore` compares them.
    pub free_text: bool,
    load: Load,
}

/// How an answer becomes a program that the item's tests run on.
#[derive(Debug)]
pub struct Reading {
    /// The judge that reports what came of it.
    pub judge: &'static str,
    /// The rate of those that pass.
    pub metric: &'static str,
    /// The source that an item's details and an answer make.
    pub source: fn(&Value, &str) -> String,
}

/// How items are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The candidate writes an answer, which judges look at.
    Answer,
    /// The candidate's likeliest option counts.
    Choose,
    /// How likely the candidate finds the text itself.
    Read,
    /// How likely the candidate finds the reference answer, where it would write its own.
    Expect,
}

/// How a file becomes items.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// A row is an item, if it is to be kept.
    Table(Columns, fn(&Item) -> bool),
    Own(fn(&Source<'_>) -> Result<Vec<Item>, EvalError>),
}

/// Where a suite's items come from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The suite's name; stands in ids where the file has none.
    pub suite: &'a str,
    pub path: &'a Path,
    /// The field that holds the prompt, where the task does not know it.
    pub field: Option<&'a str>,
    /// The field with which each item's answers begin.
    pub opening_field: Option<&'a str>,
    /// Worked examples before each prompt.
    pub shots: usize,
    /// The file they are drawn from; a task looks beside its own file where this is absent.
    pub shots_path: Option<&'a Path>,
}

impl<'a> Source<'a> {
    /// A file without examples.
    pub fn plain(suite: &'a str, path: &'a Path) -> Self {
        Self { suite, path, field: None, opening_field: None, shots: 0, shots_path: None }
    }
}

/// What most rows have in common.
const ANSWER: Task = Task {
    name: "",
    version: 1,
    summary: "",
    source: "",
    kind: MetricKind::Task,
    judges: &[],
    stop: &[],
    max_new_tokens: 256,
    form: Form::Answer,
    shots: 0,
    delimiter: " ",
    raw: false,
    programs: &[],
    free_text: false,
    load: Load::Own(|_| Ok(Vec::new())),
};

/// All suites, in the order they are listed.
pub const TASKS: &[Task] = &[
    gsm8k::GSM8K_CHAT,
    gsm8k::GSM8K,
    gsm8k::GSM8K_COT,
    gsm8k::GSM8K_COT_ZEROSHOT,
    gsm8k::GSM8K_COT_LLAMA,
    bbh::BBH_COT_FEWSHOT,
    bbh::BBH_ZEROSHOT,
    bbh::BBH_COT_ZEROSHOT,
    humaneval::HUMANEVAL,
    humaneval::HUMANEVAL_INSTRUCT,
    humaneval::HUMANEVAL_SIMPLE_EVALS,
    ifeval::IFEVAL,
    options::MMLU,
    options::ARC_CHALLENGE,
    options::MEDQA,
    options::PUBMEDQA,
    wikitext::WIKITEXT,
    tool_use::OPENFUNCTIONS,
    tool_use::SEAL_TOOLS,
    classify::AG_NEWS,
    free_text::CHATDOCTOR,
    free_text::FREE_TEXT,
    free_text::REFERENCE_LIKELIHOOD,
    harmful::ADVBENCH,
    hexphi::HEXPHI,
    harmful::HARMBENCH,
    harmful::STRONGREJECT,
    harmful::JAILBREAKBENCH,
    harmful::HARMFUL,
    xstest::XSTEST,
    xstest::XSTEST_CONTRAST,
    harmful::BENIGN,
];

/// The row of this name.
///
/// # Errors
/// There is none; the help names the nearest.
pub fn find(name: &str) -> Result<&'static Task, EvalError> {
    TASKS.iter().find(|row| row.name == name).ok_or_else(|| EvalError::UnknownSuite {
        name: name.to_owned(),
        help: did_you_mean(name, TASKS.iter().map(|row| row.name)),
    })
}

impl Task {
    /// All items of the suite in a file, in the file's order.
    ///
    /// An item's id is the file's own, or the suite's name and the row counted from 0.
    ///
    /// # Errors
    /// With the line: whatever cannot be read, a row without a field, an id that stands twice, no items at all; more
    /// examples than there are; openings of a task whose items are no rows with fields.
    pub fn load(&self, source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
        let mut items = match &self.load {
            Load::Table(..) if source.shots > 0 => {
                return Err(EvalError::NoShots { suite: source.suite.to_owned() });
            }
            Load::Table(columns, _) => table::items(source, columns)?,
            Load::Own(load) => load(source)?,
        };
        let mut ids = HashSet::new();
        if let Some(item) = items.iter().find(|item| !ids.insert(item.id.as_str())) {
            return Err(EvalError::DuplicateId { path: source.path.to_owned(), id: item.id.clone() });
        }
        if source.opening_field.is_some() && items.iter().any(|item| item.opening.is_empty()) {
            return Err(EvalError::NoOpenings { suite: source.suite.to_owned(), task: self.name });
        }
        if let Load::Table(_, keep) = self.load {
            items.retain(keep);
        }
        if items.is_empty() {
            let (path, suite) = (source.path.to_owned(), source.suite.to_owned());
            return Err(EvalError::NoItems { path, suite });
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::item::{Completion, Finish, Verdict};
    use crate::eval::judges;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn only_the_harness_asks_in_plain_text_and_always_where_it_compares_likelihoods() {
        for task in TASKS {
            assert!(!task.raw || task.source.starts_with("lm-eval"), "{}", task.name);
            assert!(task.raw || matches!(task.form, Form::Answer | Form::Expect), "{}", task.name);
        }
        assert!(TASKS.iter().any(|task| task.raw && task.form == Form::Answer));
    }

    #[test]
    fn every_suite_has_its_own_name_a_summary_and_a_source() {
        let names: BTreeSet<_> = TASKS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TASKS.len());
        assert!(TASKS.iter().all(|row| !row.summary.is_empty() && !row.source.is_empty()));
    }

    #[test]
    fn every_suite_that_is_answered_has_judges_that_measure_it() {
        for task in TASKS {
            // Programs are run, not read: whoever runs them judges.
            let is_judged = task.form == Form::Answer && task.programs.is_empty();
            assert_eq!(is_judged, !task.judges.is_empty(), "{}", task.name);
            let fits = |name: &&str| task.kind.fits(judges::find(name).unwrap().asks);
            assert!(task.judges.iter().all(fits), "{}", task.name);
        }
    }

    #[test]
    fn every_skill_has_a_gold_answer_that_passes_its_judges() {
        let calls = "[{'api': 'f', 'parameters': {'a': 1}, 'responses': ['API_call_0']}]";
        let kwargs = json!([{ "num_bullets": 1 }]);
        // Whatever a new suite's items hold, one of these must look like them.
        let gold = [
            ("Half of 16 is 8.\n#### 8", "So.\n#### 8\nThe answer is 8. The final answer is 8.", json!(null)),
            ("(B)", "So the answer is (B).", json!({ "task": "snarks", "input": "" })),
            ("True", "True", json!({ "task": "boolean_expressions", "input": "" })),
            (
                "-",
                "* one",
                json!({ "instruction_id_list": ["detectable_format:number_bullet_lists"], "kwargs": kwargs }),
            ),
            ("a.f(b=1)", "a.f(b=1)", json!(null)),
            (calls, calls, json!({ "calling": [{ "api": "f", "parameters": { "a": 1 } }] })),
            ("World", "world", json!({ "labels": [["World", "world"]] })),
            ("See a doctor.", "See a doctor.", json!(null)),
        ]
        .map(|(reference, answer, details)| {
            let item = Item { reference: Some(reference.to_owned()), details, ..Item::default() };
            (item, Completion { text: answer.to_owned(), n_tokens: 1, finish: Finish::Stop })
        });
        for task in TASKS.iter().filter(|task| task.kind == MetricKind::Task && !task.judges.is_empty()) {
            let passes = |(item, answer): &(Item, Completion)| {
                task.judges.iter().all(|name| {
                    let verdict = (judges::find(name).unwrap().build)().judge(item, answer);
                    matches!(verdict, Verdict::Yes | Verdict::Score(1.0))
                })
            };
            assert!(gold.iter().any(passes), "{}", task.name);
        }
    }
}
