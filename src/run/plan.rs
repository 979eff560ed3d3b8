//! Recipe → plan: every name looked up, every file read, every number settled before the first
//! tensor. A slip in `[eval]` must not cost a night of training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::DType;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Failure;
use super::fisher::PlannedFisher;
use super::judging::{self, PlannedJudges};
use super::questions::{self, PlannedSuite};
use super::sides::stock;
use super::sources::Sources;
use crate::data::{self, Encoder, Fitted, Preflight, Sample};
use crate::device::{self, Opened};
use crate::eval::presets::Preset;
use crate::hub;
use crate::merge;
use crate::model::{Decoder, DecoderShape, families};
use crate::recipe::{Compute, Data, Init, Kind, Recipe, Spec};
use crate::snapshot::files::{WeightFiles, hex};
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;
use crate::snapshot::{Config, Dtype, SharedWeights, SnapshotError, Weights};
use crate::train::init::{self, RandomWeights};
use crate::train::{self, Machine};

/// What the command line adds to the recipe. None of it changes a result beyond rounding.
#[derive(Debug, Clone)]
pub struct Options {
    pub device: crate::device::DeviceSpec,
    /// The run folder itself; by default `runs/<name>-<digest>`.
    pub out: Option<PathBuf>,
    /// Positions per micro-batch; by default what suits the device.
    pub micro_tokens: Option<usize>,
    /// Rows that generate together.
    pub eval_rows: Option<usize>,
    pub keep_merged: bool,
    pub allow_device_change: bool,
}

/// A run, settled.
pub struct Plan {
    pub recipe: Recipe,
    /// The recipe as it was written, and where it was found.
    pub recipe_text: String,
    pub origin: String,
    pub options: Options,
    pub opened: Opened,
    pub machine: Machine,
    pub eval_rows: usize,
    pub base_folder: PathBuf,
    pub base: SharedWeights,
    pub shape: DecoderShape,
    /// The format every candidate is rounded to.
    pub dtype: Dtype,
    pub tokenizer: Tokenizer,
    pub template: Option<ChatTemplate>,
    /// The tokens that end an answer.
    pub stops: Vec<u32>,
    pub train: Vec<Sample>,
    pub validation: Vec<Sample>,
    pub fitted: Fitted,
    pub preflight: Preflight,
    pub merges: Vec<Spec>,
    /// The steps whose checkpoints are compared by merges of several tuned models.
    pub stock: Vec<usize>,
    /// For merges that go by importance.
    pub fisher: Option<PlannedFisher>,
    pub suites: Vec<PlannedSuite>,
    pub preset: Option<&'static Preset>,
    /// Judges that are models.
    pub judges: PlannedJudges,
    /// Sentences the user should read.
    pub said: Vec<String>,
    /// SHA-256 of every file that was read.
    pub digests: BTreeMap<String, String>,
    /// The commits of what came from a hub.
    pub commits: BTreeMap<String, String>,
    /// The digest of everything that decides the training.
    pub key: String,
    pub folder: PathBuf,
    pub total_steps: usize,
    pub last_step: usize,
}

