//! The moving average of the weights: what it is the average of, that it survives a kill, and that it is asked and merged.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use finetune::snapshot::adapter::{Adapter, Folded};
use finetune::snapshot::{SharedWeights, Snapshot, WeightFiles, Weights};
use serde_json::Value;

use crate::fixture::Fixture;
use crate::pipeline::wait_for;

/// No suites and no merges.
const TRAIN: &[&str] = &["--set", "eval.suites=[]", "--set", "merge.methods=[]"];
/// As [`TRAIN`], with a checkpoint after each of five steps.
const STEPS: &[&str] =
    &["--set", "train.stop_at=5", "--set", "train.checkpoint_every=1", "--set", "train.keep_checkpoints=0"];

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn checkpoint(fixture: &Fixture, run: &str, step: usize) -> std::path::PathBuf {
    fixture.file(run).join(format!("train/checkpoint-{step:06}"))
}

fn file(fixture: &Fixture, run: &str, step: usize, name: &str) -> WeightFiles {
    WeightFiles::open_file(&checkpoint(fixture, run, step).join(name)).unwrap()
}

fn base(fixture: &Fixture) -> SharedWeights {
    Snapshot::open(&fixture.file("model")).unwrap().weights
}

/// The model after a step, in f32.
fn model(fixture: &Fixture, run: &str, step: usize) -> SharedWeights {
    let files = file(fixture, run, step, "weights.safetensors");
    if !fixture.file(run).join("train/adapter").is_dir() {
        return Arc::new(files);
    }
    let adapter = Adapter::of_checkpoint(&checkpoint(fixture, run, step), &files).unwrap();
    Arc::new(Folded::new(base(fixture), Arc::new(adapter)).unwrap())
}

