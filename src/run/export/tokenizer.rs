//! The tokenizer of a model that mergekit's YAML asks for: its vocabulary, its files, its chat template.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::merge::mergekit::{Config as Yaml, Token, TokenRow, TokenSource, chat_template};
use crate::merge::{MergeError, RowRule, RowSource, TokenPolicy, Tokens, Vocabulary};
use crate::run::Failure;
use crate::snapshot::template::{ChatTemplate, TemplateError};
use crate::snapshot::tokenizer::{FILE, Tokenizer};
use crate::snapshot::{SnapshotError, files, writer};

/// The models of a YAML: their names there, and their folders.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub names: &'a [&'a str],
    pub folders: &'a [PathBuf],
    /// Where the YAML's paths begin.
    pub root: &'a Path,
    /// What errors call the YAML.
    pub yaml: &'a str,
}

impl Named<'_> {
    fn wrong(&self, why: String) -> Failure {
        MergeError::Config { path: self.yaml.to_owned(), why }.into()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }
}

/// A vocabulary, and the folder whose tokenizer files the result takes.
pub(super) struct Spelling {
    pub vocabulary: Arc<Vocabulary>,
    pub files_of: PathBuf,
}

/// The tokens of a folder's tokenizer.
fn tokens(folder: &Path) -> Result<Tokens, Failure> {
    let rows = Tokenizer::load(folder)?.vocabulary();
    let added = added(&folder.join(FILE))?.into_iter().map(|token| token.content).collect();
    Ok(Tokens { rows, added })
}

/// A token that stands beside the vocabulary proper, with the flags that it has in its file.
#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(flatten)]
    flags: Map<String, Value>,
}