impl Plan {
    /// Settles a run.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the recipe, the model, the data or the device.
    pub fn new(
        mut recipe: Recipe,
        recipe_text: String,
        origin: String,
        options: Options,
        tell: &mut hub::Tell<'_>,
    ) -> Result<Self, Failure> {
        let preset = questions::settle(&mut recipe.eval)?;
        let merges = recipe.merge.specs()?;
        let resolve = |spec| merge::resolve(spec, recipe.train.seed);
        let methods = merges.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        let mut sources = Sources::new(&origin, options.out.as_deref(), tell);
        let base_folder = sources.model(&recipe.model.source)?;
        let read = find_data(&recipe, &mut sources)?;
        let mut suites = questions::suites(&recipe, &mut sources)?;
        let config = Config::read(&base_folder)?;
        let shape = families::shape(&config)?;
        (recipe.method.kind == Kind::Lora).then(|| init::targets(&shape, &recipe.method)).transpose()?;
        let dtype = recipe.model.dtype.or(config.dtype()).unwrap_or(Dtype::F32);
        let tokenizer = Tokenizer::load(&base_folder)?;
        let template = template(&recipe, &base_folder, &tokenizer, &mut sources)?;
        let sets = data::load(&read, recipe.train.seed)?;
        let mut said = sets.said;
        let encoder = Encoder::new(&tokenizer, template.as_ref(), &recipe.data.system, recipe.data.loss_on)?;
        said.extend_from_slice(encoder.said());
        let mut train = encoder.encode(&sets.train)?.samples;
        let mut validation = encoder.encode(&sets.validation)?.samples;
        let (max_tokens, rule) = (recipe.data.max_tokens, recipe.data.too_long);
        let fitted = data::fit(&mut train, max_tokens, rule)?;
        data::fit(&mut validation, max_tokens, rule)?;
        let by_importance = methods.iter().any(|resolved| resolved.method.needs.importance);
        let fisher = by_importance
            .then(|| PlannedFisher::new(&recipe, &train, &encoder, shape.vocab_size, &mut sources))
            .transpose()?;
        said.extend(fisher.as_ref().map(PlannedFisher::said));
        let preflight = data::check(&train, &encoder, shape.vocab_size)?;
        questions::write(&mut suites, &recipe, &encoder, &tokenizer, template.as_ref(), shape.max_positions)?;
        said.extend(questions::remarks(&sets.train, &suites, &tokenizer, shape.max_positions));

        let opened = device::open(&options.device)?;
        // Last, for it may be a download of gigabytes.
        let (base, weight_paths) = base(&recipe, &base_folder, &config, &shape, &mut sources)?;
        methods.iter().try_for_each(|one| one.methods(base.infos().keys(), shape.n_layers).map(drop))?;
        let judges = judging::plan(&recipe, &mut sources)?;
        let commits = sources.commits;
        let machine = machine(&recipe, &options, &opened);
        let digests = digests(&base_folder, weight_paths, read)?;
        let key = key(&recipe, &digests, template.as_ref(), machine.compute);
        let folder = options
            .out
            .clone()
            .unwrap_or_else(|| Path::new("runs").join(format!("{}-{}", recipe.name, &key[..8])));
        let (total_steps, last_step) = train::steps(&recipe.train, train.len());
        let stock = stock(&methods, &recipe, last_step)?;
        let on_cpu = device::is_cpu(&opened.device);
        let eval_rows = options.eval_rows.unwrap_or(if on_cpu { 64 } else { 128 });
        Ok(Self {
            recipe,
            recipe_text,
            origin,
            options,
            opened,
            machine,
            eval_rows,
            base_folder,
            base,
            shape,
            dtype,
            stops: encoder.stop_ids().to_vec(),
            tokenizer,
            template,
            train,
            validation,
            fitted,
            preflight,
            merges,
            stock,
            fisher,
            suites,
            judges,
            preset,
            said,
            digests,
            commits,
            key,
            folder,
            total_steps,
            last_step,
        })
    }

    /// What decides a merge's weights besides base, tuned model and spec.
    pub fn besides(&self, spec: &Spec) -> Vec<Value> {
        let Ok(resolved) = merge::resolve(spec, self.recipe.train.seed) else { return Vec::new() };
        let needs = &resolved.method.needs;
        let stock = needs.several_tuned().then(|| json!(self.stock));
        let fisher = self.fisher.as_ref().filter(|_| needs.importance).map(|fisher| json!(fisher.key));
        let seed = resolved.seed().map(|seed| json!({ "seed": seed }));
        stock.into_iter().chain(fisher).chain(seed).collect()
    }

    /// The resolved recipe, digests and counts: `manifest.json`.
    pub fn manifest(&self) -> Value {
        json!({
            "schema": 1,
            "program": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
            "key": self.key,
            "recipe": self.recipe,
            "recipe_origin": self.origin,
            "device": { "asked": self.options.device, "used": self.opened.spec, "name": self.opened.name },
            "compute": format!("{:?}", self.machine.compute).to_lowercase(),
            "dtype": self.dtype,
            "sha256": self.digests,
            "commits": self.commits,
            "template_sha256": self.template.as_ref().map(ChatTemplate::digest),
            "counts": {
                "train": self.train.len(),
                "validation": self.validation.len(),
                "tokens": self.preflight.n_tokens,
                "trained_tokens": self.preflight.n_trained,
                "over_length": self.fitted.n_over,
                "dropped": self.fitted.n_dropped,
                "truncated": self.fitted.n_truncated,
                "steps": self.last_step,
                "schedule_steps": self.total_steps,
            },
        })
    }
}

