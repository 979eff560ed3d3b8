//! Multiple choice by log-likelihood: the option that a candidate finds likeliest counts.
//!
//! Prompts and options are those of lm-eval 0.4.13 (tasks mmlu, arc, medqa, pubmedqa). An option is scored behind the
//! prompt and a blank; in a chat nothing is put between.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::examples::{self, Example};
use super::table::{self, Row, texts};
use super::{ANSWER, Form, Load, Source, Task};
use crate::eval::error::EvalError;
use crate::eval::item::{Item, MultipleChoice};
use crate::eval::measures::python_text::strip;

const CHOOSE: Task = Task { form: Form::Choose, max_new_tokens: 1, raw: true, ..ANSWER };

pub(super) const MMLU: Task = Task {
    name: "mmlu",
    summary: "57 subjects of school and university, four options; papers show five examples, `shots = 5` (jsonl: subject, question, choices, answer)",
    source: "lm-eval 0.4.13 mmlu; Hendrycks et al. 2021, arXiv 2009.03300; github.com/hendrycks/test",
    load: Load::Own(mmlu),
    ..CHOOSE
};

pub(super) const ARC_CHALLENGE: Task = Task {
    name: "arc_challenge",
    summary: "1,172 hard science questions, the option's text scored (jsonl: id, question, answerKey)",
    source: "lm-eval 0.4.13 arc_challenge; Clark et al. 2018, arXiv 1803.05457",
    load: Load::Own(arc),
    ..CHOOSE
};

pub(super) const MEDQA: Task = Task {
    name: "medqa_4options",
    summary: "1,273 questions of the US medical licence, four options (jsonl: question, options, answer_idx)",
    source: "lm-eval 0.4.13 medqa_4options; Jin et al. 2020, arXiv 2009.13081",
    load: Load::Own(medqa),
    ..CHOOSE
};

pub(super) const PUBMEDQA: Task = Task {
    name: "pubmedqa",
    summary: "500 questions on abstracts: yes, no or maybe (ori_pqal.json, test_ground_truth.json beside it)",
    source: "lm-eval 0.4.13 pubmedqa; Jin et al. 2019, arXiv 1909.06146; github.com/pubmedqa/pubmedqa",
    load: Load::Own(pubmedqa),
    ..CHOOSE
};

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
/// The answers of `PubMedQA`, in lm-eval's order: the first of equals is chosen.
const DECISIONS: [&str; 3] = ["yes", "no", "maybe"];

fn item(source: &Source<'_>, idx: usize, prompt: String, options: Vec<String>, gold: usize) -> Item {
    Item {
        id: format!("{}-{idx}", source.suite),
        prompt,
        reference: options.get(gold).cloned(),
        choices: Some(MultipleChoice { texts: options, gold }),
        ..Item::default()
    }
}

fn letters(options: &[String]) -> String {
    LETTERS.iter().zip(options).map(|(letter, option)| format!("{letter}. {option}\n")).collect()
}

fn owned(options: &[&str]) -> Vec<String> {
    options.iter().map(ToString::to_string).collect()
}

/// What an item would be as an example.
fn example(item: &Item) -> Example {
    (item.prompt.clone(), item.reference.clone().unwrap_or_default())
}

/// The examples of a subject are the first of `dev.jsonl`, in that file's order.
fn mmlu(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    let mut items = mmlu_items(source, source.path)?;
    if source.shots > 0 {
        let path = examples::file(source, &["dev.jsonl"]);
        let mut pools: HashMap<Option<String>, Vec<Example>> = HashMap::new();
        for item in mmlu_items(source, &path)? {
            pools.entry(item.category.clone()).or_default().push(example(&item));
        }
        for item in &mut items {
            let pool = pools.get(&item.category).map_or(&[][..], Vec::as_slice);
            let shots = pool.get(..source.shots);
            item.shots = shots.ok_or_else(|| examples::too_few(source, &path, pool.len()))?.to_vec();
        }
    }
    Ok(items)
}

