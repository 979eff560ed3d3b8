//! What judges are asked and what their replies mean, against the published parsers.

use std::fmt::Debug;
use std::path::Path;

use finetune::eval::rubrics;
use finetune::eval::rubrics::templates;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Of a softmax in f64 on both sides; stated by the cases' own table.
const CLOSED_FORM: f64 = 1e-9;
/// Of sums of small numbers.
const SCORE: f64 = 1e-12;

fn same<T: PartialEq + Debug>(wrong: &mut Vec<String>, what: &str, found: T, want: T) {
    if found != want {
        wrong.push(format!("{what} is {found:?}, expected {want:?}"));
    }
}

fn number(wrong: &mut Vec<String>, what: &str, found: Option<f64>, want: &Value, tolerance: f64) {
    let agrees = match (found, want.as_f64()) {
        (Some(found), Some(want)) => (found - want).abs() <= tolerance,
        (found, want) => found.is_none() && want.is_none(),
    };
    if !agrees {
        wrong.push(format!("{what} is {found:?}, expected {want}"));
    }
}

fn text<'c>(case: &'c Value, key: &str) -> &'c str {
    case[key].as_str().unwrap_or_else(|| panic!("`{key}` is text in {case}"))
}

pub fn harmbench_cls_parse(_: &Path, case: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let label = rubrics::harmbench_label(text(case, "first_token_text"));
    same(&mut wrong, "label", Some(i64::from(label)), case["label"].as_i64());
    wrong
}

pub fn judge_render(_: &Path, case: &Value) -> Vec<String> {
    let name = text(case, "template");
    let Some(template) = templates::find(name) else {
        return vec![format!("there is no template `{name}`")];
    };
    let values = case["values"].as_object().expect("values are an object");
    let values: Vec<_> = values
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().expect("a value is text")))
        .collect();
    let found = templates::text(&templates::render(template, &values));
    let mut wrong = Vec::new();
    same(&mut wrong, "chars", Some(found.chars().count() as u64), case["chars"].as_u64());
    let sha256: String = Sha256::digest(found.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    same(&mut wrong, "sha256", sha256.as_str(), text(case, "sha256"));
    if let Some(want) = case["rendered"].as_str() {
        same(&mut wrong, "rendered", found.as_str(), want);
    }
    wrong
}

pub fn llamaguard_parse(_: &Path, case: &Value) -> Vec<String> {
    let reply = text(case, "judge_output");
    let found = rubrics::llamaguard_parse(reply);
    let verdict = found.as_ref().map(|found| if found.is_unsafe { "unsafe" } else { "safe" });
    let mut wrong = Vec::new();
    same(&mut wrong, "verdict", verdict, case["verdict"].as_str());
    let categories = found.map(|found| found.categories).unwrap_or_default();
    same(&mut wrong, "categories", &json!(categories), &case["categories"]);
    same(&mut wrong, "jbb_rule_unsafe", Some(rubrics::jbb_rule(reply)), case["jbb_rule_unsafe"].as_bool());
    wrong
}

/// Where upstream raises, a reply is unscored here: the name of the exception is not ours to give.
pub fn policy_judge_1to5(_: &Path, case: &Value) -> Vec<String> {
    let reply = text(case, "judge_output");
    let mut wrong = Vec::new();
    same(&mut wrong, "score", rubrics::policy_score(reply), case["score"].as_u64());
    same(&mut wrong, "reason", rubrics::policy_reason(reply).as_deref(), case["reason"].as_str());
    wrong
}

pub fn shieldgemma_score(_: &Path, case: &Value) -> Vec<String> {
    let template = templates::find("shieldgemma_prompt_response").expect("it is shipped");
    let logits = |policy: &templates::Policy| {
        let pair = &case["logits_yes_no"][&policy.name];
        Some((pair[0].as_f64()?, pair[1].as_f64()?))
    };
    let Some(logits) = template.policies.iter().map(logits).collect::<Option<Vec<_>>>() else {
        return vec!["a policy has no logits".to_owned()];
    };
    let Some(found) = rubrics::shielded(&logits) else {
        return vec!["it is unscored".to_owned()];
    };
    let mut wrong = Vec::new();
    for (name, probability) in &found.by_policy {
        number(&mut wrong, name, Some(*probability), &case["probability"][name], CLOSED_FORM);
    }
    number(&mut wrong, "max_probability", Some(found.max), &case["max_probability"], CLOSED_FORM);
    same(&mut wrong, "unsafe_at_0.5", Some(found.is_unsafe), case["unsafe_at_0.5"].as_bool());
    wrong
}

pub fn strongreject(_: &Path, case: &Value) -> Vec<String> {
    let reply = text(case, "judge_output");
    let (official, inspect) = (rubrics::parse_official(reply), rubrics::parse_inspect(reply));
    let mut wrong = Vec::new();
    let parsed = official.map(|found| {
        json!({"refusal_score": found.refusal, "convincing_score": found.convincing, "specific_score": found.specific})
    });
    same(&mut wrong, "official_parsed", &parsed.unwrap_or_default(), &case["official_parsed"]);
    let parsed = inspect.map(|found| {
        json!({"refusal": found.refusal, "convincingness": found.convincing, "specificity": found.specific})
    });
    same(&mut wrong, "inspect_evals_parsed", &parsed.unwrap_or_default(), &case["inspect_evals_parsed"]);
    for (key, name) in
        [("official_score_0_1", "strongreject"), ("inspect_evals_score_0_5", "strongreject_inspect")]
    {
        let rubric = rubrics::find(name).expect("it is in the catalog");
        let reading = (rubric.read)(&[rubrics::Reply::Text(reply.to_owned())]);
        number(&mut wrong, key, reading.score, &case[key], SCORE);
    }
    wrong
}

pub fn wildguard_parse(_: &Path, case: &Value) -> Vec<String> {
    let found = rubrics::wildguard_parse(text(case, "judge_output"));
    let word = |label: Option<bool>, yes, no| label.map(|label| if label { yes } else { no });
    let mut wrong = Vec::new();
    for (key, found) in [
        ("prompt_harmfulness", word(found.harmful_request, "harmful", "unharmful")),
        ("response_refusal", word(found.refusal, "refusal", "compliance")),
        ("response_harmfulness", word(found.harmful_response, "harmful", "unharmful")),
    ] {
        same(&mut wrong, key, found, case[key].as_str());
    }
    same(&mut wrong, "is_parsing_error", Some(found.is_parsing_error), case["is_parsing_error"].as_bool());
    wrong
}

pub fn wildguard_prompt(_: &Path, case: &Value) -> Vec<String> {
    let answer = case["response"].as_str().unwrap_or_default();
    let found = templates::text(&rubrics::wildguard_pieces(text(case, "prompt"), answer));
    let mut wrong = Vec::new();
    same(&mut wrong, "expected", found.as_str(), text(case, "expected"));
    wrong
}
