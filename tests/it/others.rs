//! Files as other tools and people write them: read as they are meant, or refused by their true reason.

use std::collections::BTreeMap;

use finetune::snapshot::{Dtype, WeightFiles, Weights};
use safetensors::tensor::{Dtype as Stored, TensorView};
use serde_json::{Value, json};

use crate::fixture::{CONFIG, Fixture};

/// A tensor as it is stored.
type Tensor = (Stored, Vec<usize>, Vec<u8>);

fn tensors(fixture: &Fixture, model: &str) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(fixture.file(model).join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let all = file
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
    all.collect()
}

fn store(fixture: &Fixture, model: &str, file: &str, tensors: &BTreeMap<String, Tensor>) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    fixture.write(&format!("{model}/{file}"), bytes);
}

/// The model with its tensors changed.
fn changed(fixture: &Fixture, name: &str, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    fixture.model_with(name, "README.md", Some(b""));
    let mut all = tensors(fixture, "model");
    change(&mut all);
    store(fixture, name, "model.safetensors", &all);
}

fn as_f32(tensor: &Tensor) -> Tensor {
    let numbers = tensor.2.chunks(2).flat_map(|two| [0, 0, two[0], two[1]]);
    (Stored::F32, tensor.1.clone(), numbers.collect())
}

fn plan(fixture: &Fixture, model: &str) -> (Option<i32>, String) {
    let source = format!("model.source={model}");
    let output = fixture.run(&["r.toml", "--device", "cpu", "--out", "run", "--plan", "--set", &source]);
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.code(), said.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", ""))
}

