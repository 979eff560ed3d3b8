//! BIG-Bench Hard: 27 tasks of reasoning, asked in three ways.
//!
//! Suzgun et al., "Challenging BIG-Bench Tasks and Whether Chain-of-Thought Can Solve Them", 2022, arXiv 2210.09261.
//! Prompts, stop strings and scoring are those of lm-eval 0.4.13, tasks/bbh. The file is one task's or the folder of
//! all 27; beside it lies `cot_prompts.json`, each task's description and three worked examples.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::examples::{self, Example};
use super::table;
use super::{ANSWER, Load, Source, Task};
use crate::eval::error::EvalError;
use crate::eval::item::Item;
use crate::eval::measures::bbh::Variant;
use crate::eval::measures::bbh_flexible;

pub(super) const BBH_COT_FEWSHOT: Task = Task {
    name: "bbh_cot_fewshot",
    version: 4,
    summary: "27 reasoning tasks after three worked examples each (a task's json, or the folder of all)",
    source: "lm-eval 0.4.13 bbh_cot_fewshot; Suzgun et al. 2022; github.com/suzgunmirac/BIG-Bench-Hard",
    judges: &["bbh_get_answer", "bbh_reader"],
    stop: Variant::CotFewshot.stops(),
    max_new_tokens: 1024,
    shots: N_EXAMPLES,
    // The question ends with a line break.
    delimiter: "",
    load: Load::Own(|source| load(source, "Let's think step by step.\n")),
    raw: true,
    ..ANSWER
};

pub(super) const BBH_ZEROSHOT: Task = Task {
    name: "bbh_zeroshot",
    version: 3,
    summary: "the same, the question alone",
    source: "lm-eval 0.4.13 bbh_zeroshot; Suzgun et al. 2022",
    judges: &["bbh_zeroshot_strict", "bbh_zeroshot_flexible"],
    stop: Variant::Zeroshot.stops(),
    max_new_tokens: 256,
    load: Load::Own(|source| examples::none(source).and_then(|()| load(source, ""))),
    raw: true,
    ..ANSWER
};

pub(super) const BBH_COT_ZEROSHOT: Task = Task {
    name: "bbh_cot_zeroshot",
    summary: "the same with \"Let's think step by step.\" in place of examples",
    source: "lm-eval 0.4.13 bbh_cot_zeroshot; Suzgun et al. 2022",
    judges: &["bbh_cot_zeroshot_strict", "bbh_cot_zeroshot_flexible"],
    stop: Variant::CotZeroshot.stops(),
    load: Load::Own(|source| examples::none(source).and_then(|()| load(source, "Let's think step by step."))),
    ..BBH_ZEROSHOT
};

const N_EXAMPLES: usize = 3;
const PROMPTS: &str = "cot_prompts.json";
/// Between a question and the worked answer in the published prompts; one task has a blank behind it, not a line break.
const THOUGHT: &str = "\nA: Let's think step by step.";

fn load(source: &Source<'_>, begun: &str) -> Result<Vec<Item>, EvalError> {
    let prompts_path = examples::file(source, &[PROMPTS]);
    let prompts = table::document(&prompts_path)?;
    let put = |question: &str| format!("Q: {question}\nA:{}{begun}", if begun.is_empty() { "" } else { " " });
    let mut items = Vec::new();
    for name in names(source.path)? {
        let path = if source.path.is_dir() { file_of(source.path, name) } else { source.path.to_owned() };
        let prompt = Prompt::of(&prompts.text(&prompts_path, name)?);
        let pool: Vec<Example> =
            prompt.examples.into_iter().map(|(question, answer)| (put(&question), answer)).collect();
        let shots =
            pool.get(..source.shots).ok_or_else(|| examples::too_few(source, &prompts_path, pool.len()))?;
        let document = table::document(&path)?;
        let rows = document.read(&path, "examples", "a list of objects", |examples| examples.as_array())?;
        let rows = table::list(&path, rows)?;
        for (idx, row) in rows.iter().enumerate() {
            let input = row.text(&path, "input")?;
            items.push(Item {
                id: format!("{}-{name}-{idx}", source.suite),
                prompt: put(&input),
                reference: Some(row.text(&path, "target")?),
                category: source.path.is_dir().then(|| name.to_owned()),
                description: prompt.description.clone(),
                shots: shots.to_vec(),
                details: json!({ "task": name, "input": input }),
                ..Item::default()
            });
        }
    }
    Ok(items)
}

