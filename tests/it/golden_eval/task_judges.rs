//! The judges of the skills, from an item to a verdict, against the programs whose rules they follow.

use std::path::Path;

use finetune::eval::judges::{self, Judge};
use finetune::eval::{Completion, Finish, Item, Verdict};
use serde_json::{Value, json};

/// Of closed forms in f64 on both sides; stated by the cases' own table.
const CLOSED_FORM: f64 = 1e-9;

/// What disagrees in one case; nothing if all agrees.
type Check = fn(&Path, &Value) -> Vec<String>;

/// The files of cases that this module checks, besides those who check what the judges are made of.
pub const SUPPORTED: &[(&str, Check)] = &[
    ("bbh_extract.jsonl", bbh),
    ("ifeval.jsonl", ifeval),
    ("ifeval_totals.json", ifeval_totals),
    ("rouge.jsonl", rouge),
    ("tool_call_f1.jsonl", seal_tools),
];

fn judge(name: &str) -> Box<dyn Judge> {
    (judges::find(name).unwrap().build)()
}

fn completion(text: &str) -> Completion {
    Completion { text: text.to_owned(), n_tokens: 1, finish: Finish::Stop }
}

fn text<'c>(case: &'c Value, key: &str) -> &'c str {
    case[key].as_str().unwrap_or_else(|| panic!("`{key}` is text in {case}"))
}

fn same<T: PartialEq + std::fmt::Debug>(wrong: &mut Vec<String>, what: &str, found: T, want: T) {
    if found != want {
        wrong.push(format!("{what} is {found:?}, expected {want:?}"));
    }
}

fn number(wrong: &mut Vec<String>, what: &str, found: Option<f64>, want: &Value) {
    let agrees = match (found, want.as_f64()) {
        (Some(found), Some(want)) => (found - want).abs() <= CLOSED_FORM,
        (found, want) => found.is_none() && want.is_none(),
    };
    if !agrees {
        wrong.push(format!("{what} is {found:?}, expected {want}"));
    }
}

/// An extracted answer that is right, wrong, or none.
pub fn bbh(_: &Path, case: &Value) -> Vec<String> {
    let item = Item {
        reference: Some(text(case, "target").to_owned()),
        details: json!({ "task": case["task"], "input": case["input"] }),
        ..Item::default()
    };
    let mut wrong = Vec::new();
    for (filter, want) in case["expected"].as_object().unwrap() {
        let name = match filter.as_str() {
            "get-answer" => "bbh_get_answer".to_owned(),
            other => format!("bbh_{}_{}", text(case, "variant"), other.split('-').next().unwrap()),
        };
        let found = judge(&name).judge(&item, &completion(text(case, "output")));
        let expected = match (text(want, "extracted"), want["exact_match"] == 1.0) {
            ("[invalid]", _) => Verdict::Unscored,
            (_, true) => Verdict::Yes,
            (_, false) => Verdict::No,
        };
        same(&mut wrong, &name, found, expected);
    }
    wrong
}

fn told(case: &Value) -> (Item, Completion) {
    let details = json!({ "instruction_id_list": case["instruction_id_list"], "kwargs": case["kwargs"] });
    let item = Item { prompt: text(case, "prompt").to_owned(), details, ..Item::default() };
    (item, completion(text(case, "response")))
}

/// One answer at both levels.
pub fn ifeval(_: &Path, case: &Value) -> Vec<String> {
    let (item, completion) = told(case);
    let mut wrong = Vec::new();
    for kind in ["strict", "loose"] {
        let followed = case[kind].as_array().unwrap();
        let share =
            followed.iter().filter(|followed| **followed == true).count() as f64 / followed.len() as f64;
        let all = if case[format!("prompt_{kind}")] == true { Verdict::Yes } else { Verdict::No };
        let found = |name: String| judge(&name).judge(&item, &completion);
        same(&mut wrong, kind, found(format!("ifeval_{kind}")), all);
        let name = format!("ifeval_instructions_{kind}");
        same(&mut wrong, kind, found(name), Verdict::Score(share));
    }
    wrong
}

/// The instructions of all prompts together.
pub fn ifeval_totals(folder: &Path, totals: &Value) -> Vec<String> {
    let lines = std::fs::read_to_string(folder.join(text(totals, "file"))).unwrap();
    let told: Vec<_> = lines.lines().map(|line| told(&serde_json::from_str(line).unwrap())).collect();
    let answers: Vec<_> = told.iter().map(|(item, completion)| (item, completion)).collect();
    let mut wrong = Vec::new();
    for kind in ["strict", "loose"] {
        for (name, found) in judge(&format!("ifeval_instructions_{kind}")).pooled(&answers) {
            number(&mut wrong, name, found, &totals[name]);
        }
        let yes = |(item, completion): &(&Item, &Completion)| {
            judge(&format!("ifeval_{kind}")).judge(item, completion) == Verdict::Yes
        };
        let rate = answers.iter().filter(|answer| yes(answer)).count() as f64 / answers.len() as f64;
        number(&mut wrong, kind, Some(rate), &totals[format!("prompt_level_{kind}_acc")]);
    }
    wrong
}

/// The cases without stems: the judges have none.
pub fn rouge(_: &Path, case: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if case["use_stemmer"] == false {
        let item = Item { reference: Some(text(case, "target").to_owned()), ..Item::default() };
        for name in ["rouge1", "rouge2", "rougeL"] {
            let found = match judge(name).judge(&item, &completion(text(case, "prediction"))) {
                Verdict::Score(score) => Some(score),
                _ => None,
            };
            number(&mut wrong, name, found, &case["expected"][name]["fmeasure"]);
        }
    }
    wrong
}

/// The corpus' scores from answers written as JSON.
pub fn seal_tools(_: &Path, case: &Value) -> Vec<String> {
    let answer = |item: &Value| {
        let calling = Item { details: json!({ "calling": item["gold"] }), ..Item::default() };
        let text =
            if item["predicted"].is_null() { "none".to_owned() } else { item["predicted"].to_string() };
        (calling, completion(&text))
    };
    let answers: Vec<_> = case["items"].as_array().unwrap().iter().map(answer).collect();
    let pairs: Vec<_> = answers.iter().map(|(item, completion)| (item, completion)).collect();
    let mut wrong = Vec::new();
    for (name, found) in judge("seal_tools").pooled(&pairs) {
        number(&mut wrong, name, found, &case["expected"][name]);
    }
    wrong
}
