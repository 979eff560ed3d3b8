//! How a run learns what it learns: the rate of an adapter's B, and what is remembered between steps.

use std::path::PathBuf;
use std::process::Stdio;

use finetune::snapshot::adapter::Adapter;
use finetune::snapshot::{WeightFiles, Weights};
use finetune::train::checkpoint::squared_gradients;
use serde_json::Value;

use crate::fixture::Fixture;
use crate::pipeline::wait_for;

/// No suites and no merges.
const TRAIN: &[&str] = &["--set", "eval.suites=[]", "--set", "merge.methods=[]"];

fn key(fixture: &Fixture, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture.file(run).join("key.json")).unwrap()).unwrap()
}

#[test]
fn b_learns_at_a_multiple_of_the_rate_of_a() {
    let fixture = Fixture::new();
    let first = ["--set", "train.stop_at=1", "--set", "train.warmup=0", "--set", "method.variant=dora"];
    let adapter = |run: &str, more: &[&'static str]| {
        fixture.study(run, &[TRAIN, &first, more].concat());
        Adapter::read(&fixture.file(run).join("train/adapter")).unwrap()
    };
    let same = adapter("same", &[]);
    let faster = adapter("faster", &["--set", "train.lora_plus=4"]);
    assert!(same.pairs.len() == 14 && same.pairs.keys().eq(faster.pairs.keys()));
    for (module, pair) in &same.pairs {
        // B begins at zero, so that A has no gradient yet; four times a float is exact.
        let four: Vec<f32> = pair.b.iter().map(|x| 4.0 * x).collect();
        assert!(pair.b.iter().any(|x| *x != 0.0), "{module}");
        assert_eq!(faster.pairs[module].b, four, "{module}");
        assert_eq!(faster.pairs[module].a, pair.a, "{module}");
        // Of the row lengths, near 1, the step of 1e-2 is to be told from four such.
        let moved = pair.magnitude.iter().zip(&faster.pairs[module].magnitude).map(|(a, b)| (a - b).abs());
        assert!(moved.fold(0.0, f32::max) > 0.02, "{module}");
    }
    // Off by default and by 0, which the key of a run does not tell.
    fixture.study("zero", &[TRAIN, &first, &["--set", "train.lora_plus=0"]].concat());
    assert_eq!(key(&fixture, "zero"), key(&fixture, "same"));
    assert_eq!(key(&fixture, "same")["train"].get("lora_plus"), None);
    assert_eq!(key(&fixture, "faster")["train"]["lora_plus"], 4.0);
    // Nor does what is recorded of a run, so that it differs in nothing from a run of before.
    let recorded = |run: &str| -> Value {
        let manifest = std::fs::read(fixture.file(run).join("manifest.json")).unwrap();
        serde_json::from_slice::<Value>(&manifest).unwrap()["recipe"]["train"].take()
    };
    assert!(recorded("zero").is_object() && recorded("zero").get("lora_plus").is_none());
    assert_eq!(recorded("faster")["lora_plus"], 4.0);
}

/// Full tuning in 8 bits: of the model's weights only the embedding, of 768 × 32 numbers, is large enough.
const SHORT: &[&str] = &["--set", "train.optimizer=adamw_8bit"];
const FULL: &[&str] = &["--set", "method.kind=full", "--set", "train.learning_rate=1e-3"];
const EMBEDDING: &str = "model.embed_tokens.weight";

fn checkpoint(fixture: &Fixture, run: &str, step: usize) -> PathBuf {
    fixture.file(run).join(format!("train/checkpoint-{step:06}"))
}

