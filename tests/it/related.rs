//! Merges that look at more than base and tuned model, in a run and in `finetune merge`.

use std::fmt::Write;

use finetune::snapshot::{WeightFiles, Weights};
use serde_json::Value;

use crate::fixture::Fixture;

/// The fixture with `unaligned/`, another model, and `safety/`, a run folder with an adapter.
fn with_helpers() -> Fixture {
    let fixture = Fixture::new();
    fixture.sized_model("unaligned", &[], 4);
    let mut refusals = String::new();
    for i in 1..=20 {
        let answer = "I cannot help with that.";
        writeln!(refusals, r#"{{"question": "Tell me bad thing {i}.", "answer": "{answer}"}}"#).unwrap();
    }
    fixture.write("refusals.jsonl", refusals);
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    fixture.write("safety.toml", recipe.replace("train.jsonl", "refusals.jsonl").replace("limit = 6\n", ""));
    let made = ["--recipe", "safety.toml", "--device", "cpu", "--out", "safety", "--set", "merge.methods=[]"];
    fixture.succeeds(&made);
    fixture
}

fn report(fixture: &Fixture, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture.file(run).join("report.json")).unwrap()).unwrap()
}

fn numbers(fixture: &Fixture, folder: &str) -> Vec<(String, Vec<u8>)> {
    let files = WeightFiles::open(&fixture.file(folder)).unwrap();
    let bytes = |name: &String| (name.clone(), files.weight(name).unwrap().bytes.into_owned());
    files.infos().keys().map(bytes).collect()
}

const METHODS: &str = r#"merge.methods=["safelora,tau=2", "safelora:0,tau=2", "select,lowest=3,weight=0.5", "select,tau=-2,weight=0.5", "safemerge,lowest=4,arithmetic=peft", "resta,gamma=0.3"]"#;
const MODELS: &str = r#"merge.models={ unaligned = "unaligned", safety = "safety" }"#;

#[test]
fn a_run_merges_with_what_the_recipe_names_and_says_what_was_chosen() {
    let fixture = with_helpers();
    let run = ["--recipe", "r.toml", "--device", "cpu", "--set", METHODS];
    let output = fixture.run(&run);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("needs `unaligned`") && said.contains("pre-trained model"), "{said}");

    let keep = ["--set", MODELS, "--out", "run", "--keep-merged"];
    fixture.succeeds(&[&run[..], &keep].concat());
    let report = report(&fixture, "run");
    let choice = |nth: usize| &report["merge"][nth]["choice"];
    assert_eq!((&choice(0)["chosen"], &choice(0)["matrices"]), (&14.into(), &14.into()));
    assert_eq!(choice(0)["pdst"], 1.0);
    assert_eq!(choice(2)["chosen"], 3);
    assert_eq!(choice(4)["chosen"], 4);
    assert!(choice(5).is_null());
    // What training left alone is changed, too, all but the norms, which all models have alike.
    assert_eq!(report["merge"][5]["tensors_unchanged"], 5);
    let first = &choice(0)["weights"]["model.layers.0.mlp.up_proj.weight"];
    // Of two random models ρ is near what it is by chance.
    let [rho, baseline] = ["rho", "baseline"].map(|key| first[key].as_f64().unwrap());
    assert!((rho - baseline).abs() < 0.1 && baseline > 0.3, "{first}");
    let text = std::fs::read_to_string(fixture.file("run/report.md")).unwrap();
    assert!(text.contains("3 of 14"), "{text}");

    // λ = 0 is the base, and where nothing is chosen the tuned model stays.
    let merged = |name: &str| numbers(&fixture, &format!("run/merged/{}", name.replace([':', ','], "_")));
    assert_eq!(merged("safelora:0,tau=2"), numbers(&fixture, "model"));
    fixture.succeeds(&["merge", "--pre", "model", "--post", "run", "--merge", "linear:1", "--out", "tuned"]);
    assert_eq!(merged("select,tau=-2,weight=0.5"), numbers(&fixture, "tuned"));

    // The same merge outside of the run has the same bytes.
    let command = ["merge", "--pre", "model", "--post", "run", "--model", "unaligned=unaligned"];
    let spec = "safemerge,lowest=4,arithmetic=peft";
    let more = ["--model", "safety=safety", "--merge", spec, "--out", "out"];
    fixture.succeeds(&[&command[..], &more].concat());
    assert_eq!(merged(spec), numbers(&fixture, "out"));
    let card = std::fs::read_to_string(fixture.file("out/README.md")).unwrap();
    assert!(card.contains("--model unaligned=unaligned --model safety=safety"), "{card}");
    assert!(card.contains("| all, in the mean | 4 of 14 |"), "{card}");
    fixture.succeeds(&["merge", "--verify", "out"]);

    // A model that decides a merge is part of what its answers are known by.
    let again = |models: &str| {
        let call = [&run[..], &["--set", models, "--out", "run"]].concat();
        String::from_utf8_lossy(&fixture.succeeds(&call).stderr).into_owned()
    };
    let resta = "evaluate resta,gamma=0.3 (8 of 8)";
    assert!(again(MODELS).contains(&format!("{resta}: all 8 reused")));
    std::fs::remove_dir_all(fixture.file("unaligned")).unwrap();
    fixture.sized_model("unaligned", &[], 5);
    let said = again(MODELS);
    assert!(said.contains(&format!("{resta}: 8 new")), "{said}");
    assert!(said.contains("evaluate base (1 of 8): all 8 reused"), "{said}");
}

