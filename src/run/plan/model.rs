//! The model that is opened: its settings at once, its weights last, for they may be a download of gigabytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::grown::{self, Marks};
use super::questions::Reader;
use super::sources::Sources;
use crate::merge::{EMBEDDING, HEAD};
use crate::model::{Decoder, DecoderShape, families};
use crate::recipe::{self, Data, Init};
use crate::run::failure::Failure;
use crate::snapshot::digest::{Algorithm, of_files, of_json};
use crate::snapshot::files::WeightFiles;
use crate::snapshot::grown::Grown;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::{self, Tokenizer};
use crate::snapshot::{Config, Dtype, Dtypes, SharedWeights, SnapshotError, writer};
use crate::train::init::RandomWeights;

/// What is known of a model without its weights.
pub struct Model {
    /// As the user named it.
    pub source: String,
    pub folder: PathBuf,
    pub config: Config,
    pub shape: DecoderShape,
    /// The dtype that every candidate is to be rounded to, if one was asked for.
    pub dtype: Option<Dtype>,
    pub tokenizer: Tokenizer,
    pub template: Option<ChatTemplate>,
    /// What a guard has besides the base, of which `folder` then has all but the weights.
    pub marks: Option<Marks>,
}

impl Model {
    /// Opens the model that `[model]` names, with the template of `[data]`.
    ///
    /// # Errors
    ///
    /// It is nowhere, of an unknown family, or a file of it is broken.
    pub fn open(asked: &recipe::Model, data: &Data, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        let found = sources.model(&asked.source)?;
        let (folder, marks) = match data.is_of_guard() {
            true => grown::grow(&found).map(|(folder, marks)| (folder, Some(marks)))?,
            false => (found, None),
        };
        let date = data.date.as_deref();
        let model = Self::at(&folder, |tokenizer| match data.template.as_str() {
            "none" => Ok(None),
            "model" => Ok(Some(ChatTemplate::load(&folder, tokenizer, date)?)),
            file => {
                let path = sources.find("data.template", file)?;
                Ok(Some(ChatTemplate::from_file(&path, tokenizer, date)?))
            }
        })?;
        sources.say(model.tokenizer.said(&folder));
        sources.say(without_rows(&model));
        let template = model.template.map(|template| template.with_values(&data.chat_template_kwargs));
        Ok(Self { source: asked.source.clone(), dtype: asked.dtype, template, marks, ..model })
    }

    /// Opens the model in a folder, with the template that `template` finds.
    ///
    /// # Errors
    ///
    /// It is of an unknown family, or a file of it is broken; whatever `template` returns.
    pub fn at(
        folder: &Path,
        template: impl FnOnce(&Tokenizer) -> Result<Option<ChatTemplate>, Failure>,
    ) -> Result<Self, Failure> {
        let config = Config::read(folder)?;
        writer::check_side_files(folder)?;
        let shape = families::shape(&config)?;
        let tokenizer = Tokenizer::load(folder)?;
        let template = template(&tokenizer)?;
        let (source, folder) = (folder.display().to_string(), folder.to_owned());
        Ok(Self { source, folder, config, shape, dtype: None, tokenizer, template, marks: None })
    }

    /// Its weights, which are those of a model of its shape.
    ///
    /// # Errors
    ///
    /// A file is missing or broken, or they are of another model than its configuration says.
    pub fn weights(&self) -> Result<WeightFiles, SnapshotError> {
        let folder = self.marks.as_ref().map_or(&self.folder, |marks| &marks.base);
        let files = WeightFiles::open(folder)?;
        let own = match &self.marks {
            Some(_) => Some(families::shape(&Config::read(folder)?)?),
            None => None,
        };
        Decoder::check(own.as_ref().unwrap_or(&self.shape), &files, &folder.display().to_string())?;
        Ok(files)
    }

    /// Weights of the base with the rows that a guard's tokens need.
    fn grown(&self, weights: SharedWeights) -> SharedWeights {
        match &self.marks {
            Some(Marks { new, .. }) => {
                Arc::new(Grown::new(weights, &[EMBEDDING, HEAD], new, self.shape.vocab_size))
            }
            None => weights,
        }
    }

