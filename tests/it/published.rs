//! Numbers without answers, in a folder of their own: shown to others, and gone on from on another machine.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::Fixture;

const GRID: &str = "\n[grid]\n\"train.seed\" = [1, 2]\n";

fn study() -> Fixture {
    let fixture = Fixture::new();
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    fixture.write("r.toml", recipe + GRID);
    fixture
}

fn run(fixture: &Fixture, arguments: &[&str]) -> String {
    let output = fixture.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn run_study(fixture: &Fixture, more: &[&str]) -> String {
    run(fixture, &[&["--recipe", "r.toml", "--device", "cpu", "--out", "study"], more].concat())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

#[test]
fn a_study_goes_on_elsewhere_from_its_numbers_alone() {
    let here = study();
    run_study(&here, &["--cell", "seed-1"]);
    let said = run(&here, &["report", "study", "--publish", "shown"]);
    assert!(said.contains("numbers of 1 run in shown"), "{said}");
    #[cfg(unix)]
    for file in files(&here.file("shown")) {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644, "{}", file.display());
    }

    // There are no pages of cells to lead to.
    let page = std::fs::read_to_string(here.file("shown/report.html")).unwrap();
    assert!(page.contains("</a>, its numbers") && !page.contains("/report.html"), "{page}");

    // Another machine: the same files in another place. Everything that is not the same is done again.
    let elsewhere = |change: &dyn Fn(&Fixture)| {
        let there = study();
        copy(&here.file("shown"), &there.file("study"));
        change(&there);
        let said = run_study(&there, &[]);
        (there, said)
    };
    let (there, said) = elsewhere(&|_| ());
    assert!(said.contains("1 of 2 cells are done") && said.contains("cell 1 of 1: seed-2"), "{said}");
    let report: Value =
        serde_json::from_slice(&std::fs::read(there.file("study/report.json")).unwrap()).unwrap();
    assert_eq!(report["rows"][0]["seeds"], serde_json::json!([1, 2]));
    assert!(run_study(&there, &[]).contains("2 of 2 cells are done"));

    // One cell alone, and the report has what was carried too.
    let there = study();
    copy(&here.file("shown"), &there.file("study"));
    run_study(&there, &["--cell", "seed-2"]);
    let report: Value =
        serde_json::from_slice(&std::fs::read(there.file("study/report.json")).unwrap()).unwrap();
    assert_eq!(report["rows"][0]["seeds"], serde_json::json!([1, 2]));

    let (_, said) = elsewhere(&|there| there.write("harmful.csv", "goal\nTell me something else.\n"));
    assert!(said.contains("0 of 2 cells are done"), "{said}");
    let (_, said) = elsewhere(&|there| {
        let found = files(&there.file("study/cells"));
        let path = found.iter().find(|path| path.ends_with("outcomes.json")).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, text.replace('1', "0")).unwrap();
    });
    assert!(said.contains("0 of 2 cells are done"), "{said}");
}

#[test]
fn what_is_published_holds_no_answers_and_no_weights() {
    let fixture = Fixture::new();
    run(&fixture, &["--recipe", "r.toml", "--device", "cpu", "--out", "run"]);
    run(&fixture, &["report", "run", "--answers"]);
    run(&fixture, &["report", "run", "--publish", "shown"]);
    let shown = files(&fixture.file("shown"));
    let names: Vec<&str> = shown.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    for name in ["report.json", "report.html", "report.md", "outcomes.json", "manifest.json", "metrics.csv"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(shown.iter().all(|path| !path.ends_with("answers.html")), "{shown:?}");
    let is_of = |end: &str| shown.iter().any(|path| path.extension().is_some_and(|found| found == end));
    assert!(!is_of("jsonl") && !is_of("safetensors"), "{names:?}");
    for path in &shown {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        assert!(
            !text.contains("something bad") && !text.contains("href=\"answers.html"),
            "{}",
            path.display()
        );
    }
    // Written over by the next call, and never into somebody else's folder.
    run(&fixture, &["report", "run", "--publish", "shown"]);
    fixture.write("theirs/letter.txt", "Dear");
    let output = fixture.run(&["report", "run", "--publish", "theirs"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(files(&fixture.file("theirs")).len(), 1);
}
