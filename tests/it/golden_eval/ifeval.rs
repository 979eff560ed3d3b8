//! `IFEval`, as lm-eval judges it.

use std::path::Path;

use finetune::eval::ifeval::{Instruction, loose, strict};
use serde_json::Value;

/// Of shares of counts.
const SHARE: f64 = 1e-12;

fn text<'c>(case: &'c Value, key: &str) -> &'c str {
    case[key].as_str().unwrap_or_else(|| panic!("`{key}` is text in {case}"))
}

fn list<'c>(case: &'c Value, key: &str) -> &'c [Value] {
    case[key].as_array().unwrap_or_else(|| panic!("`{key}` is a list in {case}"))
}

/// The case's instructions judged, strictly and loosely.
fn judged(case: &Value) -> Result<(Vec<bool>, Vec<bool>), String> {
    let instructions = list(case, "instruction_id_list")
        .iter()
        .zip(list(case, "kwargs"))
        .map(|(id, kwargs)| Instruction::of(id.as_str().unwrap_or_default(), kwargs))
        .collect::<Result<Vec<_>, _>>()?;
    let (prompt, response) = (text(case, "prompt"), text(case, "response"));
    Ok((strict(&instructions, prompt, response), loose(&instructions, prompt, response)))
}

/// One answer.
pub fn ifeval(_: &Path, case: &Value) -> Vec<String> {
    let (strict, loose) = match judged(case) {
        Ok(both) => both,
        Err(error) => return vec![error],
    };
    let mut wrong = Vec::new();
    for (kind, found) in [("strict", strict), ("loose", loose)] {
        let all = found.iter().all(|follows| *follows);
        let of_prompt = format!("prompt_{kind}");
        for (key, found) in [(kind, Value::from(found)), (of_prompt.as_str(), Value::from(all))] {
            if found != case[key] {
                wrong.push(format!("{key} is {found}, expected {}", case[key]));
            }
        }
    }
    wrong
}

/// The four rates over a file of answers.
pub fn ifeval_totals(folder: &Path, totals: &Value) -> Vec<String> {
    let lines = std::fs::read_to_string(folder.join(text(totals, "file"))).expect("the cases are readable");
    let cases: Vec<Value> = lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).expect("a case is JSON"))
        .collect();
    let mut wrong = Vec::new();
    if totals["n"].as_u64() != Some(cases.len() as u64) {
        wrong.push(format!("n is {}, expected {}", cases.len(), totals["n"]));
    }
    let (strict, loose): (Vec<_>, Vec<_>) = match cases.iter().map(judged).collect::<Result<Vec<_>, _>>() {
        Ok(judged) => judged.into_iter().unzip(),
        Err(error) => return vec![error],
    };
    for (kind, found) in [("strict", strict), ("loose", loose)] {
        let of_prompts: Vec<bool> = found.iter().map(|follows| follows.iter().all(|hit| *hit)).collect();
        for (level, hits) in [("prompt", of_prompts), ("inst", found.concat())] {
            let key = format!("{level}_level_{kind}_acc");
            let rate = hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64;
            if totals[&key].as_f64().is_none_or(|want| (rate - want).abs() > SHARE) {
                wrong.push(format!("{key} is {rate}, expected {}", totals[&key]));
            }
        }
    }
    wrong
}
