//! What a YAML file of mergekit's asks for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Asked, HEAD};
use crate::merge::mergekit::{Config as Yaml, Model, Respelt, Untied, Vocabulary};
use crate::merge::{MergeError, Merged};
use crate::run::Failure;
use crate::snapshot::adapter::{Adapter, Folded};
use crate::snapshot::tokenizer::Tokenizer;
use crate::snapshot::{
    Config, Dtype, Snapshot, SnapshotError, Weight, WeightFiles, WeightInfo, Weights, files, writer,
};

/// A model that was opened: its folder, and its weights with an adapter folded in.
struct Opened {
    folder: PathBuf,
    adapter: Option<PathBuf>,
    config: Config,
    weights: Box<dyn Weights>,
}

/// Sets up the merge of a YAML file with this `text`, called `name`; its paths are seen from `root`.
pub(super) fn with_config<T>(
    text: &str,
    name: &str,
    root: &Path,
    seed: u64,
    use_it: impl FnOnce(Asked<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let yaml = Yaml::parse(text, name)?;
    let wrong = |why: String| Failure::Merge(MergeError::Config { path: name.to_owned(), why });
    let dtype = match yaml.out_dtype.as_ref().or(yaml.dtype.as_ref()) {
        Some(dtype) => {
            Some(Dtype::from_name(dtype).ok_or_else(|| wrong(format!("`{dtype}` is no format we write")))?)
        }
        None => None,
    };
    let names = yaml.models();
    let opened: Vec<Opened> = names.iter().map(|name| open(root, name)).collect::<Result<_, _>>()?;
    let untied = opened.iter().any(|model| model.weights.infos().contains_key(HEAD));
    let headed: Vec<Box<dyn Weights + '_>> = opened
        .iter()
        .map(|model| -> Box<dyn Weights + '_> {
            if untied && !model.weights.infos().contains_key(HEAD) {
                return Box::new(Untied::new(model.weights.as_ref()));
            }
            Box::new(model.weights.as_ref())
        })
        .collect();
    let headed: Vec<&dyn Weights> = headed.iter().map(AsRef::as_ref).collect();
    let vocabulary = vocabulary(&yaml, &names, &opened, name)?;
    let spelt: Vec<Box<dyn Weights + '_>> = match &vocabulary {
        None => headed.iter().map(|model| -> Box<dyn Weights + '_> { Box::new(*model) }).collect(),
        Some(v) => (0..headed.len())
            .map(|own| -> Box<dyn Weights + '_> { Box::new(Respelt::new(headed.clone(), own, v)) })
            .collect(),
    };
    let models: Vec<Model<'_>> = names
        .iter()
        .zip(&opened)
        .zip(&spelt)
        .map(|((name, opened), weights)| {
            Ok(Model { name, weights: weights.as_ref(), n_layers: opened.config.count("num_hidden_layers")? })
        })
        .collect::<Result<_, Failure>>()?;
    let planned = yaml.plan(&models, name, seed)?;
    let weights =
        spelt.iter().zip(&names).map(|(weights, name)| (weights.as_ref(), format!("`{name}`"))).collect();
    let title = format!("{} by {name}", yaml.merge_method);
    let merged = Merged::of_parts(title.clone(), weights, planned.parts, dtype)?;
    let donor = names.iter().position(|name| *name == yaml.donor()).expect("the donor is a model");
    let spelling = vocabulary.as_ref().map_or(donor, |vocabulary| vocabulary.files_of);
    let mut dtypes = merged.infos().values().map(|info| info.dtype);
    let first = dtypes.next();
    let shared = first.filter(|first| dtypes.all(|dtype| dtype == *first));
    let edit = |config: &mut Map<String, Value>| {
        writer::set_dtype(config, shared);
        config.insert("num_hidden_layers".to_owned(), json!(planned.n_layers));
        config.insert("tie_word_embeddings".to_owned(), json!(!untied));
        if let Some(vocabulary) = &vocabulary {
            config.insert("vocab_size".to_owned(), json!(vocabulary.n_rows));
        }
    };
    let finish = |folder: &Path| {
        writer::copy_side_files(&opened[spelling].folder, folder)?;
        if let Some(vocabulary) = &vocabulary {
            extend_tokenizer(&folder.join("tokenizer.json"), vocabulary)?;
        }
        writer::file_at_once(&folder.join("mergekit_config.yml"), text.as_bytes())
    };
    let folders = opened.iter().flat_map(|model| [Some(model.folder.clone()), model.adapter.clone()]);
    use_it(Asked {
        merged,
        title,
        base: yaml.base_model.as_ref().map(|_| opened[donor].folder.clone()),
        folders: folders.flatten().collect(),
        donor: opened[donor].folder.clone(),
        edit: &edit,
        finish: &finish,
    })
}

/// Opens `folder` or `folder+adapter`.
fn open(root: &Path, name: &str) -> Result<Opened, Failure> {
    let (folder, adapter) = match name.split_once('+') {
        Some((folder, adapter)) if !root.join(name).exists() => (folder, Some(adapter)),
        _ => (name, None),
    };
    let Snapshot { folder, config, weights } = Snapshot::open(&root.join(folder))?;
    let weights: Box<dyn Weights> = match adapter {
        None => Box::new(weights),
        Some(adapter) => Box::new(Tuned::new(weights, Adapter::read(&root.join(adapter))?)?),
    };
    Ok(Opened { folder, adapter: adapter.map(|adapter| root.join(adapter)), config, weights })
}

/// A folder's weights with an adapter, both its own.
struct Tuned {
    base: WeightFiles,
    adapter: Adapter,
    infos: BTreeMap<String, WeightInfo>,
}

impl Tuned {
    fn new(base: WeightFiles, adapter: Adapter) -> Result<Self, Failure> {
        let infos = Folded::new(&base, Cow::Borrowed(&adapter))?.infos().clone();
        Ok(Self { base, adapter, infos })
    }
}

impl Weights for Tuned {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }
    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let folded = Folded::new(&self.base, Cow::Borrowed(&self.adapter))?;
        let weight = folded.weight(name)?;
        Ok(Weight { info: weight.info, bytes: Cow::Owned(weight.bytes.into_owned()) })
    }
}