fn mmlu_items(source: &Source<'_>, path: &Path) -> Result<Vec<Item>, EvalError> {
    let row = |(idx, row): (usize, &Row)| {
        let (subject, question) = (row.text(path, "subject")?, row.text(path, "question")?);
        let four = |value: &Value| texts(value).filter(|options| options.len() == LETTERS.len());
        let options = row.read(path, "choices", "a list of four texts", four)?;
        let place =
            |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|place| *place < LETTERS.len());
        let gold = row.read(path, "answer", "a number from 0 to 3", place)?;
        let prompt = format!("{}\n{}Answer:", strip(&question), letters(&options));
        let description = format!(
            "The following are multiple choice questions (with answers) about {}.\n\n",
            subject.replace('_', " ")
        );
        let item = item(source, idx, prompt, owned(&LETTERS), gold);
        Ok(Item { category: Some(subject), description, ..item })
    };
    table::rows(path)?.iter().enumerate().map(row).collect()
}

/// Examples, if any are asked for, are drawn from the file to train on, as lm-eval draws them.
fn arc(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    let mut items = arc_items(source, source.path)?;
    if source.shots > 0 {
        let path = examples::file(source, &["ARC-Challenge-Train.jsonl"]);
        let pool: Vec<_> = arc_items(source, &path)?.iter().map(example).collect();
        examples::drawn(source, &path, &pool, &mut items)?;
    }
    Ok(items)
}

fn arc_items(source: &Source<'_>, path: &Path) -> Result<Vec<Item>, EvalError> {
    const WANTED: &str = "an object of `stem` and `choices` of `text` and `label`";
    let row = |(idx, row): (usize, &Row)| {
        let (stem, options) = row.read(path, "question", WANTED, |question| {
            let option = |option: &Value| {
                Some((option["label"].as_str()?.to_owned(), option["text"].as_str()?.to_owned()))
            };
            let options: Option<Vec<_>> = question["choices"].as_array()?.iter().map(option).collect();
            Some((question["stem"].as_str()?.to_owned(), options?))
        })?;
        // Some questions have three options or five, some number them from 1.
        let place = |key: &Value| options.iter().position(|(label, _)| Some(label.as_str()) == key.as_str());
        let gold = row.read(path, "answerKey", "the label of one of the choices", place)?;
        let texts = options.into_iter().map(|(_, text)| text).collect();
        let item = item(source, idx, format!("Question: {stem}\nAnswer:"), texts, gold);
        Ok(Item { id: row.text(path, "id").unwrap_or(item.id), ..item })
    };
    table::rows(path)?.iter().enumerate().map(row).collect()
}

/// Examples, if any are asked for, are drawn from the file to train on, as lm-eval draws them.
fn medqa(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    let mut items = medqa_items(source, source.path)?;
    if source.shots > 0 {
        let path = examples::file(source, &["train.jsonl"]);
        let pool: Vec<_> = medqa_items(source, &path)?.iter().map(example).collect();
        examples::drawn(source, &path, &pool, &mut items)?;
    }
    Ok(items)
}

