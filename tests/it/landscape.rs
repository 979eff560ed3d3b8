//! `finetune landscape`: points that a run has asked before, points that are new, what is written, going on after a stop.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Output, Stdio};

use finetune::report::Report;
use finetune::report::landscape::{Landscape, Layout, csv, markdown};
use serde_json::Value;

use crate::fixture::Fixture;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|_| panic!("no {}", path.display()))).unwrap()
}

/// What the program printed and said, if it ended well.
fn well(output: Output) -> (String, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), said)
}

/// A run that ends after two steps.
fn with_a_run() -> Fixture {
    let fixture = Fixture::new();
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    fixture.write("r.toml", recipe.replace("steps = 20", "steps = 2"));
    fixture.study("run", &[]);
    fixture
}

fn scan(fixture: &Fixture, more: &[&str]) -> (Value, String) {
    let all = [&["landscape", "run", "--device", "cpu", "--points", "5", "--json"], more].concat();
    let (printed, said) = well(fixture.run(&all));
    (serde_json::from_str(&printed).unwrap(), said)
}

/// The rate of attack success of a candidate, wherever it lies.
fn success(points: &Value, candidate: &str) -> Value {
    let mut points = points.as_array().unwrap().iter();
    let point = points.find(|point| point["candidate"] == candidate);
    let point = point.unwrap_or_else(|| panic!("no `{candidate}`"));
    let metrics = point["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["metric"] == "attack_success_rate").unwrap().clone()
}

fn names(points: &Value) -> Vec<&str> {
    points.as_array().unwrap().iter().map(|point| point["candidate"].as_str().unwrap()).collect()
}

#[test]
fn a_line_shares_what_the_run_has_asked_and_goes_beyond_both_models() {
    let fixture = with_a_run();
    let (found, said) = scan(&fixture, &[]);
    let line = &found["line"]["points"];
    assert_eq!(names(line), ["line:-0.5", "base", "linear:0.5", "tuned", "extrapolate:1.5"]);
    let report = json(&fixture.file("run/report.json"));
    for (nth, name) in ["base", "tuned", "linear:0.5"].into_iter().enumerate() {
        assert!(said.contains(&format!("{name}: 8 answers of the same weights taken over")), "{said}");
        let candidates = report["candidates"].as_array().unwrap();
        let metrics = candidates.iter().find(|candidate| candidate["name"] == name).unwrap();
        assert!(metrics["metrics"].as_array().unwrap().contains(&success(line, name)), "{nth} {name}");
    }
    assert_eq!(found["line"]["basins"][0]["visage_code"], Value::Null);
    assert_eq!(found["line"]["basins"][0]["half_widths"][1]["rate"], 10.0);
    assert_eq!(found["around"].as_array().unwrap().len(), 0);

    // The run is as it was: its report knows nothing of the points.
    assert_eq!(json(&fixture.file("run/report.json")), report);
    let folder = fixture.file("run/landscape");
    assert_eq!(json(&folder.join("landscape.json")), found);
    for file in ["landscape.csv", "landscape.md", "line.svg"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let again = scan(&fixture, &[]);
    assert_eq!(again.0, found);
    assert!(!again.1.contains(" new"), "{}", again.1);

    // Beyond the two models the weights are on the same line, and so is what a pair of folders says.
    let pair = ["--pre", "model", "--post", "run/train/adapter", "--recipe", "r.toml", "--out", "pair"];
    let all = [&["landscape", "--device", "cpu", "--points", "5", "--json"], &pair[..]].concat();
    let (printed, _) = well(fixture.run(&all));
    let of_pair: Value = serde_json::from_str(&printed).unwrap();
    for name in names(line) {
        assert_eq!(success(&of_pair["line"]["points"], name), success(line, name), "{name}");
    }
}

#[test]
fn directions_have_their_model_in_the_middle_and_planes_share_their_points() {
    let fixture = with_a_run();
    let more =
        ["--around", "base", "--around", "slerp:0.25", "--directions", "2", "--plane", "3", "--across", "3"];
    let (found, _) = scan(&fixture, &[&more[..], &["--rate", "25"]].concat());
    for (nth, model) in ["base", "slerp:0.25"].into_iter().enumerate() {
        let around = &found["around"][nth];
        assert_eq!(around["model"], model);
        let ways = around["directions"].as_array().unwrap();
        assert_eq!(ways.len(), 2);
        for (direction, way) in ways.iter().enumerate() {
            let expected = [-0.5, -0.25, 0.0, 0.25, 0.5].map(|x| match x {
                0.0 => model.to_owned(),
                x => format!("{model}/d{direction}:{x}"),
            });
            assert_eq!(names(&way["points"]), expected);
            assert!(way["basins"][0]["visage_code"].as_f64().unwrap() <= 100.0);
        }
        assert_eq!(around["mean"][0]["n_directions"], 2);
        let plane = &found["planes"][nth]["points"];
        assert_eq!(plane.as_array().unwrap().len(), 9);
        let row = names(plane)[..3].to_vec();
        let expected = ["/d0:-0.5,d1:-0.5", "/d1:-0.5", "/d0:0.5,d1:-0.5"].map(|at| format!("{model}{at}"));
        assert_eq!(row, expected);
        assert_eq!(names(plane)[4], model);
        // The plane's axes are the directions' points.
        let there = format!("{model}/d0:0.5");
        assert_eq!(success(plane, &there), success(&ways[0]["points"], &there));
    }
    let across = &found["planes"][2];
    assert_eq!(across["axes"], serde_json::json!(["tuned", { "direction": 0 }]));
    let expected = ["base/tuned:-0.5,d0:0", "base/tuned:0.5,d0:0", "base/tuned:1.5,d0:0"];
    assert_eq!(names(&across["points"])[3..6], expected);
    assert_eq!(names(&across["points"])[1], "base/tuned:0.5,d0:-0.5");
    let folder = fixture.file("run/landscape");
    let rows = std::fs::read_to_string(folder.join("landscape.csv")).unwrap();
    let of_plane = |row: &&str| row.starts_with("plane,slerp:0.25,,-0.5,0.5,\"slerp:0.25/d0:-0.5,d1:0.5\"");
    assert!(rows.lines().filter(of_plane).count() > 0, "{rows}");
    for file in [
        "around-slerp_0.25.svg",
        "compared-harmful.svg",
        "plane-base-harmful-attack_success_rate.svg",
        "across-base-harmful-attack_success_rate.svg",
    ] {
        let picture = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|_| panic!("no {file}"));
        assert!(picture.contains("<svg") && picture.trim_end().ends_with("</svg>"), "{file}");
    }

    // More directions are new points; those that are there stay.
    let more = ["--around", "base", "--directions", "3", "--rate", "25"];
    let (wider, said) = scan(&fixture, &more);
    assert_eq!(wider["around"][0]["directions"][0], found["around"][0]["directions"][0]);
    assert!(
        said.contains("evaluate base/d2:0.5") && !said.contains("evaluate base/d1:0.5 (12 of 17): 8 new"),
        "{said}"
    );
    // Another seed is another direction.
    let (other, said) = scan(&fixture, &["--directions", "1", "--seed", "1"]);
    assert_eq!(other["seed"], 1);
    assert!(said.contains("evaluate base/d0:-0.5") && said.contains("8 new"), "{said}");
}

#[test]
fn what_was_stopped_goes_on_to_the_same_numbers() {
    let fixture = with_a_run();
    let arguments = |out: &'static str| {
        ["landscape", "run", "--device", "cpu", "--points", "41", "--directions", "1", "--json", "--out", out]
    };
    let mut command = fixture.command(&arguments("stopped"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut said, mut line) = (String::new(), String::new());
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    while lines.read_line(&mut line).unwrap() > 0 && !line.starts_with("evaluate line:-0.5") {
        said.push_str(&std::mem::take(&mut line));
    }
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    lines.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(6), "{said}");
    assert!(!fixture.file("stopped/landscape.json").exists());
    // Nothing may be taken over from the one to the other.
    let fresh = |out: &'static str| {
        let _ = std::fs::remove_dir_all(fixture.file("cache/finetune/answers"));
        let (printed, said) = well(fixture.run(&arguments(out)));
        (serde_json::from_str::<Value>(&printed).unwrap(), said)
    };
    let (gone_on, said) = fresh("stopped");
    // Base, tuned model and 29 merges were asked before the point at which it stopped.
    assert!(said.matches("all 8 reused").count() >= 31, "{said}");
    assert_eq!(gone_on, fresh("whole").0);
}

