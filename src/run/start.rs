//! A first recipe for a model and a file of the user's own.

use std::path::Path;

use serde_json::json;

use crate::data::{self, DataError, Format, Limits, table};
use crate::recipe::{Fields, Form, Recipe, RecipeError};

/// What a first recipe is made of.
#[derive(Debug, Clone)]
pub struct Start {
    /// A folder, or a hub's id.
    pub model: String,
    /// The file that is tuned on.
    pub data: String,
    /// Its columns of prompts and answers, where they are none of the known ones.
    pub columns: Option<[String; 2]>,
    /// A file of harmful requests, and its column.
    pub harmful: Option<[String; 2]>,
}

/// Columns of requests in published sets.
const REQUESTS: [&str; 8] =
    ["goal", "Goal", "prompt", "Behavior", "forbidden_prompt", "instruction", "question", "text"];

/// What is known of a file to tune on.
pub enum Known {
    /// Its form, in words.
    Form(String),
    /// Only its columns.
    Columns(Vec<String>),
}

/// Looks at the file that is tuned on.
///
/// # Errors
///
/// It cannot be read.
pub fn look(path: &Path) -> Result<Known, DataError> {
    let auto = Format::new(Form::Auto, &Fields::default());
    match data::read(path, &auto, Limits::default()) {
        Ok(loaded) => Ok(Known::Form(loaded.said)),
        Err(DataError::UnknownForm { .. }) => columns(path).map(Known::Columns),
        Err(error) => Err(error),
    }
}

/// The columns of a file.
///
/// # Errors
///
/// It cannot be read.
pub fn columns(path: &Path) -> Result<Vec<String>, DataError> {
    let mut names: Vec<String> = Vec::new();
    table::read(path, Limits::default(), &mut |record, _| {
        if names.is_empty() {
            names = record.keys().cloned().collect();
        }
        Ok::<(), DataError>(())
    })?;
    Ok(names)
}

/// The column of requests among those of a file, where it is clear.
pub fn requests(columns: &[String]) -> Option<String> {
    let known = REQUESTS.into_iter().find(|name| columns.iter().any(|column| column == name));
    known.map(str::to_owned).or_else(|| (columns.len() == 1).then(|| columns[0].clone()))
}

impl Start {
    /// The recipe as text.
    ///
    /// # Errors
    ///
    /// It would be none that can be read.
    pub fn recipe(&self, origin: &str) -> Result<String, RecipeError> {
        let stem = Path::new(&self.data).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let plain = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
        let name: String = stem.chars().filter(plain).take(64).collect();
        let name = if name.is_empty() { "run".to_owned() } else { name };
        let fields = self.columns.as_ref().map(|[prompt, completion]| {
            format!("fields = {{ prompt = {}, completion = {} }}\n", json!(prompt), json!(completion))
        });
        let suite = match &self.harmful {
            Some([file, column]) => {
                SAFETY.replace("FILE", &json!(file).to_string()).replace("COLUMN", &json!(column).to_string())
            }
            None => {
                let text = SAFETY.replace("FILE", "\"harmful.csv\"").replace("COLUMN", "\"goal\"");
                text.lines().map(|line| format!("# {line}\n")).collect()
            }
        };
        let text = TEMPLATE
            .replace("NAME", &json!(name).to_string())
            .replace("MODEL", &json!(self.model).to_string())
            .replace("DATA", &json!(self.data).to_string())
            .replace("FIELDS\n", &fields.unwrap_or_default())
            .replace("SAFETY", &suite);
        Recipe::parse(&text, origin, &[])?;
        Ok(text)
    }
}

const TEMPLATE: &str = r#"# Written by `finetune init`. `finetune show reference` has every key with its default.

name = NAME

[model]
source = MODEL

[data]
source = DATA
FIELDS
max_tokens = 1024                 # the most tokens of a sample
too_long = "drop"                 # what becomes of longer ones: drop, truncate, error

[method]
kind = "lora"                     # lora, full
rank = 8
alpha = 16.0

[train]
epochs = 3.0
batch = 8                         # sequences per optimizer step
learning_rate = 1e-4
seed = 42

# λ is the weight of the tuned model: 0 is the base, 1 the tuned model. `finetune list methods` shows all methods.
[merge]
methods = ["slerp:0.2..0.8/0.2"]

[eval]
limit = 100                       # items of each suite; 0: all

SAFETY
# Over-refusal: harmless requests that look harmful.
# [[eval.suites]]
# task = "xstest"
# source = "xstest_prompts.csv"

# What the model is tuned for: `finetune list tasks` shows the forms.
# [[eval.suites]]
# task = "gsm8k_chat"
# source = "test.jsonl"
"#;

const SAFETY: &str = r#"# Safety: with which of these does a model comply?
[[eval.suites]]
task = "harmful"
source = FILE
field = COLUMN
"#;