fn vocabulary(
    yaml: &Yaml,
    names: &[&str],
    opened: &[Opened],
    path: &str,
) -> Result<Option<Vocabulary>, Failure> {
    let (source, multiple) = match (&yaml.tokenizer, &yaml.tokenizer_source) {
        (Some(section), _) => (section.source.as_str(), section.pad_to_multiple_of),
        (None, Some(source)) => (source.as_str(), None),
        (None, None) => return Ok(None),
    };
    let donor = names.iter().position(|name| *name == yaml.donor()).expect("the donor is a model");
    let (files_of, union) = match source {
        "base" => (donor, false),
        "union" => (donor, true),
        model => match names.iter().position(|name| *name == model) {
            Some(model) => (model, false),
            None => {
                let why = format!("tokenizer source `{model}` is not `base`, `union` or one of the models");
                return Err(MergeError::Config { path: path.to_owned(), why }.into());
            }
        },
    };
    let tokenizers = opened.iter().map(|model| Tokenizer::load(&model.folder));
    let rows = tokenizers.map(|tokenizer| Ok(tokenizer?.vocabulary())).collect::<Result<_, Failure>>()?;
    Ok(Some(Vocabulary::new(rows, files_of, union, multiple)))
}

/// Adds to a copied `tokenizer.json` the tokens that only other models have.
fn extend_tokenizer(path: &Path, vocabulary: &Vocabulary) -> Result<(), SnapshotError> {
    let new = vocabulary.new_tokens().map(|(id, content)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let new: Vec<Value> = new.collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut json: Map<String, Value> = files::read_json(path)?;
    if let Some(Value::Array(added)) = json.get_mut("added_tokens") {
        added.extend(new);
    } else {
        json.insert("added_tokens".to_owned(), Value::Array(new));
    }
    writer::write_json(path, &Value::Object(json))
}