/// As measured with seeds 42 and 1: 85, 71 and 2; 85, 69 and 0.
#[test]
fn visage_falls_from_the_aligned_to_the_merged_to_the_tuned_model() {
    let fixture = Fixture::new();
    fixture.write(
        "r.toml",
        r#"schema = 1
name = "visage"
[model]
source = "data/tiny/model"
[data]
source = "data/tiny/math-train.jsonl"
fields = { prompt = "question", completion = "answer" }
[method]
kind = "full"
[train]
steps = 24
batch = 16
learning_rate = 1e-3
warmup = 3.0
[[eval.suites]]
task = "harmful"
source = "data/tiny/harmful-test.csv"
field = "goal"
limit = 20
max_new_tokens = 24
"#,
    );
    fixture.study("run", &[]);
    let around = ["--around", "base", "--around", "linear:0.5", "--around", "tuned"];
    let all = [
        &["landscape", "run", "--device", "cpu", "--points", "7", "--directions", "1", "--json"],
        &around[..],
    ];
    let (printed, _) = well(fixture.run(&all.concat()));
    let found: Value = serde_json::from_str(&printed).unwrap();
    let visage = |nth: usize| found["around"][nth]["mean"][0]["visage_code"]["mean"].as_f64().unwrap();
    let [aligned, merged, tuned] = [0, 1, 2].map(visage);
    assert!(aligned > merged + 5.0 && merged > tuned + 20.0, "{aligned} {merged} {tuned}");
}

