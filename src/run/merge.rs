//! Merging model folders into a model folder, without training: from mergekit's YAML, or from a base
//! and one tuned model.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use super::Failure;
use crate::merge::mergekit::{Config as Yaml, Model, Respelt, Untied, Vocabulary};
use crate::merge::{MergeError, MergeReport, Merged, resolve};
use crate::recipe::Spec;
use crate::snapshot::adapter::{Adapter, Folded};
use crate::snapshot::tokenizer::Tokenizer;
use crate::snapshot::{
    Config, Dtype, Snapshot, SnapshotError, Weight, WeightFiles, WeightInfo, Weights, files, writer,
};

const HEAD: &str = "lm_head.weight";

/// A model that was opened: its folder, and its weights with an adapter folded in.
struct Opened {
    folder: PathBuf,
    config: Config,
    weights: Box<dyn Weights>,
}

/// Is told how many of how many weights are written.
pub type Listener<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// What a merge left behind.
#[derive(Debug)]
pub struct Written {
    pub report: MergeReport,
    pub n_weights: usize,
}

/// Merges a base and one tuned model, or an adapter on the base, into `out`.
///
/// `dtype` is the format of the result; the base's own if absent.
///
/// # Errors
///
/// A folder cannot be read, the two do not belong together, or `out` cannot be written.
pub fn merge_pair(
    pre: &Path,
    post: &Path,
    spec: &Spec,
    out: &Path,
    dtype: Option<Dtype>,
    tell: Listener<'_>,
) -> Result<Written, Failure> {
    let method = resolve(spec)?;
    let base = Snapshot::open(pre)?;
    let dtype = dtype.or(base.config.dtype()).unwrap_or(Dtype::F32);
    let tuned: Box<dyn Weights> = if post.join("adapter_config.json").is_file() {
        Box::new(Folded::new(&base.weights, Cow::Owned(Adapter::read(post)?))?)
    } else {
        Box::new(Snapshot::open(post)?.weights)
    };
    let merged = Merged::new(spec.to_string(), &base.weights, tuned.as_ref(), method, dtype)?;
    let sources = format!("pre: {}\npost: {}", pre.display(), post.display());
    let edit = |config: &mut Map<String, Value>| writer::set_dtype(config, Some(dtype));
    write(out, &merged, pre, [&spec.to_string(), &sources], tell, edit, |folder| {
        writer::copy_side_files(pre, folder)
    })
}

/// Does what a YAML file of mergekit's asks for.
///
/// Paths in it are seen from `root`. `seed` draws random masks.
///
/// # Errors
///
/// The file asks for what cannot be had, a model cannot be read, or `out` cannot be written.
pub fn merge_config(
    path: &Path,
    root: &Path,
    out: &Path,
    seed: u64,
    tell: Listener<'_>,
) -> Result<Written, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| SnapshotError::Unreadable { path: path.to_owned(), source })?;
    let yaml = Yaml::parse(&text, &name)?;
    let wrong = |why: String| Failure::Merge(MergeError::Config { path: name.clone(), why });
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
    let vocabulary = vocabulary(&yaml, &names, &opened, &name)?;
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
    let planned = yaml.plan(&models, &name, seed)?;
    let weights =
        spelt.iter().zip(&names).map(|(weights, name)| (weights.as_ref(), format!("`{name}`"))).collect();
    let title = format!("{} by {name}", yaml.merge_method);
    let merged = Merged::of_parts(title.clone(), weights, planned.parts, dtype)?;
    let donor = names.iter().position(|name| *name == yaml.donor()).expect("the donor is a model");
    let spelling = vocabulary.as_ref().map_or(donor, |vocabulary| vocabulary.files_of);
    let edit = |config: &mut Map<String, Value>| {
        let mut dtypes = merged.infos().values().map(|info| info.dtype);
        let first = dtypes.next();
        writer::set_dtype(config, first.filter(|first| dtypes.all(|dtype| dtype == *first)));
        config.insert("num_hidden_layers".to_owned(), json!(planned.n_layers));
        config.insert("tie_word_embeddings".to_owned(), json!(!untied));
        if let Some(vocabulary) = &vocabulary {
            config.insert("vocab_size".to_owned(), json!(vocabulary.n_rows));
        }
    };
    write(out, &merged, &opened[donor].folder, [&title, &names.join("\n")], tell, edit, |folder| {
        writer::copy_side_files(&opened[spelling].folder, folder)?;
        if let Some(vocabulary) = &vocabulary {
            extend_tokenizer(&folder.join("tokenizer.json"), vocabulary)?;
        }
        writer::file_at_once(&folder.join("mergekit_config.yml"), text.as_bytes())
    })
}

/// A merge that says how far it is.
struct Told<'a> {
    merged: &'a Merged<'a>,
    n_done: AtomicUsize,
    tell: Listener<'a>,
}

impl Weights for Told<'_> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        self.merged.infos()
    }
    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let weight = self.merged.weight(name);
        (self.tell)(self.n_done.fetch_add(1, Ordering::Relaxed) + 1, self.merged.infos().len());
        weight
    }
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
    Ok(Opened { folder, config, weights })
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

/// The whole folder or none of it: weights, configuration, card, and what `finish` adds.
fn write(
    out: &Path,
    merged: &Merged<'_>,
    donor: &Path,
    [title, sources]: [&str; 2],
    tell: Listener<'_>,
    edit: impl FnOnce(&mut Map<String, Value>),
    finish: impl FnOnce(&Path) -> Result<(), SnapshotError>,
) -> Result<Written, Failure> {
    let told = Told { merged, n_done: AtomicUsize::new(0), tell };
    writer::folder_at_once(out, |folder| {
        writer::write_model_files(folder, &told, donor, None, edit)?;
        let card = card(title, sources, &merged.report().0);
        writer::file_at_once(&folder.join("README.md"), card.as_bytes())?;
        finish(folder)
    })?;
    Ok(Written { report: merged.report().0, n_weights: merged.infos().len() })
}

/// What somebody who finds the folder wants to know.
fn card(title: &str, sources: &str, report: &MergeReport) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "---\ntags:\n- merge\nlibrary_name: transformers\n---\n\n# {title}\n\nMerged by finetune {} from\n\n",
        env!("CARGO_PKG_VERSION")
    );
    for source in sources.lines() {
        writeln!(text, "- {source}").expect("text takes what is written");
    }
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    writeln!(
        text,
        "\n| | |\n|---|---|\n| weights that differ | {} |\n| relative update | {} |\n| largest angle | {:.2}° |\n| share of the update after rounding | {:.3} |\n| numbers unchanged | {} |\n| SHA-256 of the merged weights | {} |",
        report.touched,
        percent(report.relative_update),
        report.largest_angle_degrees,
        report.effective_lambda,
        percent(report.unchanged),
        report.sha256,
    )
    .expect("text takes what is written");
    text
}
