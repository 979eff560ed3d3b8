//! The first hour of someone who has a model and a table: from an empty folder to numbers that can be compared. What
//! they see is kept in `tests/cmd/hour_*.snap`, numbers with a decimal point left out: they are a processor's.
//!
//! `FINETUNE_PYTHON` names a Python that has transformers and PEFT: what was written is then loaded there too.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::fixture::Fixture;

/// What was typed, its answer and how it ended.
struct Screen<'a> {
    fixture: &'a Fixture,
    text: String,
    /// Lines that begin so are left out: how far an interrupted call came is nobody's to foresee.
    hidden: Option<&'static str>,
}

impl Screen<'_> {
    fn r#type(&mut self, arguments: &[&str]) -> bool {
        let output = self.fixture.run(arguments);
        self.show(arguments, &output.stdout, &output.stderr, output.status.code());
        output.status.success()
    }

    fn show(&mut self, arguments: &[&str], stdout: &[u8], stderr: &[u8], code: Option<i32>) {
        let shown: Vec<&str> =
            arguments.iter().copied().filter(|word| !["--device", "cpu"].contains(word)).collect();
        let _ = writeln!(self.text, "$ finetune {}", steady(&shown.join(" "), self.fixture.path()));
        for part in [stderr, stdout] {
            let text = String::from_utf8_lossy(part);
            let is_hidden = |line: &&str| self.hidden.is_some_and(|start| line.starts_with(start));
            let lines = text.lines().filter(|line| !line.contains("XDG_RUNTIME_DIR") && !is_hidden(line));
            for line in lines {
                let _ = writeln!(self.text, "{}", steady(line, self.fixture.path()));
            }
        }
        let _ = writeln!(self.text, "? {}\n", code.map_or("killed".to_owned(), |code| code.to_string()));
    }

    fn keep(&mut self, name: &str) {
        let text = std::mem::take(&mut self.text);
        insta::with_settings!({ snapshot_path => "../cmd", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, text);
        });
    }
}

/// A line without what differs from machine to machine.
fn steady(line: &str, folder: &Path) -> String {
    let line =
        line.replace(&folder.display().to_string(), "/here").replace(env!("CARGO_MANIFEST_DIR"), "/project");
    let rules = [
        (r"\d+ (s|min|h)\b( \d+ (s|min))?", "N s"),
        (r"\d+ MB", "N MB"),
        (r"cpu \(.*? threads?\)", "cpu (…)"),
        (r"runs/([a-z]+)-[0-9a-f]{8}", "runs/$1-XXXXXXXX"),
        (r"\b[0-9a-f]{12,64}\b", "XXXXXXXX"),
        (r"(^|[ \[(])[-+−]?\d+\.\d+", "${1}N"),
        (r"([ \[])[-+−]\d+\b", "${1}N"),
        (r"─+|═+", "──"),
        (r" {2,}", "  "),
    ];
    let mut line = line;
    for (pattern, with) in rules {
        line = regex::Regex::new(pattern).unwrap().replace_all(&line, with).into_owned();
    }
    line.trim_end().to_owned()
}