/// The SHA-256 of everything that training reads.
fn digests(
    base_folder: &Path,
    weights: Vec<PathBuf>,
    mut data: Data,
) -> Result<BTreeMap<String, String>, SnapshotError> {
    let model = ["config.json", "tokenizer.json"].map(|name| base_folder.join(name)).into_iter();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let model = model.chain(weights).map(|path| (format!("model/{}", name(&path)), path));
    let mut files: Vec<_> = model.collect();
    let is_mixture = !data.mixture.is_empty();
    for ((_, source), number) in data.sources().zip(1..) {
        let name = if is_mixture { format!("data/{number}") } else { "data".to_owned() };
        files.push((name, PathBuf::from(&*source)));
    }
    files.extend(data.validation_source.map(|source| ("validation".to_owned(), source.into())));
    crate::snapshot::files::digests(&files)
}

/// `[data]` with the paths of its files.
fn find_data(recipe: &Recipe, sources: &mut Sources<'_>) -> Result<Data, Failure> {
    let mut data = recipe.data.clone();
    data.sources().try_for_each(|(key, source)| {
        *source = sources.find(&key, source)?.display().to_string();
        Ok::<(), Failure>(())
    })?;
    if let Some(source) = &mut data.validation_source {
        *source = sources.find("data.validation_source", source)?.display().to_string();
    }
    Ok(data)
}

fn base(
    recipe: &Recipe,
    folder: &Path,
    config: &Config,
    shape: &DecoderShape,
    sources: &mut Sources<'_>,
) -> Result<(SharedWeights, Vec<PathBuf>), Failure> {
    match recipe.model.init {
        Init::Checkpoint => {
            sources.weights(&recipe.model.source)?;
            let files = WeightFiles::open(folder)?;
            Decoder::check(shape, &files, &folder.display().to_string())?;
            let paths = files.paths().map(Path::to_owned).collect();
            Ok((Arc::new(files), paths))
        }
        Init::Random => {
            let deviation = config.number("initializer_range", 0.02)?;
            let weights = RandomWeights::new(shape, deviation, Dtype::F32, recipe.train.seed);
            Ok((Arc::new(weights), Vec::new()))
        }
    }
}

fn template(
    recipe: &Recipe,
    folder: &Path,
    tokenizer: &Tokenizer,
    sources: &mut Sources<'_>,
) -> Result<Option<ChatTemplate>, Failure> {
    let date = recipe.data.date.as_deref();
    match recipe.data.template.as_str() {
        "none" => Ok(None),
        "model" => Ok(Some(ChatTemplate::load(folder, tokenizer, date)?)),
        file => {
            let path = sources.find("data.template", file)?;
            Ok(Some(ChatTemplate::from_file(&path, tokenizer, date)?))
        }
    }
}

fn machine(recipe: &Recipe, options: &Options, opened: &Opened) -> Machine {
    let on_cpu = device::is_cpu(&opened.device);
    let compute = match recipe.train.compute {
        Compute::Bf16 => DType::BF16,
        Compute::Auto if !on_cpu && opened.device.supports_dtype(DType::BF16) => DType::BF16,
        Compute::F32 | Compute::Auto => DType::F32,
    };
    Machine {
        device: opened.device.clone(),
        device_name: opened.spec.to_string().split(':').next().unwrap_or_default().to_owned(),
        compute,
        micro_tokens: options.micro_tokens.unwrap_or(if on_cpu { 1024 } else { 8192 }),
        // A GPU compiles kernels by shape: few widths, few kernels.
        multiple: if on_cpu { 1 } else { 64 },
    }
}

/// The digest of everything that decides the training, and nothing else.
fn key(
    recipe: &Recipe,
    digests: &BTreeMap<String, String>,
    template: Option<&ChatTemplate>,
    compute: DType,
) -> String {
    let mut train = json!(recipe.train);
    if let Value::Object(map) = &mut train {
        // How often a run looks and saves does not change what it learns.
        for key in ["validate_every", "checkpoint_every", "keep_checkpoints", "compute"] {
            map.remove(key);
        }
    }
    let mut data = json!(recipe.data);
    if let Value::Object(map) = &mut data {
        // Files count by their contents, wherever they lie.
        for key in ["source", "validation_source", "template"] {
            map.remove(key);
        }
        for part in map["mixture"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            part.remove("source");
        }
    }
    let all = json!({
        "format": 1,
        "files": digests,
        "template": template.map(ChatTemplate::digest),
        "init": recipe.model.init,
        "data": data,
        "method": if recipe.method.kind == Kind::Full { json!("full") } else { json!(recipe.method) },
        "train": train,
        "compute": format!("{compute:?}"),
    });
    hex(&Sha256::digest(all.to_string()))
}

/// The SHA-256 of some JSON, for keys of answers.
pub(super) fn digest(value: &Value) -> String {
    hex(&Sha256::digest(value.to_string()))
}
