//! Runs made again, compared cause by cause, and cleaned.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fixture::{Fixture, RECIPE};

/// A short training: what is tested here is not what it learns.
const SHORT: &[&str] = &["--set", "train.steps=4"];

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn printed(fixture: &Fixture, arguments: &[&str]) -> Value {
    serde_json::from_slice(&fixture.succeeds(arguments).stdout).unwrap()
}

fn said(fixture: &Fixture, arguments: &[&str]) -> String {
    let output = fixture.succeeds(arguments);
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

/// What a command that fails says, its lines joined, and its exit code.
fn refused(fixture: &Fixture, arguments: &[&str]) -> (String, Option<i32>) {
    let output = fixture.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    (said, output.status.code())
}

#[test]
fn a_run_made_again_is_the_same_to_the_last_bit() {
    let fixture = Fixture::new();
    fixture.study("run", SHORT);
    // A later call brings another merge, which is the run's too.
    fixture.study("run", &[SHORT, &["--merge", "linear:0.25"]].concat());
    let manifest = json_of(&fixture.file("run/manifest.json"));
    let here = std::fs::canonicalize(fixture.path()).unwrap();
    let inputs = manifest["inputs"].as_object().unwrap();
    for name in ["train.jsonl", "harmful.csv", "model/model.safetensors", "model/tokenizer.json"] {
        assert_eq!(inputs[name]["sha256"].as_str().unwrap().len(), 64, "{name}");
    }
    assert_eq!(
        std::fs::canonicalize(inputs["train.jsonl"]["path"].as_str().unwrap()).unwrap(),
        here.join("train.jsonl")
    );
    assert!(manifest["program"]["burn"].as_str().unwrap().starts_with("0."), "{manifest}");
    assert!(manifest["device"]["threads"].as_u64() > Some(0) && manifest["device"]["driver"].is_null());
    assert_eq!((&manifest["seeds"]["train"], &manifest["parents"]), (&json!(42), &json!([])));
    assert!(manifest["seconds"]["train"].as_f64() > Some(0.0), "{manifest}");
    assert!(manifest["seconds"]["evaluate"].as_f64() > Some(0.0), "{manifest}");

    let said = said(&fixture, &["reproduce", "run", "--exact"]);
    assert!(said.contains("equal to the last bit: ") && said.contains("1 file of trained weights"), "{said}");
    assert!(!said.contains("unlike the run"), "{said}");
    let found = json_of(&fixture.file("run-reproduced/reproduction.json"));
    assert_eq!((&found["equal"], &found["causes"], &found["notes"]), (&json!(true), &json!([]), &json!([])));
    // Four candidates of the recipe and the merge of the later call, each asked two and six prompts.
    assert_eq!(found["answers"]["compared"], 5 * (2 + 6));
    // Nothing was taken over from the run itself.
    let events = std::fs::read_to_string(fixture.file("run-reproduced/events.jsonl")).unwrap();
    assert!(!events.contains("taken over"), "{events}");
    // Again it does what is missing: nothing.
    let again = printed(&fixture, &["reproduce", "run", "--json"]);
    assert_eq!(again["equal"], true);
    // From elsewhere the recipe's paths mean what they meant.
    std::fs::create_dir(fixture.file("elsewhere")).unwrap();
    let run = fixture.file("run").display().to_string();
    let mut command = fixture.command(&["reproduce", &run, "--quiet"]);
    let output = command.current_dir(fixture.file("elsewhere")).output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("equal to the last bit"));
}

#[test]
fn a_file_that_is_another_now_is_named_and_nothing_is_begun() {
    let fixture = Fixture::new();
    fixture.study("run", SHORT);
    let original = std::fs::read(fixture.file("harmful.csv")).unwrap();
    // As if another build had made it: that is said first.
    let mut manifest = json_of(&fixture.file("run/manifest.json"));
    manifest["program"]["commit"] = json!("0123456789");
    fixture.write("run/manifest.json", manifest.to_string());
    for (name, text) in
        [("train.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n"), ("harmful.csv", "goal\nOther.\n")]
    {
        let before = std::fs::read(fixture.file(name)).unwrap();
        fixture.write(name, text);
        let (said, code) = refused(&fixture, &["reproduce", "run"]);
        assert!(said.starts_with("unlike the run: program commit: 0123456789 then, "), "{said}");
        assert!(said.contains(&format!("`{name}` is no longer what the run read")), "{said}");
        assert_eq!(code, Some(3));
        fixture.write(name, before);
    }
    // A file that has gone is named by the key of the recipe.
    std::fs::remove_file(fixture.file("harmful.csv")).unwrap();
    let (said, _) = refused(&fixture, &["reproduce", "run"]);
    assert!(said.contains("eval.suites.0.source") && said.contains("harmful.csv"), "{said}");
    fixture.write("harmful.csv", original);
    assert!(!fixture.file("run-reproduced/train").exists());
    let (said, code) = refused(&fixture, &["reproduce", "model"]);
    assert!(said.contains("`model` holds no run") && code == Some(2), "{said}");
}

