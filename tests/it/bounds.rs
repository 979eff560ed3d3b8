//! Inputs that ask for more memory, time or numbers than there are: an error that names them, soon and in little memory.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{CONFIG, Fixture};

/// Kilobytes of address space that every input here must do with: a run of the pico model takes a third.
const MOST_KB: u64 = 3_000_000;
/// No input here takes a second on a quiet machine; a hundred times as long is without end.
const MOST_TIME: Duration = Duration::from_secs(100);

/// What the program says within the bounds, and its exit code.
fn within(fixture: &Fixture, most_kb: u64, words: &[&str]) -> (i32, String) {
    let told = fixture.file("told");
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {most_kb} && exec \"$@\" >told 2>&1"), "sh"])
        .arg(env!("CARGO_BIN_EXE_finetune"))
        .args(words)
        .current_dir(fixture.path())
        .env("XDG_CACHE_HOME", fixture.file("cache"))
        .env("HF_HUB_OFFLINE", "1")
        .env("NO_COLOR", "1")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null());
    let (mut child, started) = (command.spawn().unwrap(), Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > MOST_TIME {
            child.kill().unwrap();
            panic!("{words:?} did not end: {}", fs::read_to_string(&told).unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = fs::read_to_string(&told).unwrap();
    // Messages are broken into lines.
    let said = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    (status.code().unwrap_or(-1), said)
}

const PLAN: [&str; 6] = ["--recipe", "r.toml", "--device", "cpu", "--out", "run"];

/// The plan of the recipe with some settings.
fn plan(fixture: &Fixture, sets: &[&str]) -> (i32, String) {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let words: Vec<&str> = PLAN.into_iter().chain(["--plan"]).chain(sets).collect();
    within(fixture, MOST_KB, &words)
}

#[track_caller]
fn refused((code, said): (i32, String), expected_code: i32, fragment: &str) {
    assert!(code == expected_code && said.contains(fragment), "{code}: {said}");
}

fn config_with(fixture: &Fixture, name: &str, entries: &Value) {
    let mut config: Value = serde_json::from_str(CONFIG).unwrap();
    config.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
    fixture.model_with(name, "config.json", Some(config.to_string().as_bytes()));
}

#[test]
fn columns_that_nobody_reads_are_not_decoded_and_long_lists_are_refused() {
    let fixture = Fixture::new();
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for (name, source) in
        [("junk-list.parquet", "long lists beside the pairs"), ("tools-list.parquet", "in `tools`")]
    {
        fs::copy(stored.join(name), fixture.file(name)).expect(source);
    }
    let (code, said) = plan(&fixture, &["data.source=junk-list.parquet", "data.fields={}"]);
    assert!(code == 0 && said.contains("not read: `junk`"), "{said}");
    let message = "the lists of row group 1 of `tools-list.parquet` have 19999999 elements, at most 16777216 can be read";
    refused(plan(&fixture, &["data.source=tools-list.parquet", "data.fields={}"]), 3, message);
}

#[test]
fn a_page_that_unpacks_to_hundreds_of_megabytes_is_refused() {
    let fixture = Fixture::new();
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/long-page.parquet");
    fs::copy(stored, fixture.file("x.parquet")).unwrap();
    refused(
        plan(&fixture, &["data.source=x.parquet", "data.fields={}"]),
        3,
        "has a page of more than 268435456 bytes, unpacked",
    );
}

#[test]
fn a_table_of_two_hundred_thousand_columns_is_read() {
    let fixture = Fixture::new();
    let row = |name: &str| (0..200_000).map(|i| format!("{name}{i}")).collect::<Vec<_>>().join(",");
    fixture
        .write("wide.csv", format!("prompt,completion,{}\na,b,{}\nc,d,{}\n", row("n"), row("x"), row("y")));
    let (code, said) = plan(&fixture, &["data.source=wide.csv", "data.fields={}", "data.validation=0"]);
    assert!(code == 0 && said.contains("samples 2 to train on"), "{said}");
}

#[test]
fn a_value_of_json_that_would_fill_memory_is_refused() {
    let fixture = Fixture::new();
    fixture.write("bbh/cot_prompts.json", format!("{{\"examples\": [{}0]}}", "0,".repeat(40 << 20)));
    fixture.write("bbh/boolean_expressions.json", "{}");
    let recipe = fs::read_to_string(fixture.file("r.toml")).unwrap();
    let old = "task = \"harmful\"\nsource = \"harmful.csv\"\nfield = \"goal\"";
    let new = "task = \"bbh_zeroshot\"\nsource = \"bbh/boolean_expressions.json\"";
    fixture.write("r.toml", recipe.replace(old, new));
    let (code, said) = plan(&fixture, &[]);
    assert!(
        code == 3 && said.contains("cot_prompts.json") && said.contains("67108864 bytes"),
        "{code}: {said}"
    );
}

#[test]
fn prompts_beyond_the_model_or_memory_are_refused_before_any_training() {
    let fixture = Fixture::new();
    fixture.write("harmful.csv", format!("goal\nshort\n{}\n", "so it goes ".repeat(40_000)));
    let message =
        "of suite `harmful` is longer than 32 times the model's 256 positions (max_position_embeddings)";
    refused(plan(&fixture, &[]), 3, message);
    config_with(&fixture, "wide", &json!({"max_position_embeddings": 100_000_000}));
    let (code, said) = plan(&fixture, &["model.source=wide"]);
    assert!(
        code == 3 && said.contains("attention over") && said.contains("of memory, and"),
        "{code}: {said}"
    );
    // A sample likewise.
    let fixture = Fixture::new();
    let long = json!({"question": "so it goes ".repeat(40_000), "answer": "b"}).to_string();
    fixture.write("train.jsonl", format!("{long}\n").repeat(3));
    config_with(&fixture, "wide", &json!({"max_position_embeddings": 100_000_000}));
    let sets = ["data.max_tokens=100000000", "eval.suites=[]"];
    let message = "the longest sample is longer than 32 times the model's 256 positions";
    refused(plan(&fixture, &sets), 3, message);
    let (code, said) = plan(&fixture, &[&sets[..], &["model.source=wide"]].concat());
    // What is kept on the way back grows with the tokens, not with their square.
    assert!(code == 0 && said.contains("activations and logits"), "{code}");
    // A little beyond the window is said, and asked.
    let fixture = Fixture::new();
    fixture.write("harmful.csv", format!("goal\nshort\n{}\n", "so it goes ".repeat(200)));
    let (code, said) = plan(&fixture, &[]);
    let note =
        "1 of 2 prompts of suite `harmful` with max_new_tokens = 4 are more than the model's 256 positions";
    assert!(code == 0 && said.contains(note), "{code}: {said}");
}

#[test]
fn sizes_of_a_configuration_are_bounded() {
    let fixture = Fixture::new();
    for (nth, (entry, expected)) in [
        (json!({"num_hidden_layers": 10_000_000}), "expected at most 10000"),
        (
            json!({"hidden_size": 4_294_967_295_u32, "head_dim": 4_294_967_294_u32}),
            "expected at most 1048576",
        ),
        (json!({"head_dim": 4_294_967_294_u32}), "an even number of at most 16384"),
        (json!({"vocab_size": 4_294_967_295_u32}), "expected at most 16777216"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("m{nth}");
        config_with(&fixture, &name, &entry);
        refused(plan(&fixture, &[&format!("model.source={name}")]), 3, expected);
    }
    // Weights that are drawn have no file that a size could be held against.
    config_with(
        &fixture,
        "vast",
        &json!({"hidden_size": 1 << 20, "intermediate_size": 1 << 24, "num_hidden_layers": 1000}),
    );
    let (code, said) = plan(&fixture, &["model.source=vast", "model.init=random"]);
    assert!(code == 3 && said.contains("billion parameters take at least"), "{code}: {said}");
}

#[test]
fn numbers_of_a_recipe_and_of_a_command_are_bounded() {
    let fixture = Fixture::new();
    for (set, expected) in [
        ("train.steps=9223372036854775807", "at most 100000000"),
        ("train.batch=9223372036854775807", "1 to 1048576"),
        ("train.epochs=1e300 train.steps=0", "at most 100000000 steps"),
        ("eval.samples=9223372036854775807", "eval.samples"),
        ("train.checkpoint_every=9223372036854775807", ""),
        ("data.max_tokens=9223372036854775807", ""),
        ("merge.fisher_samples=9223372036854775807", ""),
        ("train.warmup=1e300", ""),
    ] {
        let (code, said) = plan(&fixture, &set.split(' ').collect::<Vec<_>>());
        let expected_code = if expected.is_empty() { 0 } else { 2 };
        assert!(code == expected_code && said.contains(expected), "{set}: {code}: {said}");
    }
    for word in ["--eval-rows", "--micro-tokens"] {
        for n in ["0", "18446744073709551615"] {
            let words: Vec<&str> = PLAN.into_iter().chain(["--plan", word, n]).collect();
            refused(within(&fixture, MOST_KB, &words), 2, "is not in 1..=1073741824");
        }
    }
    for merge in ["slerp:0..1/1e-9", "linear:0..1e300/1"] {
        let words: Vec<&str> = PLAN.into_iter().chain(["--plan", "--merge", merge]).collect();
        let (code, said) = within(&fixture, MOST_KB, &words);
        assert!(code == 2, "{merge}: {code}: {said}");
    }
    let yaml = "merge_method: linear\nmodels: [{model: model, parameters: {weight: 1}}]\ntokenizer: {source: base, pad_to_multiple_of: 9223372036854775807}\nbase_model: model\n";
    fixture.write("m.yml", yaml);
    let words = ["merge", "--config", "m.yml", "--out", "out"];
    refused(
        within(&fixture, MOST_KB, &words),
        2,
        "`pad_to_multiple_of` is 9223372036854775807, expected at most 65536",
    );
}

#[test]
fn a_tokenizer_that_makes_texts_grow_without_end_is_refused() {
    let fixture = Fixture::new();
    let mut file: Value =
        serde_json::from_slice(&fs::read(fixture.file("model/tokenizer.json")).unwrap()).unwrap();
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    file["normalizer"] = json!({"type": "Sequence", "normalizers": vec![double; 60]});
    fixture.model_with("grows", "tokenizer.json", Some(file.to_string().as_bytes()));
    let message =
        "the normalizer of `grows/tokenizer.json` can make a text 1.152921504606847e18 times as long";
    refused(plan(&fixture, &["model.source=grows"]), 3, message);
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_files() {
    let fixture = Fixture::new();
    let pipe = |name: &str| {
        let path = fixture.file(name);
        let _ = fs::remove_file(&path);
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
    };
    let why = "it is a pipe or a device, not a file";
    pipe("pipe.jsonl");
    refused(plan(&fixture, &["data.source=pipe.jsonl"]), 3, why);
    refused(plan(&fixture, &["data.source=/dev/zero"]), 3, why);
    fixture.model_with("piped", "tokenizer.json", None);
    pipe("piped/tokenizer.json");
    refused(plan(&fixture, &["model.source=piped"]), 3, why);
    fixture.model_with("endless", "tokenizer.json", None);
    std::os::unix::fs::symlink("/dev/zero", fixture.file("endless/tokenizer.json")).unwrap();
    refused(plan(&fixture, &["model.source=endless"]), 3, why);
}

#[cfg(unix)]
#[test]
fn a_file_beside_the_weights_that_lies_elsewhere_is_not_published() {
    let fixture = Fixture::new();
    fixture.write("secret", "-----BEGIN PRIVATE KEY-----");
    fixture.model_with("astray", "generation_config.json", Some(b"{}"));
    let vocabulary = fixture.file("astray/vocab.json");
    std::os::unix::fs::symlink(fixture.file("secret"), &vocabulary).unwrap();
    let message = "`astray/vocab.json` is a link to";
    refused(plan(&fixture, &["model.source=astray"]), 3, message);
    let pair = ["merge", "--pre", "astray", "--post", "model", "--merge", "linear:0.5", "--out", "out"];
    refused(within(&fixture, MOST_KB, &pair), 3, message);
    fixture.write("m.yml", "merge_method: linear\nmodels: [{model: astray, parameters: {weight: 1}}]\n");
    refused(within(&fixture, MOST_KB, &["merge", "--config", "m.yml", "--out", "out"]), 3, message);
    assert!(!fixture.file("out").exists());
    // The hub's cache is made of links, and they stay in it.
    let (blobs, snapshot) = ("models--o--n/blobs", "models--o--n/snapshots/0123");
    fixture.write(&format!("{blobs}/vocab"), "{}");
    fs::create_dir_all(fixture.file("models--o--n/snapshots")).unwrap();
    fixture.model_with(snapshot, "generation_config.json", Some(b"{}"));
    std::os::unix::fs::symlink("../../blobs/vocab", fixture.file(snapshot).join("vocab.json")).unwrap();
    let (code, said) = plan(&fixture, &[&format!("model.source={snapshot}")]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn memory_that_cannot_be_had_ends_with_a_message_and_loses_nothing() {
    let fixture = Fixture::new();
    let long = json!({"question": "x ".repeat(200), "answer": "b"}).to_string();
    fixture.write("train.jsonl", format!("{long}\n").repeat(60_000));
    // Enough to start, and not to hold the data.
    let words: Vec<&str> = PLAN.into_iter().chain(["--plan"]).collect();
    let (code, said) = within(&fixture, 400_000, &words);
    let named = ["reading `train.jsonl`", "settling what `r.toml` asks for"]
        .map(|what| format!("could not be had while {what}"));
    assert!(code == 3 && named.iter().any(|what| said.contains(what)), "{code}: {said}");
    assert!(said.contains("the same command goes on from there"), "{said}");
}

/// The model with another shape of its embedding; the bytes stay.
fn model_of_embedding(fixture: &Fixture, name: &str, shape: &str) {
    let whole = fs::read(fixture.file("model/model.safetensors")).unwrap();
    let end = 8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let header = String::from_utf8(whole[8..end].to_vec()).unwrap();
    let from = header.find("model.embed_tokens.weight").unwrap();
    let (before, rest) = header.split_at(from);
    let header = format!("{before}{}", rest.replacen("[768,32]", shape, 1));
    assert!(header.contains(shape));
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &whole[end..]].concat();
    fixture.model_with(name, "model.safetensors", Some(&bytes));
}

#[test]
fn an_embedding_that_is_no_matrix_is_refused() {
    let fixture = Fixture::new();
    model_of_embedding(&fixture, "flat", "[24576]");
    model_of_embedding(&fixture, "deep", "[768,32,1]");
    for model in ["flat", "deep"] {
        let message = "weight `model.embed_tokens.weight` in";
        refused(plan(&fixture, &[&format!("model.source={model}")]), 3, message);
        let pair = ["merge", "--pre", "model", "--post", model, "--merge", "linear:0.5", "--out", "out"];
        refused(within(&fixture, MOST_KB, &pair), 3, message);
        let yaml = format!(
            "merge_method: linear\nmodels: [{{model: {model}, parameters: {{weight: 1}}}}]\ntokenizer: {{source: union}}\n"
        );
        fixture.write("m.yml", yaml);
        refused(within(&fixture, MOST_KB, &["merge", "--config", "m.yml", "--out", "out"]), 3, message);
    }
}

#[test]
fn a_run_folder_with_other_numbers_than_ours_is_shown_or_refused() {
    let fixture = Fixture::new();
    let item = r#"{"id": "a", "question": {"stem": "Which?", "choices": [{"text": "sky", "label": "A"}, {"text": "rose", "label": "B"}]}, "answerKey": "B"}"#;
    fixture.write("arc.jsonl", item);
    let recipe = fs::read_to_string(fixture.file("r.toml")).unwrap();
    fixture.write(
        "r.toml",
        format!("{recipe}\n[[eval.suites]]\ntask = \"arc_challenge\"\nsource = \"arc.jsonl\"\n"),
    );
    fixture.study("run", &["--set", "train.steps=1"]);
    // A digest that is shorter than what is shown of it.
    let path = fixture.file("run/report.json");
    let mut report: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for asked in report["suites"].as_array_mut().unwrap() {
        asked["sha256"] = json!("ü");
    }
    fs::write(&path, report.to_string()).unwrap();
    let (code, said) = within(&fixture, MOST_KB, &["report", "run"]);
    assert_eq!(code, 0, "{said}");
    // Likelihoods of more or fewer options than the item has.
    let path = fixture.file("run/eval/base/arc_challenge.choices.jsonl");
    let line: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for other in [json!([]), json!([-1.0]), json!([-1.0, -2.0, -3.0])] {
        let mut line = line.clone();
        line["log_likelihood"] = other;
        fs::write(&path, format!("{line}\n")).unwrap();
        refused(
            within(&fixture, MOST_KB, &["report", "run", "--answers"]),
            3,
            "1 answers of `base` are missing in `run`",
        );
    }
}

#[test]
fn a_large_model_is_planned_without_being_loaded() {
    let fixture = Fixture::new();
    let sizes = json!({
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 32000
    });
    config_with(&fixture, "large", &sizes);
    // Drawn, so that no file of gigabytes is needed; in f32 it takes more than the plan may.
    let (code, said) = plan(&fixture, &["model.source=large", "model.init=random"]);
    assert!(
        code == 0 && said.contains("the size of the model, which was not loaded: rough"),
        "{code}: {said}"
    );
    assert!(said.contains("llama with 1"), "{said}");
}
