//! The merge of a base and what was tuned from it, as one command line asks for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::post::{Post, importance};
use super::{Asked, Layout, PairRequest};
use crate::merge::{
    Bare, EMBEDDING, HEAD, MergeError, Merged, Pair, Respelt, Tokens, Unmatched, Untied, Vocabulary, resolve,
    scaled_adapter,
};
use crate::recipe::Spec;
use crate::run::Failure;
use crate::snapshot::adapter::{self, Adapter};
use crate::snapshot::tokenizer::{self, Tokenizer};
use crate::snapshot::{Config, Dtype, Snapshot, SnapshotError, WeightFiles, Weights, writer};

/// Sets up the merge of a pair.
pub(super) fn with_pair<T>(
    asked: &PairRequest,
    seed: u64,
    use_it: impl FnOnce(Asked<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let PairRequest { pre, post, unmatched, .. } = asked;
    let mut spec: Spec = asked.merge.parse()?;
    if resolve(&spec)?.method.random && !spec.parameters.contains_key("seed") && seed != 0 {
        spec.parameters.insert("seed".to_owned(), toml::Value::Integer(seed.cast_signed()));
    }
    let resolved = resolve(&spec)?;
    let base = Snapshot::open(pre)?;
    let posts: Vec<Post> = post.iter().map(|post| Post::open(post)).collect::<Result<_, _>>()?;
    let dtype = asked.dtype.or(base.config.dtype()).unwrap_or(Dtype::F32);
    let tuned: Vec<Box<dyn Weights + '_>> =
        posts.iter().map(|post| post.on(&base.weights)).collect::<Result<_, _>>()?;
    let mut models: Vec<&dyn Weights> = vec![&base.weights];
    models.extend(tuned.iter().map(AsRef::as_ref));
    let mut said = Vec::new();

    let (headed, untied) = heads(&models, &mut said)?;
    let models: Vec<&dyn Weights> = headed.iter().map(AsRef::as_ref).collect();
    // The tuned model's tokenizer and configuration, for it may have learned new tokens.
    let donor = posts[0].model.as_deref().filter(|folder| folder.join(tokenizer::FILE).is_file());
    let vocabulary = match donor {
        Some(donor) => vocabulary(pre, donor, &posts, &models, &mut said)?,
        None => None,
    };
    let spelt: Vec<Box<dyn Weights + '_>> = match &vocabulary {
        None => models.iter().map(|model| -> Box<dyn Weights + '_> { Box::new(*model) }).collect(),
        Some(v) => (0..models.len())
            .map(|own| -> Box<dyn Weights + '_> { Box::new(Respelt::new(models.clone(), own, v)) })
            .collect(),
    };
    let fishers = match &asked.fisher {
        Some([of_pre, of_post]) => Some([importance(of_pre)?, importance(of_post)?]),
        None => None,
    };
    if fishers.is_some() && !resolved.method.by_importance {
        let why = "it does not go by importance, and `--pre-fisher` would have no effect".to_owned();
        return Err(refused(&spec, why, "leave it out, or merge by `fisher:λ`"));
    }
    let pair = Pair {
        base: spelt[0].as_ref(),
        tuned: spelt[1..].iter().map(AsRef::as_ref).collect(),
        importance: fishers.as_ref().map(|all| all.each_ref().map(|(weights, _)| weights.as_ref())),
        unmatched: *unmatched,
    };
    say_unmatched(&pair, &mut said);
    let merged = pair.merged(&resolved, dtype)?;
    let donor = donor.unwrap_or(pre);
    let rows = merged.infos().get(EMBEDDING).map(|info| info.shape[0]);
    let edit = |config: &mut Map<String, Value>| {
        writer::set_dtype(config, Some(dtype));
        config.insert("tie_word_embeddings".to_owned(), json!(!untied));
        if let (Some(rows), true) = (rows, vocabulary.is_some()) {
            config.insert("vocab_size".to_owned(), json!(rows));
        }
    };
    let finish = |folder: &Path| writer::copy_side_files(donor, folder);
    let files = base.weights.paths().map(Path::to_owned);
    let files = files.chain(posts.iter().flat_map(|post| post.files.iter().cloned()));
    let files = files.chain(fishers.iter().flatten().map(|(_, file)| file.clone()));
    use_it(Asked {
        merged,
        title: spec.to_string(),
        layout: Layout::Model,
        base: Some(pre.clone()),
        files: files.collect(),
        donor: donor.to_owned(),
        said,
        edit: &edit,
        finish: &finish,
    })
}

fn refused(spec: &Spec, why: String, help: &str) -> Failure {
    MergeError::BadParameters { spec: spec.to_string(), why, help: help.to_owned() }.into()
}

/// Brings models to one form of head: all share it with the embedding, or all have their own. A head
/// that equals its embedding counts as shared.
fn heads<'a>(
    models: &[&'a dyn Weights],
    said: &mut Vec<String>,
) -> Result<(Vec<Box<dyn Weights + 'a>>, bool), SnapshotError> {
    let has_head = |model: &&dyn Weights| model.infos().contains_key(HEAD);
    let all: Vec<Box<dyn Weights + 'a>> =
        models.iter().map(|model| -> Box<dyn Weights + 'a> { Box::new(*model) }).collect();
    let n = models.iter().filter(|model| has_head(model)).count();
    if n == 0 || n == models.len() {
        return Ok((all, n > 0));
    }
    let mut own = false;
    for model in models.iter().filter(|model| has_head(model)) {
        own |= !Bare::same(*model)?;
    }
    said.push(match own {
        true => {
            "some models share head and embedding and some do not: the result has a head of its own".into()
        }
        false => "a head that equals its embedding counts as shared: the result shares it".into(),
    });
    let form = |model: &&'a dyn Weights| -> Box<dyn Weights + 'a> {
        match (has_head(model), own) {
            (false, true) => Box::new(Untied::new(*model)),
            (true, false) => Box::new(Bare::new(*model)),
            _ => Box::new(*model),
        }
    };
    Ok((models.iter().map(form).collect(), own))
}

/// The tuned model's vocabulary, if it is not the base's: rows are matched by the text of their
/// tokens, and those that the base lacks are the tuned model's.
fn vocabulary(
    pre: &Path,
    donor: &Path,
    posts: &[Post],
    models: &[&dyn Weights],
    said: &mut Vec<String>,
) -> Result<Option<Vocabulary>, Failure> {
    let rows = |model: &&dyn Weights| model.infos().get(EMBEDDING).map_or(0, |info| info.shape[0]);
    let read = |folder: &Path| std::fs::read(folder.join(tokenizer::FILE)).unwrap_or_default();
    if rows(&models[0]) == rows(&models[1]) && read(pre) == read(donor) {
        return Ok(None);
    }
    let (of_base, of_tuned) = (Tokenizer::load(pre)?.vocabulary(), Tokenizer::load(donor)?.vocabulary());
    if rows(&models[0]) == rows(&models[1]) && of_base == of_tuned {
        return Ok(None);
    }
    let rows_of = |rows| Tokens { rows, ..Tokens::default() };
    let lost: Vec<&String> = of_base.keys().filter(|token| !of_tuned.contains_key(*token)).collect();
    if let Some(first) = lost.first() {
        return Err(MergeError::LostTokens {
            n: lost.len(),
            first: (*first).clone(),
            base: pre.display().to_string(),
            tuned: donor.display().to_string(),
        }
        .into());
    }
    said.push(format!(
        "{} tokens are new in the tuned model: their rows are its own, the others are matched by text",
        of_tuned.len() - of_base.len()
    ));
    let mut known = vec![rows_of(of_base)];
    for post in posts {
        known.push(match &post.model {
            Some(folder) => rows_of(Tokenizer::load(folder)?.vocabulary()),
            None => known[0].clone(),
        });
    }
    let sizes: Vec<usize> = models.iter().map(rows).collect();
    Ok(Some(Vocabulary::of_tuned(&known, &sizes)))
}

fn say_unmatched(pair: &Pair<'_>, said: &mut Vec<String>) {
    let alone = pair.unmatched();
    if alone.is_empty() || pair.unmatched == Unmatched::Refuse {
        return;
    }
    let what = match pair.unmatched {
        Unmatched::Refuse | Unmatched::Both => "are taken over",
        Unmatched::OfBase => "are taken over if they are the base's, else left out",
        Unmatched::OfTuned => "are taken over if they are the tuned model's, else left out",
    };
    said.push(format!("{} weights that one model has alone {what}: {}", alone.len(), alone.join(", ")));
}

/// Sets up a scaled adapter: the same merge as of whole models, without reading the base's weights.
pub(super) fn with_adapter<T>(
    asked: &PairRequest,
    use_it: impl FnOnce(Asked<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let spec: Spec = asked.merge.parse()?;
    let resolved = resolve(&spec)?;
    let [folder] = asked.post.as_slice() else {
        return Err(refused(&spec, "an adapter is made of one adapter".to_owned(), "give one `--post`"));
    };
    if !folder.join(adapter::CONFIG).is_file() {
        let why = format!("`{}` is no adapter, and only an adapter can come out as one", folder.display());
        return Err(refused(&spec, why, "leave `--adapter-only` out"));
    }
    // Looked at, so that one of another kind is refused.
    Adapter::read(folder)?;
    let file = folder.join(adapter::WEIGHTS);
    let factors = WeightFiles::open_file(&file)?;
    let n_layers = Config::read(&asked.pre)?.count("num_hidden_layers")?;
    let parts: BTreeMap<_, _> = scaled_adapter(&resolved, &factors, n_layers)?;
    let models = vec![(&factors as &dyn Weights, format!("`{}`", folder.display()))];
    let merged = Merged::of_parts(spec.to_string(), models, parts, asked.dtype.or(Some(Dtype::F32)))?;
    let finish = |out: &Path| {
        let config: PathBuf = out.join(adapter::CONFIG);
        let copied = std::fs::copy(folder.join(adapter::CONFIG), &config).map(drop);
        copied.map_err(|source| SnapshotError::Unwritable { path: config, source })?;
        writer::copy_side_files(folder, out)
    };
    use_it(Asked {
        merged,
        title: spec.to_string(),
        layout: Layout::Adapter,
        base: Some(asked.pre.clone()),
        files: vec![file],
        donor: folder.clone(),
        said: Vec::new(),
        edit: &|_| (),
        finish: &finish,
    })
}
