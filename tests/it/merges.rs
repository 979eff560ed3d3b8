//! `finetune merge` from outside: the same bytes every time, proof of them, and what it writes beside.

use finetune::snapshot::{WeightFiles, Weights};
use serde_json::Value;

use crate::fixture::Fixture;

/// A fixture whose adapter `run/train/adapter` is trained.
fn tuned() -> Fixture {
    let fixture = Fixture::new();
    fixture.study("run", &[]);
    fixture
}

fn merge(fixture: &Fixture, more: &[&str]) -> String {
    let pair = ["merge", "--pre", "model", "--post", "run/train/adapter"];
    let output = fixture.run(&[&pair, more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn threads_change_nothing_and_seeds_do() {
    let fixture = tuned();
    let weights = |out: &str| std::fs::read(fixture.file(out).join("model.safetensors")).unwrap();
    for (spec, more) in [
        ("dare_linear:0.5,density=0.4,seed=7", "nearest"),
        ("ties:0.5,density=0.3", "nearest"),
        ("slerp:0.5,collinear=0.9999999", "stochastic"),
    ] {
        let mut bytes = Vec::new();
        for threads in ["1", "5"] {
            let out = format!("{}-{threads}", spec.split(':').next().unwrap());
            let arguments = ["merge", "--pre", "model", "--post", "run/train/adapter", "--merge", spec];
            let output = fixture
                .command(&[&arguments[..], &["--rounding", more, "--out", &out]].concat())
                .env("RAYON_NUM_THREADS", threads)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            bytes.push(weights(&out));
        }
        assert_eq!(bytes[0], bytes[1], "{spec}");
    }
    let stochastic = ["--merge", "slerp:0.5", "--rounding", "stochastic"];
    merge(&fixture, &[&stochastic[..], &["--out", "seed-1", "--seed", "1"]].concat());
    merge(&fixture, &[&stochastic[..], &["--out", "seed-2", "--seed", "2"]].concat());
    assert_ne!(weights("seed-1"), weights("seed-2"));
}

#[test]
fn a_merge_can_be_verified_and_a_change_is_found() {
    let fixture = tuned();
    merge(&fixture, &["--merge", "ties:0.5,density=0.3", "--out", "out", "--rounding", "stochastic"]);
    let verified = fixture.run(&["merge", "--verify", "out", "--sample", "1000"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(said.contains("6 files have the recorded digests"), "{said}");

    let manifest: Value =
        serde_json::from_slice(&std::fs::read(fixture.file("out/merge.json")).unwrap()).unwrap();
    assert_eq!(manifest["inputs"].as_object().unwrap().len(), 5);
    assert!(!manifest["weights"].as_object().unwrap().is_empty());
    let card = std::fs::read_to_string(fixture.file("out/README.md")).unwrap();
    assert!(card.starts_with("---\nbase_model:\n- model\nbase_model_relation: merge\n"), "{card}");
    assert!(
        card.contains("finetune merge --pre model --post run/train/adapter --merge ties:0.5,density=0.3")
    );

    // One bit of the result, with its digest recorded as if it belonged: computing again finds it.
    let path = fixture.file("out/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let said = String::from_utf8_lossy(&fixture.run(&["merge", "--verify", "out"]).stderr).into_owned();
    assert!(said.contains("merge::other_file"), "{said}");
    let mut manifest = manifest;
    manifest["shards"]["model.safetensors"] = Value::from(blake3::hash(&bytes).to_hex().to_string());
    std::fs::write(fixture.file("out/merge.json"), manifest.to_string()).unwrap();
    let output = fixture.run(&["merge", "--verify", "out", "--sample", "1000"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("merge::other_weight"), "{said}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_dry_run_lists_what_would_be_written_and_writes_nothing() {
    let fixture = tuned();
    let said = merge(&fixture, &["--merge", "linear:0.5", "--dry-run", "--out", "out", "--out-dtype", "f16"]);
    assert!(said.contains("model.norm.weight [") && said.contains("] f16"), "{said}");
    assert!(said.contains("GB on disk"), "{said}");
    assert!(!fixture.file("out").exists());
}

#[test]
fn extrapolation_goes_past_the_tuned_model() {
    let fixture = tuned();
    merge(&fixture, &["--merge", "extrapolate:1.5", "--out", "past", "--out-dtype", "f32"]);
    merge(&fixture, &["--merge", "linear:1", "--out", "there", "--out-dtype", "f32"]);
    merge(&fixture, &["--merge", "linear:0", "--out", "before", "--out-dtype", "f32"]);
    let open = |out: &str| WeightFiles::open(&fixture.file(out)).unwrap();
    let (past, there, before) = (open("past"), open("there"), open("before"));
    for name in past.infos().keys() {
        let numbers = |of: &WeightFiles| of.weight(name).unwrap().to_f32();
        for ((past, there), before) in numbers(&past).iter().zip(numbers(&there)).zip(numbers(&before)) {
            let expected = before + 1.5 * (there - before);
            assert!((past - expected).abs() <= 1e-6 * before.abs().max(0.1), "{name}: {past} {expected}");
        }
    }
}

/// Two models large enough that merging them takes a while.
fn slow_pair() -> (Fixture, Vec<&'static str>) {
    let fixture = Fixture::new();
    let sizes = [
        ("\"hidden_size\": 32", "\"hidden_size\": 128"),
        ("\"intermediate_size\": 48", "\"intermediate_size\": 384"),
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4"),
        ("\"head_dim\": 8", "\"head_dim\": 32"),
    ];
    fixture.sized_model("pre", &sizes, 3);
    fixture.sized_model("post", &sizes, 4);
    let merge = "merge --pre pre --post post --merge spectral:0.5,rank=16 --shard-size 0.0002 --out";
    (fixture, merge.split(' ').collect())
}

fn partial(fixture: &Fixture, reached: impl Fn(&str) -> bool) -> bool {
    let entries = std::fs::read_dir(fixture.file(".killed.partial")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| reached(&entry.file_name().to_string_lossy()))
}

#[test]
fn a_killed_merge_goes_on_with_the_shards_that_are_missing() {
    let (fixture, merge) = slow_pair();
    let whole = fixture.run(&[&merge[..], &["whole"]].concat());
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let killed = [&merge[..], &["killed"]].concat();
    // After the first shard, inside a later one, and by a polite signal.
    for moment in ["model-00001-of", ".new-model-00004", "signal"] {
        let mut child = fixture
            .command(&killed)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let file = if moment == "signal" { "model-00005-of" } else { moment };
        let reached =
            |name: &str| name.starts_with(file) && (name.ends_with(".done.json") || file.starts_with('.'));
        while child.try_wait().unwrap().is_none() && !partial(&fixture, reached) {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        if moment == "signal" {
            std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(6), "{said}");
            assert!(said.contains("the same command goes on from there"), "{said}");
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(partial(&fixture, |name| name.ends_with(".done.json")) && !fixture.file("killed").exists());
    }
    let output = fixture.run(&killed);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("going on: `model-00001-of-"), "{said}");
    assert!(output.status.success() && !fixture.file(".killed.partial").exists(), "{said}");
    let mut names: Vec<_> =
        std::fs::read_dir(fixture.file("whole")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let read = |folder: &str| std::fs::read(fixture.file(folder).join(&name)).unwrap();
        assert!(read("whole") == read("killed"), "{} differs", name.display());
    }
}

#[test]
fn what_another_merge_left_behind_is_not_gone_on_with() {
    let (fixture, mut merge) = slow_pair();
    merge.push("killed");
    let mut child = fixture.command(&merge).stderr(std::process::Stdio::null()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() && !partial(&fixture, |name| name.ends_with(".done.json")) {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    merge[6] = "linear:0.5";
    let output = fixture.run(&merge);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("going on"), "{said}");
    let verified = fixture.run(&["merge", "--verify", "killed", "--sample", "100"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
