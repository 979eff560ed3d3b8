//! Every reader of files that others wrote, and what it is given to begin with.
//!
//! A reader answers any bytes with a result or an error, within a bounded time and memory, and never with a panic.
//! `tests/it/fuzz.rs` holds that with mutations of the seeds, `tests/fuzz/run` with libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use finetune::data::{Format, Limits, Message, Role, read};
use finetune::eval::endpoint::{self, ChatRequest, Endpoint, Patience, Settings};
use finetune::eval::tasks::{Source, TASKS};
use finetune::hub::{Hub, Name, Wanted};
use finetune::model::{Decoder, families};
use finetune::recipe::Recipe;
use finetune::report::sheet::Which;
use finetune::report::{self, Report};
use finetune::run::export::{self, Models, Request};
use finetune::run::review;
use finetune::snapshot::adapter::{Adapter, Folded};
use finetune::snapshot::guarded::GuardedTokenizer;
use finetune::snapshot::template::ChatTemplate;
use finetune::snapshot::tokenizer::Tokenizer;
use finetune::snapshot::{Config, Snapshot, WeightFiles, Weights};

#[path = "loopback.rs"]
mod loopback;

use loopback::Loopback;

/// What a reader needs around the file that it reads.
pub struct Ground {
    folder: tempfile::TempDir,
    hub: OnceLock<Loopback>,
    judge: OnceLock<Loopback>,
}

pub struct Reader {
    pub name: &'static str,
    /// What is well-formed.
    pub seeds: fn(&Ground) -> Vec<Vec<u8>>,
    pub read: fn(&Ground, &[u8]),
    /// Reads a finished run.
    pub of_a_run: bool,
}

fn of_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|at| at.join("recipes").is_dir())
        .expect("a project")
        .join(path)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

impl Ground {
    /// A pico model and an adapter, and a copy of the finished run, if one is given.
    pub fn new(run: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ground = Self { folder, hub: OnceLock::new(), judge: OnceLock::new() };
        copy(&of_project("tests/golden/models/pico-mistral"), &ground.at("model"));
        for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            fs::copy(of_project("data/tiny/model").join(file), ground.at("model").join(file))
                .expect("a copy");
        }
        copy(&of_project("tests/golden/adapters/layers"), &ground.at("adapter"));
        if let Some(run) = run {
            copy(run, &ground.at("run"));
        }
        ground
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap_or_default()
    }

    /// Writes the file and says where it is.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, bytes).expect("a file to write to");
        path
    }
}

pub const READERS: &[Reader] = &[
    of_a_file("recipe", |_| all_of("recipes", "toml"), recipe),
    of_a_file("mergekit", mergekit_seeds, mergekit),
    of_a_file("config", config_seeds, config),
    of_a_file("header", header_seeds, header),
    of_a_file("index", index_seeds, index),
    of_a_file("tokenizer", tokenizer_seeds, tokenizer),
    of_a_file("tokenizer-config", |at| vec![at.bytes("model/tokenizer_config.json")], tokenizer_config),
    of_a_file("adapter-config", |at| vec![at.bytes("adapter/adapter_config.json")], adapter_config),
    of_a_file("adapter", |at| vec![at.bytes("adapter/adapter_model.safetensors")], adapter),
    of_a_file("template", template_seeds, template),
    of_a_file("lines", lines_seeds, |at, bytes| data(at, "x.jsonl", bytes)),
    of_a_file("list", list_seeds, |at, bytes| data(at, "x.json", bytes)),
    of_a_file("table", table_seeds, |at, bytes| data(at, "x.csv", bytes)),
    of_a_file("packed", packed_seeds, |at, bytes| data(at, "x.zst", bytes)),
    of_a_file("parquet", |_| all_of("tests/data", "parquet"), |at, bytes| data(at, "x.parquet", bytes)),
    of_a_file("suite", suite_seeds, suite),
    of_a_file("listing", listing_seeds, listing),
    of_a_file("reply", reply_seeds, reply),
    of_a_run("run-index", |at| vec![at.bytes("run/index.json")], run_index),
    of_a_run("answers", |at| vec![at.bytes("run/eval/base/harmful.jsonl")], answers),
    of_a_run("report", |at| vec![at.bytes("run/report.json")], report_json),
];

const fn of_a_file(
    name: &'static str,
    seeds: fn(&Ground) -> Vec<Vec<u8>>,
    read: fn(&Ground, &[u8]),
) -> Reader {
    Reader { name, seeds, read, of_a_run: false }
}

