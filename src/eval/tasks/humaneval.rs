//! Python functions from their signature and description.
//!
//! Chen et al., "Evaluating Large Language Models Trained on Code", 2021, arXiv 2107.03374. Prompts, stop strings and
//! lengths are those of lm-eval 0.4.13, tasks/humaneval, or the prompt and reading of openai/simple-evals. The tests are
//! in the details; who judges must run them.

use serde_json::{Value, json};

use super::table::{self, Row};
use super::{ANSWER, Load, Reading, Source, Task, examples};
use crate::eval::error::EvalError;
use crate::eval::item::Item;
use crate::eval::measures::humaneval;

pub(super) const HUMANEVAL: Task = Task {
    name: "humaneval",
    version: 2,
    summary: "164 Python functions to go on with (jsonl: task_id, prompt, entry_point, test, canonical_solution where there is one)",
    source: "lm-eval 0.4.13 humaneval; Chen et al. 2021; github.com/openai/human-eval",
    stop: &["\nclass", "\ndef", "\n#", "\nif", "\nprint"],
    max_new_tokens: 1024,
    // The answer goes on with the prompt.
    raw: true,
    programs: &[Reading {
        judge: JUDGE,
        metric: "passed",
        source: |details, answer| humaneval::lm_eval(prompt(details), answer),
    }],
    delimiter: "",
    load: Load::Own(|source| load(source, Asking::Bare)),
    ..ANSWER
};

pub(super) const HUMANEVAL_INSTRUCT: Task = Task {
    name: "humaneval_instruct",
    version: 5,
    summary: "the same asked of a chat model, whose answer is opened with the prompt in a fence",
    source: "lm-eval 0.4.13 humaneval_instruct; Chen et al. 2021",
    raw: false,
    programs: &[
        Reading {
            judge: JUDGE,
            metric: "passed",
            source: |details, answer| humaneval::lm_eval_instruct(prompt(details), answer),
        },
        Reading {
            judge: FENCED,
            metric: "passed_fenced",
            source: |details, answer| humaneval::fenced(prompt(details), answer),
        },
    ],
    load: Load::Own(|source| load(source, Asking::Opened)),
    ..HUMANEVAL
};

pub(super) const HUMANEVAL_SIMPLE_EVALS: Task = Task {
    name: "humaneval_simple_evals",
    version: 1,
    summary: "the same asked of a chat model, whose first fenced block of Python is read from its signature on",
    source: "openai/simple-evals, humaneval_eval; Chen et al. 2021",
    stop: &[],
    raw: false,
    programs: &[Reading {
        judge: JUDGE,
        metric: "passed",
        source: |details, answer| {
            let prompt = prompt(details);
            format!("{prompt}{}", humaneval::simple_evals(answer))
        },
    }],
    load: Load::Own(|source| load(source, Asking::Asked)),
    ..HUMANEVAL
};

/// Runs programs.
const JUDGE: &str = "sandbox";
/// Runs them as [`humaneval::fenced`] reads them.
pub(in crate::eval) const FENCED: &str = "sandbox_fenced";

/// The beginning of a function that an item asks for.
fn prompt(details: &Value) -> &str {
    details["prompt"].as_str().unwrap_or_default()
}

/// How a chat model is asked, or that the prompt stands alone.
#[derive(Clone, Copy, PartialEq)]
enum Asking {
    Bare,
    /// The answer begins with an open fence and the prompt.
    Opened,
    Asked,
}

fn load(source: &Source<'_>, asking: Asking) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let path = source.path;
    let item = |row: &Row| {
        let prompt = row.text(path, "prompt")?;
        let mut details = json!({
            "test": row.text(path, "test")?,
            "entry_point": row.text(path, "entry_point")?,
            "prompt": prompt,
        });
        if asking == Asking::Opened {
            details["opening"] = format!("Here is the completed function:\n```python\n{prompt}\n").into();
        }
        let asked = match asking {
            Asking::Bare => prompt,
            Asking::Opened => format!(
                "Write a solution to the following problem and make sure that it passes the tests:\n```python\n{prompt}\n```\n"
            ),
            Asking::Asked => format!(
                "Read the following function signature and docstring, and fully implement the function described. Your \
                 response should only contain the code for this function.\n{prompt}"
            ),
        };
        Ok(Item {
            id: row.text(path, "task_id")?,
            prompt: asked,
            // Where there is one the tests are tried on it first.
            reference: row
                .has("canonical_solution")
                .then(|| row.text(path, "canonical_solution"))
                .transpose()?,
            details,
            ..Item::default()
        })
    };
    table::rows(path)?.iter().map(item).collect()
}
