//! The merge of a base and what was tuned from it, as one command line asks for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::post::{self, Post, of_run};
use super::{Draft, Layout, PairRequest, files_of_model, headed, tokenizer};
use crate::merge::{
    Bare, EMBEDDING, HEAD, METHODS, MergeError, Merged, Pair, Resolved, Role, Tokens, Unmatched, Untied,
    Vocabulary, missing_helper, resolve, respelt, scaled_adapter,
};
use crate::recipe::Helper;
use crate::run::Failure;
use crate::run::export::lineage;
use crate::run::plan::helpers;
use crate::run::plan::named::start_of;
use crate::snapshot::adapter::{self, Adapter};
use crate::snapshot::tokenizer::{FILE, Tokenizer};
use crate::snapshot::{
    Config, Dtype, Dtypes, SharedWeights, Snapshot, SnapshotError, WeightFiles, Weights, writer,
};

/// How another dtype is asked for.
const DTYPE_OPTION: &str = "--out-dtype bf16";

/// Sets up the merge of a pair.
pub(super) fn prepare(request: &PairRequest, seed: u64) -> Result<Draft, Failure> {
    let PairRequest { pre, post, unmatched, .. } = request;
    let resolved = resolve(&request.merge.parse()?, seed)?;
    let base = Snapshot::open(pre)?;
    let opened =
        |post: &PathBuf| if resolved.of() == Role::Ema { Post::average(post) } else { Post::open(post) };
    let posts: Vec<Post> = post.iter().map(opened).collect::<Result<_, _>>()?;
    let dtypes = request.dtype.map_or_else(|| Dtypes::of(&base.weights), Dtypes::all);
    let mut models = vec![headed(base.weights.clone(), &base.config)?];
    for post in &posts {
        models.push(post.on(&models[0])?);
    }
    let helpers = Helping::open(request, &resolved, &base)?;
    models.extend(helpers.models(&models[0])?);
    let opened = posts
        .iter()
        .chain(helpers.posts.values())
        .map(|post| post.unread.clone())
        .chain([base.weights.unread()]);
    let mut said = Vec::new();

    let (models, untied) = heads(models, &mut said)?;
    let other_heads = !said.is_empty();
    said.extend(opened.flatten());
    // The tuned model's tokenizer and configuration, for it may have learned new tokens.
    let first = posts.first();
    let donor = first.and_then(|post| post.model.as_deref()).filter(|folder| folder.join(FILE).is_file());
    let vocabulary = vocabulary(pre, &posts, &models[..=posts.len()], &mut said)?.map(Arc::new);
    if vocabulary.is_some() && !request.helpers.is_empty() {
        let why =
            "the tuned model has other tokens than the base, and the models that it looks at have the base's";
        return Err(refused(&resolved, why.to_owned(), "bring the tuned model to the base's tokens first"));
    }
    let models = respelt(models, vocabulary.as_ref());
    let importance = importance(request, &resolved, vocabulary.is_some() || other_heads)?;
    let mut models = models.into_iter();
    let pair = Pair {
        base: models.next().expect("the base comes first"),
        tuned: models.by_ref().take(posts.len()).collect(),
        helpers: helpers.named(models),
        importance: importance.as_ref().map(|both| both.each_ref().map(|(weights, _)| weights.clone())),
        unmatched: *unmatched,
        alignments: None,
    };
    say_unmatched(&pair, &mut said);
    said.extend(dtypes.rounding(&base.weights));
    dtypes.check(&base.weights, DTYPE_OPTION)?;
    let weights: Vec<PathBuf> = base.weights.paths().map(Path::to_owned).collect();
    said.extend(trained_on(&posts, &weights)?);
    let merged = pair.merged(&resolved, &dtypes, DTYPE_OPTION)?;
    let mut settings: Map<String, Value> = tied(&merged, untied).into_iter().collect();
    let spelling = first.and_then(|post| post.tokenizer.clone()).unwrap_or_else(|| pre.clone());
    let pre = pre.clone();
    [&pre, &spelling].into_iter().try_for_each(|folder| writer::check_side_files(folder))?;
    let rows = tokenizer::n_rows(&merged);
    if rows > 0 {
        tokenizer::check_rows(&spelling, rows, &pre, tokenizer::n_rows(&base.weights))?;
    }
    if rows > 0 && vocabulary.is_some() {
        settings.insert("vocab_size".to_owned(), json!(rows));
    }
    let mut files = files_of_model(&pre, &base.weights);
    files.extend(posts.iter().flat_map(|post| post.files.iter().cloned()));
    files.extend(importance.iter().flatten().map(|(_, file)| file.clone()));
    files.extend(helpers.paths());
    Ok(Draft {
        merged,
        title: resolved.name(),
        layout: Layout::Model,
        base: Some(pre.clone()),
        files,
        donor: donor.unwrap_or(&pre).to_owned(),
        said,
        dtype: dtypes.named(request.dtype, &base.config),
        settings,
        finish: Box::new(move |folder| {
            writer::copy_side_files(&spelling, folder)?;
            Ok(writer::copy_generation_settings(&pre, folder)?)
        }),
    })
}