#[test]
fn what_moved_is_told_by_number_by_answer_and_by_its_cause() {
    let fixture = Fixture::new();
    // Refusals of so small a model hardly move; its score of the answers does.
    let likely = ["--set", "eval.log_likelihood=true"];
    fixture.study("a", &[SHORT, &likely].concat());
    fixture.study("b", &[SHORT, &likely, &["--set", "train.seed=7", "--merge", "linear:0.5"]].concat());
    let found = printed(&fixture, &["diff", "a", "b", "--json"]);
    let causes = found["causes"].as_array().unwrap();
    let cause =
        |key: &str| causes.iter().find(|cause| cause["key"] == key).unwrap_or_else(|| panic!("{found}"));
    let seed = cause("train.seed");
    assert_eq!((&seed["kind"], &seed["a"], &seed["b"]), (&json!("recipe"), &json!(42), &json!(7)));
    assert_eq!(cause("merge.methods")["b"], json!(["linear:0.5"]));
    assert!(
        causes
            .iter()
            .all(|cause| !["input", "machine", "program"].contains(&cause["kind"].as_str().unwrap()))
    );
    assert_eq!(found["weights"]["differ"], json!(["train/adapter/adapter_model.safetensors"]));
    let moved = found["numbers"]["differ"].as_array().unwrap();
    assert!(moved.iter().any(|moved| moved["candidate"] == "tuned" && moved["difference"] != 0.0), "{found}");
    assert!(moved.iter().all(|moved| moved["candidate"] != "base"), "{found}");
    let notes = found["notes"].to_string();
    assert!(notes.contains("only in A: slerp:0.5"), "{notes}");
    let text = String::from_utf8_lossy(&fixture.succeeds(&["diff", "a", "b"]).stdout).into_owned();
    assert!(text.contains("train.seed") && text.contains("not equal: "), "{text}");

    // An answer that was written otherwise is found where it differs.
    fixture.study("c", &[SHORT, &likely].concat());
    let equal = printed(&fixture, &["diff", "a", "c", "--json"]);
    assert_eq!((&equal["equal"], &equal["causes"]), (&json!(true), &json!([])), "{equal}");
    let path = fixture.file("c/eval/tuned/gsm8k.jsonl");
    let lines: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    let mut lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let index = json_of(&fixture.file("c/index.json"));
    let place =
        index["candidates"].as_array().unwrap().iter().position(|one| one["name"] == "tuned").unwrap();
    let key = &index["candidates"][place]["keys"][1]["answers"][2][0];
    let line = lines.iter_mut().find(|line| line["key"] == *key).unwrap();
    line["text"] = json!(format!("{}Z", line["text"].as_str().unwrap()));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, text).unwrap();
    let found = printed(&fixture, &["diff", "a", "c", "--json"]);
    let answers = found["answers"]["differ"].as_array().unwrap();
    assert_eq!(answers.len(), 1, "{found}");
    assert_eq!((&answers[0]["candidate"], &answers[0]["suite"]), (&json!("tuned"), &json!("gsm8k")));
    assert_eq!(
        (&answers[0]["index"], &answers[0]["differing"], &answers[0]["prompts"]),
        (&json!(2), &json!(1), &json!(6))
    );
    assert!(answers[0]["b"].as_str().unwrap().ends_with('Z'), "{found}");
    assert!(fixture.succeeds(&["diff", "a", "c"]).status.success());
}

