//! Recipe → plan: every name looked up, every file read, every number settled before the first
//! tensor. A slip in `[eval]` must not cost a night of training.
//!
//! A plan is the sum of its parts, and each stage gets the parts that it reads: the [`Model`] that is
//! opened and its [`Base`] weights, the [`Training`], the [`Merging`], the [`Evaluation`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::DType;
use serde_json::{Value, json};

mod encoding;
pub mod evaluation;
pub mod freeze;
pub mod fronts;
pub mod grown;
pub mod guard;
mod hardening;
pub mod helpers;
pub mod hidden;
pub mod importance;
pub mod judges;
mod kept;
pub mod merging;
pub mod model;
pub mod named;
mod openings;
mod outline;
mod overlap;
pub mod penalties;
pub mod posed;
pub mod preset;
pub mod probing;
pub mod questions;
pub mod remarks;
pub mod rewards;
pub mod room;
mod shared;
pub mod sources;
pub mod steering;
mod thinking;
pub mod training;
pub mod writing;

pub use evaluation::Evaluation;
pub use merging::Merging;
pub use model::{Base, Model};
pub use shared::Shared;
pub use steering::Steering;
pub use training::Training;

use super::failure::{Failure, RoomError};
use super::manifest;
use super::session::{Folder, Key};
use crate::device::{self, DeviceSpec, Opened};
use crate::doing;
use crate::hub;
use crate::merge::Resolved;
use crate::recipe::{Compute, Recipe};
use crate::snapshot::SnapshotError;
use crate::snapshot::template::ChatTemplate;
use crate::train::Machine;
use fronts::Fronts;
use guard::GuardPlan;
use hardening::Hardening;
use named::Named;
use penalties::Penalties;
use questions::Questions;
use rewards::Rewards;
use sources::Sources;

/// What the command line adds to the recipe. None of it changes a result beyond rounding.
#[derive(Debug, Clone)]
pub struct Options {
    pub device: DeviceSpec,
    /// The run folder itself; by default `runs/<name>-<digest>`.
    pub out: Option<PathBuf>,
    /// Positions per micro-batch; by default what suits the device.
    pub micro_tokens: Option<usize>,
    /// Rows that generate together.
    pub eval_rows: Option<usize>,
    pub keep_merged: bool,
    pub allow_device_change: bool,
    /// Every answer is generated here: none is taken over from other runs of this machine.
    pub own_answers: bool,
    /// The run is for another machine: what finds no room on this one is said, and refused there.
    pub elsewhere: bool,
}