fn refused(spec: &Resolved, why: String, help: &str) -> Failure {
    MergeError::BadParameters { spec: spec.name(), why, help: help.to_owned() }.into()
}

/// What a merge looks at besides base and tuned model, opened.
struct Helping {
    posts: BTreeMap<Helper, Post>,
    files: BTreeMap<Helper, (SharedWeights, PathBuf)>,
}

impl Helping {
    fn open(request: &PairRequest, spec: &Resolved, base: &Snapshot) -> Result<Self, Failure> {
        let needs = &spec.method.needs;
        if let Some(stray) = request.helpers.keys().find(|given| !needs.helpers().any(|own| own == **given)) {
            let why = format!("it does not look at `{stray}`, and `--model {stray}=` would have no effect");
            return Err(refused(spec, why, "leave it out"));
        }
        let given = request.helpers.keys().copied().collect();
        needs.given(&given).map_err(|missing| missing_helper(spec, missing))?;
        if needs.count(Role::Tuned) == (0..=0) && !request.post.is_empty() {
            let why = "it is made of the base without a tuned model".to_owned();
            return Err(refused(spec, why, "leave `--post` out"));
        }
        let (mut posts, mut files) = (BTreeMap::new(), BTreeMap::new());
        for (helper, path) in &request.helpers {
            if helper.is_file() {
                let opened = WeightFiles::open_file(path)?;
                helpers::check_shapes(*helper, path, &opened, base.weights.as_ref())?;
                files.insert(*helper, (Arc::new(opened) as SharedWeights, path.clone()));
                continue;
            }
            let post = Post::open(path)?;
            let own = post.model.as_deref().filter(|_| request.pre.join(FILE).is_file());
            if let Some(folder) = own {
                helpers::check_tokens(*helper, folder, &Tokenizer::load(&request.pre)?)?;
            }
            posts.insert(*helper, post);
        }
        Ok(Self { posts, files })
    }

    /// Those that are models, in order.
    fn models(&self, base: &SharedWeights) -> Result<Vec<SharedWeights>, SnapshotError> {
        self.posts.values().map(|post| post.on(base)).collect()
    }

    /// All by their parts, the models as they are now.
    fn named(&self, models: impl Iterator<Item = SharedWeights>) -> BTreeMap<Helper, SharedWeights> {
        let files = self.files.iter().map(|(helper, (weights, _))| (*helper, weights.clone()));
        self.posts.keys().copied().zip(models).chain(files).collect()
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let models = self.posts.values().flat_map(|post| post.files.iter().cloned());
        models.chain(self.files.values().map(|(_, path)| path.clone()))
    }
}

/// That of the base's numbers and of the tuned model's, with the file it lies in.
type Importance = [(SharedWeights, PathBuf); 2];

