//! What is looked into: the models of a finished run, or any model.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::{Asked, bad};
use crate::device::{self, Opened};
use crate::recipe::{Method, MethodKind, Recipe, Suite, Train};
use crate::report::inspection::Refusals;
use crate::run::cast::{Cast, RoleWeights, key_of_tuned, numerics, part_of};
use crate::run::conclude::prove;
use crate::run::failure::{Failure, InspectError};
use crate::run::plan::named::start_of;
use crate::run::plan::probing::{Probing, few, validating};
use crate::run::plan::sources::Sources;
use crate::run::plan::{self, Base, Model, Options, room};
use crate::run::probe;
use crate::run::session::Session;
use crate::snapshot::SharedWeights;
use crate::snapshot::adapter::Folded;
use crate::snapshot::files::read_json;
use crate::train::checkpoint::{self, Checkpoints};
use crate::train::{Machine, trained_adapter};

/// Whose layers are looked into.
#[derive(Debug, Clone)]
pub enum Of {
    /// A run folder.
    Run(PathBuf),
    /// A model's folder or hub id.
    Model(String),
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(folder) => write!(f, "{}", folder.display()),
            Self::Model(model) => f.write_str(model),
        }
    }
}

impl Of {
    /// The run folder, if it is one.
    pub(in crate::run) fn run(&self) -> Option<&Path> {
        match self {
            Self::Run(folder) => Some(folder),
            Self::Model(_) => None,
        }
    }

    /// The recipe of a run, or one that trains nothing; and where the paths in it begin.
    ///
    /// # Errors
    ///
    /// The folder is none of a run that trains, or an assignment cannot be made.
    pub(in crate::run) fn recipe(&self, set: &[String]) -> Result<(Recipe, String), Failure> {
        let (text, origin) = match self {
            Self::Run(folder) => {
                let manifest: Value = read_json(&folder.join("manifest.json")).unwrap_or_default();
                let recipe = serde_json::from_value::<Recipe>(manifest["recipe"].clone());
                let recipe = recipe.map_err(|_| InspectError::NotATraining { folder: folder.clone() })?;
                (recipe.to_toml(), manifest["recipe_origin"].as_str().unwrap_or_default().to_owned())
            }
            Self::Model(model) => {
                let source = Value::from(model.as_str());
                let text = format!(
                    "schema = 1\nname = \"inspect\"\n[model]\nsource = {source}\n[data]\nsource = \"none\""
                );
                (text, "--model".to_owned())
            }
        };
        Ok((Recipe::parse(&text, &origin, set)?, origin))
    }
}

/// The models, opened.
pub(in crate::run) struct Subject {
    pub recipe: Recipe,
    pub model: Model,
    pub base: Base,
    pub opened: Opened,
    pub machine: Machine,
    /// Rows that generate together.
    pub rows: usize,
    /// Of a run the tuned model.
    tuned: Option<RoleWeights>,
    /// In which `inspect/` is made.
    pub folder: PathBuf,
}

impl Subject {
    /// Opens the model, its weights and the device.
    ///
    /// # Errors
    ///
    /// The model or the device cannot be had, or the training of a run is not finished.
    pub(in crate::run) fn open(
        of: &Of,
        recipe: Recipe,
        options: &Options,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let n_steps = of.run().map(finished).transpose()?;
        let model = Model::open(&recipe.model, &recipe.data, sources)?;
        let opened = device::open(&options.device)?;
        let machine = plan::machine([recipe.train.compute, recipe.eval.compute], options, &opened);
        room::check_weights(&model.shape, None, 0, &machine)?;
        prove(&opened, &model)?;
        let base = Base::open(&model, recipe.model.init, recipe.train.seed, sources)?;
        let tuned = of.run().zip(n_steps).map(|(run, step)| {
            tuned(&model, &base, (&recipe.method, &recipe.train), (&run.join("train"), step), &machine)
        });
        let tuned = tuned.transpose()?;
        let name = model.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = match of {
            Of::Run(folder) => folder.clone(),
            Of::Model(_) => {
                let own = || Path::new("runs").join(format!("inspect-{name}-{}", &base.key[..8]));
                options.out.clone().unwrap_or_else(own)
            }
        };
        let rows = options.eval_rows.unwrap_or(plan::rows(&opened));
        Ok(Self { recipe, model, base, opened, machine, rows, tuned, folder })
    }