impl Options {
    /// Those of a device, everything else as it suits the device.
    pub fn on(device: DeviceSpec) -> Self {
        Self {
            device,
            out: None,
            micro_tokens: None,
            eval_rows: None,
            keep_merged: false,
            allow_device_change: false,
            own_answers: false,
            elsewhere: false,
        }
    }
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
    pub model: Arc<Model>,
    pub base: Arc<Base>,
    /// What the training starts from instead of the base.
    pub hardening: Option<Hardening>,
    pub training: Training,
    /// The digest of everything that decides the training.
    pub key: Key,
    pub merging: Merging,
    pub evaluation: Evaluation,
    /// What steers candidates, if anything does.
    pub steering: Option<Arc<Steering>>,
    /// A guard, and the candidates that it stands in front of.
    pub guard: Option<(GuardPlan, Vec<String>)>,
    /// Sentences the user should read.
    pub said: Vec<String>,
    /// The commits of what came from a hub.
    pub commits: BTreeMap<String, String>,
    /// Every file and folder that was read.
    pub found: BTreeSet<PathBuf>,
    /// The same by the names that the recipe gives them.
    pub named: BTreeMap<String, PathBuf>,
    pub folder: PathBuf,
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
        shared: &mut Shared,
        tell: &mut hub::Tell<'_>,
    ) -> Result<Self, Failure> {
        let _doing = doing::now(format!("settling what `{origin}` asks for"));
        let preset = preset::settle(&mut recipe.eval)?;
        let merges = merging::resolve(&recipe)?;
        merging::check_of(
            &merges,
            recipe.train.ema.is_some(),
            "set `train.ema = { half_life = 0.25 }`; it is another training then",
        )?;
        let mut sources = Sources::new(&origin, options.out.as_deref(), tell);
        let model = shared.model(&recipe.model, &recipe.data, &mut sources)?;
        let read = shared.data(&recipe, &mut sources)?;
        let asked = shared.asked(&recipe.eval, (&recipe.model, &recipe.data), &model, &mut sources)?;
        let suites = asked.suites.clone();
        remarks::over_refusal(&recipe.data, &suites)?;
        let overlap = shared.overlap(&read, &suites, &mut sources)?;
        let found = auto_freeze(&mut recipe, &model, &options, shared, &mut sources)?;
        let mut training = Training::new(&recipe, read, &model)?;
        let mut said: Vec<String> = training.said.iter().cloned().chain(found).collect();
        let importance = merging::importance(&merges, &recipe, &model, &training, &mut sources)?;
        let opened = device::open(&options.device)?;
        let named = recipe.eval.candidates.iter().map(|candidate| candidate.name.clone());
        let roles = training.roles().into_iter().map(|role| role.candidate().to_owned());
        let names: Vec<String> = roles.chain(merges.iter().map(Resolved::name)).chain(named).collect();
        let Fronts { steering, guard } =
            Fronts::open(&recipe, (names, &merges), &model, &suites, &mut sources)?;
        let machine = machine([recipe.train.compute, recipe.eval.compute], &options, &opened);
        said.extend(rooms((&recipe, &training), &model, &suites, &machine, options.elsewhere)?);
        // Last, for it may be a download of gigabytes.
        let of = (&recipe.data, recipe.train.seed);
        let base = shared.base(&recipe.model, of, &model, &mut sources)?;
        let named = Named::all(&recipe.eval.candidates, &model, &base, &mut sources)?;
        let helpers = helpers::open(&merges, &recipe, &model, &base, &mut sources)?;
        let probed = (&*model, &opened.device, options.eval_rows.unwrap_or(rows(&opened)));
        let probing = merging::probing(&merges, &recipe.eval, probed, &mut sources)?;
        let merging = (merges, named, helpers, probing);
        let merging = Merging::new(merging, importance, &recipe, &model, &base, &training)?;
        let judges = shared.judges(&recipe.eval, preset, &mut sources)?;
        let harden = |harden| Hardening::new(harden, &recipe, &model, &base, &mut sources);
        let hardening = recipe.harden.as_ref().map(harden).transpose()?;
        training.penalties = Penalties::settle(&recipe, &model, &base, &mut sources)?;
        training.rewards = Rewards::settle(&recipe, &model, &mut sources)?;
        said.extend(training.rewards.as_ref().map(Rewards::said));
        said.extend(training.penalties.said.clone());
        let start = hardening.as_ref().map_or(&base.key, |hardening| &hardening.key);
        let key = training.key(start, machine.compute);
        said.extend(steering.as_ref().map(|steering| steering.said(&base.key)));
        said.extend(merging.importance.as_ref().map(importance::Importance::said));
        said.extend(overlap);
        said.extend(remarks::template(&recipe.data.template, &model));
        said.extend(remarks::beyond(&training.encoding, model.shape.max_positions));
        said.extend(asked.said.iter().cloned());
        said.extend(guard.as_ref().and_then(|(guard, _)| remarks::guarded(&suites, guard)));
        let evaluation = Evaluation { suites, judges, rows: options.eval_rows.unwrap_or(rows(&opened)) };
        let sources::Traces { commits, said: by_sources, found, named } = sources.traces;
        said.extend(by_sources);
        let folder = folder(&options, &recipe, &key);
        Ok(Self {
            recipe,
            recipe_text,
            origin,
            options,
            opened,
            machine,
            model,
            base,
            hardening,
            training,
            key,
            merging,
            evaluation,
            steering: steering.map(Arc::new),
            guard,
            said,
            commits,
            found,
            named,
            folder,
        })
    }

    /// What the training starts from: the base, or what `[harden]` made of it in the run folder.
    ///
    /// # Errors
    ///
    /// The hardened base is not there yet, or broken.
    pub fn start(&self, folder: &Folder) -> Result<Arc<Base>, SnapshotError> {
        match &self.hardening {
            None => Ok(self.base.clone()),
            Some(hardening) => Ok(Arc::new(hardening.opened(&folder.hardened(), &self.base)?)),
        }
    }

    /// Writes the questions as tokens; until then they are only counted.
    ///
    /// # Errors
    ///
    /// They are not what was counted.
    pub fn write_questions(&self) -> Result<(), Failure> {
        writing::write(&self.evaluation.suites, &self.recipe.eval, self.model.reader())
    }

    /// SHA-256 of every file that was read.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let training = &self.training;
        let own = training.digests.clone().into_iter().chain(training.penalties.digests.clone());
        self.base.digests.clone().into_iter().chain(own).collect()
    }

    /// The resolved recipe, digests, counts and all else that `finetune reproduce` goes by: `manifest.json`.
    ///
    /// # Errors
    ///
    /// A file that was read is gone.
    pub fn manifest(&self) -> Result<Value, SnapshotError> {
        let Training { encoding, last_step, total_steps, .. } = &self.training;
        Ok(json!({
            "schema": 1,
            "program": manifest::program(),
            "key": self.key.digest,
            "recipe": self.recipe,
            "recipe_origin": self.origin,
            "seen_from": std::env::current_dir().ok(),
            "device": manifest::machine(&self.options.device, &self.opened),
            "portions": { "micro_tokens": self.machine.micro_tokens, "rows": self.evaluation.rows },
            "seeds": {
                "train": self.training.train.seed,
                "merges": self.merging.seeds(),
                "suites": self.evaluation.seeds(),
            },
            "compute": format!("{:?}", self.machine.compute).to_lowercase(),
            "dtype": self.base.dtypes.to_string(),
            "sha256": self.digests(),
            "inputs": manifest::inputs(&self.named)?,
            "commits": self.commits,
            "parents": manifest::parents(self.found.iter().map(PathBuf::as_path)),
            "caches": encoding.path(),
            "template_sha256": self.model.template.as_ref().map(ChatTemplate::digest),
            "counts": {
                "train": encoding.preflight.n_samples,
                "validation": encoding.n_validation,
                "tokens": encoding.preflight.n_tokens,
                "trained_tokens": encoding.preflight.n_trained,
                "over_length": encoding.fitted.n_over,
                "dropped": encoding.fitted.n_dropped,
                "truncated": encoding.fitted.n_truncated,
                "steps": last_step,
                "schedule_steps": total_steps,
            },
        }))
    }
}

