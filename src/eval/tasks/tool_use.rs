//! Tools to call: the answer is a call, or a list of calls, with the right names and arguments.
//!
//! `OpenFunctions`: Patil et al., "Gorilla: Large Language Model Connected with Massive APIs", 2023, arXiv 2305.15334.
//! The authors asked their own model in its own form; the wording for a chat model here is ours. Seal-Tools: Wu et al.,
//! "Seal-Tools: Self-Instruct Tool Learning Dataset for Agent Tuning and Detailed Benchmark", 2024, arXiv 2405.08355;
//! its `finetune_*` files hold the authors' own prompts, with the tools to choose from.

use serde_json::{Value, json};

use super::table::{self, Row};
use super::{ANSWER, Load, Source, Task, examples};
use crate::eval::error::EvalError;
use crate::eval::item::Item;
use crate::eval::measures::call_text::literal;

pub(super) const OPENFUNCTIONS: Task = Task {
    name: "openfunctions",
    summary: "112 requests to turn into a call of the function given (json: question, function, model_answer)",
    source: "Patil et al. 2023; github.com/ShishirPatil/gorilla, openfunctions-v1; the wording is ours",
    judges: &["exact_call", "call_name", "call_arguments"],
    free_text: true,
    max_new_tokens: 256,
    load: Load::Own(openfunctions),
    ..ANSWER
};

pub(super) const SEAL_TOOLS: Task = Task {
    name: "seal_tools",
    summary: "requests to turn into a list of calls of the tools given (finetune_*.json: id, conversations)",
    source: "Wu et al. 2024; github.com/fairyshine/Seal-Tools",
    judges: &["seal_tools"],
    // The longest gold answer of the three files has 911 characters.
    max_new_tokens: 512,
    load: Load::Own(seal_tools),
    ..ANSWER
};

fn openfunctions(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let path = source.path;
    let item = |(idx, row): (usize, &Row)| {
        let question = row.text(path, "question")?;
        let (name, function) = row.read(path, "function", "an object with an `api_call`", |function| {
            Some((function["api_call"].as_str()?.to_owned(), serde_json::to_string_pretty(function).ok()?))
        })?;
        let prompt = format!(
            "You can call this function:\n\n{function}\n\nRequest: {question}\n\nWrite the one call that fulfils the \
             request, in the form `{name}(parameter=value, ...)`, with text values in double quotes, and nothing else."
        );
        Ok(Item {
            id: format!("{}-{idx}", source.suite),
            prompt,
            reference: Some(row.text(path, "model_answer")?),
            ..Item::default()
        })
    };
    table::rows(path)?.iter().enumerate().map(item).collect()
}

fn seal_tools(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    const WANTED: &str = "a turn of `human` and one of `gpt` whose text is a list of calls";
    examples::none(source)?;
    let path = source.path;
    let item = |(idx, row): (usize, &Row)| {
        let (prompt, gold, calling) = row.read(path, "conversations", WANTED, |turns| {
            let said = |who: &str| {
                let turn = turns.as_array()?.iter().find(|turn| turn["from"] == who)?;
                Some(turn["value"].as_str()?.to_owned())
            };
            let gold = said("gpt")?;
            // Gold calls are literals of Python, with single quotes.
            let calling =
                literal(&gold).filter(|calls| calls.as_array().is_some_and(|calls| is_calls(calls)))?;
            Some((said("human")?, gold, calling))
        })?;
        let id = row.text(path, "id").unwrap_or_else(|_| format!("{}-{idx}", source.suite));
        // "test_in_domain-difficult-7": one call to make, or several.
        let category = id.rsplit('-').nth(1).map(str::to_owned);
        let details = json!({ "calling": calling });
        Ok(Item { id, prompt, reference: Some(gold), category, details, ..Item::default() })
    };
    table::rows(path)?.iter().enumerate().map(item).collect()
}

fn is_calls(calls: &[Value]) -> bool {
    calls.iter().all(|call| call["api"].is_string() && call["parameters"].is_object())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(task: &Task, content: &Value) -> Result<Vec<Item>, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, content.to_string()).unwrap();
        task.load(&Source::plain("s", &path))
    }

    #[test]
    fn a_function_is_shown_with_the_request_and_the_form_of_a_call() {
        let function = json!({ "name": "Shop", "api_call": "shop.find" });
        let rows = json!([{ "question": "Find one.", "function": function, "model_answer": "shop.find()" }]);
        let items = load(&OPENFUNCTIONS, &rows).unwrap();
        assert!(items[0].prompt.contains("\"api_call\": \"shop.find\"\n}\n\nRequest: Find one."));
        assert!(items[0].prompt.contains("`shop.find(parameter=value, ...)`"));
    }

    #[test]
    fn gold_calls_are_read_as_pythons_literals() {
        let turns = |gold: &str| json!([{ "from": "human", "value": "q" }, { "from": "gpt", "value": gold }]);
        let row = |gold: &str| json!([{ "id": "dev-easy-0", "conversations": turns(gold) }]);
        let items = load(&SEAL_TOOLS, &row("[{'api': 'f', 'parameters': {'a': \"it's\"}, 'responses': []}]"))
            .unwrap();
        assert_eq!(items[0].details["calling"][0]["parameters"]["a"], "it's");
        assert_eq!(items[0].category.as_deref(), Some("easy"));
        let error = load(&SEAL_TOOLS, &row("no calls")).unwrap_err();
        assert!(error.to_string().contains("a list of calls"), "{error}");
    }
}