    /// The tuned model, if there is one.
    pub(in crate::run) fn tuned(&self) -> Option<RoleWeights> {
        self.tuned.clone()
    }

    /// The model that is looked into alone and what it is called: the base, or the tuned one where that is asked for.
    pub(in crate::run) fn one(&self, tuned: bool) -> Option<(&'static str, RoleWeights)> {
        match (tuned, &self.tuned) {
            (true, tuned) => Some(("tuned", tuned.clone()?)),
            (false, Some(_)) => Some(("base", part_of(&self.base, &self.machine))),
            (false, None) => Some(("model", part_of(&self.base, &self.machine))),
        }
    }

    /// The one suite whose refusals are counted: the one given, else the run's first of harmful requests that chooses λ.
    ///
    /// # Errors
    ///
    /// There is none, or several are given; its file is wrong; its answers are not judged by refusals.
    pub(super) fn probing(&self, asked: &Asked, sources: &mut Sources<'_>) -> Result<Probing, Failure> {
        if asked.suites.len() > 1 {
            let found = format!("given {} times", asked.suites.len());
            return Err(bad("--suite", found, "one suite, whose refusals are counted").into());
        }
        let suites = (&*self.suites(&asked.suites), !asked.suites.is_empty());
        Probing::new(&self.recipe.eval, suites, (&self.model, &self.opened.device, self.rows), sources)
    }

    /// The refusals of every candidate, as [`probe::count`].
    ///
    /// # Errors
    ///
    /// As there.
    pub(super) fn count(
        &self,
        probing: &Probing,
        cast: &Cast,
        session: &mut Session<'_>,
    ) -> Result<Vec<Refusals>, Failure> {
        probe::count(probing, (&self.model, &self.machine, &self.opened), cast, session)
    }

    /// The suites that may be asked, each with as many prompts: those given, else the run's own that choose λ.
    pub(in crate::run) fn suites(&self, given: &[Suite]) -> Vec<Suite> {
        if given.is_empty() { validating(&self.recipe.eval) } else { few(given) }
    }
}

/// How many steps a finished training made.
fn finished(run: &Path) -> Result<usize, InspectError> {
    let result: Value = read_json(&run.join("train/result.json")).unwrap_or_default();
    let steps = result["steps"].as_u64().and_then(|steps| usize::try_from(steps).ok());
    steps.ok_or_else(|| InspectError::Unfinished { folder: run.to_owned() })
}

/// What a training left in its folder after `step` steps, under the key that its run has it by.
fn tuned(
    model: &Model,
    base: &Base,
    (method, train): (&Method, &Train),
    (folder, step): (&Path, usize),
    machine: &Machine,
) -> Result<RoleWeights, Failure> {
    let checkpoints = Checkpoints::new(folder, 0);
    let weights: SharedWeights = match method.kind {
        MethodKind::Lora => {
            let adapter = trained_adapter(&model.shape, (method, train), folder, step)?;
            let hardened =
                start_of(&checkpoints.path(step))?.map(|weights| Arc::new(weights) as SharedWeights);
            Arc::new(Folded::new(hardened.unwrap_or_else(|| base.weights.clone()), Arc::new(adapter))?)
        }
        MethodKind::Full => Arc::new(checkpoints.weights(step)?),
    };
    let key = key_of_tuned(base, method, &checkpoints.path(step).join(checkpoint::WEIGHTS))?;
    Ok(RoleWeights { weights, key: numerics(&key, machine) })
}
