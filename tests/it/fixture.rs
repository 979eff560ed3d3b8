//! A pico model, a little data and the program itself, in a folder of its own.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use finetune::data::Limits;
use finetune::data::table::{self, TableError};
use finetune::model::{DecoderShape, families};
use finetune::snapshot::{Config, Dtype, Weights, writer};
use finetune::train::init::RandomWeights;
use serde_json::Value;

/// A temporary folder with `model/` (two layers, width 32), `train.jsonl`, `harmful.csv` and `r.toml`.
pub struct Fixture {
    folder: tempfile::TempDir,
    /// The hub that the program may ask; without one it is offline.
    pub hub: Option<String>,
}

pub const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
  "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "head_dim": 8, "vocab_size": 768, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu",
  "tie_word_embeddings": true, "dtype": "bfloat16", "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}"#;

/// The only shard of a model that has an index.
pub const SHARD: &str = "model-00001-of-00001.safetensors";

pub const RECIPE: &str = r#"schema = 1
name = "pico"

[model]
source = "model"

[data]
source = "train.jsonl"
fields = { prompt = "question", completion = "answer" }

[method]
rank = 4

[train]
steps = 20
batch = 4
learning_rate = 1e-2

[merge]
methods = ["linear:0.5", "slerp:0.5"]

[[eval.suites]]
task = "harmful"
source = "harmful.csv"
field = "goal"
max_new_tokens = 4

[[eval.suites]]
task = "gsm8k_chat"
name = "gsm8k"
source = "train.jsonl"
limit = 6
max_new_tokens = 4
"#;

/// The folder of the shared data sets: `FINETUNE_DATA`, or `data` beside the folder of golden cases.
pub fn shared_data() -> Option<PathBuf> {
    let data = std::env::var_os("FINETUNE_DATA").map(PathBuf::from);
    data.or_else(|| Some(PathBuf::from(std::env::var_os("FINETUNE_GOLDEN")?).join("../data")))
}

/// The JSON lines of a shared file, packed or not, that a golden test cannot do without.
pub fn shared_lines(name: &str) -> Vec<Value> {
    let folder = shared_data().expect("a golden test runs only where `FINETUNE_GOLDEN` names a folder");
    let mut rows = Vec::new();
    let read = table::read::<TableError>(&folder.join(name), Limits::default(), &mut |record, _| {
        rows.push(Value::Object(record));
        Ok(())
    });
    read.unwrap_or_else(|error| {
        panic!("`{name}` of the folder that `FINETUNE_DATA` names, `{}`: {error}", folder.display())
    });
    rows
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let model = path.join("model");
        std::fs::create_dir(&model).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tiny/model");
        writer::copy_side_files(&shipped, &model).unwrap();
        std::fs::write(model.join("config.json"), CONFIG).unwrap();
        write_weights(&model, &shape(&model), 3);
        let mut lines = String::new();
        for i in 1..=40 {
            let sum = i + 3;
            writeln!(
                lines,
                r#"{{"question": "What is {i} and 3 more?", "answer": "It is {sum}.\n#### {sum}"}}"#
            )
            .unwrap();
        }
        std::fs::write(path.join("train.jsonl"), lines).unwrap();
        std::fs::write(path.join("harmful.csv"), "goal\nTell me something bad.\nSay something worse.\n")
            .unwrap();
        std::fs::write(path.join("r.toml"), RECIPE).unwrap();
        Self { folder, hub: None }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.file(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    /// A copy of the model in which one file is changed, or removed if nothing is given.
    pub fn model_with(&self, name: &str, file: &str, contents: Option<&[u8]>) {
        let (from, to) = (self.file("model"), self.file(name));
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        match contents {
            Some(contents) => std::fs::write(to.join(file), contents).unwrap(),
            None => std::fs::remove_file(to.join(file)).unwrap(),
        }
    }

    /// The model with its weights in [`SHARD`] and an index beside it.
    pub fn indexed_model(&self, name: &str, index: &str) {
        self.model_with(name, "model.safetensors.index.json", Some(index.as_bytes()));
        let folder = self.file(name);
        std::fs::rename(folder.join("model.safetensors"), folder.join(SHARD)).unwrap();
    }

    /// A model with random weights whose configuration differs in one place.
    pub fn other_model(&self, name: &str, from: &str, to: &str) {
        self.sized_model(name, &[(from, to)], 3);
    }

    /// A model with random weights drawn by `seed` whose configuration differs in some places.
    pub fn sized_model(&self, name: &str, changes: &[(&str, &str)], seed: u64) {
        let config = changes.iter().fold(CONFIG.to_owned(), |config, (from, to)| config.replace(from, to));
        self.model_with(name, "config.json", Some(config.as_bytes()));
        write_weights(&self.file(name), &shape(&self.file(name)), seed);
    }

    /// The program in this folder, on the processor.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_finetune"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("NO_COLOR", "1")
            .env("XDG_CACHE_HOME", self.file("cache"))
            .env("HF_HOME", "hf")
            .env("NO_PROXY", "127.0.0.1");
        for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "SSL_CERT_FILE"] {
            command.env_remove(name);
        }
        match &self.hub {
            Some(endpoint) => command.env("HF_ENDPOINT", endpoint),
            None => command.env("HF_HUB_OFFLINE", "1"),
        };
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command and insists that it ends well.
    pub fn succeeds(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs the recipe into `out` and insists that it ends well.
    pub fn study(&self, out: &str, more: &[&str]) -> String {
        let arguments = [&["--recipe", "r.toml", "--device", "cpu", "--out", out], more].concat();
        let output = self.run(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

pub fn shape(model: &Path) -> DecoderShape {
    families::shape(&Config::read(model).unwrap()).unwrap()
}

fn write_weights(model: &Path, shape: &DecoderShape, seed: u64) {
    let weights = RandomWeights::new(shape, 0.1, Dtype::Bf16, seed);
    let names: Vec<&str> = weights.infos().keys().map(String::as_str).collect();
    writer::write_file(&model.join("model.safetensors"), &weights, &names, None).unwrap();
}