fn importance(
    request: &PairRequest,
    resolved: &Resolved,
    reshaped: bool,
) -> Result<Option<Importance>, Failure> {
    let Some([of_pre, of_post]) = &request.importance else { return Ok(None) };
    if !resolved.method.needs.importance {
        let why = "it does not go by importance, and `--pre-fisher` would have no effect".to_owned();
        let example = METHODS.iter().find(|method| method.needs.importance).map(|method| method.example);
        let help = format!("leave it out, or merge for example by `{}`", example.unwrap_or_default());
        return Err(refused(resolved, why, &help));
    }
    if reshaped {
        let why = "importance is known of the weights as they are, and these have other tokens or heads";
        return Err(refused(
            resolved,
            why.to_owned(),
            "bring both models to one vocabulary and one head first",
        ));
    }
    Ok(Some([post::importance(of_pre)?, post::importance(of_post)?]))
}

/// Brings models to one form of head: all share it with the embedding, or all have their own, which is
/// told. A head that equals its embedding counts as shared.
fn heads(
    models: Vec<SharedWeights>,
    said: &mut Vec<String>,
) -> Result<(Vec<SharedWeights>, bool), SnapshotError> {
    let has_head =
        |model: &SharedWeights| [HEAD, EMBEDDING].iter().all(|name| model.infos().contains_key(*name));
    let n = models.iter().filter(|model| has_head(model)).count();
    let mut own = false;
    for model in models.iter().filter(|model| has_head(model)) {
        own |= !Bare::same(model)?;
    }
    if n > 0 && !own {
        said.push("a head that equals its embedding counts as shared: the result shares it".into());
    } else if own && n < models.len() {
        said.push(
            "some models share head and embedding and some do not: the result has a head of its own".into(),
        );
    }
    let form = |model: SharedWeights| -> SharedWeights {
        match (has_head(&model), own) {
            (false, true) => Arc::new(Untied::new(model)),
            (true, false) => Arc::new(Bare::new(model)),
            _ => model,
        }
    };
    Ok((models.into_iter().map(form).collect(), own))
}

/// The tuned model's vocabulary, if it is not the base's: rows are matched by the text of their
/// tokens, and those that another model lacks are the tuned model's.
fn vocabulary(
    pre: &Path,
    posts: &[Post],
    models: &[SharedWeights],
    said: &mut Vec<String>,
) -> Result<Option<Vocabulary>, Failure> {
    let rows = |model: &SharedWeights| model.infos().get(EMBEDDING).map_or(0, |info| info.shape[0]);
    let sizes: Vec<usize> = models.iter().map(rows).collect();
    // An adapter and a checkpoint have the base's rows.
    let folders = posts.iter().map(|post| post.model.as_deref().unwrap_or(pre));
    let folders: Vec<&Path> = std::iter::once(pre).chain(folders).collect();
    let same_size = sizes.iter().all(|size| *size == sizes[0]);
    let text = |folder: &Path| std::fs::read(folder.join(FILE)).ok();
    let base = text(pre);
    let differs = |folder: &&Path| *folder != pre && text(folder).is_some_and(|own| Some(own) != base);
    if same_size && !folders.iter().any(differs) {
        return Ok(None);
    }
    if same_size && base.is_none() {
        said.push(format!("`{}` has no {FILE}: rows are matched by their numbers", pre.display()));
        return Ok(None);
    }
    let tokens = |(folder, n_rows): (&&Path, &usize)| {
        // A model without a tokenizer of its own was trained with the base's.
        let folder = if folder.join(FILE).is_file() { folder } else { pre };
        Ok(Tokens { rows: tokenizer::tokens(folder, *n_rows)?.rows, ..Tokens::default() })
    };
    let known = folders.iter().zip(&sizes).map(tokens).collect::<Result<Vec<_>, Failure>>()?;
    if same_size && known.iter().all(|tokens| *tokens == known[0]) {
        return Ok(None);
    }
    for (tokens, folder) in known.iter().zip(&folders) {
        let lost: Vec<&String> = tokens.rows.keys().filter(|t| !known[1].rows.contains_key(*t)).collect();
        if let Some(first) = lost.first() {
            return Err(MergeError::LostTokens {
                n: lost.len(),
                first: (*first).clone(),
                base: folder.display().to_string(),
                tuned: folders[1].display().to_string(),
            }
            .into());
        }
    }
    said.push(format!(
        "{} tokens are new in the tuned model: their rows are its own, the others are matched by text",
        known[1].rows.len() - known[0].rows.len()
    ));
    Ok(Some(Vocabulary::of_tuned(&known, &sizes)))
}