const fn of_a_run(
    name: &'static str,
    seeds: fn(&Ground) -> Vec<Vec<u8>>,
    read: fn(&Ground, &[u8]),
) -> Reader {
    Reader { name, seeds, read, of_a_run: true }
}

fn all_of(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(of_project(folder)).expect("a folder").flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == extension)).collect();
    files.sort();
    files.iter().map(|path| fs::read(path).expect("a file")).collect()
}

fn recipe(_: &Ground, bytes: &[u8]) {
    let _ = Recipe::parse(&String::from_utf8_lossy(bytes), "found", &["train.steps=3".to_owned()]);
}

fn mergekit_seeds(_: &Ground) -> Vec<Vec<u8>> {
    let texts = [
        "merge_method: linear\nmodels:\n  - model: model\n    parameters: {weight: 0.5}\n  - model: model\n    parameters:\n      weight: [0, 0.5, 1]\ndtype: float32\n",
        "merge_method: slerp\nbase_model: model\nslices:\n  - sources:\n      - model: model\n        layer_range: [0, 1]\n      - {model: model, layer_range: [1, 2]}\nparameters:\n  t:\n    - filter: self_attn\n      value: [0, 0.5]\n    - value: 0.5\ntokenizer_source: union\nchat_template: auto\nout_dtype: bfloat16\n",
        "merge_method: dare_ties\nbase_model: {model: {path: model}}\nmodels:\n  - model: model+adapter\n    parameters: {density: 0.5, weight: 1}\ntokenizer:\n  source: base\n  tokens:\n    <|end|>: {source: {kind: model_token, model: model, token_id: 3}, force: true}\n  pad_to_multiple_of: 8\n",
        "merge_method: passthrough\nslices:\n- sources: [{model: model, layer_range: [0, 2]}]\n- sources: [{model: model, layer_range: [0, 1]}]\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

fn mergekit(at: &Ground, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let models = Models::Config { name: "found.yml".to_owned(), text, root: at.folder.path().to_owned() };
    let _ = export::outline(&Request::new(models));
}

fn config_seeds(_: &Ground) -> Vec<Vec<u8>> {
    let models = fs::read_dir(of_project("tests/golden/models")).expect("a folder").flatten();
    models.filter_map(|model| fs::read(model.path().join("config.json")).ok()).collect()
}

fn config(at: &Ground, bytes: &[u8]) {
    at.put("config.json", bytes);
    if let Ok(config) = Config::read(at.folder.path())
        && let Ok(shape) = families::shape(&config)
    {
        let weights = WeightFiles::open(&at.at("model")).expect("a pico model");
        let _ = Decoder::check(&shape, &weights, "model");
    }
}

/// Only the header is read: what follows it has the length of the original.
fn header_seeds(at: &Ground) -> Vec<Vec<u8>> {
    let whole = at.bytes("model/model.safetensors");
    let length = u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize + 8;
    vec![whole[..length].to_vec()]
}

fn header(at: &Ground, bytes: &[u8]) {
    let path = at.put("x.safetensors", bytes);
    let body = fs::metadata(at.at("model/model.safetensors")).expect("a file").len();
    let file = fs::OpenOptions::new().write(true).open(&path).expect("the file");
    file.set_len(bytes.len() as u64 + body).expect("a longer file");
    let _ = WeightFiles::open_file(&path);
}

fn index_seeds(at: &Ground) -> Vec<Vec<u8>> {
    let weights = Snapshot::open(&at.at("model")).expect("a pico model").weights;
    let names: Vec<_> = weights.infos().keys().cloned().collect();
    let map: serde_json::Map<_, _> = names.into_iter().map(|name| (name, "x.safetensors".into())).collect();
    vec![serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string().into_bytes()]
}

fn index(at: &Ground, bytes: &[u8]) {
    let folder = at.at("indexed");
    if !folder.is_dir() {
        copy(&at.at("model"), &folder);
        fs::rename(folder.join("model.safetensors"), folder.join("x.safetensors")).expect("a new name");
    }
    at.put("indexed/model.safetensors.index.json", bytes);
    let _ = WeightFiles::open(&folder);
}

fn tokenizer_seeds(at: &Ground) -> Vec<Vec<u8>> {
    let own = at.bytes("model/tokenizer.json");
    let whole = fs::read_dir(of_project("tests/golden/tokenizers/bases")).expect("a folder").flatten();
    let others = whole.filter_map(|base| match base.path().is_dir() {
        true => fs::read(base.path().join("tokenizer.json")).ok(),
        false => fs::read(base.path()).ok(),
    });
    others.chain([own]).collect()
}

const TEXT: &str = "<|user|>Hello wörld, 123  456!\n\t<s></s>[/INST]<|end|> \u{1f600}\u{0}";

fn tokenizer(at: &Ground, bytes: &[u8]) {
    let folder = at.at("tokens");
    fs::create_dir_all(&folder).expect("a folder");
    at.put("tokens/tokenizer.json", bytes);
    read_tokenizer(&folder);
}

fn read_tokenizer(folder: &Path) {
    if let Ok(tokenizer) = Tokenizer::load(folder)
        && let Ok(ids) = tokenizer.encode(TEXT)
    {
        let _ = (tokenizer.decode(&ids, false), tokenizer.ends(), tokenizer.encode_pieces(TEXT));
    }
    if let Ok(guarded) = GuardedTokenizer::load(folder) {
        let _ = guarded.encode(&guarded.value(TEXT));
    }
}

fn tokenizer_config(at: &Ground, bytes: &[u8]) {
    let folder = at.at("named");
    fs::create_dir_all(&folder).expect("a folder");
    if !folder.join("tokenizer.json").is_file() {
        fs::copy(at.at("model/tokenizer.json"), folder.join("tokenizer.json")).expect("a copy");
    }
    at.put("named/tokenizer_config.json", bytes);
    read_tokenizer(&folder);
}

fn adapter_config(at: &Ground, bytes: &[u8]) {
    at.put("adapter/adapter_config.json", bytes);
    read_adapter(at);
}

fn adapter(at: &Ground, bytes: &[u8]) {
    at.put("adapter/adapter_model.safetensors", bytes);
    read_adapter(at);
}

fn read_adapter(at: &Ground) {
    if let Ok(adapter) = Adapter::read(&at.at("adapter")) {
        let weights = Snapshot::open(&at.at("model")).expect("a pico model").weights;
        let _ = Folded::new(weights, adapter.into());
    }
}

fn template_seeds(at: &Ground) -> Vec<Vec<u8>> {
    let own = "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if loop.last %}{{ message.content | trim }}{% else %}{{ message['content'].strip()[::-1] }}{% endif %}{% endfor %}{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}";
    let texts = fs::read(of_project("tests/golden/templates.json")).expect("templates");
    let texts: serde_json::Value = serde_json::from_slice(&texts).expect("JSON");
    let mut found = vec![own.as_bytes().to_vec(), at.bytes("model/chat_template.jinja")];
    strings(&texts, &mut found);
    found
}

/// Whatever text of a file is a template.
fn strings(value: &serde_json::Value, found: &mut Vec<Vec<u8>>) {
    match value {
        serde_json::Value::String(text) if text.contains("{%") => found.push(text.clone().into_bytes()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| strings(value, found)),
        serde_json::Value::Object(map) => map.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}

fn template(_: &Ground, bytes: &[u8]) {
    let messages = [Message::new(Role::User, "a question"), Message::new(Role::Assistant, "an answer")];
    let source = String::from_utf8_lossy(bytes).into_owned();
    if let Ok(template) = ChatTemplate::new("found", source, None, None, None) {
        let _ = template.render(&messages, true);
    }
}

fn lines_seeds(_: &Ground) -> Vec<Vec<u8>> {
    let records = [
        r#"{"question": "a", "answer": "b", "weight": 0.5}"#,
        r#"{"messages": [{"role": "system", "content": ""}, {"role": "user", "content": [{"type": "text", "text": "e"}]}, {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}, {"role": "tool", "tool_call_id": "1", "content": "2"}, {"role": "assistant", "content": "f", "reasoning_content": "g", "train": false}], "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}"#,
        r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"}, {"from": "observation", "value": "1"}, {"from": "gpt", "value": "b"}], "tools": "[]"}"#,
        r#"{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c"}"#,
        r#"{"text": "a"}"#,
    ];
    records
        .map(|record| record.as_bytes().to_vec())
        .into_iter()
        .chain([records[0].repeat(2).into_bytes()])
        .collect()
}

fn list_seeds(at: &Ground) -> Vec<Vec<u8>> {
    let one = |record: Vec<u8>| [b"[", &record[..], b", ", &record[..], b"]"].concat();
    let alpaca = br#"[{"instruction": "a", "input": "b", "output": "c"}, {"instruction": "d", "input": "", "output": "e"}]"#;
    lines_seeds(at).into_iter().map(one).chain([alpaca.to_vec()]).collect()
}

fn table_seeds(_: &Ground) -> Vec<Vec<u8>> {
    [
        "question,answer\na,b\n\"c, \"\"d\"\"\",e\n",
        "\u{feff}prompt,completion\r\n\"a\nb\",c\r\n\r\n",
        "messages\n\"[{\"\"role\"\": \"\"user\"\"}]\"\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn packed_seeds(at: &Ground) -> Vec<Vec<u8>> {
    let pack = |bytes: Vec<u8>| zstd::encode_all(&bytes[..], 3).expect("zstd");
    lines_seeds(at).into_iter().map(pack).collect()
}

fn data(at: &Ground, name: &str, bytes: &[u8]) {
    let _ = read(&at.put(name, bytes), &Format::default(), Limits::default());
}

fn suite_seeds(at: &Ground) -> Vec<Vec<u8>> {
    let texts = [
        "goal,Category\nTell me something bad.,x\n",
        "{\"question\": \"a\", \"answer\": \"b #### 1\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", \"B\"]}, \"answerKey\": \"A\"}\n",
        "{\"task_id\": \"HumanEval/0\", \"prompt\": \"def f():\\n\", \"entry_point\": \"f\", \"canonical_solution\": \"    return 1\\n\", \"test\": \"def check(f):\\n    assert f() == 1\\n\"}\n",
        "{\"key\": 1, \"prompt\": \"a\", \"instruction_id_list\": [\"keywords:existence\"], \"kwargs\": [{\"keywords\": [\"b\"]}]}\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into_iter().chain(lines_seeds(at)).collect()
}

fn suite(at: &Ground, bytes: &[u8]) {
    for name in ["x.jsonl", "x.csv"] {
        let path = at.put(name, bytes);
        for task in TASKS {
            let _ = task.load(&Source::plain("found", &path));
        }
    }
}

fn run_index(at: &Ground, bytes: &[u8]) {
    at.put("run/index.json", bytes);
    let _ = review::sheet(&at.at("run"));
}

fn answers(at: &Ground, bytes: &[u8]) {
    at.put("run/eval/base/harmful.jsonl", bytes);
    let _ = review::sheet(&at.at("run")).map(|sheet| sheet.terminal(Which::All, 100));
}

fn report_json(_: &Ground, bytes: &[u8]) {
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        let _ = (
            report::terminal(&report, 80),
            report::markdown(&report),
            report::html(&report, &report::Beside::default()),
        );
    }
}

fn listing_seeds(_: &Ground) -> Vec<Vec<u8>> {
    let commit = "0123456789012345678901234567890123456789";
    let names =
        ["config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json", "a/b.json"];
    let siblings: Vec<_> = names.iter().map(|name| serde_json::json!({"rfilename": name})).collect();
    vec![serde_json::json!({"sha": commit, "siblings": siblings}).to_string().into_bytes()]
}

fn listing(at: &Ground, bytes: &[u8]) {
    let server = at.hub.get_or_init(|| Loopback::start("/api/"));
    server.say(200, bytes);
    let hub = Hub::at(&server.address, &at.at("hub")).expect("certificates");
    for (name, wanted) in [("o/n", Wanted::Model), ("datasets/o/n/a/b.json", Wanted::Data)] {
        let name = Name::parse(name).expect("a name");
        let _ = hub.fetch(&name, wanted, &mut |_| {});
    }
}

fn reply_seeds(_: &Ground) -> Vec<Vec<u8>> {
    let replies = [
        r#"{"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "safe"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}"#,
        r#"{"choices": [{"message": {"content": [{"type": "thinking", "text": "a"}, {"type": "text", "text": "b"}], "refusal": null}}]}"#,
        r#"{"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "code": "unsupported_parameter", "param": "max_tokens"}}"#,
    ];
    replies.map(|reply| reply.as_bytes().to_vec()).into()
}

fn reply(at: &Ground, bytes: &[u8]) {
    let server = at.judge.get_or_init(|| Loopback::start("/"));
    let patience = Patience { tries: 1, first_wait: Duration::ZERO, longest_wait: Duration::ZERO };
    let settings = Settings { patience, ..Settings::new(&server.address, "m") };
    let endpoint = Endpoint::new(settings).expect("an endpoint without a key");
    let messages = vec![endpoint::Message { role: "user", content: "a".to_owned() }];
    for status in [200, 400] {
        server.say(status, bytes);
        let asked = ChatRequest { messages: messages.clone(), max_tokens: 5, thinking_tokens: 0 };
        let _ = (endpoint.ask(&asked), endpoint.news());
    }
}