    /// How its questions are written.
    pub fn reader(&self) -> Reader<'_> {
        let (tokenizer, template) = (&self.tokenizer, self.template.as_ref());
        let rows = self.shape.vocab_size;
        Reader { tokenizer, template, window: self.shape.max_positions, rows }
    }

    /// What decides how a text or a conversation is written as tokens, but for what a recipe says.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn writing(&self) -> Result<Value, SnapshotError> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sides: Vec<_> = self.side_files().map(|path| (name(&path), path)).collect();
        let sides = of_files(&sides, Algorithm::Sha256)?;
        Ok(json!([sides, self.template.as_ref().map(ChatTemplate::digest), self.tokenizer.amended()]))
    }

    /// The files beside the weights that decide what samples, prompts and stops are.
    pub fn side_files(&self) -> impl Iterator<Item = PathBuf> {
        let names = ["config.json", "generation_config.json"].into_iter().chain(tokenizer::FILES);
        names.map(|name| self.folder.join(name)).filter(|path| path.is_file())
    }
}

/// A sentence, if the tokenizer names tokens that the embedding has no row for, as that of Gemma 3 1B does of images.
fn without_rows(model: &Model) -> Option<String> {
    let n_rows = model.shape.vocab_size;
    let vocabulary = model.tokenizer.vocabulary();
    let past: Vec<_> = vocabulary.iter().filter(|(_, id)| **id >= n_rows).collect();
    let (first, id) = past.iter().min_by_key(|(_, id)| **id)?;
    Some(format!(
        "{} tokens of the tokenizer, such as `{first}` ({id}), are past the model's {n_rows} rows: a text with one is \
        refused, and what the run writes has them as the base does",
        past.len()
    ))
}

/// How another dtype is asked for.
pub const DTYPE_OPTION: &str = "--set model.dtype=bf16";

/// The weights before tuning.
pub struct Base {
    pub weights: SharedWeights,
    /// The files of weights; none where they are drawn.
    pub files: Vec<PathBuf>,
    /// SHA-256 of configuration, weights and what lies beside them, as `model/NAME`.
    pub digests: BTreeMap<String, String>,
    /// What decides the weights: the digests of configuration and weights, or what they are drawn from; and what is
    /// said of tokens elsewhere than in `tokenizer.json`.
    pub key: String,
    /// The dtypes that every candidate is rounded to: its own, weight by weight, unless another was asked for.
    pub dtypes: Dtypes,
}

impl Base {
    /// Opens, or draws, the weights of `model`.
    ///
    /// # Errors
    ///
    /// The hub does not give them, a file is broken, or they are of another model than its configuration says.
    pub fn open(model: &Model, init: Init, seed: u64, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        let Model { folder, shape, .. } = model;
        // Drawn numbers are stored nowhere; their dtype is what the configuration says.
        let drawn_in = || Dtypes::all(model.dtype.or(model.config.dtype()).unwrap_or(Dtype::F32));
        let (weights, files, drawn): (SharedWeights, Vec<PathBuf>, Value) = match init {
            Init::Checkpoint => {
                sources.weights(&model.source)?;
                let files = model.weights()?;
                sources.say(files.unread());
                let paths = files.paths().map(Path::to_owned).collect();
                (model.grown(Arc::new(files)), paths, Value::Null)
            }
            Init::Random => {
                let deviation = model.config.number("initializer_range", 0.02)?;
                let weights = RandomWeights::new(shape, deviation, Dtype::F32, seed);
                (Arc::new(weights), Vec::new(), json!(seed))
            }
        };
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of = |paths: &mut dyn Iterator<Item = PathBuf>| {
            let named: Vec<_> = paths.map(|path| (format!("model/{}", name(&path)), path)).collect();
            of_files(&named, Algorithm::Sha256)
        };
        let mut digests = of(&mut std::iter::once(folder.join("config.json")).chain(files.iter().cloned()))?;
        // How its files are read where they disagree decides what is asked and the text of answers.
        let key = of_json(&match (model.tokenizer.amended(), &model.marks) {
            ([], None) => json!([digests, drawn]),
            (amended, None) => json!([digests, drawn, amended]),
            (amended, Some(marks)) => json!([digests, drawn, amended, "guard", marks.ids, marks.new]),
        });
        digests.extend(of(&mut model.side_files())?);
        let dtypes = match (init, model.dtype) {
            (Init::Random, _) => drawn_in(),
            (Init::Checkpoint, Some(dtype)) => Dtypes::all(dtype),
            (Init::Checkpoint, None) => Dtypes::of(&weights),
        };
        if init == Init::Checkpoint {
            sources.say(dtypes.rounding(&weights));
            dtypes.check(&weights, DTYPE_OPTION)?;
        }
        Ok(Self { weights, files, digests, key, dtypes })
    }
}