/// Whether head and embedding are shared, as a setting; nothing where they have names that we do not know.
pub(super) fn tied(merged: &Merged, untied: bool) -> Option<(String, Value)> {
    let known = merged.infos().contains_key(EMBEDDING);
    known.then(|| ("tie_word_embeddings".to_owned(), json!(!untied)))
}

/// What is to be said of the weights that adapters were trained on, `base` or others.
fn trained_on(posts: &[Post], base: &[PathBuf]) -> Result<Vec<String>, SnapshotError> {
    let mut said = Vec::new();
    for post in posts {
        match (&post.adapter, &post.start) {
            (_, Some(_)) => {
                said.push("the tuned model was trained on the hardened base that lies beside it".to_owned());
            }
            (Some(adapter), None) => said.extend(lineage::compare(adapter, base)?),
            (None, None) => {}
        }
    }
    Ok(said)
}

fn say_unmatched(pair: &Pair, said: &mut Vec<String>) {
    let alone = pair.unmatched();
    if alone.is_empty() || pair.unmatched == Unmatched::Refuse {
        return;
    }
    let what = match pair.unmatched {
        Unmatched::Refuse | Unmatched::Both => "are taken over",
        Unmatched::OfBase => "are taken over if they are the base's, else left out",
        Unmatched::OfTuned => "are taken over if they are the tuned model's, else left out",
    };
    said.push(format!("{} weights that not every model has {what}: {}", alone.len(), alone.join(", ")));
}

/// Sets up a scaled adapter: the same merge as of whole models, without reading the base's weights.
pub(super) fn prepare_adapter(request: &PairRequest, seed: u64) -> Result<Draft, Failure> {
    let resolved = resolve(&request.merge.parse()?, seed)?;
    let [post] = request.post.as_slice() else {
        return Err(refused(&resolved, "an adapter is made of one adapter".to_owned(), "give one `--post`"));
    };
    if resolved.of() == Role::Ema {
        let why = "the average of the weights is no adapter".to_owned();
        let help = "leave `--adapter-only` out; with `train.ema.lora = \"factors\"` give `--post RUN/train/ema` \
                    without `of=ema`";
        return Err(refused(&resolved, why, help));
    }
    let folder = of_run(post);
    if !folder.join(adapter::CONFIG).is_file() {
        let why = format!("`{}` is no adapter, and only an adapter can come out as one", folder.display());
        return Err(refused(&resolved, why, "leave `--adapter-only` out"));
    }
    if start_of(&folder)?.is_some() {
        let why = "its adapter is on a hardened base, and λ goes from the base itself".to_owned();
        return Err(refused(&resolved, why, "leave `--adapter-only` out"));
    }
    // Looked at, so that one of another kind is refused.
    Adapter::read(&folder)?;
    let file = folder.join(adapter::WEIGHTS);
    let factors: SharedWeights = Arc::new(WeightFiles::open_file(&file)?);
    let n_layers = Config::read(&request.pre)?.count("num_hidden_layers")?;
    let parts = scaled_adapter(&resolved, &factors, n_layers)?;
    let models = vec![(factors, folder.display().to_string())];
    let dtype = request.dtype.or(Some(Dtype::F32));
    writer::check_side_files(&folder)?;
    let merged = Merged::of_parts(resolved.name(), models, parts, dtype)?;
    Ok(Draft {
        merged,
        title: resolved.name(),
        layout: Layout::Adapter,
        base: Some(request.pre.clone()),
        files: vec![file, folder.join(adapter::CONFIG)],
        donor: folder.clone(),
        said: Vec::new(),
        dtype,
        settings: Map::new(),
        finish: Box::new(move |out| {
            let config: PathBuf = out.join(adapter::CONFIG);
            let copied = std::fs::copy(folder.join(adapter::CONFIG), &config).map(drop);
            copied.map_err(|source| SnapshotError::Unwritable { path: config, source })?;
            Ok(writer::copy_side_files(&folder, out)?)
        }),
    })
}
