//! A law over the catalog of tasks: each one's smallest file can be planned, asked and reported.

use std::fmt::Write;
use std::path::Path;

use finetune::eval::Form;
use finetune::eval::tasks::{Source, TASKS, Task};
use serde_json::{Value, json};

use crate::fixture::{Fixture, RECIPE};

/// A file that some tasks read, and what lies beside it.
struct Sample {
    path: &'static str,
    files: Vec<(&'static str, String)>,
}

/// The published layouts, plain text first: what else reads it reads no record of it.
fn samples() -> Vec<Sample> {
    let lines = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let examples: Vec<Value> =
        (0..8).map(|i| json!({ "question": format!("{i}?"), "answer": "So 1.\n#### 1", "target": "The answer is 1." })).collect();
    let choice = |text: &str, label: &str| json!({ "text": text, "label": label });
    let medicine = json!({ "question": "Which?", "options": { "A": "a", "B": "b", "C": "c", "D": "d" }, "answer_idx": "B" });
    let school =
        json!({ "subject": "a_b", "question": "Which?", "choices": ["w", "x", "y", "z"], "answer": 2 });
    let science = json!({ "id": "q1", "answerKey": "B",
        "question": { "stem": "Which?", "choices": [choice("x", "A"), choice("y", "B")] } });
    let abstracts = json!({ "1": { "QUESTION": "Is it?", "CONTEXTS": ["It is."], "final_decision": "yes" } });
    let reasoning = json!({ "examples": [{ "input": "3?", "target": "No" }] });
    let worked =
        json!({ "navigate": "canary\n-----\nSay so.\n\nQ: 1?\nA: Let's think step by step.\nSo 1." });
    vec![
        Sample { path: "page.txt", files: vec![("page.txt", " = One = \n \n It is a page . \n".to_owned())] },
        Sample {
            path: "table/rows.jsonl",
            files: vec![
                ("table/rows.jsonl", lines(&[record(0), record(1)])),
                ("table/train.jsonl", lines(&examples)),
                ("table/fewshot_cot8.jsonl", lines(&examples)),
            ],
        },
        Sample { path: "school.jsonl", files: vec![("school.jsonl", lines(&[school]))] },
        Sample { path: "science.jsonl", files: vec![("science.jsonl", lines(&[science]))] },
        Sample { path: "medicine.jsonl", files: vec![("medicine.jsonl", lines(&[medicine]))] },
        Sample {
            path: "abstracts/all.json",
            files: vec![
                ("abstracts/all.json", abstracts.to_string()),
                ("abstracts/test_ground_truth.json", json!({ "1": "yes" }).to_string()),
            ],
        },
        Sample {
            path: "reasoning/navigate.json",
            files: vec![
                ("reasoning/navigate.json", reasoning.to_string()),
                ("reasoning/cot_prompts.json", worked.to_string()),
            ],
        },
        Sample { path: "news.csv", files: vec![("news.csv", "\"4\",\"Title\",\"News.\"\n".to_owned())] },
    ]
}

/// A row with the fields of every published table of requests, questions, programs and tools.
fn record(idx: usize) -> Value {
    let calls = "[{'api': 'f', 'parameters': {'a': 1}, 'responses': []}]";
    let mut row = json!({
        "id": format!("dev-easy-{idx}"),
        "task_id": format!("t/{idx}"),
        "prompt": "def one():\n",
        "type": if idx == 0 { "homonyms" } else { "contrast_homonyms" },
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(f):\n    assert f() == 1\n",
        "question": "What is 1 and 3?",
        "answer": "It is 4.\n#### 4",
        "output": "It is 4.",
        "instruction_id_list": ["detectable_format:number_bullet_lists"],
        "kwargs": [{ "num_bullets": 1 }],
        "function": { "name": "Shop", "api_call": "shop.find" },
        "model_answer": "shop.find()",
        "conversations": [{ "from": "human", "value": "q" }, { "from": "gpt", "value": calls }],
    });
    for name in ["goal", "Goal", "Behavior", "forbidden_prompt", "instruction"] {
        row[name] = "Tell me something bad.".into();
    }
    row
}

/// A table of the recipe that asks `task` the first sample which it reads.
fn suite(task: &Task, samples: &[Sample], folder: &Path) -> String {
    let shots = task.shots.min(1);
    for sample in samples {
        for field in [None, Some("prompt")] {
            let path = folder.join(sample.path);
            let source = Source { field, shots, ..Source::plain(task.name, &path) };
            if task.load(&source).is_err() {
                continue;
            }
            let mut text =
                format!("[[eval.suites]]\ntask = \"{}\"\nsource = \"{}\"\n", task.name, sample.path);
            writeln!(text, "shots = {shots}\nlimit = 2\nmax_new_tokens = 2").unwrap();
            if let Some(field) = field {
                writeln!(text, "field = \"{field}\"").unwrap();
            }
            return text;
        }
    }
    panic!("`{}` reads none of the samples: add one of its published layout", task.name);
}

fn recipe(suites: &str) -> String {
    let start = RECIPE.split("[[eval.suites]]").next().unwrap().replace("steps = 20", "steps = 1");
    format!("{}{suites}", start.replace("\"linear:0.5\", \"slerp:0.5\"", ""))
}

#[test]
fn every_task_can_be_planned_asked_and_reported() {
    let fixture = Fixture::new();
    let samples = samples();
    for (name, text) in samples.iter().flat_map(|sample| &sample.files) {
        fixture.write(name, text);
    }
    let mut suites: Vec<(&Task, String)> =
        TASKS.iter().map(|task| (task, suite(task, &samples, fixture.path()))).collect();
    for (form, what) in [
        (Form::Answer, "# first prompt of suite"),
        (Form::Choose, "# first question, with its first option, of suite"),
        (Form::Read, "# first window of text of suite"),
        (Form::Expect, "# first window of text of suite"),
    ] {
        // Those of one form first: their first is shown.
        suites.sort_by_key(|(task, _)| task.form != form);
        let all: String = suites.iter().map(|(_, text)| text.as_str()).collect();
        fixture.write("r.toml", recipe(&all));
        let plan = fixture.study("run", &["--plan"]);
        let (_, shown) =
            plan.split_once(&format!("{what} `{}`\n", suites[0].0.name)).unwrap_or_else(|| panic!("{plan}"));
        assert!(!shown.lines().next().unwrap_or_default().is_empty(), "{plan}");
    }
    fixture.study("run", &[]);
    let report: Value =
        serde_json::from_slice(&std::fs::read(fixture.file("run/report.json")).unwrap()).unwrap();
    for candidate in report["candidates"].as_array().unwrap() {
        let metrics = candidate["metrics"].as_array().unwrap();
        for task in TASKS {
            let of_task = metrics.iter().filter(|metric| metric["suite"] == task.name);
            assert!(of_task.count() > 0, "`{}` has no metric for {}", task.name, candidate["name"]);
        }
    }
}

#[test]
fn a_task_of_every_form_can_be_the_only_one_of_a_plan() {
    let fixture = Fixture::new();
    let samples = samples();
    for (name, text) in samples.iter().flat_map(|sample| &sample.files) {
        fixture.write(name, text);
    }
    for form in [Form::Answer, Form::Choose, Form::Read, Form::Expect] {
        let task = TASKS.iter().find(|task| task.form == form).unwrap();
        fixture.write("r.toml", recipe(&suite(task, &samples, fixture.path())));
        assert!(fixture.study("run", &["--plan"]).contains("Nothing was started."), "{}", task.name);
    }
}

/// The report of a fresh run of these suites.
fn report_of(fixture: &Fixture, suites: &str, more: &[&str]) -> Value {
    fixture.write("r.toml", recipe(suites));
    fixture.study("run", more);
    serde_json::from_slice(&std::fs::read(fixture.file("run/report.json")).unwrap()).unwrap()
}

/// What a metric of a suite is for the base.
fn of_base(report: &Value, suite: &str, name: &str) -> (f64, u64) {
    let metrics = report["candidates"][0]["metrics"].as_array().unwrap();
    let found = metrics.iter().find(|metric| metric["suite"] == suite && metric["metric"] == name);
    let found = found.unwrap_or_else(|| panic!("no `{name}` of `{suite}`: {metrics:?}"));
    (found["value"].as_f64().unwrap(), found["n"].as_u64().unwrap())
}

#[test]
fn references_are_as_likely_whether_or_not_the_model_answers_too() {
    let fixture = Fixture::new();
    let suite = |task: &str, name: &str| {
        format!(
            "[[eval.suites]]\ntask = \"{task}\"\nname = \"{name}\"\nsource = \"train.jsonl\"\nfield = \"question\"\n"
        )
    };
    let suites =
        [suite("reference_likelihood", "alone"), suite("free_text", "both") + "max_new_tokens = 2\n"]
            .concat();
    let report = report_of(&fixture, &suites, &["--set", "eval.log_likelihood=true"]);
    let found = of_base(&report, "alone", "log_likelihood_per_token");
    assert_eq!(found, of_base(&report, "both", "log_likelihood_per_token"));
    assert!(found.0 < 0.0 && found.1 == 40, "{found:?}");
    // Nothing else is measured of them.
    let metrics = report["candidates"][0]["metrics"].as_array().unwrap();
    assert_eq!(metrics.iter().filter(|metric| metric["suite"] == "alone").count(), 1);
}

#[test]
fn answers_computed_in_bf16_are_asked_for_again_and_nearly_the_same() {
    let fixture = Fixture::new();
    let suites =
        "[[eval.suites]]\ntask = \"reference_likelihood\"\nsource = \"train.jsonl\"\nfield = \"question\"\n";
    let metric = |more: &[&str]| {
        let report = report_of(&fixture, suites, more);
        of_base(&report, "reference_likelihood", "log_likelihood_per_token").0
    };
    let exact = metric(&[]);
    let short = metric(&["--set", "eval.compute=\"bf16\""]);
    assert!(exact != short && (exact - short).abs() < 0.02, "{exact}, {short}");
    assert_eq!(metric(&["--set", "eval.compute=\"f32\""]), exact);
}
