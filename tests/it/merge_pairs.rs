//! `finetune merge --pre --post`: what the two sides may be, and what becomes of what only one has.

use finetune::snapshot::tokenizer::Tokenizer;
use finetune::snapshot::{Dtype, Snapshot, Weight, WeightFiles, WeightInfo, Weights, writer};
use serde_json::{Value, json};

use crate::fixture::Fixture;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Runs `finetune merge --pre model` with more words and insists that it ends well; what it said.
fn merge(fixture: &Fixture, more: &str) -> String {
    let words: Vec<&str> = ["merge", "--pre", "model"].into_iter().chain(more.split(' ')).collect();
    let output = fixture.run(&words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{more}: {said}");
    said
}

fn open(fixture: &Fixture, folder: &str) -> WeightFiles {
    WeightFiles::open(&fixture.file(folder)).unwrap()
}

fn numbers(files: &WeightFiles, name: &str) -> Vec<f32> {
    files.weight(name).unwrap().to_f32()
}

/// A model's weights with some replaced, added or removed.
struct Edited {
    infos: std::collections::BTreeMap<String, WeightInfo>,
    weights: std::collections::BTreeMap<String, Weight<'static>>,
}

impl Edited {
    fn of(files: &WeightFiles) -> Self {
        let owned = |name: &String| {
            let weight = files.weight(name).unwrap();
            let bytes = std::borrow::Cow::Owned(weight.bytes.into_owned());
            (name.clone(), Weight { info: weight.info, bytes })
        };
        Self { infos: files.infos().clone(), weights: files.infos().keys().map(owned).collect() }
    }

    fn set(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let weight = Weight::rounded(shape.to_vec(), values, Dtype::Bf16);
        self.infos.insert(name.to_owned(), weight.info.clone());
        self.weights.insert(name.to_owned(), weight);
    }

    /// Writes the weights into a copy of the model.
    fn write(&self, fixture: &Fixture, name: &str) {
        fixture.model_with(name, "model.safetensors", None);
        let names: Vec<&str> = self.infos.keys().map(String::as_str).collect();
        writer::write_file(&fixture.file(name).join("model.safetensors"), self, &names, None).unwrap();
    }
}

impl Weights for Edited {
    fn infos(&self) -> &std::collections::BTreeMap<String, WeightInfo> {
        &self.infos
    }
    fn weight(&self, name: &str) -> Result<Weight<'_>, finetune::snapshot::SnapshotError> {
        Ok(self.weights[name].clone())
    }
}

fn json_of(fixture: &Fixture, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture.file(file)).unwrap()).unwrap()
}

fn config(fixture: &Fixture, folder: &str) -> Value {
    json_of(fixture, &format!("{folder}/config.json"))
}

fn edit_config(fixture: &Fixture, folder: &str, key: &str, value: Value) {
    let mut config = config(fixture, folder);
    config[key] = value;
    std::fs::write(fixture.file(folder).join("config.json"), config.to_string()).unwrap();
}

#[test]
fn each_place_has_its_own_lambda() {
    let fixture = Fixture::new();
    fixture.study("run", &[]);
    merge(&fixture, "--post run --merge linear:0.5,attn=0,layers.1=1 --out out --out-dtype f32");
    merge(&fixture, "--post run --merge linear:1 --out tuned --out-dtype f32");
    let (base, tuned, out) = (open(&fixture, "model"), open(&fixture, "tuned"), open(&fixture, "out"));
    for (name, lambda) in [
        ("model.layers.1.self_attn.q_proj.weight", 0.0),
        ("model.layers.1.mlp.up_proj.weight", 1.0),
        ("model.layers.0.mlp.up_proj.weight", 0.5),
    ] {
        let (base, tuned) = (numbers(&base, name), numbers(&tuned, name));
        assert_ne!(base, tuned);
        for ((found, base), tuned) in numbers(&out, name).iter().zip(base).zip(tuned) {
            assert!((found - (base + lambda * (tuned - base))).abs() < 1e-7, "{name}");
        }
    }
}