#[test]
fn the_bases_own_dtype_is_that_of_every_weight() {
    let fixture = Fixture::new();
    let norm = "model.norm.weight";
    changed(&fixture, "mixed", |all| {
        let wide = as_f32(&all[norm]);
        all.insert(norm.to_owned(), wide);
    });
    // What a configuration does not say, or says otherwise than its weights are, the weights say.
    for (name, says) in [("absent", ""), ("other", "\"dtype\": \"float16\", ")] {
        let config = CONFIG.replace("\"dtype\": \"bfloat16\", ", says);
        fixture.model_with(name, "config.json", Some(config.as_bytes()));
    }
    for (model, written) in [("mixed", "bf16 (1 tensors f32)"), ("absent", "bf16"), ("other", "bf16")] {
        let (code, said) = plan(&fixture, model);
        assert!(code == Some(0) && said.contains(&format!("written as {written}")), "{model}: {said}");
        let out = format!("out-{model}");
        let output =
            fixture.run(&["merge", "--pre", model, "--post", "model", "--merge", "linear:0", "--out", &out]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(
            tensors(&fixture, &out),
            tensors(&fixture, model),
            "{model}: λ = 0 is the base bit for bit"
        );
        // So it is in a run.
        let source = format!("model.source={model}");
        let run = format!("run-{model}");
        let set = [
            "--set",
            &source,
            "--set",
            "train.steps=2",
            "--set",
            "eval.suites=[]",
            "--merge",
            "linear:0",
            "--keep-merged",
        ];
        fixture.study(&run, &set);
        assert_eq!(tensors(&fixture, &format!("{run}/merged/linear_0")), tensors(&fixture, model), "{model}");
    }
    let config: Value =
        serde_json::from_slice(&std::fs::read(fixture.file("out-absent/config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "bfloat16", "what was not said is said now");
    // Another one is done as asked, and said.
    let set = [
        "r.toml",
        "--device",
        "cpu",
        "--out",
        "run",
        "--plan",
        "--set",
        "model.source=mixed",
        "--set",
        "model.dtype=bf16",
    ];
    let said = String::from_utf8_lossy(&fixture.run(&set).stdout).into_owned();
    assert!(
        said.contains(
            "1 of 20 tensors of the base are stored in another dtype, the first as f32: written as bf16"
        ),
        "{said}"
    );
}

#[test]
fn what_f16_cannot_hold_is_found_before_the_training() {
    let fixture = Fixture::new();
    changed(&fixture, "large", |all| {
        let norm = all.get_mut("model.norm.weight").unwrap();
        norm.2[..2].copy_from_slice(&half::bf16::from_f32(1e6).to_le_bytes());
    });
    let set = [
        "r.toml",
        "--device",
        "cpu",
        "--out",
        "run",
        "--set",
        "model.source=large",
        "--set",
        "model.dtype=f16",
    ];
    let output = fixture.run(&set);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("`model.norm.weight` has numbers that f16 cannot hold"), "{said}");
    assert!(said.contains("`--set model.dtype=bf16`") && !fixture.file("run/train").exists(), "{said}");
    let merge = [
        "merge",
        "--pre",
        "large",
        "--post",
        "model",
        "--merge",
        "linear:0.5",
        "--out",
        "out",
        "--out-dtype",
        "f16",
    ];
    let said = String::from_utf8_lossy(&fixture.run(&merge).stderr).into_owned();
    assert!(said.contains("f16 cannot hold") && said.contains("`--out-dtype bf16`"), "{said}");
}

#[test]
fn weights_are_named_for_what_they_are() {
    let fixture = Fixture::new();
    let doubled = |tensor: &Tensor| (Stored::F64, tensor.1.clone(), [tensor.2.as_slice(); 4].concat());
    changed(&fixture, "f64", |all| {
        let name = "model.layers.0.mlp.up_proj.weight";
        let wide = doubled(&all[name]);
        all.insert(name.to_owned(), wide);
    });
    changed(&fixture, "positions", |all| {
        all.insert("model.position_ids".to_owned(), (Stored::I64, vec![2], vec![0; 16]));
    });
    changed(&fixture, "compiled", |all| {
        *all = all.iter().map(|(name, tensor)| (format!("_orig_mod.{name}"), tensor.clone())).collect();
    });
    changed(&fixture, "headless", |all| {
        *all = all.iter().map(|(name, tensor)| (name.replacen("model.", "", 1), tensor.clone())).collect();
    });
    changed(&fixture, "two-heads", |all| {
        let mut head = all["model.embed_tokens.weight"].clone();
        head.2[0] ^= 1;
        all.insert("lm_head.weight".to_owned(), head);
    });
    for (model, reason) in [
        (
            "f64",
            "is stored as F64, expected F32, F16 or BF16 help: load it with transformers as `dtype=torch.float32`",
        ),
        ("positions", "a table of positions that old versions of transformers saved"),
        ("compiled", "the names begin with `_orig_mod.`, as `torch.compile` has them"),
        ("headless", "it is called `embed_tokens.weight` there, as in a model without a head"),
        ("two-heads", "`tie_word_embeddings` in `config.json` says that the head is the embedding"),
    ] {
        let (code, said) = plan(&fixture, model);
        assert!(code == Some(3) && said.contains(reason), "{model}: {said}");
    }
    // An index may list a head that is the embedding and that nobody stored.
    let names = tensors(&fixture, "model").into_keys().chain(["lm_head.weight".to_owned()]);
    let map: BTreeMap<String, &str> = names.map(|name| (name, crate::fixture::SHARD)).collect();
    fixture.indexed_model("listed", &json!({ "metadata": {}, "weight_map": map }).to_string());
    let (code, said) = plan(&fixture, "listed");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn adapters_that_change_head_or_embedding_are_named() {
    let fixture = Fixture::new();
    fixture.study("run", &["--set", "train.steps=2", "--set", "eval.suites=[]", "--set", "merge.methods=[]"]);
    let folder = fixture.file("run/train/adapter");
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let own: BTreeMap<String, Tensor> = file
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    let adapter = |name: &str, more: &[(&str, Vec<usize>)]| {
        let mut all = own.clone();
        for (tensor, shape) in more {
            let bytes = vec![0; 4 * shape.iter().product::<usize>()];
            all.insert(format!("base_model.model.{tensor}"), (Stored::F32, shape.clone(), bytes));
        }
        fixture.write(
            &format!("{name}/adapter_config.json"),
            std::fs::read(folder.join("adapter_config.json")).unwrap(),
        );
        store(&fixture, name, "adapter_model.safetensors", &all);
    };
    adapter("whole", &[("lm_head.weight", vec![768, 32])]);
    adapter("tied", &[("lm_head.lora_A.weight", vec![4, 32]), ("lm_head.lora_B.weight", vec![768, 4])]);
    for (name, reason) in [
        ("whole", "is a whole tensor: PEFT saved embedding and head along"),
        ("tied", "the adapter changes `lm_head`, which this base shares with its embedding"),
    ] {
        let output = fixture.run(&[
            "merge",
            "--pre",
            "model",
            "--post",
            name,
            "--merge",
            "linear:0.5",
            "--out",
            "out",
        ]);
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(output.status.code() == Some(3) && said.replace("│ ", "").contains(reason), "{name}: {said}");
    }
}

#[test]
fn slices_of_no_layers_and_a_base_alone_are_merged_as_mergekit_does() {
    let fixture = Fixture::new();
    fixture.sized_model("b", &[("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false")], 9);
    fixture.sized_model("a", &[("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false")], 8);
    let both =
        "  - sources:\n      - {model: a, layer_range: [0, 2]}\n      - {model: b, layer_range: [0, 2]}\n";
    let tail = "  - sources:\n      - {model: a, layer_range: [2, 2]}\n";
    fixture.write(
        "tail.yml",
        format!("slices:\n{both}{tail}merge_method: linear\nparameters: {{weight: 0.5}}\n"),
    );
    let alone = "  - sources:\n      - {model: a, layer_range: [0, 1]}\n  - sources:\n      - {model: a, layer_range: [1, 2]}\n      \
        - {model: b, layer_range: [1, 2]}\n";
    let ties = "merge_method: ties\nbase_model: a\nparameters: {weight: 0.5, density: \"0.5\"}\n";
    fixture.write("alone.yml", format!("slices:\n{alone}{ties}"));
    let merge = |yaml: &str, out: &str| {
        let output = fixture.run(&["merge", "--config", yaml, "--out", out]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    merge("tail.yml", "tail");
    merge("alone.yml", "alone");
    let (a, tail, alone) = (tensors(&fixture, "a"), tensors(&fixture, "tail"), tensors(&fixture, "alone"));
    // Norm and head come from the last slice, the layers from the first.
    assert_eq!(
        (&tail["lm_head.weight"], &tail["model.norm.weight"]),
        (&a["lm_head.weight"], &a["model.norm.weight"])
    );
    assert_ne!(tail["model.layers.1.mlp.up_proj.weight"], a["model.layers.1.mlp.up_proj.weight"]);
    assert_eq!(alone["model.layers.0.mlp.up_proj.weight"], a["model.layers.0.mlp.up_proj.weight"]);
    assert_ne!(alone["model.layers.1.mlp.up_proj.weight"], a["model.layers.1.mlp.up_proj.weight"]);
    for (yaml, reason) in [
        (
            format!(
                "slices:\n{tail}merge_method: linear\nparameters: {{weight: 0.5}}\n",
                tail = "  - sources:\n      - {model: a, layer_range: [2, 2]}\n"
            ),
            "its slices hold no layers",
        ),
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\ndtype: float32\ndtype: float16\n"
                .to_owned(),
            "line 4 column 1: duplicate mapping key: dtype",
        ),
    ] {
        fixture.write("bad.yml", yaml);
        let output = fixture.run(&["merge", "--config", "bad.yml", "--out", "bad"]);
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(output.status.code() == Some(2) && said.replace("│ ", "").contains(reason), "{said}");
        assert!(!said.contains("DuplicateKeyPolicy"), "{said}");
    }
}

#[test]
fn tokens_past_the_embedding_count_as_absent() {
    let fixture = Fixture::new();
    // The last token of the tokenizer has no row.
    let config = CONFIG.replace("\"vocab_size\": 768", "\"vocab_size\": 767");
    fixture.sized_model("a", &[("\"vocab_size\": 768", "\"vocab_size\": 767")], 8);
    assert!(config.contains("767"));
    fixture.sized_model("b", &[], 9);
    fixture.write("union.yml", "merge_method: linear\nmodels:\n  - {model: a, parameters: {weight: 0.5}}\n  - {model: b, parameters: {weight: 0.5}}\ntokenizer: {source: union}\n");
    let output = fixture.run(&["merge", "--config", "union.yml", "--out", "out"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (b, out) =
        (WeightFiles::open(&fixture.file("b")).unwrap(), WeightFiles::open(&fixture.file("out")).unwrap());
    let row = |files: &WeightFiles, row: usize| {
        let weight = files.weight("model.embed_tokens.weight").unwrap().cast(Dtype::F32).to_f32();
        weight[row * 32..][..32].to_vec()
    };
    // It is the other model's alone.
    let last = out.infos()["model.embed_tokens.weight"].shape[0] - 1;
    assert_eq!(row(&out, last), row(&b, 767));
}

#[test]
fn a_developer_is_a_system() {
    let fixture = Fixture::new();
    let line = |role: &str| json!({"messages": [{"role": role, "content": "Be brief."}, {"role": "user", "content": "What is 1 and 3 more?"}, {"role": "assistant", "content": "4"}]});
    for (name, role) in [("system.jsonl", "system"), ("developer.jsonl", "developer")] {
        fixture.write(name, format!("{}\n{}\n", line(role), line(role)));
    }
    let shown = |name: &str| {
        let set = format!("data.source={name}");
        let all = [
            "r.toml",
            "--device",
            "cpu",
            "--out",
            "run",
            "--plan",
            "--set",
            &set,
            "--set",
            "data.fields={}",
            "--set",
            "data.validation=0.0",
        ];
        let output = fixture.run(&all);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        text.split("# sample").nth(1).unwrap().split("# first").next().unwrap().to_owned()
    };
    assert_eq!(shown("developer.jsonl"), shown("system.jsonl"));
    assert!(shown("developer.jsonl").contains("Be brief."));
}

#[test]
fn models_called_y_and_n_and_dtypes_with_their_module_are_read_as_mergekit_reads_them() {
    let fixture = Fixture::new();
    fixture.sized_model("y", &[], 8);
    fixture.sized_model("n", &[], 9);
    let weighted =
        "models: [{model: y, parameters: {weight: 1.5}}, {model: n, parameters: {weight: -0.5}}]\n";
    let linear = "merge_method: linear\nparameters: {normalize: no}\n";
    for (out, dtype) in [("bare", "float32"), ("module", "torch.float32")] {
        fixture.write("m.yml", format!("{weighted}{linear}dtype: {dtype}\n"));
        fixture.succeeds(&["merge", "--config", "m.yml", "--out", out]);
    }
    let (bare, module) = (tensors(&fixture, "bare"), tensors(&fixture, "module"));
    assert_eq!(bare, module);
    let [y, n] = ["y", "n"].map(|folder| tensors(&fixture, folder));
    let name = "model.layers.0.mlp.up_proj.weight";
    let number = |bytes: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
    let expected = 1.5 * number(&y[name].2) - 0.5 * number(&n[name].2);
    let found = f32::from_le_bytes(bare[name].2[..4].try_into().unwrap());
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

#[test]
fn a_template_sees_every_token_that_has_a_name() {
    let fixture = Fixture::new();
    let read = |name: &str| std::fs::read_to_string(fixture.file("model").join(name)).unwrap_or_default();
    let mut config: Value =
        serde_json::from_str(&read("tokenizer_config.json")).unwrap_or(serde_json::json!({}));
    config["pad_token"] = "<|end|>".into();
    fixture.model_with("named", "tokenizer_config.json", Some(config.to_string().as_bytes()));
    fixture.write("named/chat_template.jinja", format!("{{{{ pad_token }}}}{}", read("chat_template.jinja")));
    let plan = ["--recipe", "r.toml", "--device", "cpu", "--set", "model.source=named", "--plan"];
    let said = String::from_utf8_lossy(&fixture.succeeds(&plan).stdout).into_owned();
    assert!(said.contains("\n<|end|><|user|>"), "{said}");
}
