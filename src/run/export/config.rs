//! What a YAML file of mergekit's asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::tokenizer::{self, Named};
use super::{Draft, Layout, depth, files_of_model, headed, located, pair};
use crate::folders::expanded;
use crate::merge::mergekit::{Config as Yaml, Model};
use crate::merge::{HEAD, MergeError, Merged, Untied, find, respelt};
use crate::run::Failure;
use crate::snapshot::adapter::{self, Adapter, Folded};
use crate::snapshot::{Config, Dtype, SharedWeights, Snapshot, Weights, writer};

/// A model that was opened: its folder, and its weights with an adapter folded in.
struct Opened {
    folder: PathBuf,
    files: Vec<PathBuf>,
    config: Config,
    weights: SharedWeights,
    /// What the user should know of it.
    unread: Option<String>,
}

/// Sets up the merge of a YAML file with this `text`, called `name`; its paths are seen from `root`.
pub(super) fn prepare(text: &str, name: &str, root: &Path, seed: u64) -> Result<Draft, Failure> {
    let yaml = Yaml::parse(text, name)?;
    let wrong = |why: String| Failure::Merge(MergeError::Config { path: name.to_owned(), why });
    let dtype = yaml.out_dtype.as_ref().or(yaml.dtype.as_ref()).map(|name| {
        // mergekit takes PyTorch's names, with the module before them.
        let bare = name.strip_prefix("torch.").unwrap_or(name);
        Dtype::from_name(bare).ok_or_else(|| wrong(format!("`{name}` is no format we write")))
    });
    let dtype = dtype.transpose()?;
    let names = yaml.models();
    let opened: Vec<Opened> = names.iter().map(|name| open(root, name)).collect::<Result<_, _>>()?;
    let used = opened.iter().map(|model| headed(model.weights.clone(), &model.config));
    let mut used: Vec<SharedWeights> = used.collect::<Result<_, _>>()?;
    let untied = used.iter().any(|model| model.infos().contains_key(HEAD));
    for model in used.iter_mut().filter(|model| untied && !model.infos().contains_key(HEAD)) {
        *model = Arc::new(Untied::new(model.clone()));
    }
    let folders: Vec<PathBuf> = opened.iter().map(|model| model.folder.clone()).collect();
    let named = Named { names: &names, folders: &folders, root, yaml: name };
    let spelling = tokenizer::spelling(&yaml, named, &used)?;
    let spelt = respelt(used, spelling.as_ref().map(|spelling| &spelling.vocabulary));
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
        spelt.iter().zip(&names).map(|(weights, name)| (weights.clone(), (*name).to_owned())).collect();
    let title = format!("{} by {name}", yaml.merge_method);
    let merged = Merged::of_parts(title.clone(), weights, planned.parts, dtype)?;
    let merged = merged.drawn_by(find(&yaml.merge_method)?.needs.random.then_some(seed));
    let donor = names.iter().position(|name| *name == yaml.donor()).expect("the donor is a model");
    let files_of = spelling.as_ref().map_or(&folders[donor], |spelling| &spelling.files_of).clone();
    let template = tokenizer::template(&yaml, named, &files_of)?;
    let mut dtypes = merged.infos().values().map(|info| info.dtype);
    let first = dtypes.next();
    let dtype = first.filter(|first| dtypes.all(|dtype| dtype == *first));
    let configs: Vec<&Config> = opened.iter().map(|model| &model.config).collect();
    let mut settings = depth::settings(&configs, donor, &planned.layers).map_err(&wrong)?;
    settings.extend(pair::tied(&merged, untied));
    let (rows, own_rows) = (tokenizer::n_rows(&merged), tokenizer::n_rows(&opened[donor].weights));
    let new_rows = spelling.as_ref().map(|spelling| spelling.vocabulary.n_rows());
    if let Some(rows) = new_rows.or(Some(rows).filter(|rows| *rows != own_rows)) {
        settings.insert("vocab_size".to_owned(), json!(rows));
    }
    if rows > 0 {
        tokenizer::check_rows(&files_of, rows, &opened[donor].folder, own_rows)?;
    }
    writer::check_side_files(&files_of)?;
    let text = text.to_owned();
    let remarks = planned.remarks.iter().map(|remark| format!("warning: {remark}"));
    let said = remarks.chain(opened.iter().filter_map(|model| model.unread.clone())).collect();
    let files = opened.iter().flat_map(|model| model.files.iter().cloned());
    Ok(Draft {
        merged,
        title,
        base: yaml.base_model.as_ref().map(|_| opened[donor].folder.clone()),
        layout: Layout::Model,
        files: files.collect(),
        said,
        donor: opened[donor].folder.clone(),
        dtype,
        settings,
        finish: Box::new(move |folder| {
            writer::copy_side_files(&files_of, folder)?;
            if let Some(spelling) = &spelling {
                tokenizer::extend(folder, &spelling.vocabulary, &folders)?;
            }
            if let Some(template) = &template {
                writer::set_template(folder, Some(template))?;
            }
            Ok(writer::file_at_once(&folder.join("mergekit_config.yml"), text.as_bytes())?)
        }),
    })
}

/// Opens `folder` or `folder+adapter`.
fn open(root: &Path, name: &str) -> Result<Opened, Failure> {
    let (folder, adapter) = match name.split_once('+') {
        Some((folder, adapter)) if !root.join(expanded(name)).exists() => (folder, Some(adapter)),
        _ => (name, None),
    };
    let Snapshot { folder, config, weights } = Snapshot::open(&located::folder(root, folder)?)?;
    let mut files = files_of_model(&folder, &weights);
    let unread = weights.unread();
    for name in [adapter::WEIGHTS, adapter::CONFIG] {
        files.extend(adapter.map(|adapter| root.join(expanded(adapter)).join(name)));
    }
    let weights: SharedWeights = match adapter {
        None => weights,
        Some(adapter) => {
            Arc::new(Folded::new(weights, Arc::new(Adapter::read(&root.join(expanded(adapter)))?))?)
        }
    };
    Ok(Opened { folder, files, config, weights, unread })
}