/// That training and questions find room; what finds none on this machine and may on another is said.
fn rooms(
    (recipe, training): (&Recipe, &Training),
    model: &Model,
    suites: &[Questions],
    machine: &Machine,
    elsewhere: bool,
) -> Result<Vec<String>, RoomError> {
    let shape = &model.shape;
    let kept = (&recipe.method, &recipe.train, training.extent);
    let kept = penalties::Kept::of(&recipe.objective, kept, shape).bytes();
    let found = [
        room::check_weights(shape, Some((recipe.method.kind, training.extent)), kept, machine),
        room::check_samples(shape, training.encoding.longest(), &machine.device),
        room::check_questions(suites, shape, &machine.device),
    ];
    let told = found.into_iter().map(|found| room::told(found, elsewhere));
    Ok(told.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Puts the layers that are to be found in the place of `train.freeze = "auto"`, and says which; reads the base's weights.
fn auto_freeze(
    recipe: &mut Recipe,
    model: &Model,
    options: &Options,
    shared: &mut Shared,
    sources: &mut Sources<'_>,
) -> Result<Option<String>, Failure> {
    let Some(auto) = recipe.train.auto_freeze() else { return Ok(None) };
    let opened = device::open(&options.device)?;
    let machine = machine([recipe.train.compute, recipe.eval.compute], options, &opened);
    room::check_weights(&model.shape, None, 0, &machine)?;
    let base = shared.base(&recipe.model, (&recipe.data, recipe.train.seed), model, sources)?;
    let found = freeze::find(&auto, recipe, (model, &base), &machine, sources)?;
    recipe.train.freeze = found.places();
    Ok(Some(found.said))
}

/// The run folder, unless the user names one.
fn folder(options: &Options, recipe: &Recipe, key: &Key) -> PathBuf {
    let own = || Path::new("runs").join(format!("{}-{}", recipe.name, &key.digest[..8]));
    options.out.clone().unwrap_or_else(own)
}

/// Where and in what portions everything is computed; of the two formats a training computes in the first, answers in the
/// second.
pub fn machine([training, answers]: [Compute; 2], options: &Options, opened: &Opened) -> Machine {
    let on_cpu = device::is_cpu(&opened.device);
    let dtype = |compute: Compute| match compute {
        Compute::Bf16 => DType::BF16,
        Compute::Auto if !on_cpu && opened.device.supports_dtype(DType::BF16) => DType::BF16,
        Compute::F32 | Compute::Auto => DType::F32,
    };
    Machine {
        device: opened.device.clone(),
        device_name: opened.spec.to_string().split(':').next().unwrap_or_default().to_owned(),
        compute: dtype(training),
        // A GPU answers in the format of the training where nothing is said.
        answers: dtype(if on_cpu || answers != Compute::Auto { answers } else { training }),
        micro_tokens: options.micro_tokens.unwrap_or(if on_cpu { 1024 } else { 8192 }),
        // A GPU compiles kernels by shape: few widths, few kernels.
        multiple: if on_cpu { 1 } else { 64 },
    }
}

/// Rows that generate together where the user says nothing.
pub fn rows(opened: &Opened) -> usize {
    if device::is_cpu(&opened.device) { 64 } else { 128 }
}
