//! The tokenizer of a model that mergekit's YAML asks for: its vocabulary, its files, its chat template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokenizers::AddedToken;

use crate::folders::expanded;
use crate::merge::mergekit::{Config as Yaml, Token, TokenRow, TokenSource, chat_template};
use crate::merge::{EMBEDDING, MergeError, RowRule, RowSource, TokenPolicy, Tokens, Vocabulary};
use crate::run::Failure;
use crate::snapshot::template::{ChatTemplate, TemplateError};
use crate::snapshot::tokenizer::{FILE, FILES, Tokenizer, added_entry};
use crate::snapshot::{SharedWeights, SnapshotError, Weights, writer};

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

/// The tokens of a folder's tokenizer that a model of `n_rows` rows has: those past them count as absent, as in mergekit.
pub(super) fn tokens(folder: &Path, n_rows: usize) -> Result<Tokens, Failure> {
    let tokenizer = Tokenizer::load(folder)?;
    let mut rows = tokenizer.vocabulary();
    rows.retain(|_, row| *row < n_rows);
    let added = tokenizer.added().into_values().map(|token| token.content);
    Ok(Tokens { added: added.filter(|text| rows.contains_key(text)).collect(), rows })
}

/// The vocabulary that the YAML asks for, if it asks for one.
pub(super) fn spelling(
    yaml: &Yaml,
    named: Named<'_>,
    models: &[SharedWeights],
) -> Result<Option<Spelling>, Failure> {
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
        (path, None) if named.root.join(expanded(path)).join(FILE).is_file() => {
            folders.push(named.root.join(expanded(path)));
            (folders.len() - 1, false)
        }
        (path, None) => {
            let why = format!("tokenizer source `{path}` is not `base`, `union` or a folder with `{FILE}`");
            return Err(named.wrong(why));
        }
    };
    // A tokenizer beside the models has no rows that could be too few.
    let n_rows = models.iter().map(|model| n_rows(model.as_ref())).chain(std::iter::repeat(usize::MAX));
    let known = folders.iter().zip(n_rows).map(|(folder, n_rows)| tokens(folder, n_rows));
    let known = known.collect::<Result<Vec<_>, _>>()?;
    let rules = section.into_iter().flat_map(|section| &section.tokens);
    let rules = rules.map(|(token, value)| Ok((token.clone(), rule(token, value, &known, named)?)));
    let multiple = section.and_then(|section| section.pad_to_multiple_of);
    if let Some(multiple) = multiple.filter(|multiple| *multiple > MOST_MULTIPLE) {
        let why = format!("`pad_to_multiple_of` is {multiple}, expected at most {MOST_MULTIPLE}");
        return Err(named.wrong(why));
    }
    let policy = TokenPolicy {
        files_of,
        union,
        multiple,
        base: yaml.base_model.as_ref().map(|_| donor),
        rules: rules.collect::<Result<_, Failure>>()?,
    };
    let vocabulary = Vocabulary::new(&known, named.names.len(), &policy).map_err(|why| named.wrong(why))?;
    let vocabulary = Arc::new(vocabulary);
    Ok(Some(Spelling { vocabulary, files_of: folders.swap_remove(files_of) }))
}

/// Processors want rows in hundreds; more than this would be a slip.
const MOST_MULTIPLE: usize = 1 << 16;

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

/// That a result with `n_rows` rows has one for every token of the tokenizer in `folder`; but for those that the
/// tokenizer in `base`, a model of `base_rows`, has without a row there too.
pub(super) fn check_rows(folder: &Path, n_rows: usize, base: &Path, base_rows: usize) -> Result<(), Failure> {
    let has = |folder: &Path| folder.join(FILE).is_file();
    let same = |name: &&str| std::fs::read(folder.join(name)).ok() == std::fs::read(base.join(name)).ok();
    if !has(folder) || (n_rows >= base_rows && FILES.iter().all(same)) {
        return Ok(());
    }
    let own = Tokenizer::load(folder)?.vocabulary();
    let past: Vec<(String, usize)> = own.into_iter().filter(|(_, id)| *id >= n_rows).collect();
    if past.is_empty() {
        return Ok(());
    }
    let known = if has(base) { Tokenizer::load(base)?.vocabulary() } else { BTreeMap::new() };
    let is_base = |text: &String, id: usize| id >= base_rows && known.get(text) == Some(&id);
    let new = past.into_iter().filter(|(text, id)| !is_base(text, *id));
    match new.min_by_key(|(_, id)| *id) {
        None => Ok(()),
        Some((text, token)) => {
            let folder = folder.to_owned();
            Err(SnapshotError::TokenPastTheRows { folder, token, text, n_rows }.into())
        }
    }
}

/// Rows of the embedding of some weights; 0 where it goes by another name.
pub(super) fn n_rows(weights: &dyn Weights) -> usize {
    weights.infos().get(EMBEDDING).map_or(0, |info| info.shape[0])
}

/// Adds to the `tokenizer.json` of a folder, where the donor's files were copied, the tokens that it lacks, with the
/// flags they have elsewhere.
pub(super) fn extend(folder: &Path, vocabulary: &Vocabulary, folders: &[PathBuf]) -> Result<(), Failure> {
    let mut new = vocabulary.new_tokens().peekable();
    if new.peek().is_none() {
        return Ok(());
    }
    let mut known: Vec<AddedToken> = Vec::new();
    for folder in folders {
        known.extend(Tokenizer::load(folder)?.added().into_values());
    }
    let entries = new.map(|(id, content)| {
        let token = known.iter().find(|token| token.content == content).cloned();
        added_entry(id, &token.unwrap_or_else(|| AddedToken::from(content, false)))
    });
    // Those that its other files add stand before the new ones, or a reader would give them the ids behind.
    let (path, mut json) = Tokenizer::load(folder)?.file(folder)?;
    match &mut json["added_tokens"] {
        Value::Array(added) => added.extend(entries),
        other => *other = entries.collect(),
    }
    Ok(writer::write_json(&path, &json)?)
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
