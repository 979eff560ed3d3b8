//! Grade-school mathematics: word problems with a worked answer that ends in `#### N`.
//!
//! Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021, arXiv 2110.14168. Extraction and comparison
//! are lm-eval's throughout. `gsm8k_chat` asks a chat model the question itself; the others are tasks of
//! lm-eval 0.4.13 (tasks/gsm8k) to the letter.

use super::examples::{self, Example};
use super::table::{self, Columns};
use super::{ANSWER, Load, Source, Task};
use crate::eval::error::EvalError;
use crate::eval::item::Item;

const SOURCE: &str = "Cobbe et al. 2021; github.com/openai/grade-school-math";

pub(super) const GSM8K_CHAT: Task = Task {
    name: "gsm8k_chat",
    summary: "grade-school word problems, the question alone (jsonl: question, answer)",
    source: SOURCE,
    judges: &["gsm8k_strict", "gsm8k_flexible", "gsm8k_reader"],
    // lm-eval's own.
    stop: &["Question:", "</s>", "<|im_end|>"],
    // lm-eval's 256 cut the worked answers of chat models.
    max_new_tokens: 512,
    load: Load::Table(COLUMNS, |_| true),
    ..ANSWER
};

pub(super) const GSM8K: Task = Task {
    name: "gsm8k",
    version: 3,
    summary: "grade-school word problems after five drawn from `train.jsonl` beside the file",
    source: "lm-eval 0.4.13 gsm8k; Cobbe et al. 2021",
    max_new_tokens: 256,
    shots: 5,
    load: Load::Own(plain),
    raw: true,
    ..GSM8K_CHAT
};

pub(super) const GSM8K_COT: Task = Task {
    name: "gsm8k_cot",
    version: 3,
    summary: "the same after the eight worked examples of `fewshot_cot8.jsonl` beside the file",
    source: "lm-eval 0.4.13 gsm8k_cot; Wei et al. 2022, arXiv 2201.11903",
    judges: &["gsm8k_cot_strict", "gsm8k_flexible", "gsm8k_reader"],
    stop: &["Q:", "</s>", "<|im_end|>"],
    max_new_tokens: 256,
    shots: 8,
    load: Load::Own(cot),
    raw: true,
    ..GSM8K_CHAT
};

pub(super) const GSM8K_COT_ZEROSHOT: Task = Task {
    name: "gsm8k_cot_zeroshot",
    summary: "the same with \"Let's think step by step.\" in place of examples",
    source: "lm-eval 0.4.13 gsm8k_cot_zeroshot; Kojima et al. 2022, arXiv 2205.11916",
    shots: 0,
    load: Load::Own(cot_zeroshot),
    ..GSM8K_COT
};

pub(super) const GSM8K_COT_LLAMA: Task = Task {
    name: "gsm8k_cot_llama",
    version: 4,
    summary: "the same eight examples, asked for \"The final answer is N\"",
    source: "lm-eval 0.4.13 gsm8k_cot_llama",
    judges: &["gsm8k_cot_llama", "gsm8k_flexible", "gsm8k_reader"],
    stop: &["<|eot_id|>", "<|start_header_id|>user<|end_header_id|>", "Q:", "</s>", "<|im_end|>"],
    delimiter: "",
    // A conversation, as the harness asks for it.
    raw: false,
    load: Load::Own(cot_llama),
    ..GSM8K_COT
};

const COLUMNS: Columns = Columns { reference: Some("answer"), ..Columns::prompt("question") };
const EXAMPLES: Columns = Columns { reference: Some("target"), ..Columns::prompt("question") };

/// How a question is put.
type Put = fn(&str) -> String;

fn plain(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    drawn(source, |question| format!("Question: {question}\nAnswer:"))
}

fn cot(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    worked(source, |question| format!("Q: {question}\nA:"), str::to_owned)
}

fn cot_zeroshot(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    drawn(source, |question| format!("Q: {question}\nA: Let's think step by step."))
}

fn cot_llama(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    let put = |question: &str| {
        format!(
            "Given the following problem, reason and give a final answer to the problem.\nProblem: {question}\n\
             Your response should end with \"The final answer is [answer]\" where [answer] is the response to the \
             problem.\n"
        )
    };
    // The eight examples are those of `gsm8k_cot`, but for how they end.
    worked(source, put, |target| match target.rsplit_once("The answer is ") {
        Some((thought, number)) => {
            format!("{thought}The final answer is {}", number.strip_suffix('.').unwrap_or(number))
        }
        None => target.to_owned(),
    })
}

/// Questions behind examples drawn from the file to train on.
fn drawn(source: &Source<'_>, put: Put) -> Result<Vec<Item>, EvalError> {
    let mut items = questions(source, put)?;
    if source.shots > 0 {
        let path = examples::file(source, &["train.jsonl"]);
        let pool = table::items(&Source { path: &path, opening_field: None, ..*source }, &COLUMNS)?;
        examples::drawn(source, &path, &pairs(pool, put), &mut items)?;
    }
    Ok(items)
}

/// Questions behind the first of the fixed examples.
fn worked(source: &Source<'_>, put: Put, end: fn(&str) -> String) -> Result<Vec<Item>, EvalError> {
    let mut items = questions(source, put)?;
    if source.shots > 0 {
        let path = examples::file(source, &["fewshot_cot8.jsonl"]);
        let mut pool = pairs(table::items(&Source::plain(source.suite, &path), &EXAMPLES)?, put);
        for (_, target) in &mut pool {
            *target = end(target);
        }
        examples::first(source, &path, &pool, &mut items)?;
    }
    Ok(items)
}

fn questions(source: &Source<'_>, put: Put) -> Result<Vec<Item>, EvalError> {
    let mut items = table::items(source, &COLUMNS)?;
    for item in &mut items {
        item.prompt = put(&item.prompt);
    }
    Ok(items)
}

fn pairs(items: Vec<Item>, put: Put) -> Vec<Example> {
    items.into_iter().map(|item| (put(&item.prompt), item.reference.unwrap_or_default())).collect()
}