#[test]
fn an_evaluation_and_a_cell_of_a_study_are_made_again() {
    let fixture = Fixture::new();
    fixture.other_model("tuned", "\"rms_norm_eps\": 1e-5", "\"rms_norm_eps\": 1e-6");
    let suite = "harmful=harmful.csv,field=goal,max_new_tokens=4";
    let eval = ["eval", "--device", "cpu", "--model", "model", "--suite", suite, "--out", "asked"];
    fixture.succeeds(&eval);
    let found = printed(&fixture, &["reproduce", "asked", "--out", "again", "--json"]);
    assert_eq!((&found["equal"], &found["weights"]["compared"]), (&json!(true), &json!(0)), "{found}");
    assert_eq!(found["answers"]["compared"], 2);

    fixture.write("grid.toml", format!("{RECIPE}\n[grid]\n\"train.seed\" = [1, 2]\n"));
    let study = ["grid.toml", "--device", "cpu", "--out", "study"];
    fixture.succeeds(&[&study, &["--set", "train.steps=3", "--merge", "linear:0.5"][..]].concat());
    let (said, code) = refused(&fixture, &["reproduce", "study"]);
    assert!(said.contains("`seed-1`, `seed-2`") && code == Some(2), "{said}");
    let (said, code) = refused(&fixture, &["reproduce", "study", "--cell", "seed-3"]);
    assert!(said.contains("no cell `seed-3`") && code == Some(2), "{said}");
    let found = printed(&fixture, &["reproduce", "study", "--cell", "seed-2", "--json"]);
    assert_eq!(found["equal"], true, "{found}");
    assert!(
        Path::new(found["b"].as_str().unwrap()).parent().unwrap().ends_with("study/reproduced"),
        "{found}"
    );
    let one =
        printed(&fixture, &["diff", found["a"].as_str().unwrap(), found["b"].as_str().unwrap(), "--json"]);
    assert_eq!(one["equal"], true);
    // The study knows nothing of it.
    let said = said_again(&fixture, &study);
    assert!(said.contains("2 of 2 cells are done"), "{said}");
}

fn said_again(fixture: &Fixture, study: &[&str]) -> String {
    said(fixture, &[study, &["--set", "train.steps=3", "--merge", "linear:0.5"][..]].concat())
}