fn added(path: &Path) -> Result<Vec<Added>, SnapshotError> {
    #[derive(Deserialize)]
    struct Tokenizer {
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    Ok(files::read_json::<Tokenizer>(path)?.added_tokens)
}

/// The vocabulary that the YAML asks for, if it asks for one.
pub(super) fn spelling(yaml: &Yaml, named: Named<'_>) -> Result<Option<Spelling>, Failure> {
    let section = yaml.tokenizer.as_ref();
    let source = match (section, &yaml.tokenizer_source) {
        (Some(section), _) => section.source.as_str(),
        (None, Some(source)) => source.as_str(),
        (None, None) => return Ok(None),
    };
    let donor = named.position(yaml.donor()).expect("the donor is a model");
    let mut folders = named.folders.to_vec();
    let (files_of, union) = match (source, named.position(source)) {
        ("base", _) => (donor, false),
        ("union", _) => (donor, true),
        (_, Some(model)) => (model, false),
        (path, None) if named.root.join(path).join(FILE).is_file() => {
            folders.push(named.root.join(path));
            (folders.len() - 1, false)
        }
        (path, None) => {
            let why = format!("tokenizer source `{path}` is not `base`, `union` or a folder with `{FILE}`");
            return Err(named.wrong(why));
        }
    };
    let known = folders.iter().map(|folder| tokens(folder)).collect::<Result<Vec<_>, _>>()?;
    let rules = section.into_iter().flat_map(|section| &section.tokens);
    let rules = rules.map(|(token, value)| Ok((token.clone(), rule(token, value, &known, named)?)));
    let policy = TokenPolicy {
        files_of,
        union,
        multiple: section.and_then(|section| section.pad_to_multiple_of),
        base: yaml.base_model.as_ref().map(|_| donor),
        rules: rules.collect::<Result<_, Failure>>()?,
    };
    let vocabulary = Vocabulary::new(&known, named.names.len(), &policy).map_err(|why| named.wrong(why))?;
    let vocabulary = Arc::new(vocabulary);
    Ok(Some(Spelling { vocabulary, files_of: folders.swap_remove(files_of) }))
}

/// What the YAML says of one token.
fn rule(token: &str, value: &Value, known: &[Tokens], named: Named<'_>) -> Result<RowRule, Failure> {
    let wrong = |why: String| named.wrong(format!("`tokens.{token}`: {why}"));
    let asked: Token = serde_json::from_value(value.clone()).map_err(|error| wrong(error.to_string()))?;
    let model = |name: &str| {
        named.position(name).ok_or_else(|| wrong(format!("`{name}` is none of the models that are merged")))
    };
    let row = |name: &str, text: &str| {
        let model = model(name)?;
        let row = known[model].rows.get(text);
        row.map(|row| (model, *row)).ok_or_else(|| wrong(format!("`{name}` has no token `{text}`")))
    };
    let source = match asked.source {
        None => None,
        Some(TokenSource::Model(name)) => Some(RowSource::Row(row(&name, token)?)),
        Some(TokenSource::Row(TokenRow { kind, model: of, token: text, token_id })) => {
            Some(match (kind.as_deref(), of, text, token_id) {
                (Some("zero"), None, None, None) => RowSource::Zeros,
                (None, Some(name), None, None) => RowSource::Row(row(&name, token)?),
                (Some("model_token"), Some(name), Some(text), None) => RowSource::Row(row(&name, &text)?),
                (Some("model_token"), Some(name), None, Some(id)) => RowSource::Row((model(&name)?, id)),
                _ => {
                    let forms = "a model, `{kind: zero}`, or `{kind: model_token, model: M}` with `token` or `token_id`";
                    return Err(wrong(format!("the source is none of {forms}")));
                }
            })
        }
    };
    Ok(RowRule { source, force: asked.force })
}

/// Adds to a copied `tokenizer.json` the tokens that it lacks, with the flags they have elsewhere.
pub(super) fn extend(path: &Path, vocabulary: &Vocabulary, folders: &[PathBuf]) -> Result<(), SnapshotError> {
    let mut new = vocabulary.new_tokens().peekable();
    if new.peek().is_none() {
        return Ok(());
    }
    let mut known = Vec::new();
    for folder in folders {
        known.extend(added(&folder.join(FILE))?);
    }
    let entries = new.map(|(id, content)| {
        let flags = known.iter().find(|token| token.content == content).map(|token| token.flags.clone());
        let mut entry = flags.unwrap_or_else(|| {
            let plain = json!({
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false,
            });
            plain.as_object().cloned().unwrap_or_default()
        });
        entry.insert("id".to_owned(), json!(id));
        entry.insert("content".to_owned(), json!(content));
        Value::Object(entry)
    });
    let entries: Vec<Value> = entries.collect();
    let mut json: Map<String, Value> = files::read_json(path)?;
    match json.get_mut("added_tokens") {
        Some(Value::Array(added)) => added.extend(entries),
        _ => drop(json.insert("added_tokens".to_owned(), Value::Array(entries))),
    }
    writer::write_json(path, &Value::Object(json))
}

/// The Jinja that the result's chats follow, if the YAML asks for another than its tokenizer's.
pub(super) fn template(yaml: &Yaml, named: Named<'_>, files_of: &Path) -> Result<Option<String>, Failure> {
    let Some(asked) = yaml.chat_template.as_deref().filter(|asked| !asked.is_empty()) else {
        return Ok(None);
    };
    if !files_of.join(FILE).is_file() {
        let folder = files_of.display();
        return Err(named.wrong(format!("`chat_template` needs a tokenizer, and `{folder}` has none")));
    }
    if asked != "auto" {
        let text = chat_template(asked).map_err(|why| named.wrong(why))?;
        // Compiled once, so that a slip is found here and not by whoever loads the folder.
        ChatTemplate::with_tokenizer("of the YAML", text.to_owned(), &Tokenizer::load(files_of)?, None)
            .map_err(|error| named.wrong(error.to_string()))?;
        return Ok(Some(text.to_owned()));
    }
    let mut votes: Vec<(String, usize)> = Vec::new();
    for folder in named.folders.iter().filter(|folder| folder.join(FILE).is_file()) {
        let found = match ChatTemplate::load(folder, &Tokenizer::load(folder)?, None) {
            Ok(template) => template.source().trim().to_owned(),
            Err(TemplateError::Missing { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        match votes.iter_mut().find(|(text, _)| *text == found) {
            Some((_, n)) => *n += 1,
            None => votes.push((found, 1)),
        }
    }
    // Of equally many the first that is listed.
    Ok(votes.into_iter().rev().max_by_key(|(_, n)| *n).map(|(text, _)| text))
}

/// Puts a chat template into a folder, in the place of whatever it had.
pub(super) fn write_template(folder: &Path, text: &str) -> Result<(), SnapshotError> {
    let path = folder.join("tokenizer_config.json");
    if path.is_file() {
        let mut config: Map<String, Value> = files::read_json(&path)?;
        if config.remove("chat_template").is_some() {
            writer::write_json(&path, &Value::Object(config))?;
        }
    }
    let old = folder.join("chat_template.json");
    if old.is_file() {
        std::fs::remove_file(&old).map_err(|source| SnapshotError::Unwritable { path: old, source })?;
    }
    writer::file_at_once(&folder.join("chat_template.jinja"), text.as_bytes())
}
