//! The guide and the README: every command line in them is one that the program takes, and one that somebody runs.

use std::path::Path;

use clap::{CommandFactory, Parser};
use finetune::cli::Cli;
use finetune::guide::TOPICS;

use crate::fixture::Fixture;

/// Lines that are tried below in a folder with a tiny model, as they stand there.
const TRIED: &[(&str, &[&str])] = &[
    ("finetune r.toml --plan", &["r.toml", "--plan"]),
    ("finetune r.toml", &["r.toml", "--out", "run"]),
    ("finetune list tasks", &["list", "tasks"]),
    ("finetune list judges", &["list", "judges"]),
    ("finetune list presets", &["list", "presets"]),
    ("finetune list transforms", &["list", "transforms"]),
    ("finetune report RUN", &["report", "run"]),
    ("finetune report RUN --answers", &["report", "run", "--answers"]),
    (
        "finetune report RUN --answers --show flips --candidate base --candidate tuned",
        &["report", "run", "--answers", "--show", "flips", "--candidate", "base", "--candidate", "tuned"],
    ),
    (
        "finetune merge --pre BASE --post TUNED --merge slerp:0.5 --out merged",
        &["merge", "--pre", "model", "--post", "run", "--merge", "slerp:0.5", "--out", "merged"],
    ),
    ("finetune study.toml --plan", &["study.toml", "--plan"]),
    ("finetune study.toml", &["study.toml", "--out", "runs/study"]),
    ("finetune report runs/study", &["report", "runs/study"]),
    ("finetune report STUDY --answers", &["report", "runs/study", "--answers"]),
];

/// Lines that others run: the file that does, and words of it.
const ELSEWHERE: &[(&str, &str, &[&str])] = &[
    ("sudo apt-get install -y build-essential", ".ci/run", &["apt-get install -y"]),
    ("cargo build --release", ".ci/run", &["cargo run --release"]),
    (
        "cargo run --release -- --recipe quickstart.toml --merge slerp:0.5",
        ".ci/run",
        &["cargo run --release -- --recipe quickstart.toml --merge slerp:0.5"],
    ),
    (
        "finetune --recipe gsm8k.toml --merge slerp:0.5",
        "tests/it/recipes.rs",
        &["every_shipped_recipe_reads"],
    ),
    ("finetune study.toml --jobs cuda:0,cuda:1", "tests/it/studies.rs", &["\"--jobs\", \"cpu,cpu\""]),
    (
        "finetune slurm --recipe study.toml -- --partition=gpu --gres=gpu:1 --time=12:00:00",
        "tests/slurm-study",
        &["\"$finetune\" slurm"],
    ),
    (
        "finetune data mix train.jsonl --refuse benign.csv --out mixed.jsonl",
        "tests/it/data_mix.rs",
        &["\"data\", \"mix\"", "\"--refuse\"", "\"--out\""],
    ),
    (
        "finetune guard train tiny-guard.toml --out runs/tiny-guard",
        "tests/it/guards.rs",
        &["\"guard\", \"train\""],
    ),
    ("finetune guard train --model M --labels labelled.jsonl", "tests/it/errors.rs", &["\"--labels\""]),
    (
        "finetune guard score test.jsonl --guard runs/tiny-guard --benign look-alikes.csv",
        "tests/it/guards.rs",
        &["\"guard\", \"score\"", "--benign"],
    ),
    (
        "finetune guard route requests.csv --guard runs/tiny-guard --model M",
        "tests/it/guards.rs",
        &["\"route\"", "\"--model\""],
    ),
    ("finetune landscape RUN", "tests/it/landscape.rs", &["\"landscape\", \"run\""]),
    (
        "finetune landscape RUN --directions 3 --around base --around tuned --around linear:0.5",
        "tests/it/landscape.rs",
        &["\"--directions\"", "\"--around\""],
    ),
    ("finetune landscape RUN --plane", "tests/it/landscape.rs", &["\"--plane\""]),
    ("finetune landscape RUN --across", "tests/it/landscape.rs", &["\"--across\""]),
    (
        "finetune landscape --pre BASE --post TUNED --suite harmful=bad.csv,field=goal",
        "tests/it/landscape.rs",
        &["\"--pre\"", "\"--post\""],
    ),
    ("finetune inspect layers RUN --probe restore", "tests/it/inspecting.rs", &["\"restore\""]),
    ("finetune inspect layers RUN --probe scaling", "tests/it/inspecting.rs", &["\"scaling\""]),
    (
        "finetune inspect layers --model M --probe cosine --suite harmful=bad.csv,field=goal --suite benign=good.csv,field=prompt",
        "tests/it/inspecting.rs",
        &["\"cosine\"", "\"--suite\""],
    ),
    (
        "finetune inspect scores RUN --tuned --data requests.csv --set data.template=none --set 'data.fields={text=\"goal\"}'",
        "tests/it/related.rs",
        &["\"inspect\", \"scores\"", "--data"],
    ),
    (
        "finetune merge --pre BASE --post RUN --model unaligned=UNALIGNED --merge safelora,tau=0.5 --out merged",
        "tests/it/related.rs",
        &["unaligned=", "safelora"],
    ),
    (
        "finetune merge --pre BASE --model unaligned=UNALIGNED --merge lox,rank=6,strength=0.5 --out hardened",
        "tests/it/related.rs",
        &["lox,"],
    ),
    (
        "finetune steer fit --model M --harmful harmful=bad.csv,field=goal --harmless benign=good.csv,field=prompt --out runs/vectors",
        "tests/it/steering.rs",
        &["\"fit\"", "\"--harmful\"", "\"--harmless\""],
    ),
    ("finetune R --set steer.vectors=runs/vectors", "tests/it/steering.rs", &["vectors"]),
    (
        "finetune steer score runs/vectors --model M --harmful harmful=test.csv,field=goal --harmless benign=test.csv,field=prompt",
        "tests/it/steering.rs",
        &["\"score\""],
    ),
    ("finetune fetch org/model", "tests/it/hub.rs", &["\"fetch\""]),
    ("finetune fetch org/model@v1.0 'datasets/org/name/data/*.jsonl'", "tests/it/hub.rs", &["datasets/"]),
    (
        "finetune --recipe r.toml --set model.source=org/model --set data.source=datasets/org/name/data/train.jsonl",
        "tests/it/hub.rs",
        &["data.source=datasets/"],
    ),
];

