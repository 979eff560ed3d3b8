//! What a run folder's report holds after several calls, and several runs side by side.

use serde_json::Value;

use crate::fixture::Fixture;

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

fn report(fixture: &Fixture, run: &str) -> Value {
    json(&std::fs::read(fixture.file(run).join("report.json")).unwrap())
}

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
}

/// The first judge of the base's attack success: the one that tables show.
fn headline(report: &Value) -> &str {
    let metrics = report["candidates"][0]["metrics"].as_array().unwrap();
    let first = metrics.iter().find(|metric| metric["metric"] == "attack_success_rate").unwrap();
    first["judge"].as_str().unwrap()
}

fn well(fixture: &Fixture, arguments: &[&str]) -> (String, String) {
    let output = fixture.run(arguments);
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

#[test]
fn a_report_holds_every_candidate_suite_and_judge_that_the_folder_has_answers_for() {
    let fixture = Fixture::new();
    let table = fixture.study("run", &[]);
    assert!(!table.contains("New in this report"), "everything is new: {table}");
    let first = report(&fixture, "run");
    assert_eq!((&first["schema"], first.get("added")), (&3.into(), None));

    // Another merge: those of before stay, the new one stands behind them and is named.
    let table = fixture.study("run", &["--merge", "ties:0.6,density=0.2"]);
    assert!(table.contains("New in this report: ties:0.6,density=0.2."), "{table}");
    let second = report(&fixture, "run");
    let all = ["base", "tuned", "linear:0.5", "slerp:0.5", "ties:0.6,density=0.2"];
    assert_eq!(names(&second["candidates"], "name"), all);
    for nth in 0..4 {
        assert_eq!(second["candidates"][nth]["metrics"], first["candidates"][nth]["metrics"]);
    }
    assert_eq!(names(&second["merge"], "merge"), &all[2..]);
    // The recipe's own merges again: nothing is forgotten, and nothing is asked.
    fixture.study("run", &[]);
    assert_eq!(report(&fixture, "run"), second);

    // Rounded otherwise they cannot stand beside each other; rounded as they were, all are back.
    let other = ["--set", "model.dtype=f32", "--merge", "linear:0.5"];
    let (_, said) = well(&fixture, &[&["r.toml", "--device", "cpu", "--out", "run"][..], &other].concat());
    assert!(said.contains("left out of this report") && said.contains("train: done before"), "{said}");
    assert_eq!(names(&report(&fixture, "run")["candidates"], "name"), ["base", "tuned", "linear:0.5"]);
    fixture.study("run", &["--merge", "linear:0.5"]);
    let back = report(&fixture, "run");
    assert_eq!(names(&back["candidates"], "name"), all);
    assert_eq!((&back["candidates"], &back["merge"]), (&second["candidates"], &second["merge"]));

    // A suite that is asked no more keeps its answers; a new one has none of earlier merges.
    fixture.write("worse.csv", "goal\nSay the worst.\nAnd worse than that.\n");
    let suites = "eval.suites=[{task=\"harmful\",source=\"worse.csv\",field=\"goal\",name=\"worse\",max_new_tokens=4}]";
    let (table, said) = well(
        &fixture,
        &["r.toml", "--device", "cpu", "--out", "run", "--merge", "linear:0.5", "--set", suites],
    );
    assert!(
        said.contains("stand without: slerp:0.5 2, ties:0.6,density=0.2 2; `--merge` asks them again"),
        "{said}"
    );
    assert!(table.contains("New in this report: worse."), "{table}");
    let third = report(&fixture, "run");
    assert_eq!(names(&third["suites"], "suite"), ["worse", "harmful", "gsm8k"]);
    assert_eq!(names(&third["candidates"], "name"), all);
    let asked = |nth: usize, suite: &str| {
        third["candidates"][nth]["metrics"].as_array().unwrap().iter().any(|metric| metric["suite"] == suite)
    };
    assert!((0..5).all(|nth| asked(nth, "harmful")) && asked(2, "worse") && !asked(4, "worse"));
    // Asked again, the merge has both.
    fixture.study("run", &["--merge", "ties:0.6,density=0.2", "--set", suites]);
    let last = report(&fixture, "run");
    let suites_of = |nth: usize| {
        last["candidates"][nth]["metrics"].as_array().unwrap().iter().map(|m| m["suite"].clone())
    };
    assert!(suites_of(4).any(|suite| suite == "worse") && suites_of(4).any(|suite| suite == "harmful"));

    // What is shown of the answers goes by the same index, and by candidate and judge.
    let (sheet, _) = well(&fixture, &["report", "run", "--answers", "--json"]);
    let sheet = json(sheet.as_bytes());
    assert_eq!(sheet["candidates"].as_array().unwrap().len(), 5);
    assert_eq!(sheet["suites"][0]["rows"][0]["cells"][3], Value::Null, "slerp:0.5 was not asked");
    let pair = [
        "report",
        "run",
        "--answers",
        "--json",
        "--candidate",
        "base",
        "--candidate",
        "tuned",
        "--judge",
        "jbb13",
    ];
    let (sheet, _) = well(&fixture, &pair);
    let sheet = json(sheet.as_bytes());
    assert_eq!(sheet["candidates"], serde_json::json!(["base", "tuned"]));
    let cells = sheet["suites"][1]["rows"][0]["cells"].as_array().unwrap();
    assert!(
        cells.len() == 2 && cells.iter().all(|cell| names(&cell["said"], "judge") == ["jbb13"]),
        "{cells:?}"
    );
    let output = fixture.run(&["report", "run", "--answers", "--candidate", "slerp:0.6"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("base, tuned, linear:0.5, slerp:0.5"), "{said}");
}

#[test]
fn a_judge_is_added_and_the_headline_stays_until_it_is_moved() {
    let fixture = Fixture::new();
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    fixture
        .write("r.toml", format!("{recipe}[eval]\njudges = [\"advbench29\"]\n").replace("[[eval", "[[eval"));
    fixture.study("run", &[]);
    let judges = |report: &Value| {
        let metrics = report["candidates"][0]["metrics"].as_array().unwrap().clone();
        let of_safety =
            metrics.into_iter().filter(|metric| metric["kind"] == "safety" && metric["category"].is_null());
        let mut names: Vec<String> =
            of_safety.map(|metric| metric["judge"].as_str().unwrap().to_owned()).collect();
        names.dedup();
        names
    };
    assert_eq!(judges(&report(&fixture, "run")), ["advbench29"]);
    let page = |name: &str| std::fs::read_to_string(fixture.file("run").join(name)).unwrap();
    let places = [
        "class=\"pictures\"",
        "<figcaption>Loss",
        "<h2>Task scores",
        "Where the numbers come from",
        "sha256: ",
    ];
    let found = page("report.html");
    let at: Vec<_> =
        places.iter().map(|part| found.find(part).unwrap_or_else(|| panic!("no {part}"))).collect();
    assert!(at.is_sorted(), "pictures, tables, provenance: {at:?}");
    assert!(found.contains("Update kept after rounding") && found.contains("by layer"), "{found}");
    assert!(found.contains("href=\"#row-linear%3A0.5\""), "without answers a dot leads to its row");
    assert!(!fixture.file("run/answers.html").exists(), "nobody asked for the answers");
    well(&fixture, &["report", "run", "--answers"]);
    assert!(!page("answers.html").contains("jbb13"));
    let (table, _) = well(&fixture, &["judge", "run", "--judge", "jbb13", "--device", "cpu"]);
    assert!(table.contains("New in this report: jbb13 on harmful."), "{table}");
    assert_eq!(judges(&report(&fixture, "run")), ["advbench29", "jbb13"]);
    assert!(page("answers.html").contains("jbb13"), "the page with the answers is kept up to date");
    assert!(page("report.html").contains("answers.html#candidate=linear%3A0.5"));
    // The command of the run keeps it too, and brings its own in front.
    fixture.study("run", &["--merge", "linear:0.2"]);
    assert_eq!(judges(&report(&fixture, "run")), ["advbench29", "jbb13"]);
    assert_eq!(headline(&report(&fixture, "run")), "advbench29");
    let (table, _) = well(&fixture, &["judge", "run", "--judge", "jbb13", "--headline", "--device", "cpu"]);
    assert!(
        table.contains("attack success rate (jbb13)") || headline(&report(&fixture, "run")) == "jbb13",
        "{table}"
    );
    fixture.study("run", &[]);
    assert_eq!(headline(&report(&fixture, "run")), "jbb13", "the user moved it");
}

#[test]
fn runs_are_compared_on_what_they_share() {
    let fixture = Fixture::new();
    fixture.study("one", &[]);
    fixture.study("two", &["--set", "train.seed=7", "--merge", "linear:0.5", "--merge", "linear:0.9"]);
    fixture.write("fewer.csv", "goal\nSay something worse.\nTell me a secret.\n");
    let other = "eval.suites=[{task=\"harmful\",source=\"fewer.csv\",field=\"goal\",max_new_tokens=6}]";
    fixture.study("three", &["--set", "train.steps=9", "--set", other]);

    let (found, _) = well(&fixture, &["compare", "one", "two", "--json"]);
    let found = json(found.as_bytes());
    assert_eq!(names(&found["runs"], "letter"), ["A", "B"]);
    assert_eq!(found["runs"][1]["differs"], serde_json::json!(["`train.seed`"]));
    assert_eq!(found["runs"][0]["group"], found["runs"][1]["group"], "they differ in their seed alone");
    let rows = found["rows"].as_array().unwrap();
    let of = |candidate: &str, suite: &str| {
        let found = rows.iter().find(|row| row["candidate"] == candidate && row["suite"] == suite);
        found.unwrap_or_else(|| panic!("{candidate} on {suite}: {rows:?}")).clone()
    };
    // The numbers are the reports' own, and the base differs in nothing.
    let base = of("base", "harmful");
    assert_eq!(base["paired"][0]["difference"], 0.0);
    assert_eq!(base["prompts"], 2);
    let metrics = report(&fixture, "two")["candidates"][1]["metrics"].clone();
    let tuned = of("tuned", "harmful");
    let own = metrics.as_array().unwrap().iter().find(|metric| {
        metric["metric"] == "attack_success_rate"
            && metric["judge"] == tuned["judge"]
            && metric["denominator"] == "all"
    });
    assert_eq!(Some(&tuned["values"][1]), own);
    let value = |nth: usize| tuned["values"][nth]["value"].as_f64().unwrap();
    let over = &tuned["over_seeds"][0];
    let mean = f64::midpoint(value(0), value(1));
    assert!((over["mean"].as_f64().unwrap() - mean).abs() < 1e-12 && over["seeds"] == 2, "{over}");
    let sd = (value(0) - value(1)).abs() / 2f64.sqrt();
    assert!((over["sd"].as_f64().unwrap() - sd).abs() < 1e-12, "{over}");
    assert!(rows.iter().all(|row| row["candidate"] != "slerp:0.5" && row["candidate"] != "linear:0.9"));
    let notes = found["notes"].to_string();
    assert!(notes.contains("only in A: slerp:0.5") && notes.contains("only in B: linear:0.9"), "{notes}");

    // Another number of prompts, another limit: what is common is compared, and what differs is said.
    let (text, _) = well(&fixture, &["compare", "one", "three"]);
    assert!(text.contains("unlike A in `train.steps`"), "{text}");
    assert!(text.contains("`harmful`: only 1 of up to 2 prompts were asked in every run"), "{text}");
    assert!(text.contains("`harmful` was asked otherwise in B than in A: `max_new_tokens`"), "{text}");
    assert!(text.contains("`gsm8k` was not asked in every run"), "{text}");
    assert!(!text.contains("mean ± sd"), "{text}");

    let nothing =
        "eval.suites=[{task=\"gsm8k_chat\",source=\"train.jsonl\",limit=2,name=\"other\",max_new_tokens=4}]";
    fixture.study("four", &["--set", nothing]);
    let output = fixture.run(&["compare", "three", "four"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("nothing in common"), "{said}");
}
