//! Model folders as other programs read them: which weights, which tokens, which template, which layers.

use std::path::{Path, PathBuf};

use finetune::model::{Decoder, families};
use finetune::snapshot::template::ChatTemplate;
use finetune::snapshot::tokenizer::Tokenizer;
use finetune::snapshot::{Snapshot, Weights};
use serde_json::{Value, json};

use crate::fixture::{Fixture, SHARD};

fn said(fixture: &Fixture, words: &[&str]) -> String {
    let output = fixture.run(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    format!("{}{said}", String::from_utf8_lossy(&output.stdout))
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Puts entries into a JSON file, which may not be there yet.
fn edit(path: &Path, entries: Value) {
    let mut json = if path.is_file() { json_of(path) } else { json!({}) };
    json.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
    std::fs::write(path, json.to_string()).unwrap();
}

#[test]
fn of_two_saves_in_one_folder_runs_merges_and_judges_read_the_single_file() {
    let fixture = Fixture::new();
    fixture.sized_model("other", &[], 5);
    fixture.model_with("both", SHARD, Some(&std::fs::read(fixture.file("other/model.safetensors")).unwrap()));
    let names = Snapshot::open(&fixture.file("model")).unwrap();
    let map = names.weights.infos().keys().map(|name| (name.clone(), json!(SHARD))).collect();
    edit(&fixture.file("both/model.safetensors.index.json"), json!({"weight_map": Value::Object(map)}));

    let run = ["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--plan"];
    let plan = said(&fixture, &[&run[..], &["--set", "model.source=both"]].concat());
    let note = "`both` holds two sets of weights: `model.safetensors` is read, as transformers does";
    assert_eq!(plan.matches(note).count(), 1, "{plan}");
    let merged =
        said(&fixture, &["merge", "--pre", "both", "--post", "other", "--merge", "linear:0", "--out", "out"]);
    assert!(merged.contains(note), "{merged}");
    let bytes = |folder: &str| std::fs::read(fixture.file(folder).join("model.safetensors")).unwrap();
    assert!(bytes("out") == bytes("model") && bytes("out") != bytes("other"));
}

const OWN: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// The template that transformers finds in a folder: the file, else the entry of `tokenizer_config.json`.
fn found(folder: &Path) -> Option<String> {
    let entry =
        || json_of(&folder.join("tokenizer_config.json"))["chat_template"].as_str().map(str::to_owned);
    std::fs::read_to_string(folder.join("chat_template.jinja")).ok().or_else(entry)
}

#[test]
fn what_a_run_exports_has_the_template_that_it_trained_with() {
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.file("model/chat_template.jinja")).unwrap();
    edit(&fixture.file("model/tokenizer_config.json"), json!({"chat_template": "the base's"}));
    fixture.write("model/chat_template.json", json!({"chat_template": "the processor's"}).to_string());
    fixture.write("own.jinja", OWN);
    let own = ["--set", "data.template=own.jinja", "--keep-merged", "--merge", "linear:0.5"];
    fixture.study("lora", &own);
    let full = ["--set", "method.kind=full", "--set", "train.steps=4"];
    fixture.study("full", &[&own[..], &full].concat());
    let merge = ["merge", "--pre", "model", "--merge", "slerp:0.5", "--post"];
    said(&fixture, &[&merge[..], &["lora", "--out", "of-lora"]].concat());
    said(&fixture, &[&merge[..], &["full", "--out", "of-full"]].concat());
    let folders =
        ["lora/train/adapter", "lora/merged/linear_0.5", "full/train/model", "full/merged/linear_0.5"];
    for folder in folders.into_iter().chain(["of-lora", "of-full"]) {
        let folder = fixture.file(folder);
        assert_eq!(found(&folder).as_deref(), Some(OWN), "{}", folder.display());
        assert!(json_of(&folder.join("tokenizer_config.json")).get("chat_template").is_none());
        // And so do we.
        let template = ChatTemplate::load(&folder, &Tokenizer::load(&folder).unwrap(), None).unwrap();
        assert_eq!(template.source(), OWN);
    }

    // What an older version left in an export is put right by the same command.
    fixture.write("lora/train/adapter/chat_template.jinja", "the base's");
    fixture.write("lora/merged/linear_0.5/chat_template.jinja", "the base's");
    fixture.study("lora", &own);
    for folder in ["lora/train/adapter", "lora/merged/linear_0.5"] {
        assert_eq!(found(&fixture.file(folder)).as_deref(), Some(OWN), "{folder}");
    }
}

#[test]
fn a_run_without_a_template_exports_none_and_says_so() {
    let fixture = Fixture::new();
    let none = ["--set", "data.template=none", "--set", "train.steps=2", "--set", "eval.suites=[]"];
    let run = [&["--recipe", "r.toml", "--device", "cpu", "--out", "run"], &none[..]].concat();
    assert!(said(&fixture, &[&run[..], &["--plan"]].concat()).contains("carry no chat template"));
    said(&fixture, &run);
    assert_eq!(found(&fixture.file("run/train/adapter")), None);
}

#[test]
fn tokens_that_the_configuration_alone_names_are_trained_as_one_and_said() {
    let fixture = Fixture::new();
    let path = fixture.file("model/tokenizer.json");
    let mut tokenizer = json_of(&path);
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let end = added.iter().position(|token| token["content"] == "<|end|>").unwrap();
    let token = added.remove(end);
    let id = token["id"].clone();
    tokenizer["model"]["vocab"]["<|end|>"] = id.clone();
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let config = fixture.file("model/tokenizer_config.json");
    edit(&config, json!({"added_tokens_decoder": {id.to_string(): token}, "eos_token": "<|end|>"}));
    let plan = ["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--plan"];
    let text = said(&fixture, &plan);
    assert!(text.contains("answers end with  <|end|>\n"), "{text}");
    assert!(text.contains("1 in all, and are followed as transformers does: `<|end|>`"), "{text}");
    // Another reading is another sample, and other answers.
    edit(
        &config,
        json!({"added_tokens_decoder": {id.to_string(): {"content": "<|end|>", "special": true, "rstrip": true}}}),
    );
    let tokenizer = Tokenizer::load(&fixture.file("model")).unwrap();
    let id = u32::try_from(id.as_u64().unwrap()).unwrap();
    assert_eq!(tokenizer.encode("<|end|>  \n").unwrap(), [id]);
}

#[test]
fn an_adapter_with_more_tokens_than_rows_is_refused_before_anything_is_written() {
    let fixture = Fixture::new();
    fixture.study("run", &[]);
    let path = fixture.file("run/train/adapter/tokenizer.json");
    let plain = std::fs::read(&path).unwrap();
    let more = |path: &Path| {
        let mut tokenizer: Value = serde_json::from_slice(&plain).unwrap();
        let mut token = tokenizer["added_tokens"][0].clone();
        (token["id"], token["content"]) = (json!(768), json!("<|new|>"));
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
        std::fs::write(path, tokenizer.to_string()).unwrap();
    };
    more(&path);
    let merge =
        ["merge", "--pre", "model", "--post", "run/train/adapter", "--merge", "linear:0.5", "--out", "out"];
    let output = fixture.run(&merge);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("token_past_the_rows") && error.contains("names token 768"), "{error}");
    assert!(!fixture.file("out").exists() && !fixture.file(".out.partial").exists());

    // What the base's own tokenizer has past its rows, as Gemma 3 1B's has, is passed on.
    more(&fixture.file("model/tokenizer.json"));
    edit(&fixture.file("run/train/adapter/tokenizer_config.json"), json!({"note": "another file"}));
    said(&fixture, &merge);
    // A run says it, and refuses a text with such a token.
    let plan = ["--recipe", "r.toml", "--device", "cpu", "--out", "plan", "--plan"];
    let text = said(&fixture, &plan);
    assert!(text.contains("such as `<|new|>` (768), are past the model's 768 rows"), "{text}");
    fixture.write("harmful.csv", "goal\nSay <|new|> now.\n");
    let output = fixture.run(&plan);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && error.contains("outside_vocabulary"), "{error}");
}