/// Every file and folder below a folder.
fn all(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(all(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    found
}

#[test]
fn what_can_be_had_again_is_listed_with_its_price_and_goes_when_told() {
    let fixture = Fixture::new();
    let many = ["--set", "train.checkpoint_every=1", "--set", "train.keep_checkpoints=0", "--keep-merged"];
    let run = [SHORT, &many].concat();
    fixture.study("run", &run);
    // What killed processes leave, and what strangers put there.
    fixture.write("run/train/.new-abc/weights.safetensors", [0; 100]);
    fixture.write("run/.tmpabc", [0; 10]);
    fixture.write("run/train/checkpoint-000002/notes.txt", "mine");
    fixture.write("run/merged/mine/config.json", "{}");
    fixture.write("run/notes.txt", "mine");
    #[cfg(unix)]
    std::os::unix::fs::symlink(fixture.file("model"), fixture.file("run/merged/linked")).unwrap();
    let before = all(&fixture.file("run"));
    let listed = printed(&fixture, &["clean", "run", "--json"]);
    assert_eq!(listed["removed"], false);
    assert_eq!(all(&fixture.file("run")), before);
    let items = listed["items"].as_array().unwrap();
    let paths = |what: &str| -> Vec<&str> {
        let found = items.iter().filter(|item| item["what"] == what);
        found.map(|item| item["path"].as_str().unwrap()).collect()
    };
    assert_eq!(paths("checkpoint"), ["run/train/checkpoint-000001", "run/train/checkpoint-000003"]);
    assert_eq!(paths("merge"), ["run/merged/linear_0.5", "run/merged/slerp_0.5"]);
    assert_eq!(paths("partial"), ["run/.tmpabc", "run/train/.new-abc"]);
    assert!(
        !paths("cache").is_empty() && paths("cache").iter().all(|path| path.contains("/cache/finetune/"))
    );
    assert!(items.iter().all(|item| item["bytes"].as_u64() > Some(0)), "{listed}");
    let kept = listed["kept"].to_string();
    for part in ["`notes.txt` in it", "the report names no such merge", "it is a link"] {
        assert!(kept.contains(part), "{part}: {kept}");
    }
    let text = String::from_utf8_lossy(&fixture.succeeds(&["clean", "run"]).stdout).into_owned();
    assert!(text.contains("Nothing was removed; --yes removes "), "{text}");

    let report = std::fs::read(fixture.file("run/report.json")).unwrap();
    let text = String::from_utf8_lossy(&fixture.succeeds(&["clean", "run", "--yes"]).stdout).into_owned();
    assert!(text.contains("Removed "), "{text}");
    for item in items.iter().filter(|item| item["what"] != "cache") {
        assert!(!fixture.file(item["path"].as_str().unwrap()).exists(), "{item}");
    }
    for name in [
        "run/train/checkpoint-000004",
        "run/train/checkpoint-000002",
        "run/merged/mine",
        "run/notes.txt",
        "model/config.json",
    ] {
        assert!(fixture.file(name).exists(), "{name}");
    }
    // The run is what it was: nothing is trained again, and merges are made again.
    let said =
        said(&fixture, &[&["--recipe", "r.toml", "--device", "cpu", "--out", "run"], &run[..]].concat());
    assert!(
        said.contains("train: done before") && said.contains("all 2 reused") || said.contains("all 8 reused"),
        "{said}"
    );
    assert_eq!(std::fs::read(fixture.file("run/report.json")).unwrap(), report);
    assert!(fixture.file("run/merged/slerp_0.5/config.json").is_file());
    let nothing = refused(&fixture, &["clean", "model"]);
    assert!(nothing.0.contains("nothing was touched") && nothing.1 == Some(2), "{}", nothing.0);
}

#[test]
fn where_a_process_works_nothing_is_touched_and_what_a_recipe_compares_stays() {
    let fixture = Fixture::new();
    let many =
        ["--set", "train.checkpoint_every=1", "--set", "train.keep_checkpoints=3", "--merge", "model_stock"];
    fixture.study("run", &[SHORT, &many].concat());
    let listed = printed(&fixture, &["clean", "run", "--json"]);
    assert!(
        listed["kept"].to_string().contains("`model_stock` of the recipe compares checkpoints"),
        "{listed}"
    );
    assert!(listed["items"].as_array().unwrap().iter().all(|item| item["what"] == "cache"), "{listed}");

    fixture.write("run/.tmpabc", [0; 10]);
    let lock = std::fs::OpenOptions::new().read(true).write(true).open(fixture.file("run/.lock")).unwrap();
    lock.lock().unwrap();
    let listed = printed(&fixture, &["clean", "run", "--json"]);
    assert!(
        listed["kept"].to_string().contains("is working there") && listed["items"] == json!([]),
        "{listed}"
    );
    let (said, code) = refused(&fixture, &["clean", "run", "--yes"]);
    assert!(said.contains("is working in `run`") && code == Some(3), "{said}");
    assert!(fixture.file("run/.tmpabc").exists());
    drop(lock);
    fixture.succeeds(&["clean", "run", "--yes"]);
    assert!(!fixture.file("run/.tmpabc").exists());
}

#[test]
fn quiet_says_nothing_but_the_result_and_plans_are_data() {
    let fixture = Fixture::new();
    let run = ["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--set", "train.steps=3"];
    let plan = printed(&fixture, &[&run[..], &["--plan", "--json", "--quiet"]].concat());
    assert_eq!(plan["candidates"], json!(["base", "tuned", "linear:0.5", "slerp:0.5"]));
    assert_eq!((&plan["counts"]["steps"], &plan["suites"][0]["suite"]), (&json!(3), &json!("harmful")));
    assert!(
        plan["estimate"]["train_s"].as_f64() > Some(0.0) && plan["estimate"]["disk_bytes"].is_u64(),
        "{plan}"
    );
    assert!(!fixture.file("run").exists());
    for line in [[&["--quiet"], &run[..]].concat(), [&run[..], &["--quiet"]].concat()] {
        let output = fixture.succeeds(&line);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("candidate"));
    }
    let (said, code) = refused(&fixture, &["report", "nowhere", "--quiet"]);
    assert!(!said.is_empty() && code == Some(3), "{said}");
    let coloured = fixture.run(&["report", "nowhere", "--color", "always"]);
    assert!(String::from_utf8_lossy(&coloured.stderr).contains("\x1b["));
    let plain =
        fixture.command(&["report", "nowhere", "--color=never"]).env_remove("NO_COLOR").output().unwrap();
    assert!(!String::from_utf8_lossy(&plain.stderr).contains("\x1b["));
    let doctor = printed(&fixture, &["doctor", "--json"]);
    assert!(doctor["program"]["burn"].is_string() && doctor["devices"].is_array(), "{doctor}");
    fixture.write("grid.toml", format!("{RECIPE}\n[grid]\n\"train.seed\" = [1, 2]\n"));
    let plan = printed(&fixture, &["grid.toml", "--device", "cpu", "--plan", "--json"]);
    assert_eq!(
        (&plan["cells"][1]["name"], &plan["cells"][1]["done"]),
        (&json!("seed-2"), &json!(false)),
        "{plan}"
    );
    assert_eq!(plan["estimate"]["trainings"], 2);
}