fn medqa_items(source: &Source<'_>, path: &Path) -> Result<Vec<Item>, EvalError> {
    let row = |(idx, row): (usize, &Row)| {
        let question = row.text(path, "question")?;
        let options = row.read(path, "options", "an object of texts `A` to `D`", |options| {
            LETTERS
                .iter()
                .map(|letter| options[letter].as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        })?;
        let place = |key: &Value| LETTERS.iter().position(|letter| Some(*letter) == key.as_str());
        let gold = row.read(path, "answer_idx", "a letter from A to D", place)?;
        let prompt = format!("Question: {question}\n{}Answer:", letters(&options));
        Ok(item(source, idx, prompt, owned(&LETTERS), gold))
    };
    table::rows(path)?.iter().enumerate().map(row).collect()
}

/// The records of the test set, in the order of the file that holds all of them.
///
/// `LONG_ANSWER` is not read: it is the abstract's conclusion and gives the answer away.
fn pubmedqa(source: &Source<'_>) -> Result<Vec<Item>, EvalError> {
    examples::none(source)?;
    let path = source.path;
    let all = table::document(path)?;
    let truth_path = examples::file(source, &["test_ground_truth.json"]);
    let truth = table::document(&truth_path)?;
    let absent = truth.fields.keys().find(|id| !all.fields.contains_key(*id));
    if let Some(id) = absent {
        all.value(path, id)?;
    }
    let tested = all.fields.into_iter().filter(|(id, _)| truth.fields.contains_key(id));
    let record = |(id, value): (String, Value)| {
        let row = table::object(path, &format!("record {id}"), value)?;
        let abstracts = row.read(path, "CONTEXTS", "a list of texts", texts)?.join("\n");
        let question = row.text(path, "QUESTION")?;
        let place = |key: &Value| DECISIONS.iter().position(|decision| Some(*decision) == key.as_str());
        let gold = row.read(path, "final_decision", "`yes`, `no` or `maybe`", place)?;
        let prompt = format!("Abstract: {abstracts}\nQuestion: {question}\nAnswer:");
        Ok(Item { id, ..item(source, 0, prompt, owned(&DECISIONS), gold) })
    };
    tested.map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::tasks::find;

    fn load(task: &str, files: &[(&str, &str)], shots: usize) -> Result<Vec<Item>, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let path = folder.path().join(files[0].0);
        find(task).unwrap().load(&Source { shots, ..Source::plain(task, &path) })
    }

    #[test]
    fn a_subject_shows_its_own_examples_in_the_files_order() {
        let row = |subject: &str, question: &str| {
            format!(
                r#"{{"subject": "{subject}", "question": " {question}", "choices": ["w", "x", "y", "z"], "answer": 2}}"#
            )
        };
        let dev = format!("{}\n{}\n{}", row("a_b", "one"), row("c", "two"), row("a_b", "three"));
        let items = load("mmlu", &[("test.jsonl", &row("a_b", "four")), ("dev.jsonl", &dev)], 2).unwrap();
        assert_eq!(items[0].prompt, "four\nA. w\nB. x\nC. y\nD. z\nAnswer:");
        assert!(items[0].description.ends_with("about a b.\n\n"));
        assert_eq!(items[0].shots[1], ("three\nA. w\nB. x\nC. y\nD. z\nAnswer:".to_owned(), "C".to_owned()));
        let error = load("mmlu", &[("test.jsonl", &row("c", "four")), ("dev.jsonl", &dev)], 2).unwrap_err();
        assert!(error.to_string().contains("has 1"), "{error}");
    }

    #[test]
    fn options_may_be_numbered_and_as_many_as_there_are() {
        let row = r#"{"id": "q1", "question": {"stem": "s", "choices": [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}]}, "answerKey": "2"}"#;
        let items = load("arc_challenge", &[("a.jsonl", row)], 0).unwrap();
        assert_eq!(items[0].choices, Some(MultipleChoice { texts: owned(&["x", "y"]), gold: 1 }));
        let error =
            load("arc_challenge", &[("a.jsonl", &row.replace(r#"Key": "2"#, r#"Key": "3"#))], 0).unwrap_err();
        assert!(error.to_string().contains("the label of one of the choices"), "{error}");
    }

    #[test]
    fn the_conclusion_of_an_abstract_never_reaches_the_prompt() {
        let record =
            r#"{"QUESTION": "q?", "CONTEXTS": ["a", "b"], "LONG_ANSWER": "told", "final_decision": "maybe"}"#;
        let all = format!(r#"{{"1": {record}, "2": {record}}}"#);
        let files = |truth| [("all.json", all.as_str()), ("test_ground_truth.json", truth)];
        let items = load("pubmedqa", &files(r#"{"2": "maybe"}"#), 0).unwrap();
        assert_eq!((items.len(), items[0].id.as_str()), (1, "2"));
        assert_eq!(items[0].prompt, "Abstract: a\nb\nQuestion: q?\nAnswer:");
        assert!(load("pubmedqa", &files(r#"{"3": "no"}"#), 0).is_err());
    }
}
