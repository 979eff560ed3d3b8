//! Instructions that a program can verify: so many words, no commas, all in capitals.
//!
//! Zhou et al., "Instruction-Following Evaluation for Large Language Models", 2023, arXiv 2311.07911; asked as lm-eval
//! 0.4.13 asks. `crate::eval::ifeval` verifies.

use serde_json::{Value, json};

use super::table::{self, Row, texts};
use super::{ANSWER, Load, Source, Task, examples};
use crate::eval::error::EvalError;
use crate::eval::ifeval::Instruction;
use crate::eval::item::Item;

pub(super) const IFEVAL: Task = Task {
    name: "ifeval",
    version: 4,
    summary: "541 prompts of 25 types of verifiable instructions (jsonl: prompt, instruction_id_list, kwargs)",
    source: "lm-eval 0.4.13 ifeval; Zhou et al. 2023; github.com/google-research/google-research",
    judges: &["ifeval_strict", "ifeval_loose", "ifeval_instructions_strict", "ifeval_instructions_loose"],
    max_new_tokens: 1280,
    load: Load::Own(load),
    ..ANSWER
};

fn load(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let path = source.path;
    let item = |(idx, row): (usize, &Row)| {
        let ids = row.read(path, "instruction_id_list", "a list of known instructions", |value| {
            texts(value).filter(|ids| !ids.is_empty())
        })?;
        let kwargs = row.read(
            path,
            "kwargs",
            "a list of one object for each instruction, as its type wants",
            |value| {
                let kwargs = value.as_array().filter(|kwargs| kwargs.len() == ids.len())?;
                // A night of answers must not end at an instruction that nobody can verify.
                let known = ids.iter().zip(kwargs).all(|(id, kwargs)| Instruction::of(id, kwargs).is_ok());
                known.then(|| Value::from(kwargs.clone()))
            },
        )?;
        let id = row.fields.get("key").and_then(Value::as_u64);
        Ok(Item {
            id: id.map_or_else(|| format!("{}-{idx}", source.suite), |key| key.to_string()),
            prompt: row.text(path, "prompt")?,
            details: json!({ "instruction_id_list": ids, "kwargs": kwargs }),
            ..Item::default()
        })
    };
    table::rows(path)?.iter().enumerate().map(item).collect()
}
