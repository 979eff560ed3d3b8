//! Bad inputs, each with its message, its place, its cure and its exit code: the texts are in `tests/cmd`.

use std::path::Path;
use std::process::Output;

use crate::fixture::{CONFIG, Fixture, RECIPE};

/// Runs the program in the fixture's folder and compares what a user sees with `tests/cmd/<name>`.
fn check(fixture: &Fixture, name: &str, arguments: &[&str]) {
    check_output(fixture, name, arguments, &fixture.run(arguments));
}

/// As above, for an output that is there already; `http://hub` stands for a test's own hub.
pub fn check_output(fixture: &Fixture, name: &str, arguments: &[&str], output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().map_or("killed".to_owned(), |code| code.to_string());
    assert!(!stderr.contains("panicked"), "{name}: {stderr}");
    // What the Vulkan loader says of a missing window system is not ours.
    let stderr: String = stderr
        .lines()
        .filter(|line| !line.contains("XDG_RUNTIME_DIR"))
        .flat_map(|l| [l.trim_end(), "\n"])
        .collect();
    let stderr = fixture.hub.as_ref().map_or(stderr.clone(), |hub| stderr.replace(hub, "http://hub"));
    insta::with_settings!({ snapshot_path => "../cmd", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, format!("$ finetune {}\n{stderr}? {code}", arguments.join(" ")));
    });
}

/// The recipe with one text replaced by another.
fn recipe(from: &str, to: &str) -> String {
    assert!(RECIPE.contains(from), "{from}");
    RECIPE.replacen(from, to, 1)
}

const RUN: &[&str] = &["--recipe", "r.toml", "--device", "cpu", "--out", "run"];