#[test]
fn a_filter_of_mergekit_that_holds_no_weight_is_a_warning() {
    let fixture = Fixture::new();
    let weight = "[{filter: zebra, value: 0.5}, {filter: mlp, value: 0.5}, {value: 1.0}]";
    let yaml = format!("merge_method: linear\nmodels:\n- model: model\n  parameters: {{weight: {weight}}}\n");
    fixture.write("merge.yml", yaml);
    let output = fixture.run(&["merge", "--config", "merge.yml", "--dry-run"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("warning: filter `zebra` is part of no weight's name"), "{said}");
    assert!(output.status.success() && !said.contains("`mlp`"), "{said}");
}

#[test]
fn an_adapter_alone_is_the_same_merge() {
    let fixture = Fixture::new();
    fixture.study("run", &[]);
    let spec = "linear:0.3,mlp=0.6";
    merge(&fixture, &format!("--post run/train/adapter --merge {spec} --adapter-only --out adapter"));
    merge(&fixture, "--post adapter --merge linear:1 --out by-adapter --out-dtype f32");
    merge(&fixture, &format!("--post run/train/adapter --merge {spec} --out whole --out-dtype f32"));
    let (found, expected) = (open(&fixture, "by-adapter"), open(&fixture, "whole"));
    for name in expected.infos().keys() {
        for (found, expected) in numbers(&found, name).iter().zip(numbers(&expected, name)) {
            assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
        }
    }
    let verified = fixture.run(&["merge", "--verify", "adapter", "--sample", "100"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let card = std::fs::read_to_string(fixture.file("adapter/README.md")).unwrap();
    assert!(card.contains("base_model_relation: adapter") && card.contains("--adapter-only"), "{card}");
}

#[test]
fn checkpoints_and_run_folders_are_tuned_models() {
    let fixture = Fixture::new();
    let checkpoints = ["--set", "train.checkpoint_every=10", "--keep-merged", "--merge", "model_stock"];
    fixture.study("run", &checkpoints);
    let bytes = |folder: &str| std::fs::read(fixture.file(folder).join("model.safetensors")).unwrap();
    merge(&fixture, "--post run --merge slerp:0.5 --out by-run");
    merge(&fixture, "--post run/train/adapter --merge slerp:0.5 --out by-adapter");
    merge(&fixture, "--post run/train/checkpoint-000020 --merge slerp:0.5 --out by-checkpoint");
    assert_eq!(bytes("by-run"), bytes("by-adapter"));
    assert_eq!(bytes("by-run"), bytes("by-checkpoint"));
    // The pipeline compares the checkpoints that it kept.
    let both = "--post run/train/checkpoint-000010 --post run/train/checkpoint-000020";
    merge(&fixture, &format!("{both} --merge model_stock --out stock"));
    assert_eq!(bytes("stock"), bytes("run/merged/model_stock"));

    let full = ["--set", "method.kind=full", "--set", "train.learning_rate=1e-3", "--keep-merged"];
    fixture.study("full", &[&full[..], &["--merge", "linear:0.5"]].concat());
    merge(&fixture, "--post full --merge linear:0.5 --out by-full");
    assert_eq!(bytes("by-full"), bytes("full/merged/linear_0.5"));
}

#[test]
fn the_seed_of_a_run_draws_what_its_merges_drop() {
    const SPEC: &str = "dare_linear:0.5,density=0.5";
    let fixture = Fixture::new();
    fixture.study("run", &["--keep-merged", "--set", "train.seed=1", "--merge", SPEC]);
    merge(&fixture, &format!("--post run --merge {SPEC} --seed 1 --out same"));
    merge(&fixture, &format!("--post run --merge {SPEC} --seed 2 --out other"));
    let bytes = |folder: &std::path::Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    let kept: Vec<_> = std::fs::read_dir(fixture.file("run/merged")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(bytes(&kept[0].path()), bytes(&fixture.file("same")));
    assert_ne!(bytes(&kept[0].path()), bytes(&fixture.file("other")));
    let report = json_of(&fixture, "run/report.json");
    assert_eq!((&report["merge"][0]["merge"], &report["merge"][0]["seed"]), (&json!(SPEC), &json!(1)));
    let manifest = json_of(&fixture, "other/merge.json");
    assert_eq!((&manifest["report"]["merge"], &manifest["report"]["seed"]), (&json!(SPEC), &json!(2)));
}

#[test]
fn a_merge_that_is_the_base_lost_nothing_to_rounding() {
    let fixture = Fixture::new();
    fixture.study("run", &["--merge", "linear:0"]);
    let report = json_of(&fixture, "run/report.json");
    assert_eq!(
        (&report["merge"][0]["update_kept_after_rounding"], &report["merge"][0]["parameters_unchanged"]),
        (&json!(1.0), &json!(1.0))
    );
    assert!(report["merge"][0].get("seed").is_none());
    for spec in ["linear:0", "ties:0,density=0.5"] {
        let words = ["merge", "--pre", "model", "--post", "run", "--merge", spec, "--out", spec];
        let output = fixture.run(&words);
        let (said, printed) =
            (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success() && !said.contains("warning"), "{said}");
        let figures = "effective λ after rounding 0.000; 100.0 % of the parameters are unchanged";
        assert!(printed.contains(figures), "{printed}");
        let card = std::fs::read_to_string(fixture.file(spec).join("README.md")).unwrap();
        assert!(card.contains("° | 1.000 | 0.000 | 100.00 % |"), "{card}");
    }
    // What there was to lose is still told.
    let lost = merge(&fixture, "--post run --merge linear:0.001 --out lost");
    assert!(lost.contains("for rounding kept"), "{lost}");
}

#[test]
fn an_adapter_brings_its_chat_template_and_the_base_the_rest() {
    let fixture = Fixture::new();
    fixture.study("run", &[]);
    let adapter = fixture.file("run/train/adapter");
    std::fs::remove_file(adapter.join("generation_config.json")).unwrap();
    std::fs::write(adapter.join("chat_template.jinja"), "{{ messages[0].content }} as tuned").unwrap();
    merge(&fixture, "--post run/train/adapter --merge slerp:0.5 --out out");
    let read = |name: &str| std::fs::read_to_string(fixture.file(name)).unwrap();
    assert_eq!(read("out/chat_template.jinja"), "{{ messages[0].content }} as tuned");
    assert_eq!(read("out/generation_config.json"), read("model/generation_config.json"));
}

#[test]
fn without_checkpoints_by_steps_model_stock_is_refused_before_the_training() {
    let fixture = Fixture::new();
    let output =
        fixture.run(&["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--merge", "model_stock"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("train.checkpoint_every") && !fixture.file("run").exists(), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn new_tokens_keep_their_rows_and_old_ones_are_matched_by_text() {
    let fixture = Fixture::new();
    let base = open(&fixture, "model");
    let before = numbers(&base, EMBEDDING);
    // The tuned model has every old row one higher, two new tokens and a row of padding.
    let mut post = Edited::of(&base);
    let mut rows: Vec<f32> = before.iter().map(|x| x + 1.0).collect();
    rows.extend((0..3 * 32).map(|i| i as f32));
    post.set(EMBEDDING, &[771, 32], &rows);
    post.write(&fixture, "post");
    edit_config(&fixture, "post", "vocab_size", json!(771));
    let path = fixture.file("post/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (id, content) in [(768, "<|tool|>"), (769, "<|call|>")] {
        let mut token = tokenizer["added_tokens"][0].clone();
        token["id"] = json!(id);
        token["content"] = json!(content);
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    }
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let said = merge(&fixture, "--post post --merge linear:0.5 --out out --out-dtype f32");
    assert!(said.contains("2 tokens are new in the tuned model"), "{said}");
    let found = numbers(&open(&fixture, "out"), EMBEDDING);
    let after: Vec<f32> = numbers(&open(&fixture, "post"), EMBEDDING);
    assert_eq!(found[768 * 32..], after[768 * 32..]);
    let middle = before.iter().zip(&after).map(|(a, b)| 0.5 * a + 0.5 * b).collect::<Vec<_>>();
    assert_eq!(found[..768 * 32], middle);
    assert_eq!(config(&fixture, "out")["vocab_size"], 771);
    let vocabulary = Tokenizer::load(&fixture.file("out")).unwrap().vocabulary();
    assert_eq!(vocabulary.get("<|call|>"), Some(&769));
    Snapshot::open(&fixture.file("out")).unwrap();
}

#[test]
fn a_head_on_one_side_is_kept_only_if_it_differs() {
    let fixture = Fixture::new();
    let base = open(&fixture, "model");
    let embedding = numbers(&base, EMBEDDING);
    let mut post = Edited::of(&base);
    post.set(HEAD, &[768, 32], &embedding);
    post.write(&fixture, "same");
    post.set(HEAD, &[768, 32], &embedding.iter().map(|x| x + 2.0).collect::<Vec<_>>());
    post.write(&fixture, "other");
    for name in ["same", "other"] {
        edit_config(&fixture, name, "tie_word_embeddings", json!(false));
    }
    let said = merge(&fixture, "--post same --merge slerp:0.5 --out tied");
    assert!(said.contains("counts as shared"), "{said}");
    assert_eq!(config(&fixture, "tied")["tie_word_embeddings"], true);
    assert!(!open(&fixture, "tied").infos().contains_key(HEAD));
    merge(&fixture, "--post other --merge linear:0.5 --out untied --out-dtype f32");
    assert_eq!(config(&fixture, "untied")["tie_word_embeddings"], false);
    let head = numbers(&open(&fixture, "untied"), HEAD);
    let expected = numbers(&open(&fixture, "other"), HEAD);
    for ((found, base), tuned) in head.iter().zip(&embedding).zip(expected) {
        assert!((found - (0.5 * base + 0.5 * tuned)).abs() < 1e-6);
    }
}

#[test]
fn a_head_that_the_configuration_does_not_use_plays_no_part() {
    let fixture = Fixture::new();
    fixture.study("run", &[]);
    let mut base = Edited::of(&open(&fixture, "model"));
    base.set(HEAD, &[768, 32], &vec![2.0; 768 * 32]);
    base.write(&fixture, "stale");
    merge(&fixture, "--post run --merge linear:0.5 --out expected");
    let pair =
        ["merge", "--pre", "stale", "--post", "run/train/adapter", "--merge", "linear:0.5", "--out", "out"];
    let output = fixture.run(&pair);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = |folder: &str| std::fs::read(fixture.file(folder).join("model.safetensors")).unwrap();
    assert!(bytes("out") == bytes("expected"), "the head that is not used changed the result");
    assert_eq!(config(&fixture, "out")["tie_word_embeddings"], true);
}

#[test]
fn weights_of_one_model_alone_follow_the_policy_and_are_named() {
    const ALONE: &str = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let fixture = Fixture::new();
    let mut post = Edited::of(&open(&fixture, "model"));
    post.set(ALONE, &[4], &[1.0, 0.5, 0.25, 0.125]);
    post.write(&fixture, "post");
    let refused = fixture.run(&[
        "merge",
        "--pre",
        "model",
        "--post",
        "post",
        "--merge",
        "linear:0.5",
        "--out",
        "refused",
    ]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("inv_freq"));
    for (policy, kept) in [("pre", false), ("post", true), ("both", true)] {
        let more = format!("--post post --merge linear:0.5 --unmatched {policy} --out by-{policy}");
        let said = merge(&fixture, &more);
        assert!(said.contains(ALONE), "{said}");
        let out = open(&fixture, &format!("by-{policy}"));
        assert_eq!(out.infos().contains_key(ALONE), kept, "{policy}");
        if kept {
            assert_eq!(numbers(&out, ALONE), [1.0, 0.5, 0.25, 0.125]);
        }
    }
}

#[test]
fn numbers_that_are_none_are_counted_when_allowed() {
    let fixture = Fixture::new();
    let mut post = Edited::of(&open(&fixture, "model"));
    let mut norm = vec![1.0; 32];
    (norm[3], norm[7]) = (f32::NAN, f32::INFINITY);
    post.set("model.norm.weight", &[32], &norm);
    post.write(&fixture, "post");
    let said = merge(&fixture, "--post post --merge linear:0.5 --allow-not-finite --out out");
    assert!(said.contains("2 numbers"), "{said}");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(fixture.file("out/merge.json")).unwrap()).unwrap();
    assert_eq!(manifest["weights"]["model.norm.weight"]["not_finite"], 2);
    let found = numbers(&open(&fixture, "out"), "model.norm.weight");
    assert!(found[3].is_nan() && found[7] == f32::INFINITY && found[4].is_finite());
}

#[test]
fn the_strongest_directions_of_a_low_rank_update_are_all_of_it() {
    let fixture = Fixture::new();
    fixture.study("run", &[]);
    merge(&fixture, "--post run --merge linear:1 --out whole --out-dtype f32");
    merge(&fixture, "--post run --merge spectral:1,rank=4 --out four --out-dtype f32");
    merge(&fixture, "--post run --merge spectral:1,rank=1 --out one --out-dtype f32");
    let base = open(&fixture, "model");
    let difference = |a: &WeightFiles, b: &WeightFiles| {
        let of = |name: &String| {
            numbers(a, name).iter().zip(numbers(b, name)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        base.infos().keys().map(of).sum::<f64>().sqrt()
    };
    let (whole, four, one) = (open(&fixture, "whole"), open(&fixture, "four"), open(&fixture, "one"));
    let update = difference(&whole, &base);
    assert!(difference(&whole, &four) < 1e-5 * update, "the adapter has rank 4");
    let left = difference(&whole, &one);
    assert!(left > 1e-3 * update && left < update, "{left} of {update}");
}