/// A model of the golden cases with its layers in another order, and the windows they should have.
fn restacked(fixture: &Fixture, model: &str, slices: &[[usize; 2]]) -> (PathBuf, Vec<Option<usize>>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(model);
    let slice = |[from, to]: &[usize; 2]| {
        format!("- sources:\n  - model: {}\n    layer_range: [{from}, {to}]\n", root.display())
    };
    let slices_text: String = slices.iter().map(slice).collect::<Vec<_>>().concat();
    let yaml = format!("merge_method: passthrough\nslices:\n{slices_text}");
    let (file, out) = (format!("{model}.yml"), format!("{model}-restacked"));
    fixture.write(&file, yaml);
    said(fixture, &["merge", "--config", &file, "--out", &out]);
    let windows = families::shape(&Snapshot::open(&root).unwrap().config).unwrap().windows;
    let layers = slices.iter().flat_map(|[from, to]| *from..*to);
    (fixture.file(&out), layers.map(|layer| windows[layer]).collect())
}

#[test]
fn a_merge_of_another_depth_can_be_read_again_and_its_layers_see_as_far() {
    let fixture = Fixture::new();
    for model in
        ["pico-gemma2", "pico-gemma3", "pico-qwen2", "pico-qwen3", "pico-mistral", "pico-phi3", "pico-gemma"]
    {
        let n = {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(model);
            Snapshot::open(&root).unwrap().config.count("num_hidden_layers").unwrap()
        };
        let (out, wanted) = restacked(&fixture, model, &[[0, n], [n - 1, n], [0, 1]]);
        let Snapshot { config, weights, .. } = Snapshot::open(&out).unwrap();
        let shape = families::shape(&config).unwrap();
        assert_eq!(shape.windows, wanted, "{model}");
        Decoder::check(&shape, &weights, model).unwrap();
    }
}

#[test]
fn a_mark_of_utf8_before_a_json_file_does_no_harm() {
    let fixture = Fixture::new();
    let before = said(&fixture, &["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--plan"]);
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        let path = fixture.file("model").join(name);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
    }
    let after = said(&fixture, &["--recipe", "r.toml", "--device", "cpu", "--out", "run", "--plan"]);
    // The estimates behind the samples are measured, and differ from call to call.
    let samples = |plan: &str| {
        let (shown, _estimates) = plan.split_once("# estimates")?;
        Some(shown.split("# sample").skip(1).collect::<String>())
    };
    assert!(samples(&before).is_some_and(|shown| !shown.is_empty()), "{before}");
    assert_eq!(samples(&before), samples(&after));
}