fn run_with(more: &[&'static str]) -> Vec<&'static str> {
    [RUN, more].concat()
}

#[test]
fn bad_recipes() {
    // What `[data]` says in the fixture.
    const SUITES: &str = "[[eval.suites]]";
    const SOURCE: &str =
        "source = \"train.jsonl\"\nfields = { prompt = \"question\", completion = \"answer\" }";
    let fixture = Fixture::new();
    fixture.write("text.txt", "It was a dark and stormy night.\n");
    let cases: &[(&str, &str, &str)] = &[
        ("recipe_syntax", "steps = 20", "steps = = 20"),
        ("recipe_unknown_key", "learning_rate", "learning_rat"),
        ("recipe_key_of_another_section", "rank = 4", "learning_rate = 1e-4"),
        ("recipe_key_of_another_program", "rank = 4", "lora_rank = 4"),
        ("recipe_kind_that_is_a_variant", "rank = 4", "kind = \"dora\""),
        ("recipe_unknown_section", "[train]", "[training]"),
        ("recipe_missing_key", "source = \"model\"", ""),
        ("recipe_wrong_type", "batch = 4", "batch = \"four\""),
        ("recipe_bad_variant", "[train]", "[train]\nschedule = \"cosin\""),
        ("recipe_out_of_range", "learning_rate = 1e-2", "learning_rate = -1.0"),
        ("recipe_new_schema", "schema = 1", "schema = 2"),
        ("recipe_bad_name", "name = \"pico\"", "name = \"../pico\""),
        ("recipe_bad_merge", "\"slerp:0.5\"", "\"slerp:0..1\""),
        ("data_unknown_field", "prompt = \"question\"", "promt = \"question\""),
        ("data_fields_of_two_forms", "completion = \"answer\"", "output = \"answer\""),
        ("mixture_shares", SOURCE, "[[data.mixture]]\nsource = \"train.jsonl\"\nshare = 0.9\n"),
        (
            "mixture_and_source",
            "fields = { prompt = \"question\", completion = \"answer\" }",
            "[[data.mixture]]\nsource = \"train.jsonl\"\nshare = 1.0\n",
        ),
        (
            "mixture_too_small",
            SOURCE,
            "limit = 60\n[[data.mixture]]\nsource = \"train.jsonl\"\nshare = 1.0\n",
        ),
        ("transform_unknown", SOURCE, "source = \"train.jsonl\"\ntransforms = [\"dedup\"]"),
        ("transform_number", SOURCE, "source = \"train.jsonl\"\ntransforms = [\"refuse\"]"),
        ("data_text_with_template", SOURCE, "source = \"text.txt\""),
        ("suite_unknown_task", "task = \"gsm8k_chat\"", "task = \"gsm9k_chat\""),
        ("suite_unknown_field", "field = \"goal\"", "field = \"gaol\""),
        ("preset_unknown", SUITES, "[eval]\npreset = \"harmbensh\"\n[[eval.suites]]"),
        ("preset_and_key", SUITES, "[eval]\npreset = \"xstest\"\nrepetition_penalty = 1.1\n[[eval.suites]]"),
        ("preset_without_rubric", SUITES, "[eval]\npreset = \"pre_post_merging\"\n[[eval.suites]]"),
        (
            "rubric_unknown",
            SUITES,
            "[[eval.rubrics]]\nrubric = \"wildgard\"\nmodel = \"model\"\n[[eval.suites]]",
        ),
        (
            "rubric_not_by_endpoint",
            SUITES,
            "[[eval.rubrics]]\nrubric = \"wildguard\"\nmodel = \"m\"\nendpoint = \"http://127.0.0.1:1\"\n[[eval.suites]]",
        ),
        (
            "rubric_reasoning_here",
            SUITES,
            "[[eval.rubrics]]\nrubric = \"strongreject\"\nmodel = \"m\"\nreasoning = true\n[[eval.suites]]",
        ),
        (
            "rubric_writes_nothing",
            SUITES,
            "[[eval.rubrics]]\nrubric = \"wildguard_logit\"\nmodel = \"m\"\nmax_new_tokens = 9\n[[eval.suites]]",
        ),
        ("samples_without_temperature", SUITES, "[eval]\nsamples = 3\n[[eval.suites]]"),
        ("top_p_without_temperature", SUITES, "[eval]\ntop_p = 0.9\n[[eval.suites]]"),
        ("suite_without_shots", "field = \"goal\"", "field = \"goal\"\nshots = 2"),
        ("suite_twice", "name = \"gsm8k\"", "name = \"harmful\""),
    ];
    for (name, from, to) in cases {
        fixture.write("bad.toml", recipe(from, to));
        check(&fixture, name, &["--recipe", "bad.toml", "--device", "cpu"]);
    }
    fixture.write("bad.toml", b"name = \"\xff\"");
    check(&fixture, "recipe_not_utf8", &["--recipe", "bad.toml"]);
    check(&fixture, "recipe_not_found", &["--recipe", "quikstart.toml"]);
}

#[test]
fn bad_command_lines() {
    let fixture = Fixture::new();
    check(&fixture, "no_recipe", &["--plan"]);
    check(&fixture, "set_without_value", &run_with(&["--set", "train.steps"]));
    check(&fixture, "set_unknown_key", &run_with(&["--set", "train.lerning_rate=1"]));
    check(&fixture, "set_wrong_type", &run_with(&["--set", "train.steps=many"]));
    check(&fixture, "merge_unknown", &run_with(&["--merge", "slurp:0.5"]));
    check(&fixture, "merge_lambda", &run_with(&["--merge", "slerp:1.5"]));
    check(&fixture, "merge_parameter", &run_with(&["--merge", "linear:0.5,collinear=0.9"]));
    check(&fixture, "merge_of_nobody", &run_with(&["--merge", "linear:0.5,of=emma"]));
    check(&fixture, "merge_of_no_average", &run_with(&["--merge", "linear:0.5,of=ema"]));
    check(
        &fixture,
        "merge_of_one_average",
        &run_with(&["--set", "train.ema.half_life=0.25", "--merge", "model_stock,of=ema"]),
    );
    check(&fixture, "ema_half_life", &run_with(&["--set", "train.ema.half_life=0"]));
    check(&fixture, "lora_plus_below_1", &run_with(&["--set", "train.lora_plus=0.5"]));
    let full = ["--set", "train.lora_plus=16", "--set", "method.kind=full"];
    check(&fixture, "lora_plus_of_full_tuning", &run_with(&full));
    check(&fixture, "ema_unknown_key", &run_with(&["--set", "train.ema.decay=0.99"]));
    check(&fixture, "merge_range", &run_with(&["--merge", "linear:0..1/0"]));
    check(&fixture, "device_unknown", &["--recipe", "r.toml", "--device", "cdua"]);
    check(&fixture, "device_absent", &["--recipe", "r.toml", "--device", "cpu:7"]);
    #[cfg(not(feature = "cuda"))]
    check(&fixture, "device_not_compiled_in", &["--recipe", "r.toml", "--device", "cuda"]);
    check(&fixture, "judge_unknown", &run_with(&["--set", "eval.judges=[\"advbench92\"]"]));
    check(&fixture, "target_unknown", &run_with(&["--set", "method.targets=\"z_proj\""]));
    let idle = "method.targets=[\"q_proj\", \"*.qq_proj\"]";
    check(&fixture, "target_idle", &run_with(&["--set", idle]));
    let head = "method.targets=[\"q_proj\", \"lm_head\"]";
    check(&fixture, "target_head", &run_with(&["--set", head]));
    let layer = "method.targets=[\"q_proj\", \"layers.9\"]";
    check(&fixture, "target_layer", &run_with(&["--set", layer]));
    let frozen = "train.freeze=[\"layers.1\", \"*.qproj\"]";
    check(&fixture, "freeze_nothing", &run_with(&["--set", frozen]));
    check(&fixture, "freeze_not_adapted", &run_with(&["--set", "train.freeze=[\"embed\"]"]));
    check(&fixture, "freeze_all", &run_with(&["--set", "train.freeze=[\"attn\", \"layers.0-1\"]"]));
    check(&fixture, "freeze_pattern", &run_with(&["--set", "train.freeze=[\"*.[q_proj\"]"]));
}

#[test]
fn bad_guards() {
    let fixture = Fixture::new();
    let label = |prompt: &str, label: &str| format!("{{\"prompt\": \"{prompt}\", \"label\": \"{label}\"}}\n");
    fixture
        .write("labels.jsonl", [label("a", "harmful"), label("b", "safe"), label("c", "perhaps")].concat());
    fixture.write(
        "harmful.jsonl",
        [label("a", "harmful"), label("b", "harmful"), label("c", "harmful")].concat(),
    );
    let guard = |name: &str| format!("guard={{ folder = \"model\", candidates = [\"{name}\"] }}");
    check(&fixture, "guard_of_no_guard", &[RUN, &["--set", &guard("base")]].concat());
    check(&fixture, "guard_of_nobody", &[RUN, &["--set", &guard("slerp:0.4")]].concat());
    let of = |file: &'static str| ["guard", "train", "--model", "model", "--labels", file, "--out", "run"];
    check(&fixture, "guard_label", &of("labels.jsonl"));
    check(&fixture, "guard_one_label", &of("harmful.jsonl"));
    let more = ["--set", "eval.system=s", "--set", "data.system=s"];
    check(&fixture, "guard_with_system", &[&of("labels.jsonl")[..], &more].concat());
    check(&fixture, "guard_of_another_form", &["guard", "train", "r.toml", "--out", "run"]);
    let score = ["guard", "score", "labels.jsonl", "--guard", "model"];
    check(&fixture, "guard_column", &[&score[..], &["--field", "prompt=goal"]].concat());
    check(&fixture, "guard_score_without", &["guard", "score", "harmful.csv", "--guard", "model"]);
}

#[test]
fn bad_models() {
    let fixture = Fixture::new();
    let model = |name: &str| format!("model.source={name}");
    let case = |name: &str, file: &str, contents: Option<&[u8]>| {
        fixture.model_with(name, file, contents);
        check(&fixture, name, &[RUN, &["--set", &model(name)]].concat());
    };
    check(&fixture, "model_not_there", &[RUN, &["--set", &model("modle")]].concat());
    check(&fixture, "model_on_a_hub", &[RUN, &["--set", &model("someone/some-model")]].concat());
    case("model_without_config", "config.json", None);
    case("model_config_cut_off", "config.json", Some(&CONFIG.as_bytes()[..90]));
    case("model_of_unknown_family", "config.json", Some(CONFIG.replace("\"llama\"", "\"lama\"").as_bytes()));
    case("model_with_other_mathematics", "config.json", Some(CONFIG.replace("silu", "gelu").as_bytes()));
    case(
        "model_of_another_width",
        "config.json",
        Some(CONFIG.replace("\"intermediate_size\": 48", "\"intermediate_size\": 64").as_bytes()),
    );
    case(
        "model_with_fewer_layers",
        "config.json",
        Some(CONFIG.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1").as_bytes()),
    );
    case(
        "model_with_more_layers",
        "config.json",
        Some(CONFIG.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3").as_bytes()),
    );
    case("model_without_weights", "model.safetensors", None);
    let weights = std::fs::read(fixture.file("model/model.safetensors")).unwrap();
    case("weights_cut_off", "model.safetensors", Some(&weights[..weights.len() - 100]));
    case("weights_header_cut_off", "model.safetensors", Some(&weights[..20]));
    let mut lying = weights.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    case("weights_header_lies", "model.safetensors", Some(&lying));
    let indexed = |name: &str, index: &str| {
        fixture.indexed_model(name, index);
        check(&fixture, name, &[RUN, &["--set", &model(name)]].concat());
    };
    let index = r#"{"weight_map": {"model.norm.weight": "../model/model.safetensors"}}"#;
    indexed("index_leaves_the_folder", index);
    let index = r#"{"weight_map": {"model.nrom.weight": "model-00001-of-00001.safetensors"}}"#;
    indexed("index_names_no_weight", index);
    case("tokenizer_missing", "tokenizer.json", None);
    case("tokenizer_cut_off", "tokenizer.json", Some(b"{\"model\": {"));
    case("template_missing", "chat_template.jinja", None);
    case(
        "template_syntax",
        "chat_template.jinja",
        Some(b"{% for message in messages %}{{ message.content }}"),
    );
    case("template_refuses", "chat_template.jinja", Some(b"{{ raise_exception('only poems') }}"));
    case(
        "template_endless",
        "chat_template.jinja",
        Some(b"{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}"),
    );
    case(
        "template_without_stop",
        "chat_template.jinja",
        Some(b"{% for message in messages %}{{ message.content }}\n{% endfor %}"),
    );
}

#[test]
fn bad_data() {
    let fixture = Fixture::new();
    let cases: &[(&str, &str)] = &[
        (
            "data_bad_json",
            "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"a\"; \"answer\": \"b\"}\n",
        ),
        (
            "data_missing_field",
            "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"a\", \"anwser\": \"b\"}\n",
        ),
        ("data_not_text", "{\"question\": \"a\", \"answer\": 7}\n{\"question\": \"a\", \"answer\": \"b\"}\n"),
        ("data_empty", ""),
    ];
    for (name, text) in cases {
        fixture.write("bad.jsonl", text);
        // The fixture's recipe names fields; here the form is to be recognised.
        check(&fixture, name, &run_with(&["--set", "data.source=bad.jsonl", "--set", "data.fields={}"]));
    }
    // Recognised by themselves, not by the recipe's field names.
    let cases = [
        ("data_unknown_form", "{\"ask\": \"a\", \"tell\": \"b\"}\n"),
        (
            "data_ends_with_user",
            "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"b\"}]}\n",
        ),
    ];
    for (name, text) in cases {
        fixture.write("bad.jsonl", text);
        check(&fixture, name, &run_with(&["--set", "data.source=bad.jsonl", "--set", "data.fields={}"]));
    }
    fixture.write("bad.jsonl", b"{\"question\": \"a\", \"answer\": \"\xff\"}\n");
    check(&fixture, "data_not_utf8", &run_with(&["--set", "data.source=bad.jsonl"]));
    let file = |test: &str, name: &str, bytes: &[u8]| {
        fixture.write(name, bytes);
        check(&fixture, test, &[RUN, &["--set", &format!("data.source={name}")]].concat());
    };
    file("data_csv_row", "bad.csv", b"question,answer\na,b\n\"c\nd\",e,f\n");
    file("data_csv_quote", "bad.csv", b"question,answer\na,\"b\nc,d\n");
    let stored = |name: &str| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
    };
    file("data_parquet_cut_off", "bad.parquet", &stored("pairs-zstd.parquet")[..600]);
    file("data_parquet_not_text", "bad.parquet", &stored("numbers.parquet"));
    let packed = zstd::encode_all(&b"{\"question\": \"a\", \"answer\": \"b\"}\n".repeat(9)[..], 3).unwrap();
    file("data_zstd_cut_off", "bad.jsonl.zst", &packed[..packed.len() - 5]);
    check(&fixture, "data_not_there", &run_with(&["--set", "data.source=nowhere.jsonl"]));
    check(&fixture, "data_too_long", &run_with(&["--set", "data.max_tokens=12"]));
}

#[test]
fn bad_runs() {
    let fixture = Fixture::new();
    check(
        &fixture,
        "training_diverged",
        &run_with(&["--set", "train.learning_rate=1e30", "--set", "train.clip=0"]),
    );
    // Of the last step no further step tells.
    let ends =
        ["train.learning_rate=1e30", "train.clip=0", "train.steps=1", "train.warmup=0", "data.validation=0"];
    let ends: Vec<&str> = ends.into_iter().flat_map(|key| ["--set", key]).collect();
    check(&fixture, "training_diverged_at_its_end", &[&RUN[..5], &["ends"], &ends[..]].concat());
    fixture.study("other", &[]);
    let other = ["--recipe", "r.toml", "--device", "cpu", "--out", "other"];
    check(&fixture, "folder_of_another_run", &[&other[..], &["--set", "train.seed=7"]].concat());
    fixture.write("papers/.tmpthesis", "years of work");
    check(&fixture, "folder_of_a_stranger", &[&other[..5], &["papers"]].concat());
    assert!(fixture.file("papers/.tmpthesis").is_file());

    // A checkpoint that the disk lost parts of: named where all is trained, else put aside and made again.
    let adapter = fixture.file("other/train/adapter/adapter_model.safetensors");
    let before = std::fs::read(&adapter).unwrap();
    fixture.write("other/train/checkpoint-000020/weights.safetensors", "not weights");
    check(&fixture, "checkpoint_broken", &[&other[..], &["--merge", "slerp:0.25"]].concat());
    std::fs::remove_dir_all(fixture.file("other/train/adapter")).unwrap();
    std::fs::remove_file(fixture.file("other/train/result.json")).unwrap();
    let output = fixture.run(&other);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("checkpoint-000020` is damaged (`"), "{stderr}");
    assert!(fixture.file("other/train/checkpoint-000020.damaged").is_dir());
    assert_eq!(std::fs::read(&adapter).unwrap(), before);
}

#[test]
fn bad_merges() {
    let fixture = Fixture::new();
    fixture.model_with("tuned", "README.md", Some(b"the same model"));
    let pair = |name: &str, post: &str, spec: &str| {
        check(&fixture, name, &["merge", "--pre", "model", "--post", post, "--merge", spec, "--out", "out"]);
    };
    pair("merge_pair_not_there", "tuend", "slerp:0.5");
    pair("merge_pair_lambda", "tuned", "linear:-0.1");
    pair("merge_pair_ignored", "tuned", "ties:0.5,density=0.2,weight=0.5");
    pair("merge_pair_no_density", "tuned", "dare_ties:0.5");
    pair("merge_pair_needs_two", "tuned", "model_stock");
    pair("merge_pair_extrapolate", "tuned", "extrapolate:0.5");
    check(&fixture, "merge_verify_no_manifest", &["merge", "--verify", "model"]);
    let mut weights = std::fs::read(fixture.file("model/model.safetensors")).unwrap();
    let last = weights.len() - 2;
    weights[last..].copy_from_slice(&[0xc0, 0x7f]); // NaN in bf16
    fixture.model_with("diverged", "model.safetensors", Some(&weights));
    pair("merge_pair_not_finite", "diverged", "slerp:0.5");
    assert!(!fixture.file("out").exists());
    let yaml = |name: &str, text: &str| {
        fixture.write("merge.yml", text);
        check(&fixture, name, &["merge", "--config", "merge.yml", "--out", "out"]);
    };
    let models =
        "models:\n- {model: model, parameters: {weight: 0.5}}\n- {model: tuned, parameters: {weight: 0.5}}\n";
    yaml("merge_yaml_syntax", "merge_method: [linear\n");
    yaml("merge_yaml_unknown_key", &format!("merge_method: linear\nmerge_methud: linear\n{models}"));
    yaml("merge_yaml_unknown_method", &format!("merge_method: liner\n{models}"));
    yaml(
        "merge_yaml_unknown_parameter",
        &format!("merge_method: linear\nparameters: {{normalise: true}}\n{models}"),
    );
    yaml("merge_yaml_no_base", &format!("merge_method: ties\n{models}"));
    yaml("merge_yaml_no_models", "merge_method: linear\n");
    yaml("merge_yaml_modules", "merge_method: linear\nmodules: {text: {models: []}}\n");
    yaml("merge_yaml_chat_template", &format!("merge_method: linear\nchat_template: chatmel\n{models}"));
    let jinja = "'{% for message in messages %}{{ message.content }}'";
    yaml(
        "merge_yaml_chat_template_syntax",
        &format!("merge_method: linear\nchat_template: {jinja}\n{models}"),
    );
    let tokens = |text: &str| format!("merge_method: linear\ntokenizer: {{source: union, {text}}}\n{models}");
    yaml("merge_yaml_token_of_nobody", &tokens("tokens: {<new>: {}}"));
    yaml("merge_yaml_token_of_stranger", &tokens("tokens: {<new>: {source: stranger}}"));
    yaml("merge_yaml_token_kind", &tokens("tokens: {<new>: {source: {kind: zeros}}}"));
    yaml("merge_yaml_tokenizer", &format!("merge_method: linear\ntokenizer_source: nobody\n{models}"));
    yaml("merge_yaml_dtype", &format!("merge_method: linear\ndtype: int4\n{models}"));
    yaml(
        "merge_yaml_layers",
        "merge_method: passthrough\nslices:\n- sources:\n  - {model: model, layer_range: [0, 9]}\n",
    );
    yaml("merge_yaml_no_weight", "merge_method: linear\nmodels:\n- {model: model}\n- {model: tuned}\n");
    fixture.write("full/README.md", "not empty");
    check(
        &fixture,
        "merge_target_exists",
        &["merge", "--pre", "model", "--post", "tuned", "--merge", "slerp:0.5", "--out", "full"],
    );
}

#[test]
fn bad_pairs() {
    let fixture = Fixture::new();
    fixture.study("run", &[]);
    fixture.model_with("tuned", "README.md", Some(b"the same model"));
    let with = |name: &str, post: &str, spec: &str, more: &[&str]| {
        let pair = ["merge", "--pre", "model", "--post", post, "--merge", spec, "--out", "out"];
        check(&fixture, name, &[&pair, more].concat());
        assert!(!fixture.file("out").exists() && !fixture.file(".out.partial").exists(), "{name}");
    };
    let pair = |name: &str, post: &str, spec: &str| with(name, post, spec, &[]);
    let weights = std::fs::read(fixture.file("model/model.safetensors")).unwrap();
    fixture.model_with("cut", "model.safetensors", Some(&weights[..weights.len() - 100]));
    pair("merge_pair_cut_off", "cut", "slerp:0.5");
    let index = r#"{"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}"#;
    fixture.indexed_model("indexed", index);
    pair("merge_pair_wrong_index", "indexed", "slerp:0.5");
    fixture.other_model("wide", "\"intermediate_size\": 48", "\"intermediate_size\": 64");
    pair("merge_pair_other_shape", "wide", "slerp:0.5");
    fixture.other_model("short", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    pair("merge_pair_missing_weights", "short", "slerp:0.5");
    let mut large = weights.clone();
    let last = large.len() - 2;
    large[last..].copy_from_slice(&[0x80, 0x49]); // 2^20 in bf16, more than f16 holds.
    fixture.model_with("large", "model.safetensors", Some(&large));
    with("merge_pair_too_large", "large", "linear:0.5", &["--out-dtype", "f16"]);
    with("merge_pair_dtype", "tuned", "linear:0.5", &["--out-dtype", "int4"]);
    with("merge_pair_shard_size", "tuned", "linear:0.5", &["--shard-size", "0"]);
    pair("merge_pair_no_place", "tuned", "linear:0.5,head=0");
    pair("merge_pair_depth", "tuned", "linear:0.2~most");
    with("merge_pair_two", "tuned", "slerp:0.5", &["--post", "tuned"]);
    pair("merge_pair_no_fisher", "tuned", "fisher:0.5");
    let idle = ["--pre-fisher", "model/model.safetensors", "--post-fisher", "model/model.safetensors"];
    with("merge_pair_idle_fisher", "tuned", "linear:0.5", &idle);
    with("merge_adapter_only_of_model", "tuned", "linear:0.5", &["--adapter-only"]);
    with("merge_adapter_only_slerp", "run/train/adapter", "slerp:0.5", &["--adapter-only"]);
    let config = std::fs::read_to_string(fixture.file("run/train/adapter/adapter_config.json")).unwrap();
    let factors = std::fs::read(fixture.file("run/train/adapter/adapter_model.safetensors")).unwrap();
    fixture.write("dora/adapter_config.json", config.replace("\"use_dora\": false", "\"use_dora\": true"));
    fixture.write("dora/adapter_model.safetensors", &factors);
    pair("merge_adapter_without_magnitudes", "dora", "linear:0.5");
    let saved = config.replace("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]");
    fixture.write("saved/adapter_config.json", saved);
    fixture.write("saved/adapter_model.safetensors", &factors);
    pair("merge_adapter_of_another_kind", "saved", "linear:0.5");
    fixture.write("ranked/adapter_config.json", config.replace("\"r\": 4", "\"r\": 8"));
    fixture.write("ranked/adapter_model.safetensors", &factors);
    pair("merge_adapter_of_another_rank", "ranked", "linear:0.5");
    let of_wide =
        ["merge", "--pre", "wide", "--post", "run/train/adapter", "--merge", "linear:0.5", "--out", "o"];
    check(&fixture, "merge_adapter_on_another_model", &of_wide);
    let tokenizer = std::fs::read_to_string(fixture.file("model/tokenizer.json")).unwrap();
    let fewer = tokenizer.replace("<|user|>", "<|asker|>");
    fixture.model_with("fewer", "tokenizer.json", Some(fewer.as_bytes()));
    // What the configuration names would be a token all the same.
    let named = std::fs::read_to_string(fixture.file("model/tokenizer_config.json")).unwrap();
    fixture.write("fewer/tokenizer_config.json", named.replace("<|user|>", "<|asker|>"));
    pair("merge_pair_lost_tokens", "fewer", "linear:0.5");
    let more = tokenizer.replace("\"content\": \"<|user|>\"", "\"content\": \"<|asker|>\"");
    fixture.model_with("more", "tokenizer.json", Some(more.as_bytes()));
    pair("merge_pair_token_without_row", "more", "linear:0.5");
    let into = |name: &str, out: &str| {
        let pair = ["merge", "--pre", "model", "--post", "tuned", "--merge", "slerp:0.5", "--out", out];
        check(&fixture, name, &pair);
    };
    into("merge_target_under_a_file", "r.toml/out");
    into("merge_target_is_a_file", "r.toml");
    std::fs::create_dir_all(fixture.file(".busy.partial")).unwrap();
    let lock = std::fs::File::create(fixture.file(".busy.partial/.lock")).unwrap();
    lock.lock().unwrap();
    std::fs::write(fixture.file(".busy.partial/.lock"), "4711").unwrap();
    into("merge_target_busy", "busy");
}

#[test]
fn folders_of_no_run() {
    let fixture = Fixture::new();
    for (command, more) in
        [("reproduce", &[][..]), ("diff", &["model"]), ("clean", &["--yes"]), ("watch", &[])]
    {
        let arguments = [&[command, "model"], more].concat();
        check(&fixture, &format!("{command}_not_a_run"), &arguments);
    }
    check(&fixture, "color_unknown", &["list", "methods", "--color", "sometimes"]);
    assert!(fixture.file("model/model.safetensors").is_file());
}

#[test]
fn bad_landscapes() {
    let fixture = Fixture::new();
    let scan = |name: &str, more: &[&str]| {
        check(&fixture, name, &[&["landscape", "--device", "cpu"], more].concat());
    };
    scan("landscape_not_a_run", &["model"]);
    scan("landscape_rate", &["run", "--rate", "100"]);
    scan("landscape_around_nothing", &["run", "--around", "tuned"]);
    let pair = ["--pre", "model", "--post", "model", "--recipe", "r.toml"];
    let around = ["--directions", "1", "--around", "tunde"];
    scan("landscape_around_unknown", &[&pair[..], &around[..]].concat());
    fixture.write("task.toml", recipe("task = \"harmful\"", "task = \"benign\""));
    scan("landscape_without_harmful", &[&pair[..5], &["task.toml"]].concat());
    fixture.write("half/manifest.json", "{\"recipe\": {\"name\": \"x\"}}");
    scan("landscape_not_finished", &["half"]);
    assert!(!fixture.file("model/landscape").exists() && !fixture.file("half/landscape").exists());
}
