//! Python functions from their signature and description.
//!
//! Chen et al., "Evaluating Large Language Models Trained on Code", 2021, arXiv 2107.03374. Prompts, stop strings and
//! lengths are those of lm-eval 0.4.13, tasks/humaneval. The tests are in the details; who judges must run them.

use serde_json::json;

use super::table::{self, Row};
use super::{ANSWER, Load, Source, Task, examples};
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
    program: Some(|details, answer| {
        humaneval::lm_eval(details["prompt"].as_str().unwrap_or_default(), answer)
    }),
    delimiter: "",
    load: Load::Own(|source| load(source, false)),
    ..ANSWER
};

pub(super) const HUMANEVAL_INSTRUCT: Task = Task {
    name: "humaneval_instruct",
    version: 5,
    summary: "the same asked of a chat model, whose answer is opened with the prompt in a fence",
    source: "lm-eval 0.4.13 humaneval_instruct; Chen et al. 2021",
    raw: false,
    program: Some(|details, answer| {
        humaneval::lm_eval_instruct(details["prompt"].as_str().unwrap_or_default(), answer)
    }),
    load: Load::Own(|source| load(source, true)),
    ..HUMANEVAL
};

fn load(source: &Source<'_>, in_chat: bool) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let path = source.path;
    let item = |row: &Row| {
        let prompt = row.text(path, "prompt")?;
        let mut details = json!({
            "test": row.text(path, "test")?,
            "entry_point": row.text(path, "entry_point")?,
            "prompt": prompt,
        });
        if in_chat {
            details["opening"] = format!("Here is the completed function:\n```python\n{prompt}\n").into();
        }
        let asked = format!(
            "Write a solution to the following problem and make sure that it passes the tests:\n```python\n{prompt}\n```\n"
        );
        Ok(Item {
            id: row.text(path, "task_id")?,
            prompt: if in_chat { asked } else { prompt },
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