#[test]
fn a_killed_training_in_8_bits_goes_on_to_the_same_bits() {
    let fixture = Fixture::new();
    // Factors of 128 × 32 and of 48 × 128 are large enough, one of 16 × 128 is not.
    let lora = ["--set", "method.rank=128", "--set", "method.variant=dora", "--set", "train.lora_plus=16"];
    for (whole, killed, method) in [("a", "b", FULL), ("c", "d", &lora)] {
        let more = [TRAIN, SHORT, method, &["--set", "train.checkpoint_every=3"]].concat();
        fixture.study(whole, &more);
        let arguments = [&["--recipe", "r.toml", "--device", "cpu", "--out", killed], &more[..]].concat();
        for step in [6, 15] {
            let mut command = fixture.command(&arguments);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            wait_for(&mut child, || checkpoint(&fixture, killed, step).is_dir());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        fixture.study(killed, &more);
        for name in ["weights.safetensors", "optimizer.safetensors"] {
            let read = |run: &str| std::fs::read(checkpoint(&fixture, run, 20).join(name)).unwrap();
            assert!(read(whole) == read(killed), "{method:?}: {name} differs");
        }
        let state = checkpoint(&fixture, whole, 20).join("optimizer.safetensors");
        let state = WeightFiles::open_with_bytes(&state).unwrap();
        let short: Vec<&str> = state.names_of_bytes().collect();
        if method == FULL {
            assert_eq!(short, [format!("{EMBEDDING}.first.codes"), format!("{EMBEDDING}.second.codes")]);
        } else {
            let is_small = |name: &&str| name.contains("k_proj.lora_B") || name.contains("magnitude");
            assert!(short.len() > 14 && !short.iter().any(is_small), "{short:?}");
        }
    }
}

#[test]
fn what_8_bits_remember_of_squared_gradients_is_read_where_importance_is_asked() {
    let fixture = Fixture::new();
    let first = ["--set", "train.stop_at=1", "--set", "train.warmup=0"];
    fixture.study("exact", &[TRAIN, FULL, &first].concat());
    fixture.study("short", &[TRAIN, FULL, &first, SHORT].concat());
    assert_eq!(key(&fixture, "exact")["train"].get("optimizer"), None);
    assert_eq!(key(&fixture, "short")["train"]["optimizer"], "adamw_8bit");
    let [exact, short] =
        ["exact", "short"].map(|run| squared_gradients(&checkpoint(&fixture, run, 1)).unwrap());
    assert_eq!(exact.infos(), short.infos());
    for name in exact.infos().keys() {
        let [exact, short] = [exact.weight(name).unwrap(), short.weight(name).unwrap()];
        assert_eq!(exact.info, short.info, "{name}");
        let [exact, short] = [exact.to_f32(), short.to_f32()];
        if name != EMBEDDING {
            assert_eq!(exact, short, "{name}");
            continue;
        }
        assert_ne!(exact, short);
        for (exact, short) in exact.chunks(256).zip(short.chunks(256)) {
            let largest = exact.iter().copied().fold(0.0, f32::max);
            // Half of the widest step of the table, 0.9 / 128; the smallest scale stands for a block of zeros.
            let widest = 0.5 * 0.9 / 128.0 * largest + 1e-18;
            assert!(exact.iter().zip(short).all(|(a, b)| (a - b).abs() <= 1.001 * widest));
        }
    }
    let merge = ["merge", "--pre", "model", "--post", "short", "--merge", "fisher:0.5", "--out", "out"];
    let known =
        ["--pre-fisher", "short/train/checkpoint-000001", "--post-fisher", "short/train/checkpoint-000001"];
    fixture.succeeds(&[&merge[..], &known].concat());
}

#[test]
fn a_plan_says_what_8_bits_spare_and_how_fast_b_learns() {
    let fixture = Fixture::new();
    let plan = |more: &[&str]| {
        let arguments = [&["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--plan"], more].concat();
        String::from_utf8_lossy(&fixture.succeeds(&arguments).stdout).into_owned()
    };
    // 40,096 numbers of eight bytes; 24,576 of them in two bytes and eight for each of 96 blocks.
    let row = "AdamW: its moments in 8 bits take 0.2 MB, and 0.3 MB in f32";
    let said = plan(&[FULL, SHORT].concat());
    assert!(said.contains(row), "{said}");
    let said = plan(&["--set", "train.lora_plus=16"]);
    assert!(said.contains("AdamW: B learns at 16 times the rate of A"), "{said}");
    assert!(!plan(&[]).contains("AdamW"));
}
