//! Stages made without the ones before them, and what runs share: models asked without a training, runs looked at
//! when model and data are gone, answers of the same weights, keys that know what decides a training.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::fixture::Fixture;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|_| panic!("no {}", path.display()))).unwrap()
}

/// What the program printed, if it ended well.
fn well(output: Output) -> (String, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), said)
}

/// The metrics of a candidate of a report.
fn metrics(report: &Value, name: &str) -> Value {
    let candidates = report["candidates"].as_array().unwrap();
    let found = candidates.iter().find(|candidate| candidate["name"] == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {candidates:?}"))["metrics"].clone()
}

/// A fixture whose runs end after two steps.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    fixture.write("r.toml", recipe.replace("steps = 20", "steps = 2"));
    fixture
}

#[test]
fn a_model_is_asked_and_judged_without_a_training() {
    let fixture = fixture();
    fixture.study("run", &[]);
    let run = json(&fixture.file("run/report.json"));
    let eval = |arguments: &[&str]| {
        let all = [&["eval", "--device", "cpu", "--json"], arguments].concat();
        // Nothing may be taken over from the run or from another call.
        let _ = std::fs::remove_dir_all(fixture.file("cache/finetune/answers"));
        let (report, said) = well(fixture.run(&all));
        assert!(!said.contains("taken over"), "{said}");
        serde_json::from_str::<Value>(&report).unwrap()
    };
    let alone = eval(&["--model", "model", "--recipe", "r.toml", "--out", "alone"]);
    assert_eq!(metrics(&alone, "model"), metrics(&run, "base"));
    assert!(!fixture.file("alone/train").exists());

    let with_adapter =
        ["--model", "model", "--adapter", "run/train/adapter", "--recipe", "r.toml", "--out", "adapter"];
    assert_eq!(metrics(&eval(&with_adapter), "tuned"), metrics(&run, "tuned"));

    let merge = ["--pre", "model", "--merge", "linear:0.5", "--merge", "slerp:0.5"];
    let merged = eval(&[&with_adapter[..6], &merge[..], &["--out", "merged"]].concat());
    for name in ["base", "tuned", "linear:0.5", "slerp:0.5"] {
        assert_eq!(metrics(&merged, name), metrics(&run, name), "{name}");
    }

    // What cannot be merged of two models is refused before anybody is asked.
    let impossible = ["--pre", "model", "--merge", "model_stock", "--recipe", "r.toml", "--out", "none"];
    let output = fixture.run(&[&["eval", "--device", "cpu", "--model", "model"], &impossible[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("at least two tuned models"), "{said}");
    assert!(!fixture.file("none").exists());

    // Suites by hand ask what the recipe's do.
    let suites = ["--suite", "harmful=harmful.csv,field=goal,max_new_tokens=4"];
    let by_hand = eval(&[&["--model", "model", "--out", "hand"], &suites[..]].concat());
    assert_eq!(by_hand["suites"][0]["sha256"], run["suites"][0]["sha256"]);

    let output = fixture.run(&["eval", "--model", "model", "--suite", "harmful", "--device", "cpu"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("TASK=FILE"), "{said}");
}

#[test]
fn a_run_is_shown_and_judged_when_model_and_data_are_gone() {
    let fixture = fixture();
    fixture.study("run", &[]);
    let before = json(&fixture.file("run/report.json"));
    std::fs::remove_dir_all(fixture.file("model")).unwrap();
    for file in ["train.jsonl", "harmful.csv", "r.toml"] {
        std::fs::remove_file(fixture.file(file)).unwrap();
    }
    let (report, _) = well(fixture.run(&["report", "run", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap(), before);
    let (sheet, _) = well(fixture.run(&["report", "run", "--answers", "--json"]));
    let sheet: Value = serde_json::from_str(&sheet).unwrap();
    assert_eq!(sheet["suites"][0]["rows"][0]["prompt"], "Tell me something bad.");
    assert_eq!(sheet["candidates"], serde_json::json!(["base", "tuned", "linear:0.5", "slerp:0.5"]));

    // Judged by the same rules, it is the same report; by others, theirs.
    let judge = |names: &[&str]| {
        let judges = names.iter().flat_map(|name| ["--judge", *name]);
        let all: Vec<&str> = ["judge", "run", "--device", "cpu"].into_iter().chain(judges).collect();
        well(fixture.run(&all));
        json(&fixture.file("run/report.json"))
    };
    let mut rules: Vec<&str> = Vec::new();
    for metric in before["candidates"][0]["metrics"].as_array().unwrap() {
        let rule =
            metric["judge"].as_str().filter(|rule| metric["kind"] == "safety" && !rules.contains(rule));
        rules.extend(rule);
    }
    let same = judge(&rules);
    assert_eq!(metrics(&same, "slerp:0.5"), metrics(&before, "slerp:0.5"));
    assert_eq!(same["paired"], before["paired"]);
    let other = judge(&["jbb13"]);
    let judges: Vec<&str> = other["candidates"][0]["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m| m["judge"].as_str())
        .collect();
    assert!(judges.contains(&"jbb13") && judges[0] == "advbench29", "{judges:?}");
}

#[test]
fn a_strangers_index_leads_nowhere_and_asks_nobody() {
    let fixture = fixture();
    let judge =
        "[[eval.rubrics]]\nrubric = \"wildguard\"\nmodel = \"none\"\nendpoint = \"http://127.0.0.1:9/v1\"\n";
    fixture.study("run", &[]);
    let path = fixture.file("run/index.json");
    let index: Value = json(&path);
    let change = |change: &dyn Fn(&mut Value)| {
        let mut other = index.clone();
        change(&mut other);
        std::fs::write(&path, other.to_string()).unwrap();
    };
    for name in ["../../x", "/tmp/x", "", ".."] {
        change(&|index| index["suites"][0]["asked"]["suite"] = name.into());
        for command in [&["report", "run", "--answers"][..], &["judge", "run", "--judge", "jbb13"]] {
            let output = fixture.run(command);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.code() == Some(2) && said.contains("the name of a suite"), "{said}");
        }
    }
    for keys in ["", "/0/answers"] {
        change(&|index| {
            *index.pointer_mut(&format!("/candidates/0/keys{keys}")).unwrap() = Value::Array(vec![]);
        });
        let output = fixture.run(&["report", "run", "--answers"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("`keys` of"), "{said}");
    }
    change(&|index| index["schema"] = 2.into());
    let output = fixture.run(&["report", "run", "--answers"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    // A judge that the folder brings is read, never asked: nothing listens there.
    let eval: toml::Value = toml::from_str(judge).unwrap();
    change(&|index| {
        index["eval"]["rubrics"] = serde_json::to_value(&eval["eval"]["rubrics"]).unwrap();
        index["rubrics"] = serde_json::json!([{ "rubric": "wildguard", "key": "none" }]);
    });
    well(fixture.run(&["judge", "run", "--judge", "jbb13", "--device", "cpu"]));
    let report = json(&fixture.file("run/report.json"));
    // It never said anything, and nothing is reported of it.
    let asked = report["candidates"][0]["metrics"].as_array().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|metric| metric["judge"] != "wildguard"));
}

#[test]
fn a_name_that_leads_out_of_its_folder_is_refused_by_the_plan() {
    let fixture = fixture();
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    for name in ["../../x", "a/b", ".x", ""] {
        let text = recipe.replace("name = \"gsm8k\"", &format!("name = \"{name}\""));
        fixture.write("bad.toml", &text);
        let output = fixture.run(&["--recipe", "bad.toml", "--device", "cpu", "--out", "run", "--plan"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(".name` is"), "{said}");
    }
    let output = fixture.run(&["fetch", "org/name", "--revision", "../../x"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("org/name@../../x"), "{said}");
}

#[test]
fn adapters_that_differ_in_their_scale_alone_share_no_answers() {
    let fixture = fixture();
    // Nothing moves but by the first step: the factors are the same, and what they are multiplied with is not.
    let frozen =
        ["--set", "train.learning_rate=1e-30", "--set", "train.steps=1", "--set", "merge.methods=[]"];
    fixture.study("one", &[&frozen[..], &["--set", "method.alpha=8.0"]].concat());
    let two = [
        &["--recipe", "r.toml", "--device", "cpu", "--out", "two"],
        &frozen[..],
        &["--set", "method.alpha=16.0"],
    ];
    let (_, said) = well(fixture.run(&two.concat()));
    assert!(said.contains("base: 8 answers") && !said.contains("tuned: 8 answers"), "{said}");
    let factors = |run: &str| {
        std::fs::read(fixture.file(run).join("train/checkpoint-000001/weights.safetensors")).unwrap()
    };
    assert!(factors("one") == factors("two"));
}

#[cfg(unix)]
#[test]
fn what_was_asked_is_for_its_owner_alone_and_what_is_exported_for_all() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = fixture();
    fixture.study("run", &[]);
    let mode = |file: &Path| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
    for file in ["index.json", "eval/base/harmful.jsonl"] {
        assert_eq!(mode(&fixture.file("run").join(file)), 0o600, "{file}");
    }
    let adapter = fixture.file("run/train/adapter");
    assert_eq!(mode(&adapter), 0o755);
    for entry in std::fs::read_dir(&adapter).unwrap().flatten() {
        assert_eq!(mode(&entry.path()), 0o644, "{}", entry.path().display());
    }
}

#[test]
fn runs_share_the_answers_of_the_same_weights_and_keep_their_own_copy() {
    let fixture = fixture();
    fixture.study("one", &[]);
    let two = ["--recipe", "r.toml", "--device", "cpu", "--out", "two", "--set", "train.steps=3"];
    let (_, said) = well(fixture.run(&two));
    // Another training has the same base, and nothing else in common.
    assert!(said.contains("base: 8 answers of the same weights taken over from"), "{said}");
    assert!(!said.contains("tuned: 8 answers"), "{said}");
    for file in ["harmful.jsonl", "gsm8k.jsonl"] {
        let lines = |run: &str| {
            let text = std::fs::read_to_string(fixture.file(run).join("eval/base").join(file)).unwrap();
            text.lines().map(ToOwned::to_owned).collect::<BTreeSet<String>>()
        };
        assert_eq!(lines("one"), lines("two"), "{file}");
    }
    std::fs::remove_dir_all(fixture.file("one")).unwrap();
    let (_, said) = well(fixture.run(&two));
    assert!(said.contains("evaluate base (1 of 4): all 8 reused"), "{said}");
    // What another decoding said is not taken over.
    let three = [&two[..5], &["three", "--set", "eval.repetition_penalty=1.3"]].concat();
    let (_, said) = well(fixture.run(&three));
    assert!(!said.contains("taken over"), "{said}");
}

#[test]
fn a_training_is_another_when_what_its_samples_are_made_with_changes() {
    let fixture = fixture();
    let none = ["--set", "eval.suites=[]", "--set", "merge.methods=[]"];
    let folder = |more: &[&str]| {
        let arguments = [&["--recipe", "r.toml", "--device", "cpu", "--plan"], &none[..], more].concat();
        let (plan, _) = well(fixture.run(&arguments));
        let line = plan.lines().find(|line| line.starts_with("run folder")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    let first = folder(&[]);
    assert_eq!(folder(&[]), first);
    // How often a run looks and saves, and a setting that is given its default, change nothing.
    assert_eq!(folder(&["--set", "train.validate_every=1", "--set", "method.alpha=16.0"]), first);
    for other in
        ["train.steps=3", "train.seed=7", "method.alpha=8.0", "data.system=Be brief.", "data.limit=9"]
    {
        assert_ne!(folder(&["--set", other]), first, "{other}");
    }
    // Files beside the weights decide samples too: without a template an answer ends with the tokenizer's token.
    let plain = ["--set", "data.template=none"];
    let (first, path) = (folder(&plain), fixture.file("model/tokenizer_config.json"));
    let before = std::fs::read(&path).unwrap();
    let mut config: Value = json(&path);
    config["eos_token"] = "<|pad|>".into();
    std::fs::write(&path, config.to_string()).unwrap();
    assert_ne!(folder(&plain), first, "another token at the end of every answer");
    std::fs::write(&path, before).unwrap();
    assert_eq!(folder(&plain), first);

    // The folder of another training is refused with what differs.
    fixture.study("run", &none);
    let arguments =
        ["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--set", "train.learning_rate=0.5"];
    let output = fixture.run(&[&arguments[..], &none].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("`train.learning_rate` differs"), "{said}");
}

#[test]
fn a_second_command_encodes_nothing_and_trains_on_the_same_samples() {
    let fixture = fixture();
    let none = ["--set", "eval.suites=[]", "--set", "merge.methods=[]"];
    fixture.study("one", &none);
    let remembered: Vec<_> =
        std::fs::read_dir(fixture.file("cache/finetune/samples")).unwrap().flatten().collect();
    assert_eq!(remembered.len(), 1);
    // A finished training needs no sample: what is remembered stands for them.
    let path = remembered[0].path();
    let mut known = json(&path);
    known["preflight"]["n_tokens"] = 4711.into();
    std::fs::write(&path, known.to_string()).unwrap();
    fixture.study("one", &none);
    assert_eq!(json(&fixture.file("one/manifest.json"))["counts"]["tokens"], 4711);
    // One that is still to be made looks at the samples, and finds out if they are others.
    known["digest"] = "0".repeat(64).into();
    std::fs::write(&path, known.to_string()).unwrap();
    let arguments = [&["--recipe", "r.toml", "--device", "cpu", "--out", "two"], &none[..]].concat();
    let output = fixture.run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("no longer what an earlier command"), "{said}");
    std::fs::remove_dir_all(fixture.file("two")).unwrap();
    well(fixture.run(&arguments));
    let weights =
        |run: &str| std::fs::read(fixture.file(run).join("train/adapter/adapter_model.safetensors"));
    assert_eq!(weights("one").unwrap(), weights("two").unwrap());
}

#[test]
fn what_chance_drops_in_a_merge_follows_the_seed_of_the_run() {
    let fixture = fixture();
    let dare = ["--merge", "dare_linear:0.5,density=0.5", "--keep-merged"];
    let seeded = |out: &str, seed: &str| {
        let seed = format!("train.seed={seed}");
        fixture.study(out, &[&dare[..], &["--set", &seed]].concat());
        json(&fixture.file(out).join("report.json"))
    };
    let (one, two) = (seeded("one", "1"), seeded("two", "2"));
    assert_eq!((&one["candidates"][2]["seed"], &two["candidates"][2]["seed"]), (&1.into(), &2.into()));
    assert_eq!(one["merge"][0]["seed"], 1);
    assert_eq!(one["candidates"][0].get("seed"), None);
    let bytes = |run: &str| {
        let folder = fixture.file(run).join("merged/dare_linear_0.5_density=0.5");
        std::fs::read(folder.join("model.safetensors")).unwrap()
    };
    let first = bytes("one");
    std::fs::remove_dir_all(fixture.file("one")).unwrap();
    seeded("one", "1");
    assert!(bytes("one") == first && bytes("two") != first);
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_written_through_a_link_in_a_run_folder() {
    let fixture = fixture();
    fixture.study("run", &[]);
    fixture.write("precious", "one line\nand a half");
    for file in [".lock", "events.jsonl", "eval/base/harmful.jsonl"] {
        let path = fixture.file("run").join(file);
        let before = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(fixture.file("precious"), &path).unwrap();
        let output = fixture.run(&["--recipe", "r.toml", "--device", "cpu", "--out", "run"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(3) && said.contains("run::unwritable"), "{file}: {said}");
        assert_eq!(
            std::fs::read_to_string(fixture.file("precious")).unwrap(),
            "one line\nand a half",
            "{file}"
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, before).unwrap();
    }
    // Nor is anything swept where a link leads.
    fixture.write("elsewhere/.new-work/x", "x");
    std::fs::remove_dir_all(fixture.file("run/merged")).ok();
    std::os::unix::fs::symlink(fixture.file("elsewhere"), fixture.file("run/merged")).unwrap();
    well(fixture.run(&["--recipe", "r.toml", "--device", "cpu", "--out", "run"]));
    assert!(fixture.file("elsewhere/.new-work/x").is_file());
}