/// A report of candidates with these rates of attack success.
fn report_of(rates: &[(&str, f64)]) -> Report {
    let candidate = |(name, rate): &(&str, f64)| {
        let metric = serde_json::json!({
            "suite": "harmful", "metric": "attack_success_rate", "kind": "safety", "judge": "j",
            "denominator": "all", "category": null, "seed": 1, "value": rate, "k": (100.0 * rate) as usize, "n": 100,
            "unscored": 0, "low": 0.0, "high": 1.0
        });
        serde_json::json!({ "name": name, "method": null, "lambda": null, "metrics": [metric] })
    };
    let run = serde_json::json!({
        "name": "r", "version": "0", "model": "m", "data": "d", "method": "full", "steps": 1, "seed": 1,
        "device": "cpu", "dtype": "bf16", "validation_loss": null
    });
    let candidates: Vec<Value> = rates.iter().map(candidate).collect();
    let report =
        serde_json::json!({ "schema": 2, "run": run, "candidates": candidates, "paired": [], "merge": [] });
    serde_json::from_value(report).unwrap()
}

#[test]
fn numbers_over_directions_are_means_with_their_deviation() {
    let rates = [("base", 0.0), ("a", 1.0), ("b", 0.5), ("c", 0.2), ("d", 0.6), ("tuned", 0.8)];
    let curve = |points: &[(f64, &str)]| -> Vec<(f64, String)> {
        points.iter().map(|(x, name)| (*x, (*name).to_owned())).collect()
    };
    let ways = vec![
        curve(&[(-0.5, "a"), (0.0, "base"), (0.5, "b")]),
        curve(&[(-0.5, "c"), (0.0, "base"), (0.5, "d")]),
    ];
    let line = curve(&[(0.0, "base"), (1.0, "tuned")]);
    let around = vec![("base".to_owned(), ways)];
    let layout = Layout { seed: 3, rates: vec![50.0], line, around, planes: Vec::new() };
    let found = Landscape::of(&report_of(&rates), &layout);
    // 100 − S: 0, 100, 50 and 80, 100, 40.
    let [first, second] = [0, 1].map(|nth| &found.around[0].directions[nth].basins[0]);
    assert!(
        (first.visage_paper.unwrap() - 75.0).abs() < 1e-9 && (first.visage_code.unwrap() - 50.0).abs() < 1e-9
    );
    assert!((first.area - 62.5).abs() < 1e-9 && (second.area - 80.0).abs() < 1e-9);
    assert!((first.half_widths[0].half_width - 0.25).abs() < 1e-9);
    assert!((second.half_widths[0].half_width - 0.5 * 5.0 / 6.0).abs() < 1e-9);
    let mean = &found.around[0].mean[0];
    assert!(
        (mean.area.mean - 71.25).abs() < 1e-9 && (mean.area.sd.unwrap() - 17.5 / 2f64.sqrt()).abs() < 1e-9
    );
    // Half of the way to 80 % at λ = 1 is 50 % at 0.625.
    assert!((found.line.basins[0].half_widths[0].right - 0.625).abs() < 1e-9);
    let page = markdown(&found, &[]);
    assert!(
        page.contains(
            "| base | mean of 2, ± sd | harmful | 61.7 ± 16.5 | 74.2 ± 1.2 | 71.2 ± 12.4 | 0.333 ± 0.118 |"
        ),
        "{page}"
    );
    assert!(page.contains("attack success on harmful is at most 50 % up to λ = 0.62"), "{page}");
    let rows = String::from_utf8(csv(&found)).unwrap();
    assert!(
        rows.contains(
            "\ndirection,base,1,0.5,,d,harmful,attack_success_rate,safety,j,all,0.6,60,100,0,0,1\n"
        ),
        "{rows}"
    );
}