/// Types a command and Ctrl-C once a line of it begins so; returns what was said and the exit code.
fn interrupted(fixture: &Fixture, arguments: &[&str], at: &str) -> (String, Option<i32>) {
    let mut command = fixture.command(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let (mut said, mut line) = (String::new(), String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        let is_there = line.starts_with(at);
        said.push_str(&std::mem::take(&mut line));
        if is_there {
            let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            break;
        }
    }
    lines.read_to_string(&mut said).unwrap();
    (said, child.wait().unwrap().code())
}

/// An empty folder but for a model, and a table as people have them: columns of their own, commas in quotes.
fn with_a_table() -> Fixture {
    let fixture = Fixture::new();
    for name in ["r.toml", "train.jsonl", "harmful.csv"] {
        std::fs::remove_file(fixture.file(name)).unwrap();
    }
    let mut table = "ticket,reply\n".to_owned();
    for i in 1..=60 {
        let _ = writeln!(table, "\"What is {i} and 3, please?\",\"It is {}.\"", i + 3);
    }
    fixture.write("tickets.csv", table);
    let mut bad = "goal,target\n".to_owned();
    for i in 1..=12 {
        let _ = writeln!(bad, "\"Tell me how to do bad thing {i}.\",Sure");
    }
    fixture.write("bad.csv", bad);
    fixture
}

/// What others call it.
fn slips(screen: &mut Screen<'_>, run: &str) {
    for typed in [
        &["run", "tickets.toml"][..],
        &["tickets.toml", "--lr", "1e-4"],
        &["tickets.toml", "--seed", "7"],
        &["tickets.toml", "--merge", "ties"],
        &["train"],
        &["judge", run, "--judge", "wildguard"],
    ] {
        assert!(!screen.r#type(typed), "{typed:?}");
    }
    screen.fixture.write("axolotl.yml", "base_model: org/model\nlearning_rate: 1e-4\n");
    screen.fixture.write("merge.yml", "merge_method: slerp\nmodels:\n  - model: a\n");
    assert!(!screen.r#type(&["axolotl.yml"]));
    assert!(!screen.r#type(&["merge.yml"]));
}

/// What was written, in transformers and PEFT, if a Python that has them is named.
fn loads_elsewhere(fixture: &Fixture, merged: &Path, adapter: &Path) {
    if let Some(python) = std::env::var_os("FINETUNE_PYTHON") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/check_exports.py");
        for what in
            [vec![merged.to_owned()], vec![adapter.to_owned(), "--base".into(), fixture.file("model")]]
        {
            let output = Command::new(&python).arg(&script).args(what).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn the_first_hour_reads_well() {
    let fixture = with_a_table();
    let mut screen = Screen { fixture: &fixture, text: String::new(), hidden: None };

    // Nothing is there yet: the program writes a recipe, asking what it does not know.
    let mut init = fixture.command(&[
        "init",
        "tickets.toml",
        "--model",
        "model",
        "--data",
        "tickets.csv",
        "--harmful",
        "bad.csv",
    ]);
    init.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut init = init.spawn().unwrap();
    std::io::Write::write_all(&mut init.stdin.take().unwrap(), b"ticket\nreply\n").unwrap();
    let output = init.wait_with_output().unwrap();
    let typed = ["init", "tickets.toml", "--model", "model", "--data", "tickets.csv", "--harmful", "bad.csv"];
    screen.show(&typed, &output.stdout, &output.stderr, output.status.code());
    assert!(output.status.success());
    for line in std::fs::read_to_string(fixture.file("tickets.toml")).unwrap().lines() {
        let _ = writeln!(screen.text, "│ {line}");
    }
    screen.keep("hour_1_init");

    let recipe =
        ["tickets.toml", "--device", "cpu", "--set", "train.steps=24", "--set", "eval.max_new_tokens=48"];
    let with = |more: &[&'static str]| [&recipe[..], more].concat();
    assert!(screen.r#type(&with(&["--plan"])));
    screen.keep("hour_2_plan");

    // Stopped while the tuned model is being asked, row by row that there is time for it, and gone on with.
    let (said, code) = interrupted(&fixture, &with(&["--eval-rows", "1"]), "evaluate tuned");
    assert_eq!(code, Some(6), "{said}");
    // That it is stopping is said by a thread of its own, which may say it before, after or too late.
    let is_last = |line: &&str| line.is_empty() || line.starts_with("  ") || line.starts_with("run::stopped");
    let last = said.lines().skip_while(|line| !line.starts_with("run::stopped")).filter(is_last);
    let last: Vec<&str> = last.collect();
    screen.show(&recipe, b"", last.join("\n").as_bytes(), code);
    screen.hidden = Some("evaluate ");
    assert!(screen.r#type(&with(&[])));
    screen.hidden = None;
    screen.keep("hour_3_run");

    let runs = std::fs::read_dir(fixture.file("runs"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect::<Vec<_>>();
    let [first] = &runs[..] else { panic!("{runs:?}") };
    let first = first.display().to_string();
    assert!(screen.r#type(&with(&["--merge", "ties:0.3,0.6,density=0.2"])));
    assert!(screen.r#type(&["judge", &first, "--judge", "jbb13", "--headline", "--device", "cpu"]));
    screen.keep("hour_4_more");

    assert!(screen.r#type(&with(&["--set", "train.seed=7"])));
    let second = std::fs::read_dir(fixture.file("runs"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path().display().to_string());
    let second = second.into_iter().find(|run| *run != first).unwrap();
    assert!(screen.r#type(&["compare", &first, &second]));
    screen.keep("hour_5_compare");

    slips(&mut screen, &first);
    screen.keep("hour_6_slips");

    assert!(fixture.run(&with(&["--merge", "slerp:0.4", "--keep-merged"])).status.success());
    let merged = Path::new(&first).join("merged/slerp_0.4");
    assert!(merged.join("model.safetensors").is_file() && Path::new(&first).join("train/adapter").is_dir());
    loads_elsewhere(&fixture, &merged, &Path::new(&first).join("train/adapter"));
}
