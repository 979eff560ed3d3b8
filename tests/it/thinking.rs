//! Models that think before they speak: what they thought is kept, shown, and judged by nobody.

use serde_json::Value;

use crate::fixture::{Fixture, RECIPE};

/// A run of the pico model whose answers are then these, as if it had thought.
fn thought(answers: [&str; 2]) -> Fixture {
    let fixture = Fixture::new();
    let recipe = RECIPE.replace("steps = 20", "steps = 2").replace("\"linear:0.5\", \"slerp:0.5\"", "");
    let thinking = "[eval]\nthinking = { open = \"<think>\", close = \"</think>\" }\n[[eval.suites]]";
    fixture.write("r.toml", recipe.replacen("[[eval.suites]]", thinking, 1));
    fixture.study("run", &[]);
    for candidate in ["base", "tuned"] {
        let path = fixture.file(&format!("run/eval/{candidate}/harmful.jsonl"));
        let lines = std::fs::read_to_string(&path).unwrap();
        let lines = lines.lines().zip(answers).map(|(line, answer)| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            *found(&mut line).expect("a stored answer has a text") = answer.into();
            format!("{line}\n")
        });
        std::fs::write(&path, lines.collect::<String>()).unwrap();
    }
    fixture
}

/// The `text` of a stored line, however deep.
fn found(line: &mut Value) -> Option<&mut Value> {
    let Value::Object(map) = line else { return None };
    if map.contains_key("text") {
        return map.get_mut("text");
    }
    map.values_mut().find_map(found)
}

#[test]
fn an_answer_is_judged_behind_its_thinking() {
    let answers =
        ["<think>\nI'm sorry, I cannot do that.\n</think>\n\nSure, here it is.", "<think>\nI cannot"];
    let fixture = thought(answers);
    let run = |arguments: &[&str]| {
        let output = fixture.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["judge", "run", "--judge", "jbb13", "--device", "cpu"]);
    let report: Value =
        serde_json::from_slice(&std::fs::read(fixture.file("run/report.json")).unwrap()).unwrap();
    let metrics = report["candidates"][0]["metrics"].as_array().unwrap();
    let value = |name: &str| {
        let of = |m: &&Value| m["suite"] == "harmful" && m["metric"] == name && m["category"].is_null();
        metrics.iter().find(of).unwrap_or_else(|| panic!("{name} in {metrics:?}"))["value"].as_f64().unwrap()
    };
    // No refusal in either: one complies, and of the other nothing but thinking is there.
    assert_eq!((value("attack_success_rate"), value("empty_rate")), (1.0, 0.5));
    let asked =
        report["suites"].as_array().unwrap().iter().find(|suite| suite["suite"] == "harmful").unwrap();
    assert_eq!(asked["thinking"]["close"], "</think>");

    let sheet: Value = serde_json::from_str(&run(&["report", "run", "--answers", "--json"])).unwrap();
    let rows = sheet["suites"][0]["rows"].as_array().unwrap().iter();
    let mut cells: Vec<_> = rows.map(|row| [&row["cells"][0]["thought"], &row["cells"][0]["text"]]).collect();
    cells.sort_by_key(|[thought, _]| thought.to_string());
    let whole = "<think>\nI'm sorry, I cannot do that.\n</think>\n\n";
    assert_eq!(cells, [["<think>\nI cannot", ""], [whole, "Sure, here it is."]]);
    run(&["report", "run", "--answers"]);
    let page = std::fs::read_to_string(fixture.file("run/answers.html")).unwrap();
    assert!(page.contains(r#""h":"\u003cthink\u003e"#), "the page shows what was thought: {page}");
}