/// The tasks that a path stands for: all of them if it is a folder.
fn names(path: &Path) -> Result<Vec<&'static str>, EvalError> {
    let all = bbh_flexible::TASKS.iter().map(|(name, _)| *name);
    if path.is_dir() {
        return Ok(all.collect());
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.split('.').next().unwrap_or_default();
    let found: Vec<_> = all.filter(|name| *name == stem).collect();
    if found.is_empty() {
        return Err(EvalError::UnknownBbhTask { path: path.to_owned() });
    }
    Ok(found)
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    let plain = folder.join(format!("{name}.json"));
    if plain.is_file() { plain } else { folder.join(format!("{name}.json.gz")) }
}

/// What the authors put before a question.
struct Prompt {
    /// With its blank line.
    description: String,
    examples: Vec<Example>,
}

impl Prompt {
    fn of(text: &str) -> Self {
        // The canary line and a rule come first.
        let text = text.split_once("-----\n").map_or(text, |(_, text)| text);
        let mut parts = text.split("\n\nQ: ");
        let description = format!("{}\n\n", parts.next().unwrap_or_default());
        let example = |part: &str| {
            let (question, answer) = part.split_once(THOUGHT)?;
            Some((question.to_owned(), answer.trim_start().to_owned()))
        };
        Self { description, examples: parts.filter_map(example).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::tasks::find;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let prompt = "canary\n-----\nSay so.\n\nMore.\n\nQ: 1?\nA: Let's think step by step.\nSo 1.\n\nQ: 2?\nA: Let's \
                      think step by step. So 2.";
        std::fs::write(folder.path().join(PROMPTS), json!({ "navigate": prompt }).to_string()).unwrap();
        let rows = json!({ "canary": "c", "examples": [{ "input": "3?", "target": "No" }] });
        std::fs::write(folder.path().join("navigate.json"), rows.to_string()).unwrap();
        folder
    }

    #[test]
    fn a_task_has_its_description_and_examples_from_the_file_beside() {
        let folder = folder();
        let path = folder.path().join("navigate.json");
        let items = BBH_COT_FEWSHOT.load(&Source { shots: 2, ..Source::plain("bbh", &path) }).unwrap();
        assert_eq!(items[0].id, "bbh-navigate-0");
        assert_eq!(items[0].description, "Say so.\n\nMore.\n\n");
        assert_eq!(items[0].shots[1], ("Q: 2?\nA: Let's think step by step.\n".into(), "So 2.".into()));
        assert_eq!(items[0].prompt, "Q: 3?\nA: Let's think step by step.\n");
        let items = BBH_ZEROSHOT.load(&Source::plain("bbh", &path)).unwrap();
        assert_eq!((items[0].prompt.as_str(), items[0].shots.len()), ("Q: 3?\nA:", 0));
    }

    #[test]
    fn a_folder_without_all_tasks_a_strange_name_and_too_many_examples_are_errors() {
        let folder = folder();
        let task = find("bbh_cot_fewshot").unwrap();
        let error = |shots, path: &Path| {
            task.load(&Source { shots, ..Source::plain("bbh", path) }).unwrap_err().to_string()
        };
        assert!(error(1, folder.path()).contains("`boolean_expressions`"));
        assert!(error(1, &folder.path().join("other.json")).contains("named after no task"));
        assert!(error(3, &folder.path().join("navigate.json")).contains("3 worked examples"));
    }

    #[test]
    fn every_task_is_known_by_its_name() {
        assert_eq!(bbh_flexible::TASKS.len(), 27);
        assert_eq!(names(Path::new("x/snarks.json.gz")).unwrap(), ["snarks"]);
    }
}