/// The largest difference between two arrays, as a share of the largest number of the second.
fn apart(found: &[f64], expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

/// By hand, in f64, from the weights of every checkpoint: η is that of all twenty steps, of which five are made.
fn by_hand(fixture: &Fixture, run: &str, names: &[String]) -> BTreeMap<String, Vec<f64>> {
    let decay = 0.5f64.powf(1.0 / (0.25 * 20.0));
    let start = base(fixture);
    let mut found = BTreeMap::new();
    for name in names {
        let zero = wide(&start.weight(name).unwrap().to_f32());
        let mut mean = zero.clone();
        for step in 1..=5 {
            let now = wide(&model(fixture, run, step).weight(name).unwrap().to_f32());
            mean.iter_mut().zip(now).for_each(|(mean, now)| *mean = decay * *mean + (1.0 - decay) * now);
        }
        mean.iter_mut().zip(zero).for_each(|(mean, zero)| *mean -= zero);
        found.insert(name.clone(), mean);
    }
    found
}

#[test]
fn the_average_is_that_of_the_weights_after_every_step() {
    // A model's f32 numbers have 24 bits and the update is a hundredth of them: what rounding leaves of its digits.
    const ROUNDING: f64 = 3e-5;
    let fixture = Fixture::new();
    for (run, method) in
        [("full", "method.kind=full"), ("lora", "method.variant=rslora"), ("dora", "method.variant=dora")]
    {
        let ema = ["--set", method, "--set", "train.ema.half_life=0.25"];
        fixture.study(run, &[TRAIN, STEPS, &ema].concat());
        let found = file(&fixture, run, 5, "ema.safetensors");
        let names: Vec<String> = found.infos().keys().cloned().collect();
        // Fourteen maps in two layers; of the whole model also the embedding and five norms.
        assert_eq!(names.len(), if run == "full" { 20 } else { 14 }, "{run}: {names:?}");
        for (name, expected) in by_hand(&fixture, run, &names) {
            let apart = apart(&wide(&found.weight(&name).unwrap().to_f32()), &expected);
            assert!(apart < ROUNDING, "{run}: {name} is {apart} apart");
        }
    }
}

#[test]
fn the_average_of_the_factors_is_an_adapter_and_another_model() {
    let fixture = Fixture::new();
    let ema = |more: &[&'static str]| [TRAIN, STEPS, &["--set", "train.ema.half_life=0.25"], more].concat();
    fixture.study("factors", &ema(&["--set", "train.ema.lora=factors"]));
    fixture.study("exact", &ema(&[]));
    let adapter = Adapter::read(&fixture.file("factors/train/ema")).unwrap();
    let decay = 0.5f64.powf(1.0 / (0.25 * 20.0));
    let averaged = Folded::new(base(&fixture), Arc::new(adapter.clone())).unwrap();
    let exact = file(&fixture, "exact", 5, "ema.safetensors");
    for (module, pair) in &adapter.pairs {
        // B begins at zero; A where the first step found it, which no file has, so only B is followed by hand.
        let mut mean = vec![0.0; pair.b.len()];
        for step in 1..=5 {
            let now = file(&fixture, "factors", step, "weights.safetensors");
            let now = wide(&now.weight(&format!("{module}.lora_B.weight")).unwrap().to_f32());
            mean.iter_mut().zip(now).for_each(|(mean, now)| *mean = decay * *mean + (1.0 - decay) * now);
        }
        assert!(apart(&wide(&pair.b), &mean) < 1e-6, "{module}");
        // The cross terms of one step's A with another's B are no rounding.
        let name = format!("{module}.weight");
        let start = base(&fixture).weight(&name).unwrap().to_f32();
        let product = averaged.weight(&name).unwrap().to_f32();
        let product: Vec<f64> = product.iter().zip(&start).map(|(a, b)| f64::from(a - b)).collect();
        let apart = apart(&product, &wide(&exact.weight(&name).unwrap().to_f32()));
        assert!((1e-3..0.5).contains(&apart), "{module} is {apart} apart");
    }
    // A run's average is found in its last checkpoint, as it is exported beside.
    let merge = |post: &str, spec: &str, more: &[&str]| {
        let words = [&["merge", "--pre", "model", "--post", post, "--merge", spec, "--out", "merged"], more];
        let output = fixture.run(&words.concat());
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        let bytes = std::fs::read(fixture.file("merged/model.safetensors")).unwrap_or_default();
        let _ = std::fs::remove_dir_all(fixture.file("merged"));
        (output.status.code(), said, bytes)
    };
    let (own, exported) =
        (merge("factors", "linear:0.5,of=ema", &[]), merge("factors/train/ema", "linear:0.5", &[]));
    assert!(own.0 == Some(0) && !own.2.is_empty() && own.2 == exported.2, "{} {}", own.1, exported.1);
    let (code, said, _) = merge("factors", "linear:0.5,of=ema", &["--adapter-only"]);
    assert!(code == Some(2) && said.contains("give `--post RUN/train/ema` without `of=ema`"), "{said}");
    let (code, said, _) = merge("model", "linear:0.5,of=ema", &[]);
    assert!(code == Some(3) && said.contains("`model` has no average of its weights"), "{said}");
    // With and without, the training is the same to the bit, and so are its other files.
    for name in ["weights.safetensors", "optimizer.safetensors"] {
        let read = |run: &str| std::fs::read(checkpoint(&fixture, run, 5).join(name)).unwrap();
        assert_eq!(read("factors"), read("exact"), "{name}");
    }
    fixture.study("without", &[TRAIN, STEPS].concat());
    for name in ["weights.safetensors", "optimizer.safetensors"] {
        let read = |run: &str| std::fs::read(checkpoint(&fixture, run, 5).join(name)).unwrap();
        assert_eq!(read("without"), read("exact"), "{name}");
    }
    assert!(!checkpoint(&fixture, "without", 5).join("ema.safetensors").exists());
    let key = |run: &str| json(&fixture.file(run).join("key.json"));
    assert_eq!(key("without")["train"].get("ema"), None);
    assert_eq!(key("exact")["train"]["ema"]["half_life"], 0.25);
}

#[test]
fn a_killed_training_goes_on_to_the_same_average() {
    let fixture = Fixture::new();
    for (whole, killed, method) in [
        ("a", "b", "method.kind=full"),
        ("c", "d", "method.variant=dora"),
        ("e", "f", "train.ema.lora=factors"),
    ] {
        let more = [
            TRAIN,
            &["--set", "train.ema.half_life=0.3", "--set", method, "--set", "train.checkpoint_every=3"],
        ];
        let more = more.concat();
        fixture.study(whole, &more);
        let arguments = [&["--recipe", "r.toml", "--device", "cpu", "--out", killed], &more[..]].concat();
        for step in [6, 15] {
            let quiet = |mut command: std::process::Command| {
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
            };
            let mut child = quiet(fixture.command(&arguments));
            wait_for(&mut child, || checkpoint(&fixture, killed, step).is_dir());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        fixture.study(killed, &more);
        for name in ["weights.safetensors", "optimizer.safetensors", "ema.safetensors"] {
            let read = |run: &str| std::fs::read(checkpoint(&fixture, run, 20).join(name)).unwrap();
            assert!(read(whole) == read(killed), "{method}: {name} differs");
        }
    }
}

#[test]
fn the_average_is_asked_merged_and_written() {
    let fixture = Fixture::new();
    let ema = ["--set", "train.ema.half_life=0.25", "--keep-merged"];
    let merges =
        ["--merge", "linear:0.5", "--merge", "linear:1,of=ema", "--merge", "ties:0.5,density=0.5,of=ema"];
    fixture.study("run", &[&ema[..], &merges].concat());
    let report = json(&fixture.file("run/report.json"));
    let candidates = report["candidates"].as_array().unwrap();
    let names: Vec<&str> = candidates.iter().map(|candidate| candidate["name"].as_str().unwrap()).collect();
    let expected = ["base", "tuned", "ema", "linear:0.5", "linear:1,of=ema", "ties:0.5,density=0.5,of=ema"];
    assert_eq!(names, expected);
    assert_eq!((&candidates[4]["method"], candidates[4]["lambda"].as_f64()), (&"linear".into(), Some(1.0)));
    // At λ = 1 the merge is the average itself, and answers alike.
    assert_eq!(candidates[2]["metrics"], candidates[4]["metrics"]);

    // What is written is base and average update, rounded once; the command for itself writes the same.
    let merged = Snapshot::open(&fixture.file("run/merged/linear_1_of=ema")).unwrap().weights;
    let merge = ["merge", "--pre", "model", "--post", "run", "--merge", "linear:1,of=ema", "--out", "alone"];
    let output = fixture.run(&merge);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let alone = Snapshot::open(&fixture.file("alone")).unwrap().weights;
    let update = file(&fixture, "run", 20, "ema.safetensors");
    let start = base(&fixture);
    for name in start.infos().keys() {
        let (found, info) = (merged.weight(name).unwrap(), &start.infos()[name]);
        assert_eq!(found.bytes, alone.weight(name).unwrap().bytes, "{name}");
        let mut expected = start.weight(name).unwrap().to_f32();
        if update.infos().contains_key(name) {
            let update = update.weight(name).unwrap().to_f32();
            expected.iter_mut().zip(update).for_each(|(x, update)| *x += update);
        }
        let expected = finetune::snapshot::Weight::rounded(info.shape.clone(), &expected, info.dtype);
        assert_eq!(found.bytes, expected.bytes, "{name}");
    }

    // `of=tuned` merges are those of a run without an average, to the bit.
    fixture.study("plain", &["--keep-merged", "--merge", "linear:0.5"]);
    let weights =
        |run: &str| std::fs::read(fixture.file(run).join("merged/linear_0.5/model.safetensors")).unwrap();
    assert_eq!(weights("run"), weights("plain"));
}

#[test]
fn a_plan_says_what_an_average_takes() {
    let fixture = Fixture::new();
    let plan = |more: &[&str]| {
        let arguments = [&["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--plan"], more].concat();
        let output = fixture.run(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = plan(&["--set", "train.ema.half_life=0.25", "--set", "train.stop_at=5"]);
    // Two layers of four maps of 32 × 32 or 16 × 32 and three of 48 × 32: 15,360 numbers of four bytes.
    let row =
        "the adapted weights, with a half-life of 5.0 steps (η = 0.870551): 0.1 MB in this machine's memory";
    assert!(said.contains(row), "{said}");
    assert!(said.contains("base, tuned, ema, linear:0.5"), "{said}");
    assert!(!plan(&[]).contains("half-life"));
    // Its name is taken, where there is one.
    let own = "\n[[eval.candidates]]\nname = \"ema\"\nsource = \"model\"\n";
    fixture.write("r.toml", format!("{}{own}", crate::fixture::RECIPE));
    assert!(plan(&[]).contains("base, tuned, linear:0.5, slerp:0.5, ema"));
    let twice = ["--recipe", "r.toml", "--device", "cpu", "--plan", "--set", "train.ema.half_life=0.25"];
    let output = fixture.run(&twice);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("it is the average's"), "{said}");
}
