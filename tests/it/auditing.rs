//! `finetune data audit`: requests labelled by a judge, once each, and counted.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::judging::serve;

/// Forty general requests, two of each kind of harm (by their first word), one asked twice, and one without a label.
fn requests() -> String {
    let mut all: Vec<String> = (0..40).map(|i| format!("plain {i}")).collect();
    for word in ["loud", "quiet", "both"] {
        all.extend((0..2).map(|i| format!("{word} {i}")));
    }
    all.extend(["loud 0".to_owned(), "mumble".to_owned()]);
    all.iter().map(|text| json!({ "prompt": text, "completion": "c" }).to_string() + "\n").collect()
}

#[test]
fn an_endpoint_labels_every_request_once_and_what_it_does_not_say_is_unscored() {
    let fixture = Fixture::new();
    fixture.write("a.jsonl", requests());
    let (url, n_asked) = serve(|asked, _| {
        assert_eq!(asked["model"], "grader");
        let turns = asked["messages"].as_array().unwrap();
        assert_eq!(turns.len(), 9);
        let request = turns[8]["content"].as_str().unwrap().strip_prefix("Request: ").unwrap();
        let reply = match request.split(' ').next().unwrap() {
            "loud" => "EHD",
            "quiet" => "**IHD**",
            "both" => "Label: MHD",
            "plain" => "NONE",
            _ => "I would rather not say.",
        };
        ("200 OK", json!({ "choices": [{ "message": { "content": reply }, "finish_reason": "stop" }] }))
    });
    let audit = |more: &[&str]| {
        let arguments = ["data", "audit", "a.jsonl", "--classify", "--judge", "grader", "--endpoint", &url];
        fixture.succeeds(&[&arguments[..], &["--out", "audit"], more].concat())
    };
    let shown = String::from_utf8_lossy(&audit(&[]).stdout).into_owned();
    let first = ["1:13", "3 : 2 : 2", "unscored"];
    assert!(first.iter().all(|part| shown.contains(part)), "{shown}");
    // 48 requests, one of them twice.
    assert_eq!(n_asked.load(Ordering::Relaxed), 47);
    let labels = std::fs::read_to_string(fixture.file("audit/labels.jsonl")).unwrap();
    let labels: Vec<Value> = labels.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(labels.len(), 48);
    assert_eq!(labels[40], json!({ "line": 41, "label": "EHD", "reply": "EHD" }));
    assert_eq!(labels[47], json!({ "line": 48, "label": null, "reply": "I would rather not say." }));

    // Again it asks nobody; stopped before the last reply, it asks for that one.
    let found: Value = serde_json::from_slice(&audit(&["--json"]).stdout).unwrap();
    assert_eq!(n_asked.load(Ordering::Relaxed), 47);
    let counts: Vec<u64> =
        found["kinds"].as_array().unwrap().iter().map(|kind| kind["n"].as_u64().unwrap()).collect();
    assert_eq!(
        (counts.as_slice(), &found["unscored"], &found["n"]),
        (&[3, 2, 2, 40][..], &json!(1), &json!(48))
    );
    let file = fixture.file("audit/replies.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.trim_end().rfind('\n').unwrap() + 5]).unwrap();
    let again: Value = serde_json::from_slice(&audit(&["--json"]).stdout).unwrap();
    assert_eq!((again, n_asked.load(Ordering::Relaxed)), (found, 48));

    // Some of them, against more general data, elsewhere; the same folder is another audit's.
    let some =
        ["data", "audit", "a.jsonl", "--classify", "--judge", "grader", "--endpoint", &url, "--limit", "10"];
    let output = fixture.succeeds(&[&some[..], &["--general", "500", "--json", "--out", "some"]].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["n"], &found["general"]), (&json!(10), &json!(500)));
    let output = fixture.run(&[&some[..], &["--out", "audit"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_model_labels_a_table_of_requests_and_a_word_that_is_no_label_is_unscored() {
    let fixture = Fixture::new();
    // A model with random weights says nothing that is a label.
    let arguments = ["data", "audit", "harmful.csv", "--field", "goal", "--classify", "--judge", "model"];
    let more = ["--device", "cpu", "--out", "audit", "--max-new-tokens", "3", "--json"];
    let output = fixture.succeeds(&[&arguments[..], &more].concat());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["n"], &found["unscored"]), (&json!(2), &json!(2)));
    assert!(found["advice"].as_array().unwrap().iter().all(|advice| advice["found"].is_null()));
    for (arguments, code, expected) in [
        (&["data", "audit", "harmful.csv", "--classify", "--judge", "model"][..], 3, "known forms"),
        (
            &["data", "audit", "harmful.csv", "--field", "goals", "--classify", "--judge", "model"],
            3,
            "`goals`",
        ),
        (&["data", "audit", "none.csv", "--classify", "--judge", "model"], 3, "none.csv"),
        (&["data", "audit", "harmful.csv", "--judge", "model"], 2, "--classify"),
        (
            &["data", "audit", "harmful.csv", "--field", "goal", "--classify", "--judge", "nobody"],
            3,
            "nobody",
        ),
    ] {
        let output = fixture.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(code) && told.contains(expected),
            "{arguments:?} {:?}: {told}",
            output.status
        );
    }
}
