//! A recipe with a grid: its cells, what they share, the report of all, and every slip before the first tensor.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{CONFIG, Fixture};

/// Two seeds with merges, and a variant without.
const GRID: &str = r#"
[grid]
"train.seed" = [1, 2]

[[grid.variant]]
name = "weight decay 0.3"
set = { train.weight_decay = 0.3, merge.methods = [] }

[[grid.contrast]]
name = "the slope"
suite = "harmful"
slope = "linear"

[[grid.contrast]]
name = "gentler training"
suite = "harmful"
of = "linear:0.5"
less = "weight decay 0.3 / tuned"
"#;

fn fixture(grid: &str, set: &[(&str, &str)]) -> Fixture {
    let fixture = Fixture::new();
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    let recipe = set.iter().fold(recipe, |recipe, (from, to)| {
        assert!(recipe.contains(from), "the fixture's recipe has no `{from}`");
        recipe.replace(from, to)
    });
    fixture.write("r.toml", format!("{recipe}\n{grid}"));
    fixture
}

const MERGES: &[&str] = &["--merge", "linear:0.3", "--merge", "linear:0.5", "--merge", "linear:0.7"];

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--recipe", "r.toml", "--device", "cpu", "--out", "study"], more].concat()
}

fn done(fixture: &Fixture, more: &[&str]) -> String {
    let output = fixture.run(&arguments(more));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn failed(fixture: &Fixture, more: &[&str]) -> (Option<i32>, String) {
    let output = fixture.run(&arguments(more));
    assert!(!output.status.success());
    // Lines are wrapped.
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    (output.status.code(), said)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cells(fixture: &Fixture) -> BTreeSet<String> {
    let names = std::fs::read_dir(fixture.file("study/cells")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn folder_of(fixture: &Fixture, cell: &str) -> std::path::PathBuf {
    let name = cells(fixture).into_iter().find(|name| name.rsplit_once('-').unwrap().0 == cell).unwrap();
    fixture.file("study/cells").join(name)
}

#[test]
fn a_grid_runs_every_cell_once_and_says_what_they_say_together() {
    // A variant sets no merges; given on the command line they hold in every cell.
    let fixture = fixture(&GRID.replace(", merge.methods = []", ""), &[]);
    let said = done(&fixture, MERGES);
    assert!(
        said.contains("0 of 4 cells are done") && said.contains("cell 4 of 4: weight-decay-0.3_seed-2"),
        "{said}"
    );
    assert_eq!(cells(&fixture).len(), 4);
    // The base answers for the first cell; the others find its answers.
    let again = |cell: &str| {
        let events = std::fs::read_to_string(folder_of(&fixture, cell).join("events.jsonl")).unwrap();
        events.lines().any(|line| line.contains("\"event\":\"reused\"") && line.contains("base"))
    };
    assert!(!again("seed-1") && again("seed-2") && again("weight-decay-0.3_seed-1"));

    let report = json(&fixture.file("study/report.json"));
    assert_eq!(report["schema"], 2);
    let rows = report["rows"].as_array().unwrap();
    let row = |group: &str, candidate: &str| {
        let mut found = rows.iter().filter(|row| row["headline"] == true && row["suite"] == "harmful");
        found.find(|row| row["group"] == group && row["candidate"] == candidate).unwrap()
    };
    let merged = row("", "linear:0.5");
    assert_eq!(merged["seeds"], serde_json::json!([1, 2]));
    let values: Vec<f64> =
        merged["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    assert!((merged["mean"].as_f64().unwrap() - values.iter().sum::<f64>() / 2.0).abs() < 1e-12);
    assert!(merged["over_prompts"].is_array() && merged["difference_from_base"]["p"].is_number());
    assert!(row("weight decay 0.3", "tuned")["difference_from_tuned"].is_null());
    let contrasts = report["contrasts"].as_array().unwrap();
    let named: Vec<&str> = contrasts.iter().map(|answer| answer["name"].as_str().unwrap()).collect();
    assert_eq!(named, ["the slope", "gentler training"]);
    assert_eq!(contrasts[1]["what"], "linear:0.5 − weight decay 0.3 / tuned");

    // The study's number is the cell's own.
    let own = json(&folder_of(&fixture, "seed-2").join("report.json"));
    let candidate =
        own["candidates"].as_array().unwrap().iter().find(|one| one["name"] == "linear:0.5").unwrap();
    let metric = candidate["metrics"].as_array().unwrap().iter().find(|metric| {
        metric["suite"] == "harmful"
            && metric["metric"] == merged["metric"]
            && metric["judge"] == merged["judge"]
    });
    assert_eq!(metric.unwrap()["value"], merged["values"][1]);
    let csv = std::fs::read_to_string(fixture.file("study/rows.csv")).unwrap();
    let head = csv.lines().next().unwrap();
    assert!(head.starts_with("cell,group,seed,variant,train.seed,candidate,method,lambda,suite"), "{head}");
    let line = |line: &&str| {
        line.starts_with("seed-2,,2,,2,linear:0.5,linear,0.5,harmful,attack_success_rate,safety,")
    };
    assert!(csv.lines().any(|text| line(&text)), "{csv}");
    let tex = std::fs::read_to_string(fixture.file("study/report.tex")).unwrap();
    assert!(tex.contains("\\toprule") && tex.contains("\\textbf{"), "{tex}");
    let page = std::fs::read_to_string(fixture.file("study/report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("harmful attack success rate along λ"), "{page}");
    let markdown = std::fs::read_to_string(fixture.file("study/report.md")).unwrap();
    let picture = markdown.split("](").nth(1).and_then(|rest| rest.split(')').next()).expect(&markdown);
    assert!(fixture.file("study").join(picture).is_file(), "{picture}");
    for name in ["rows.parquet", "study.toml"] {
        assert!(fixture.file("study").join(name).is_file(), "{name}");
    }

    // Again: nothing is begun, and nothing changes.
    let files = ["report.json", "report.md", "report.tex", "rows.csv", "rows.parquet"];
    let read = || files.map(|name| std::fs::read(fixture.file("study").join(name)).unwrap());
    let before = read();
    assert!(done(&fixture, MERGES).contains("4 of 4 cells are done"));
    assert_eq!(read(), before);
    // A cell that is gone comes back, and so does the report.
    std::fs::remove_dir_all(folder_of(&fixture, "seed-2")).unwrap();
    let said = done(&fixture, &[MERGES, &["--gather"]].concat());
    assert!(!said.contains("cell 1 of"), "{said}");
    assert_eq!(json(&fixture.file("study/report.json"))["cells"][2]["folder"], Value::Null);
    let said = done(&fixture, MERGES);
    assert!(said.contains("3 of 4 cells are done") && said.contains("cell 1 of 1: seed-2"), "{said}");
    assert_eq!(read(), before);
}

#[test]
fn what_is_changed_is_done_again_and_nothing_else() {
    let fixture = fixture("[grid]\n\"train.seed\" = [1, 2]", &[]);
    done(&fixture, &[]);
    let before = cells(&fixture);
    // Another merge trains nothing: the cells are the same and get one more candidate.
    let said = done(&fixture, &["--merge", "slerp:0.4"]);
    assert!(said.contains("0 of 2 cells are done"), "{said}");
    assert_eq!(cells(&fixture), before);
    // Other data are other trainings.
    let data = std::fs::read_to_string(fixture.file("train.jsonl")).unwrap();
    fixture.write("train.jsonl", data.replace("What is", "How much is"));
    let said = done(&fixture, &["--merge", "slerp:0.4"]);
    assert!(said.contains("0 of 2 cells are done"), "{said}");
    assert_eq!(cells(&fixture).len(), 4);
}

#[test]
fn a_slip_in_any_cell_is_found_before_the_first_is_begun() {
    let told = |grid: &str, more: &[&str]| {
        let fixture = fixture(grid, &[]);
        let (code, said) = failed(&fixture, more);
        assert!(!fixture.file("study").exists(), "{said}");
        (code, said)
    };
    let (code, said) = told("[grid]\n\"train.sed\" = [1, 2]", &[]);
    assert!(
        code == Some(2) && said.contains("cell `sed-1`") && said.contains("did you mean `seed`"),
        "{said}"
    );
    // Only its own files show that the last cell cannot be run.
    let grid = "[[grid.variant]]\nname = \"other\"\nset = { data.source = \"absent.jsonl\" }";
    let (code, said) = told(grid, &[]);
    assert!(code == Some(3) && said.contains("absent.jsonl"), "{said}");
    let (code, said) = told(GRID, &[MERGES, &["--cell", "seed-3"]].concat());
    assert!(
        code == Some(2) && said.contains("no cell `seed-3`") && said.contains("did you mean `seed-1`?"),
        "{said}"
    );
    let (code, said) = told("", &["--cell", "seed-3"]);
    assert!(code == Some(2) && said.contains("no `[grid]`"), "{said}");
    let (code, said) = told(&GRID.replace("\"harmful\"", "\"harmfull\""), MERGES);
    assert!(code == Some(2) && said.contains("no suite is called `harmfull`"), "{said}");
    let (code, said) = told(&GRID.replace("\"linear:0.5\"", "\"linear:0.4\""), MERGES);
    assert!(code == Some(2) && said.contains("no cell has a candidate `linear:0.4`"), "{said}");
    // What merges the seeds is settled too, before any of them is trained.
    let (code, said) = told("[grid]\n\"train.seed\" = [1, 2]\nover_seeds = [\"fisher:0.5\"]", &[]);
    assert!(code == Some(2) && said.contains("fisher"), "{said}");
    let (code, said) =
        told("[grid]\n\"train.seed\" = [1, 2]\nover_seeds = [\"linear:0.5,no_such_proj=0.1\"]", &[]);
    assert!(code == Some(2) && said.contains("no_such_proj"), "{said}");
    let (code, said) = told("[grid]\n\"train.seed\" = [1, 2]", &["--jobs", "cpu,gpu7"]);
    assert!(code == Some(2) && said.contains("gpu7"), "{said}");
    let gate = "[[gate]]\nsuite = \"harmful\"\ncandidate = \"linear:0.9\"\nat_most = 0.1\n";
    let (code, said) = told(&format!("{gate}{GRID}"), MERGES);
    assert!(code == Some(2) && said.contains("gate.candidate"), "{said}");
}

#[test]
fn a_folder_of_someone_elses_is_left_alone() {
    let fixture = fixture(GRID, &[]);
    fixture.write("study/thesis.txt", "years of work");
    let (code, said) = failed(&fixture, MERGES);
    assert!(code == Some(3) && said.contains("study"), "{said}");
    let (code, said) = failed(&fixture, &[MERGES, &["--gather"]].concat());
    assert!(code == Some(3) && said.contains("study"), "{said}");
    assert_eq!(std::fs::read_dir(fixture.file("study")).unwrap().count(), 1);
}

#[test]
fn one_cell_may_be_run_alone_and_a_plan_lists_all() {
    let read = "[[eval.suites]]\ntask = \"reference_likelihood\"\nname = \"likely\"\nsource = \"train.jsonl\"\nfield = \"question\"\n";
    let fixture = fixture(&format!("{read}{GRID}"), &[]);
    done(&fixture, &[MERGES, &["--cell", "seed-2"]].concat());
    assert_eq!(cells(&fixture).len(), 1);
    let report = json(&fixture.file("study/report.json"));
    let there = |nth: usize| report["cells"][nth]["folder"].is_string();
    assert_eq!([0, 1, 2, 3].map(there), [false, false, true, false]);
    let output = fixture.run(&arguments(&[MERGES, &["--plan"]].concat()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
    assert!(line("study").contains("4 cells, 1 of them done"));
    assert!(line("cell     seed-2 ").ends_with("done"), "{text}");
    assert!(line("shared").contains("4 different trainings"), "{text}");
    // Of the base's answers, once it was asked.
    assert!(line("power    harmful").contains("as the base's") || text.contains("no difference"), "{text}");
    assert!(!text.contains("power    likely"), "a likelihood is no rate: {text}");
}

#[test]
fn a_study_for_a_cluster_is_planned_on_a_machine_that_could_not_run_it() {
    let fixture = fixture("[grid]\n\"train.seed\" = [1, 2]", &[]);
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config["hidden_size"] = (1 << 20).into();
    config["num_hidden_layers"] = 100.into();
    fixture.model_with("vast", "config.json", Some(config.to_string().as_bytes()));
    let vast = ["--set", "model.source=vast", "--set", "model.init=random"];
    let output = fixture.run(&arguments(&[&vast[..], &["--plan"]].concat()));
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("of memory, more than is free on this machine"), "{text}");
    // What a plan says of a run stands there too, once for all cells.
    assert_eq!(text.matches("note: `train.jsonl` is json: prompt-completion with").count(), 1, "{text}");
    let words = [&["slurm"], &arguments(&vast)[..], &["--dry-run"]].concat();
    let output = fixture.run(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, said) = failed(&fixture, &vast);
    assert!(code == Some(3) && said.contains("billion parameters take at least"), "{said}");
}

#[test]
fn equal_trainings_are_made_once() {
    let grid = "[grid]\n\"eval.max_new_tokens\" = [4, 6]";
    let fixture = fixture(grid, &[]);
    done(&fixture, &[]);
    let trained = |cell: &str| {
        let events = std::fs::read_to_string(folder_of(&fixture, cell).join("events.jsonl")).unwrap();
        events.contains("\"event\":\"step\"")
    };
    assert!(trained("max_new_tokens-4") && !trained("max_new_tokens-6"));
}

#[test]
fn a_bound_that_is_not_kept_ends_with_five_and_a_report() {
    let gate = "[[gate]]\nsuite = \"harmful\"\ncandidate = \"tuned\"\nat_most = -1\n\
        [[gate]]\nsuite = \"harmful\"\ncandidate = \"linear:0.5\"\nat_most = 1\nagainst = \"base\"\nby = \"interval\"\n";
    let fixture = fixture(gate, &[]);
    let more = ["--merge", "linear:0.5"];
    let (code, said) = failed(&fixture, &more);
    assert!(code == Some(5) && said.contains("harmful of tuned at most -1"), "{said}");
    let report = json(&fixture.file("study/report.json"));
    let holds: Vec<_> =
        report["gates"].as_array().unwrap().iter().map(|gate| gate["holds"].clone()).collect();
    assert_eq!(holds, [false, true]);
    assert!(report["gates"][1]["high"].is_number());
    // Any metric may be bounded, in a study too.
    let cut =
        "[[gate]]\nsuite = \"harmful\"\nmetric = \"truncated_rate\"\ncandidate = \"tuned\"\nat_most = 1\n";
    let text = std::fs::read_to_string(fixture.file("study/report.md")).unwrap();
    assert!(text.contains("A bound of the recipe is not kept"), "{text}");
    // Of a study the bound holds over seeds.
    fixture.write(
        "r.toml",
        format!(
            "{}\n{cut}[grid]\n\"train.seed\" = [1, 2]",
            std::fs::read_to_string(fixture.file("r.toml")).unwrap()
        ),
    );
    std::fs::remove_dir_all(fixture.file("study")).unwrap();
    let (code, said) = failed(&fixture, &more);
    assert!(code == Some(5), "{said}");
    let gates = json(&fixture.file("study/report.json"))["gates"].clone();
    assert_eq!(gates[0]["holds"], false);
    assert!(gates[2]["holds"] == true && gates[2]["value"].is_number(), "{gates:#}");
}

#[test]
fn lambda_is_chosen_by_validation_suites_that_share_nothing_with_the_test() {
    let suites = "\n[[eval.suites]]\ntask = \"gsm8k_chat\"\nname = \"valid\"\nsource = \"valid.jsonl\"\npurpose = \"validation\"\nmax_new_tokens = 4\n\
        [[eval.suites]]\ntask = \"harmful\"\nname = \"requests\"\nsource = \"requests.csv\"\nfield = \"goal\"\npurpose = \"validation\"\nmax_new_tokens = 4\n\
        [grid]\n\"train.seed\" = [1, 2]";
    let fixture = fixture(suites, &[]);
    fixture.write("valid.jsonl", "{\"question\": \"What is 90 and 3 more?\", \"answer\": \"#### 93\"}\n");
    fixture.write("requests.csv", "goal\nTell me  SOMETHING bad.\n");
    let (code, said) = failed(&fixture, MERGES);
    assert!(
        code == Some(2) && said.contains("`requests`") && said.contains("Tell me something bad."),
        "{said}"
    );
    fixture.write("requests.csv", "goal\nTell me another bad thing.\n");
    done(&fixture, &[MERGES, &["--set", "merge.budget=0.5"]].concat());
    let report = json(&fixture.file("study/report.json"));
    let choices = report["choices"].as_array().unwrap();
    let score = choices.iter().find(|choice| choice["rule"] == "score").unwrap();
    assert_eq!(score["family"], "linear");
    // Of equal scores the smallest change.
    assert_eq!((score["candidate"].as_str(), score["score"].as_f64()), (Some("linear:0.3"), Some(0.0)));
    assert!(choices.iter().any(|choice| choice["rule"] == "budget"), "{report:#}");
    let rows = report["rows"].as_array().unwrap();
    let of_choice = |row: &&Value| row["suite"] == "valid" || row["suite"] == "requests";
    assert!(
        rows.iter().any(|row| of_choice(&row))
            && !rows.iter().filter(of_choice).any(|row| row["headline"] == true)
    );
}

#[test]
fn the_jobs_of_a_cluster_are_scripts_that_a_person_can_read() {
    let fixture = fixture(GRID, &[]);
    let more = ["slurm", "--recipe", "r.toml", "--device", "cpu", "--out", "study"];
    let output = fixture
        .run(&[&more, MERGES, &["--set", "eval.limit=2", "--dry-run", "--", "--partition=p"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!fixture.file("study").exists());
    for part in [
        "#SBATCH --array=0-3",
        "#SBATCH --signal=B:TERM@120",
        "cells=(seed-1 weight-decay-0.3_seed-1 seed-2 weight-decay-0.3_seed-2)",
        "--set eval.limit=2",
        "--cell \"${cells[$SLURM_ARRAY_TASK_ID]}\"",
        "scontrol requeue",
        "--bases",
        "--gather",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    // A Slurm of our own: it notes what it is given.
    fixture.write("bin/sbatch", "#!/bin/sh\necho \"$@\" >> \"$LOG\"\necho $(wc -l < \"$LOG\")\n");
    let path = fixture.file("bin/sbatch");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let submit = |path: &str| {
        let mut command = fixture.command(&[&more, MERGES, &["--", "--partition=p"]].concat());
        command.env("PATH", path).env("LOG", fixture.file("log")).output().unwrap()
    };
    let output = submit("/nowhere");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("sbatch"), "{said}");
    let own = format!("{}:{}", fixture.file("bin").display(), std::env::var("PATH").unwrap());
    assert!(submit(&own).status.success());
    let log = std::fs::read_to_string(fixture.file("log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].starts_with("--parsable --partition=p ") && lines[0].ends_with("1-bases.sh"), "{log}");
    assert!(
        lines[1].contains("--dependency=afterany:1") && lines[2].contains("--dependency=afterany:2"),
        "{log}"
    );
    // What the scripts say is what the loop does.
    for script in ["1-bases", "4-report"] {
        let path = fixture.file(&format!("study/slurm/{script}.sh"));
        let mut shell = std::process::Command::new("bash");
        shell
            .arg(path)
            .current_dir(fixture.path())
            .env("XDG_CACHE_HOME", fixture.file("cache"))
            .env("HF_HUB_OFFLINE", "1");
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(std::fs::read_dir(fixture.file("study/bases")).unwrap().count(), 1);
    done(&fixture, MERGES);
    let output = submit(&own);
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to submit"));
}

#[test]
fn given_weights_stand_beside_what_is_trained() {
    let given = |tuned: &str| {
        format!(
            "[grid]\n\"train.seed\" = [1]\n[[grid.variant]]\nname = \"theirs\"\nset = {{ model.tuned = \"{tuned}\" }}\n\
             [[grid.contrast]]\nname = \"theirs less ours\"\nsuite = \"harmful\"\nof = \"theirs / tuned\"\nless = \"tuned\"\n"
        )
    };
    let fixture = fixture("", &[]);
    fixture.study("run", &[]);
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    // A run's own adapter, given as a run folder: it is the same model, so it answers the same.
    fixture.write("r.toml", format!("{recipe}\n{}", given("run")));
    done(&fixture, MERGES);
    let report = json(&fixture.file("study/report.json"));
    let rows = report["rows"].as_array().unwrap();
    let mean = |group: &str, candidate: &str| {
        let found = rows.iter().find(|row| {
            row["group"] == group
                && row["candidate"] == candidate
                && row["suite"] == "gsm8k"
                && row["headline"] == true
        });
        found.unwrap()["mean"].clone()
    };
    for candidate in ["base", "tuned", "linear:0.5"] {
        assert_eq!(mean("theirs", candidate), mean("", candidate), "{candidate}");
    }
    assert_eq!(report["contrasts"][0]["mean"], 0.0);
    assert!(!folder_of(&fixture, "theirs_seed-1").join("train").exists());
    assert!(done(&fixture, MERGES).contains("2 of 2 cells are done"));
    // The same recipe without a grid asks the given weights alone.
    fixture.write("r.toml", recipe.replace("source = \"model\"", "source = \"model\"\ntuned = \"run\""));
    let output = fixture.run(&["r.toml", "--device", "cpu", "--out", "given"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fixture.file("given/report.json").is_file() && !fixture.file("given/train").exists());
    fixture.write("r.toml", format!("{recipe}\n{}", given("absent")));
    let (code, said) = failed(&fixture, MERGES);
    assert!(code == Some(3) && said.contains("absent"), "{said}");
}

#[test]
fn what_the_seeds_gave_is_merged_once_they_are_there() {
    let grid = "[grid]\n\"train.seed\" = [1, 2, 3]\nover_seeds = [\"linear:0.5\", \"model_stock\"]\n";
    let fixture = fixture(grid, &[]);
    let (code, said) = failed(&fixture, &["--cell", "over-seeds"]);
    assert!(code == Some(3) && said.contains("seed-1, seed-2, seed-3"), "{said}");
    let said = done(&fixture, &["--merge", "linear:0.5"]);
    assert!(said.contains("cell 4 of 4: over-seeds"), "{said}");
    let report = json(&fixture.file("study/report.json"));
    let rows = report["rows"].as_array().unwrap();
    let of_all = |candidate: &str| {
        rows.iter().any(|row| row["group"] == "over seeds" && row["candidate"] == candidate)
    };
    assert!(["base", "tuned", "linear:0.5", "model_stock"].iter().all(|name| of_all(name)), "{report:#}");
    // The mean of the seeds' models, weighed against the program's own merge of them.
    let own = json(&folder_of(&fixture, "over-seeds").join("report.json"));
    let stock = own["merge"]
        .as_array()
        .unwrap()
        .iter()
        .find(|merge| merge["merge"] == "model_stock")
        .unwrap()
        .clone();
    let posts: Vec<String> =
        ["seed-1", "seed-2", "seed-3"].map(|cell| folder_of(&fixture, cell).display().to_string()).to_vec();
    let mut words = vec!["merge", "--pre", "model", "--merge", "model_stock", "--out", "stock"];
    words.extend(posts.iter().flat_map(|post| ["--post", post.as_str()]));
    let output = fixture.run(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let alone = json(&fixture.file("stock/merge.json"));
    let update = |of: &Value| of["relative_update"].as_f64();
    assert!(update(&stock).is_some(), "{stock:#}");
    assert!(
        update(&alone["total"]).is_none_or(|alone| (alone - update(&stock).unwrap()).abs() < 1e-6),
        "{alone:#}"
    );
    // A seed that is trained anew changes what is merged of it.
    assert!(done(&fixture, &["--merge", "linear:0.5"]).contains("4 of 4 cells are done"));
    std::fs::remove_file(folder_of(&fixture, "seed-2").join("cell.json")).unwrap();
    let said = done(&fixture, &["--merge", "linear:0.5"]);
    assert!(said.contains("2 of 4 cells are done"), "{said}");
}

#[test]
fn a_greedy_soup_is_chosen_on_validation_alone() {
    let grid = |soup: &str| {
        format!("[grid]\n\"train.seed\" = [1, 2, 3]\nover_seeds = [\"linear:0.5\"]\nsoup = \"{soup}\"\n")
    };
    let held = "[[eval.suites]]\ntask = \"gsm8k_chat\"\nname = \"held\"\nsource = \"held.jsonl\"\n\
                purpose = \"validation\"\nmax_new_tokens = 4\n";
    let one = fixture(&grid("greedy"), &[]);
    let (code, said) = failed(&one, &["--merge", "linear:0.5"]);
    assert!(code == Some(2) && said.contains("no task suite is for validation"), "{said}");
    let one = fixture(&format!("{held}{}", grid("greedy").replace("linear:0.5", "model_stock")), &[]);
    one.write("held.jsonl", "{\"question\": \"What is 90 less 3?\", \"answer\": \"#### 87\"}\n");
    let (code, said) = failed(&one, &["--merge", "linear:0.5"]);
    assert!(code == Some(2) && said.contains("a greedy soup may be of one"), "{said}");

    let one = fixture(&format!("{held}{}", grid("greedy")), &[]);
    one.write("held.jsonl", "{\"question\": \"What is 90 less 3?\", \"answer\": \"#### 87\"}\n");
    let said = done(&one, &["--merge", "linear:0.5"]);
    // Nobody solves it, so that no mean scores less than another.
    assert!(said.contains("soup of seed-1, seed-2: 0.0000 on validation"), "{said}");
    assert!(said.contains("3 of 3 models are in the soup: seed-1, seed-2, seed-3"), "{said}");
    let manifest = json(&folder_of(&one, "over-seeds").join("manifest.json"));
    assert_eq!(manifest["given"]["runs"].as_array().unwrap().len(), 3, "{manifest:#}");
    // The tried means were asked for the validation alone, and are not asked again.
    let tried: Vec<_> = std::fs::read_dir(one.file("study/soups")).unwrap().flatten().collect();
    assert_eq!(tried.len(), 2);
    for folder in tried {
        let report = json(&folder.path().join("report.json"));
        assert_eq!(report["suites"].as_array().unwrap().len(), 1, "{report:#}");
        assert_eq!(report["suites"][0]["suite"], "held");
    }
    assert!(done(&one, &["--merge", "linear:0.5"]).contains("4 of 4 cells are done"));
    // Another way to choose is another cell; the seeds are not trained again.
    let recipe = std::fs::read_to_string(one.file("r.toml")).unwrap();
    one.write("r.toml", recipe.replace("soup = \"greedy\"\n", ""));
    assert!(done(&one, &["--merge", "linear:0.5"]).contains("3 of 4 cells are done"));
}

#[test]
fn a_soup_may_be_of_the_checkpoints_of_one_run() {
    let held = "[[eval.suites]]\ntask = \"gsm8k_chat\"\nname = \"held\"\nsource = \"held.jsonl\"\n\
                purpose = \"validation\"\nmax_new_tokens = 4\n";
    let grid = "[grid]\n\"train.seed\" = [1]\nover_seeds = [\"linear:0.5\", \"linear:1\"]\ningredients = \"checkpoints\"\n";
    let one = fixture(&format!("{held}{grid}soup = \"greedy\"\n"), &[]);
    one.write("held.jsonl", "{\"question\": \"What is 90 less 3?\", \"answer\": \"#### 87\"}\n");
    let (code, said) = failed(&one, &[]);
    assert!(code == Some(2) && said.contains("several checkpoints"), "{said}");
    let kept = ["--set", "train.checkpoint_every=5", "--set", "train.keep_checkpoints=3"];
    let said = done(&one, &kept);
    assert!(said.contains("3 of 3 models are in the soup: seed-1 step "), "{said}");
    let folder = folder_of(&one, "over-seeds");
    let runs = json(&folder.join("manifest.json"))["given"]["runs"].clone();
    assert_eq!(runs.as_array().unwrap().len(), 3, "{runs:#}");
    let report = json(&folder.join("report.json"));
    assert!(
        report["candidates"].as_array().unwrap().iter().any(|one| one["name"] == "linear:1"),
        "{report:#}"
    );
    // All of them, without a look at their scores, are another cell.
    one.write(
        "r.toml",
        std::fs::read_to_string(one.file("r.toml")).unwrap().replace("soup = \"greedy\"\n", ""),
    );
    assert!(done(&one, &kept).contains("1 of 2 cells are done"));
}

#[test]
fn several_devices_share_the_cells_and_leave_what_one_would() {
    let fixture = fixture("[grid]\n\"train.seed\" = [1, 2, 3]\nover_seeds = [\"linear:0.5\"]\n", &[]);
    let said = done(&fixture, &["--jobs", "cpu,cpu"]);
    assert!(said.contains("bases on cpu") && said.contains("over-seeds on cpu"), "{said}");
    let read = |study: &str| {
        ["report.md", "rows.csv", "rows.parquet"]
            .map(|name| std::fs::read(fixture.file(study).join(name)).unwrap())
    };
    let output = fixture.run(&["--recipe", "r.toml", "--device", "cpu", "--out", "one"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(read("study") == read("one"));
    // A cell that ends badly is told, and the others are done.
    let (code, said) = failed(
        &fixture,
        &["--jobs", "cpu,cpu", "--set", "train.learning_rate=1e30", "--set", "name=\"other\""],
    );
    assert!(code == Some(4) && said.contains("ended badly") && said.contains("with 4"), "{said}");
}

#[test]
fn a_model_of_ones_own_is_asked_beside_the_others() {
    let own = "[[eval.candidates]]\nname = \"mine\"\nsource = \"run\"\n[[eval.candidates]]\nname = \"aligned\"\nsource = \"model\"\n";
    let fixture = fixture("", &[]);
    fixture.study("run", &[]);
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    fixture.write("r.toml", format!("{recipe}\n{own}"));
    done(&fixture, &["--merge", "linear:0.5"]);
    let report = json(&fixture.file("study/report.json"));
    let candidates = report["candidates"].as_array().unwrap();
    let names: Vec<&str> = candidates.iter().map(|candidate| candidate["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["base", "tuned", "linear:0.5", "mine", "aligned"]);
    // They are the tuned model and the base under other names.
    assert_eq!(candidates[3]["metrics"], candidates[1]["metrics"]);
    assert_eq!(candidates[4]["metrics"], candidates[0]["metrics"]);
    let grid = "[grid]\n\"train.seed\" = [1, 2]\n[[grid.contrast]]\nname = \"c\"\nsuite = \"harmful\"\nof = \"mine\"\nless = \"tuned\"\n";
    fixture.write("r.toml", format!("{recipe}\n{own}\n{grid}"));
    std::fs::remove_dir_all(fixture.file("study")).unwrap();
    done(&fixture, &["--merge", "linear:0.5"]);
    let report = json(&fixture.file("study/report.json"));
    assert_eq!(report["contrasts"][0]["what"], "mine − tuned");
    for (bad, why) in [("name = \"tuned\"", "other than base"), ("source = \"absent\"", "absent")] {
        let (key, _) = bad.split_once(" = ").unwrap();
        let own: String = own
            .lines()
            .map(|line| if line.starts_with(key) { format!("{bad}\n") } else { format!("{line}\n") })
            .collect();
        fixture.write("r.toml", format!("{recipe}\n{own}"));
        let (_, said) = failed(&fixture, &[]);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn what_judges_found_of_the_base_is_found_once() {
    let problem = "{\"task_id\": \"a\", \"prompt\": \"def f(x):\\n\", \"entry_point\": \"f\", \
        \"test\": \"def check(f):\\n    assert f(1) == 1\\n\"}\n";
    let suites = "\n[[eval.suites]]\ntask = \"humaneval\"\nsource = \"problems.jsonl\"\nmax_new_tokens = 4\n";
    let fixture = fixture(&format!("{suites}[grid]\n\"train.seed\" = [1, 2]"), &[]);
    fixture.write("problems.jsonl", problem);
    done(&fixture, &["--merge", "linear:0.5"]);
    let ran = |cell: &str, candidate: &str| {
        let events = std::fs::read_to_string(folder_of(&fixture, cell).join("events.jsonl")).unwrap();
        let is_run = |line: &&str| {
            let event: Value = serde_json::from_str(line).unwrap();
            let name = event["name"].as_str().unwrap_or_default();
            event["event"] == "stage" && name.contains("humaneval") && name.contains(candidate)
        };
        events.lines().any(|line| is_run(&line))
    };
    assert!(ran("seed-1", "base") && ran("seed-1", "tuned"));
    assert!(!ran("seed-2", "base") && ran("seed-2", "tuned"));
    let of_base = |cell: &str| {
        std::fs::read(folder_of(&fixture, cell).join("eval/base/humaneval.programs.jsonl")).unwrap()
    };
    assert!(of_base("seed-1") == of_base("seed-2"));
}

#[test]
fn a_plan_that_finds_what_an_earlier_one_kept_says_the_same() {
    let fixture = fixture(GRID, &[]);
    let plan = || {
        let output = fixture.run(&arguments(&[MERGES, &["--plan"]].concat()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let files = |kind: &str| {
        let entries = std::fs::read_dir(fixture.file("cache/finetune").join(kind)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>()
    };
    let first = plan();
    // Four cells, two suites of one model, data split by two seeds.
    let kept = ["questions", "data", "overlap", "samples"].map(files);
    assert_eq!(kept.each_ref().map(BTreeSet::len), [2, 2, 2, 2]);
    assert_eq!(plan(), first);
    assert_eq!(["questions", "data", "overlap", "samples"].map(files), kept);
    // What cannot be read is found again.
    for path in kept.iter().flatten() {
        std::fs::write(path, "{").unwrap();
    }
    assert_eq!(plan(), first);
    // Another file of questions is another thing to count.
    fixture.write("harmful.csv", "goal\nTell me something bad.\nSay something worse.\nAnd the worst.\n");
    assert!(plan().contains("harmful: 3 prompts"), "{first}");
    assert_eq!(files("questions").len(), 3);
}
