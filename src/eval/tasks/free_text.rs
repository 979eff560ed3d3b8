//! Questions with a reference answer in free text, from a published set or from any file.

use serde_json::{Value, json};

use super::table::{self, Row};
use super::{ANSWER, Form, Load, Source, Task, examples};
use crate::eval::error::EvalError;
use crate::eval::item::Item;

pub(super) const CHATDOCTOR: Task = Task {
    name: "chatdoctor",
    summary: "5,452 generated patients' questions and a doctor's answers (json: instruction, input, output)",
    source: "Li et al. 2023, arXiv 2303.14070; github.com/Kent0n-Li/ChatDoctor",
    // Exact match means nothing here.
    judges: &["rougeL", "rouge1", "rouge2"],
    max_new_tokens: 256,
    free_text: true,
    load: Load::Own(alpaca),
    ..ANSWER
};

pub(super) const FREE_TEXT: Task = Task {
    name: "free_text",
    summary: "questions from any csv, tsv, json, jsonl or parquet with a column output, answer or reference, a text or a list of them: name the field",
    source: "your file",
    judges: &["rougeL", "exact_match"],
    max_new_tokens: 256,
    free_text: true,
    load: Load::Own(any),
    ..ANSWER
};

pub(super) const REFERENCE_LIKELIHOOD: Task = Task {
    name: "reference_likelihood",
    summary: "how likely the answers of a file are, such as held-out ones of the training's kind: instruction, input and output, or name the field",
    source: "your file",
    form: Form::Expect,
    max_new_tokens: 0,
    load: Load::Own(answered),
    ..ANSWER
};

/// Columns of reference answers; the first that a file has is used.
const REFERENCES: [&str; 3] = ["output", "answer", "reference"];

/// Instruction and input make the user's turn, as this program's own training data has them.
fn alpaca(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let path = source.path;
    let item = |(idx, row): (usize, &Row)| {
        let instruction = row.text(path, source.field.unwrap_or("instruction"))?;
        let input = row.fields.get("input").and_then(|input| input.as_str()).unwrap_or_default();
        let prompt = if input.trim().is_empty() { instruction } else { format!("{instruction}\n\n{input}") };
        Ok(Item {
            id: format!("{}-{idx}", source.suite),
            prompt,
            reference: Some(row.text(path, "output")?),
            ..Item::default()
        })
    };
    table::rows(path)?.iter().enumerate().map(item).collect()
}

fn answered(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    if source.field.is_none() { alpaca(source) } else { any(source) }
}

fn any(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let rows = table::rows(source.path)?;
    let has = |name: &&str| rows.first().is_some_and(|row| row.fields.contains_key(*name));
    let reference = REFERENCES.into_iter().find(has).unwrap_or(REFERENCES[0]);
    let columns = table::Columns { id: Some("id"), category: Some("category"), ..table::Columns::any() };
    let items = table::items(source, &columns)?;
    let with_reference = |(item, row): (Item, &Row)| {
        let Some(Value::Array(_)) = row.fields.get(reference) else {
            return Ok(Item { reference: Some(row.text(source.path, reference)?), ..item });
        };
        let references = row.read(source.path, reference, "text or a list of texts", |value| {
            table::texts(value).filter(|texts| !texts.is_empty())
        })?;
        Ok(Item {
            reference: references.first().cloned(),
            details: json!({ "references": references }),
            ..item
        })
    };
    items.into_iter().zip(&rows).map(with_reference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(task: &Task, content: &str, field: Option<&str>) -> Result<Vec<Item>, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        task.load(&Source { field, ..Source::plain("s", &path) })
    }

    #[test]
    fn the_first_known_column_is_the_reference() {
        let row = r#"{"q": "why?", "reference": "so", "answer": "because"}"#;
        assert_eq!(load(&FREE_TEXT, row, Some("q")).unwrap()[0].reference.as_deref(), Some("because"));
        assert!(load(&FREE_TEXT, row, None).unwrap_err().to_string().contains("needs a field"));
        let error = load(&FREE_TEXT, r#"{"q": "why?"}"#, Some("q")).unwrap_err();
        assert!(error.to_string().contains("no field `output`"), "{error}");
    }

    #[test]
    fn a_reference_may_be_a_list() {
        let items = load(&FREE_TEXT, r#"{"q": "why?", "answer": ["so", "thus"]}"#, Some("q")).unwrap();
        assert_eq!(items[0].reference.as_deref(), Some("so"));
        assert_eq!(items[0].references().collect::<Vec<_>>(), ["so", "thus"]);
        for bad in [r#"{"q": "why?", "answer": []}"#, r#"{"q": "why?", "answer": ["so", 1]}"#] {
            let error = load(&FREE_TEXT, bad, Some("q")).unwrap_err().to_string();
            assert!(error.contains("text or a list of texts"), "{error}");
        }
    }

    #[test]
    fn an_input_stands_below_its_instruction() {
        let rows = "{\"instruction\": \"i\", \"input\": \"x\", \"output\": \"o\"}\n{\"instruction\": \"i\", \"output\": \"o\"}";
        let items = load(&CHATDOCTOR, rows, None).unwrap();
        assert_eq!((items[0].prompt.as_str(), items[1].prompt.as_str()), ("i\n\nx", "i"));
    }
}