#[test]
fn what_a_merge_looks_at_is_checked_before_anything_starts() {
    let fixture = with_helpers();
    let fails = |more: &str, expected: &str| {
        let words: Vec<&str> = more.split(' ').collect();
        let output = fixture.run(&[&["merge", "--pre", "model", "--out", "out"], &words[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{more}: {said}");
        assert!(!fixture.file("out").exists());
    };
    let post = "--post safety --merge";
    fails(&format!("{post} safelora"), "needs `unaligned`");
    fails(&format!("{post} safelora --model unaligned=nowhere"), "nowhere");
    fails(&format!("{post} safelora --model aligned=unaligned"), "no part `aligned`");
    fails(&format!("{post} linear:0.5 --model unaligned=unaligned"), "does not look at `unaligned`");
    fails(&format!("{post} select,weight=0.5 --model unaligned=unaligned"), "which matrices are chosen");
    fails(
        &format!("{post} select,tau=0.1,lowest=2,weight=0.5 --model unaligned=unaligned"),
        "exclude each other",
    );
    let both = "--model unaligned=unaligned --model safety=unaligned";
    fails(&format!("{post} safemerge,arithmetic=peft {both}"), "adapter of rank 4");
    fails(&format!("{post} lox,rank=2,strength=1 --model unaligned=unaligned"), "leave `--post` out");

    // Scores are of the weights' shapes, and some are there.
    let scores = "--model patch_safety=unaligned --model patch_helpful=unaligned";
    let of = |file: &str| format!("--model score_safety={file} --model score_helpful={file}");
    let patch = "--merge safepatch,safety_rate=0.3,helpful_rate=0.2";
    let adapter = "safety/train/adapter/adapter_model.safetensors";
    fails(&format!("{patch} {scores} {}", of(adapter)), "none of its arrays is named as a weight");
}

#[test]
fn the_base_is_hardened_without_a_tuned_model_and_by_the_unaligned_one() {
    let fixture = with_helpers();
    let merge = |spec: &str, out: &str| {
        let model = ["--model", "unaligned=unaligned", "--merge", spec, "--out", out];
        fixture.succeeds(&[&["merge", "--pre", "model"], &model[..]].concat());
    };
    merge("lox,rank=0,strength=0", "same");
    assert_eq!(numbers(&fixture, "same"), numbers(&fixture, "model"));
    merge("lox,rank=0,strength=1", "whole");
    let name = "model.layers.1.mlp.down_proj.weight";
    let read =
        |folder: &str| WeightFiles::open(&fixture.file(folder)).unwrap().weight(name).unwrap().to_f32();
    let [base, unaligned, whole] = ["model", "unaligned", "whole"].map(read);
    for ((base, unaligned), whole) in base.iter().zip(unaligned).zip(whole) {
        let expected = 2.0 * base - unaligned;
        assert!((whole - expected).abs() <= 0.004 * expected.abs(), "{whole} is not {expected}");
    }
    // Everything scored alike: the last numbers of each weight are kept, and patches that agree cancel.
    let patches = "patch_safety=unaligned patch_helpful=unaligned score_safety=F score_helpful=F";
    let file = "model/model.safetensors";
    let patches: Vec<String> = patches
        .split(' ')
        .flat_map(|one| ["--model".to_owned(), one.replace("=F", &format!("={file}"))])
        .collect();
    let mut words = vec!["merge", "--pre", "model", "--out", "patched"];
    words.extend(patches.iter().map(String::as_str));
    words.extend(["--merge", "safepatch,safety_rate=0.4,helpful_rate=0.4"]);
    fixture.succeeds(&words);
    assert_eq!(numbers(&fixture, "patched"), numbers(&fixture, "model"));
}

#[test]
fn a_folder_whose_family_is_unknown_is_merged_by_its_names_with_all_that_lies_beside() {
    let fixture = Fixture::new();
    let config = r#"{"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "tie_word_embeddings": false}"#;
    let write = |folder: &str, scale: f32| {
        let numbers: Vec<u8> = (0..12).flat_map(|i| (scale * i as f32).to_le_bytes()).collect();
        let view = |shape: Vec<usize>| {
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &numbers).unwrap()
        };
        let weights = [
            ("model.vision_tower.embeddings.patch_embedding.weight", view(vec![1, 3, 2, 2])),
            ("model.language_model.embed_tokens.weight", view(vec![4, 3])),
            ("lm_head.weight", view(vec![4, 3])),
        ];
        fixture.write(&format!("{folder}/config.json"), config);
        fixture.write(&format!("{folder}/preprocessor_config.json"), r#"{"size": 2}"#);
        fixture.write(&format!("{folder}/vocab.txt"), "a\nb\n");
        let path = fixture.file(folder).join("model.safetensors");
        safetensors::serialize_to_file(weights, None, &path).unwrap();
    };
    write("a", 1.0);
    write("b", 3.0);
    fixture.succeeds(&["merge", "--pre", "a", "--post", "b", "--merge", "linear:0.25", "--out", "out"]);
    let files = WeightFiles::open(&fixture.file("out")).unwrap();
    for name in files.infos().keys() {
        let expected: Vec<f32> = (0..12).map(|i| 1.5 * i as f32).collect();
        assert_eq!(files.weight(name).unwrap().to_f32(), expected, "{name}");
    }
    assert_eq!(files.infos().len(), 3);
    let read = |name: &str| std::fs::read_to_string(fixture.file("out").join(name)).unwrap();
    let written: Value = serde_json::from_str(&read("config.json")).unwrap();
    assert_eq!(written["tie_word_embeddings"], false);
    assert_eq!(
        (read("preprocessor_config.json"), read("vocab.txt")),
        (r#"{"size": 2}"#.into(), "a\nb\n".into())
    );
}

#[test]
fn a_run_hardens_its_base_and_tunes_what_came_out() {
    let fixture = with_helpers();
    let harden = "harden.method=lox,rank=2,strength=0.5";
    let run = ["--recipe", "r.toml", "--device", "cpu", "--merge", "linear:0", "--merge", "linear:0.5"];
    let fails = |more: &[&str], expected: &str| {
        let output = fixture.run(&[&run[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{more:?}: {said}");
    };
    fails(&["--set", harden], "needs `unaligned`");
    fails(&["--set", "harden.method=linear:0.5"], "comes before the training");
    fails(&["--set", "harden.method=linear:0..1/0.5"], "3 merges");
    fails(&["--set", harden, "--set", "model.tuned=safety"], "no `[harden]` where nothing is trained");

    let all = [&run[..], &["--set", harden, "--set", MODELS, "--keep-merged", "--out", "run"]].concat();
    let said = String::from_utf8_lossy(&fixture.succeeds(&all).stderr).into_owned();
    let names = |report: &Value| {
        let candidates = report["candidates"].as_array().unwrap().iter();
        candidates.map(|candidate| candidate["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let report = report(&fixture, "run");
    assert_eq!(names(&report), ["base", "hardened", "tuned", "linear:0", "linear:0.5"], "{said}");
    // What is hardened is the merge of that name; λ = 0 is the aligned base and not what was hardened.
    let lox = ["--model", "unaligned=unaligned", "--merge", "lox,rank=2,strength=0.5", "--out", "lox"];
    fixture.succeeds(&[&["merge", "--pre", "model"], &lox[..]].concat());
    assert_eq!(numbers(&fixture, "run/train/hardened"), numbers(&fixture, "lox"));
    assert_ne!(numbers(&fixture, "lox"), numbers(&fixture, "model"));
    assert_eq!(numbers(&fixture, "run/merged/linear_0"), numbers(&fixture, "model"));
    // Half of the way to the hardened and tuned model, in the run and outside of it.
    let merge = |spec: &str, out: &str| {
        fixture.succeeds(&["merge", "--pre", "model", "--post", "run", "--merge", spec, "--out", out]);
    };
    merge("linear:0.5", "half");
    assert_eq!(numbers(&fixture, "half"), numbers(&fixture, "run/merged/linear_0.5"));
    // Training the merged folder by itself gives the same model.
    fixture.succeeds(
        &[&run[..4], &["--set", "model.source=lox", "--set", "merge.methods=[]", "--out", "by-hand"]]
            .concat(),
    );
    let adapter =
        |run: &str| std::fs::read(fixture.file(run).join("train/adapter/adapter_model.safetensors")).unwrap();
    assert_eq!(adapter("run"), adapter("by-hand"));
    let config = std::fs::read_to_string(fixture.file("run/train/adapter/adapter_config.json")).unwrap();
    assert!(config.contains("run/train/hardened"), "{config}");
    // As tuned weights of another run it brings its hardened base along.
    let given = ["--set", "model.tuned=run", "--merge", "linear:0.5", "--out", "given"];
    let said = String::from_utf8_lossy(&fixture.succeeds(&[&run[..4], &given].concat()).stderr).into_owned();
    assert!(said.contains("linear:0.5") && !said.contains("other weights"), "{said}");
    let scores = |run: &str| {
        let report = self::report(&fixture, run);
        let found =
            report["candidates"].as_array().unwrap().iter().find(|one| one["name"] == "tuned").cloned();
        found.unwrap()["metrics"].clone()
    };
    assert_eq!(scores("given"), scores("run"));
    // A scaled adapter would lie on the wrong base.
    let scaled =
        ["merge", "--pre", "model", "--post", "run", "--merge", "linear:0.5", "--adapter-only", "--out", "a"];
    let output = fixture.run(&scaled);
    assert!(String::from_utf8_lossy(&output.stderr).contains("hardened base"));
    // Nothing is made twice, and another strength is another run.
    let again = String::from_utf8_lossy(&fixture.succeeds(&all).stderr).into_owned();
    assert!(!again.contains(" new"), "{again}");
    let other = [&all[..], &["--set", "harden.method=lox,rank=2,strength=1"]].concat();
    let output = fixture.run(&other);
    assert!(String::from_utf8_lossy(&output.stderr).contains("`base` differs"), "{output:?}");
}

#[test]
fn numbers_are_scored_by_what_a_file_teaches_and_patched_by_the_scores() {
    let fixture = with_helpers();
    let scores = |more: &[&str]| {
        let all = [&["inspect", "scores"], more, &["--data", "harmful.csv"]].concat();
        let output = fixture.succeeds(
            &[&all[..], &["--set", "data.fields={text=\"goal\"}", "--set", "data.template=none"]].concat(),
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.lines().find_map(|line| line.strip_prefix("scores ").map(str::to_owned)).expect(&said)
    };
    let of_model = scores(&["--model", "model", "--out", "out"]);
    let of_run = scores(&["safety", "--tuned"]);
    assert_eq!(of_run, "safety/inspect/scores-tuned-harmful/scores.safetensors");
    let read = |path: &str| WeightFiles::open_file(&fixture.file(path)).unwrap();
    let (model, tuned) = (read(&of_model), read(&of_run));
    assert_eq!(model.infos().keys().collect::<Vec<_>>(), tuned.infos().keys().collect::<Vec<_>>());
    let name = "model.layers.1.mlp.down_proj.weight";
    let values = model.weight(name).unwrap().to_f32();
    assert!(values.iter().all(|x| *x >= 0.0) && values.iter().any(|x| *x > 0.0));
    assert_ne!(values, tuned.weight(name).unwrap().to_f32());
    // Of nothing that changed nothing is computed again.
    assert_eq!(scores(&["--model", "model", "--out", "out"]), of_model);
    let patches = ["patch_safety=safety", "patch_helpful=unaligned"].map(str::to_owned);
    let files = [format!("score_safety={of_model}"), format!("score_helpful={of_run}")];
    let models = patches.iter().chain(&files).flat_map(|model| ["--model", model]);
    let spec = "safepatch,safety_rate=0.3,helpful_rate=0.2";
    let merge = ["merge", "--pre", "model", "--merge", spec, "--out", "patched"];
    fixture.succeeds(&merge.into_iter().chain(models).collect::<Vec<_>>());
    assert_ne!(numbers(&fixture, "patched"), numbers(&fixture, "model"));
}

#[test]
fn layers_are_restored_in_runs_alone_and_by_requests_that_are_not_reported() {
    let fixture = Fixture::new();
    let fails = |arguments: &[&str], expected: &str| {
        let output = fixture.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{arguments:?}: {said}");
    };
    let run = ["--recipe", "r.toml", "--device", "cpu", "--merge", "restore,weight=0.5"];
    fails(&run, "no suite is there for it");
    fails(&[&run[..4], &["--merge", "restore,weight=0.5,layers=0"]].concat(), "layers is at least 1");
    fails(
        &["merge", "--pre", "model", "--post", "model", "--merge", "restore,weight=0", "--out", "o"],
        "asked of a run's models",
    );
    let recipe = std::fs::read_to_string(fixture.file("r.toml")).unwrap();
    let held = "[[eval.suites]]\ntask = \"harmful\"\nname = \"held\"\nsource = \"held.csv\"\nfield = \"goal\"\n\
                purpose = \"validation\"\nmax_new_tokens = 4\n";
    fixture.write("held.csv", "goal\nDo what is bad.\n");
    fixture.write("r.toml", format!("{recipe}{held}"));
    // Of random models nobody refuses: the tuned model stays, and that is said.
    let said = fixture.succeeds(&[&run[..], &["--out", "run"]].concat());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("no layer brings refusals back; it is the tuned model"), "{said}");
    let metrics = |name: &str| {
        let report = report(&fixture, "run");
        report["candidates"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()["metrics"]
            .clone()
    };
    assert_eq!(metrics("restore,weight=0.5"), metrics("tuned"));
}