fn root(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Every command line between fences, without its remark.
fn lines() -> Vec<String> {
    let readme = std::fs::read_to_string(root("README.md")).unwrap();
    let pages = TOPICS.iter().map(|topic| topic.text.to_owned()).chain([readme]);
    let mut found = Vec::new();
    for page in pages {
        let mut inside = false;
        for line in page.lines() {
            match line.trim_start() {
                fence if fence.starts_with("```") => inside = fence == "```sh",
                command if inside && !command.is_empty() => {
                    let command = command.split(" #").next().unwrap().trim_end().to_owned();
                    if !found.contains(&command) {
                        found.push(command);
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// A line as a shell takes it apart, as far as pages need it: blanks, and single quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut is_quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_line_of_a_page_is_tried_or_run_by_a_file_that_is_named() {
    let found = lines();
    assert!(found.len() > 30, "{found:?}");
    for line in &found {
        let own = line.strip_prefix("cargo run --release -- ").map(|rest| format!("finetune {rest}"));
        let own = own.unwrap_or_else(|| line.clone());
        if own.starts_with("finetune ") {
            let parsed = Cli::try_parse_from(words(&own));
            assert!(parsed.is_ok(), "`{line}`: {}", parsed.err().unwrap());
        }
        let is_tried = TRIED.iter().any(|(written, _)| written == line);
        let named = ELSEWHERE.iter().find(|(written, ..)| written == line);
        assert!(is_tried || named.is_some(), "nobody runs `{line}`");
    }
    for (written, file, parts) in ELSEWHERE {
        assert!(found.contains(&(*written).to_owned()), "no page has `{written}`");
        let text = std::fs::read_to_string(root(file)).unwrap();
        for part in *parts {
            assert!(text.contains(part), "{file} has no `{part}`, which `{written}` is said to be run by");
        }
    }
    for (written, _) in TRIED {
        assert!(found.contains(&(*written).to_owned()), "no page has `{written}`");
    }
}

#[test]
fn the_lines_of_the_guide_do_what_they_say_on_a_tiny_model() {
    let fixture = Fixture::new();
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap().replace("steps = 20", "steps = 2");
    fixture.write("r.toml", &recipe);
    fixture.write("study.toml", format!("{recipe}\n[grid]\n\"train.seed\" = [1, 2]\n"));
    for (written, tried) in TRIED {
        // Where it is said on the command line, it is the processor.
        let on: &[&str] =
            if ["r.toml", "study.toml"].contains(&tried[0]) { &["--device", "cpu"] } else { &[] };
        let output = fixture.run(&[tried, on].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{written}`: {said}");
    }
    for file in ["run/answers.html", "merged/model.safetensors", "runs/study/report.html"] {
        assert!(fixture.file(file).is_file(), "no {file}");
    }
    // Every cell has its answers, and the study's page leads there.
    let report = std::fs::read_to_string(fixture.file("runs/study/report.html")).unwrap();
    assert_eq!(report.matches("/answers.html\">answers</a>").count(), 2, "{report}");
    assert!(report.contains("/answers.html#candidate=base\"><circle"), "{report}");
    assert!(!report.contains("Tell me"), "a study's page has no prompt");
    // What would choose among answers is not passed over where none are printed.
    let output = fixture.run(&["report", "runs/study", "--answers", "--show", "flips"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("one of its cells"), "{said}");
}

#[test]
fn the_guide_has_a_page_for_each_topic_and_names_every_command() {
    let fixture = Fixture::new();
    let text = |arguments: &[&str]| String::from_utf8_lossy(&fixture.succeeds(arguments).stdout).into_owned();
    let list = text(&["guide"]);
    for topic in TOPICS {
        assert!(list.contains(topic.name) && list.contains(topic.title()), "{list}");
        assert!(topic.text.starts_with("# ") && topic.text.len() > 300, "{}", topic.name);
        let readme = std::fs::read_to_string(root("README.md")).unwrap();
        assert!(
            readme.contains(&format!("(src/guide/{}.md)", topic.name)),
            "README leads not to {}",
            topic.name
        );
    }
    assert_eq!(
        text(&["guide", "merging"]).trim_end(),
        finetune::guide::find("merging").unwrap().text.trim_end()
    );
    let output = fixture.run(&["guide", "mergin"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("`merging`"), "{said}");
    let commands = finetune::guide::find("commands").unwrap().text;
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let is_there =
            ["`", " ", "\\|"].iter().any(|end| commands.contains(&format!("finetune {name}{end}")));
        assert!(is_there, "`finetune {name}` stands on no page");
    }
}
