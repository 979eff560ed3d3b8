//! `finetune eval`: any model asked and judged, without a training.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ask::{Exam, ask};
use super::cast::{self, Candidate, Cast, Parts, RoleWeights, numerics, part_of};
use super::conclude::{conclude, prove};
use super::export::post::Post;
use super::failure::Failure;
use super::judge::Case;
use super::manifest;
use super::plan::fronts::Fronts;
use super::plan::named::{Named, adapter_on, given_folder};
use super::plan::sources::{Sources, Traces, write_lock};
use super::plan::{self, Base, Evaluation, Model, Options, Shared, preset, remarks, room, writing};
use super::session::{Key, Session};
use crate::device::{self, Opened};
use crate::doing;
use crate::eval::Denominator;
use crate::eval::presets::Preset;
use crate::event::{Event, Listener};
use crate::merge::{Mean, Role};
use crate::recipe::{self, Init, Recipe};
use crate::report::{Report, Run};
use crate::snapshot::adapter;
use crate::snapshot::digest::{self, Algorithm, of_json};
use crate::snapshot::writer::write_json;
use crate::snapshot::{Dtypes, SharedWeights, SnapshotError};
use crate::train::Machine;

/// The model that is asked: alone, with an adapter, or merged with what it was before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Given {
    /// A folder or a hub's id.
    pub model: String,
    /// An adapter on it.
    pub adapter: Option<PathBuf>,
    /// What it was tuned from: base and merges are asked too.
    pub pre: Option<String>,
    /// In place of all that, runs on `pre` whose tuned models are merged: tuned is the mean of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<PathBuf>,
}

/// An evaluation of given models, settled.
pub struct Settled {
    given: Given,
    recipe: Recipe,
    preset: Option<&'static Preset>,
    pub(super) model: Arc<Model>,
    base: Arc<Base>,
    dtypes: Dtypes,
    pub(super) opened: Opened,
    pub(super) machine: Machine,
    pub(super) evaluation: Evaluation,
    pub(super) cast: Cast,
    key: Key,
    /// Where the recipe was found.
    origin: String,
    name: String,
    traces: Traces,
    options: Options,
    pub folder: PathBuf,
}

impl Given {
    /// What `[model] tuned` of a recipe names, beside its base.
    ///
    /// # Errors
    ///
    /// It is nowhere.
    pub fn tuned(tuned: &str, recipe: &Recipe, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        let base = recipe.model.source.clone();
        let (folder, pre) = (given_folder(tuned, sources)?, Some(base.clone()));
        Ok(match folder.join(adapter::CONFIG).is_file() {
            true => Self { model: base, adapter: Some(folder), pre, runs: Vec::new() },
            false => Self { model: folder.display().to_string(), adapter: None, pre, runs: Vec::new() },
        })
    }
}

impl Settled {
    /// Settles what `recipe` asks the given model: its data, method and training play no part; `[data] template` and
    /// `[eval]` do.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the model, the suites or the device.
    pub fn new(
        given: Given,
        mut recipe: Recipe,
        origin: &str,
        options: &Options,
        mut sources: Sources<'_>,
        shared: &mut Shared,
    ) -> Result<Self, Failure> {
        let _doing = doing::now(format!("settling what `{origin}` asks for"));
        let preset = preset::settle(&mut recipe.eval)?;
        let merges = plan::merging::resolve(&recipe)?;
        let cure =
            "only a training with `train.ema` has one; `finetune merge --post RUN` merges that of a run";
        plan::merging::check_of(&merges, false, cure)?;
        let (own, data) = (named(&recipe, &given.model), &recipe.data);
        let model = shared.model(&own, data, &mut sources)?;
        let asked = shared.asked(&recipe.eval, (&own, data), &model, &mut sources)?;
        let suites = asked.suites.clone();
        let opened = device::open(&options.device)?;
        let machine = plan::machine([recipe.train.compute, recipe.eval.compute], options, &opened);
        for found in [
            room::check_weights(&model.shape, None, 0, &machine),
            room::check_questions(&suites, &model.shape, &opened.device),
        ] {
            sources.say(room::told(found, options.elsewhere)?);
        }
        let base = shared.base(&own, (data, 0), &model, &mut sources)?;
        let (own, compared) = match given.runs.as_slice() {
            [] => (with_adapter(&base, given.adapter.as_deref(), &machine, &mut sources)?, Vec::new()),
            runs => over(&base, runs, &machine, &mut sources)?,
        };
        let (mut dtypes, mut others) = (base.dtypes.clone(), Vec::new());
        let mut helpers = plan::helpers::Helpers::new();
        let (roles, candidates) = match (&given.pre, &given.adapter) {
            (Some(pre), _) => {
                let pre = named(&recipe, pre);
                let before = shared.model(&pre, data, &mut sources)?;
                let asked = &recipe.eval.candidates;
                let before_base = shared.base(&pre, (data, 0), &before, &mut sources)?;
                dtypes = before_base.dtypes.clone();
                let own_models = Named::all(asked, &before, &before_base, &mut sources)?;
                helpers = plan::helpers::open(&merges, &recipe, &before, &before_base, &mut sources)?;
                others = own_models.iter().map(|model| cast::named(model, &machine)).collect();
                let base = part_of(&before_base, &machine);
                (
                    BTreeMap::from([(Role::Base, base), (Role::Tuned, own)]),
                    Candidate::of(&[Role::Base, Role::Tuned], &merges, &own_models),
                )
            }
            (None, Some(_)) => {
                (BTreeMap::from([(Role::Tuned, own)]), vec![Candidate::new("tuned", Role::Tuned)])
            }
            (None, None) => (BTreeMap::from([(Role::Base, own)]), vec![Candidate::new("model", Role::Base)]),
        };
        let names: Vec<String> = candidates.iter().map(|candidate| candidate.name.clone()).collect();
        let Fronts { steering, guard } =
            Fronts::open(&recipe, (names, &merges), &model, &suites, &mut sources)?;
        sources.say(steering.as_ref().map(|steering| steering.said(&base.key)));
        sources.say(guard.as_ref().and_then(|(guard, _)| remarks::guarded(&suites, guard)));
        let cast = Cast::of_parts(roles, Parts { compared, others, helpers }, candidates, dtypes.clone());
        let cast = cast.with_steered(steering.map(Arc::new)).behind(guard.as_ref());
        // A merge that cannot be made is refused before anybody is asked.
        cast.candidates.iter().try_for_each(|candidate| cast.played(candidate).map(drop))?;
        let judges = shared.judges(&recipe.eval, preset, &mut sources)?;
        let rows = options.eval_rows.unwrap_or(plan::rows(&opened));
        let evaluation = Evaluation { suites, judges, rows };
        let key = key_of(&cast);
        let name = Path::new(&given.model).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = options.out.clone();
        let folder =
            folder.unwrap_or_else(|| Path::new("runs").join(format!("eval-{name}-{}", &key.digest[..8])));
        Ok(Self {
            given,
            recipe,
            preset,
            model,
            base,
            dtypes,
            opened,
            machine,
            evaluation,
            cast,
            key,
            origin: origin.to_owned(),
            name,
            traces: sources.traces,
            options: options.clone(),
            folder,
        })
    }

    /// The digest of the models.
    pub fn key(&self) -> &str {
        &self.key.digest
    }

    /// The parts that this is the digest of.
    pub fn key_parts(&self) -> &Value {
        &self.key.parts
    }

    /// How many models are asked.
    pub fn n_candidates(&self) -> usize {
        self.cast.candidates.len()
    }

    /// What the user should know of what was found.
    pub fn said(&self) -> &[String] {
        &self.traces.said
    }

    /// What the report says of it.
    pub(super) fn about(&self) -> Run {
        let Self { given, recipe, preset, dtypes, opened, .. } = self;
        Run {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: given.model.clone(),
            data: String::new(),
            method: String::new(),
            steps: 0,
            seed: recipe.train.seed,
            device: opened.spec.to_string(),
            dtype: dtypes.to_string(),
            validation_loss: None,
            preset: preset.map(Preset::in_words),
            denominator: preset.map_or(Denominator::All, |preset| preset.denominator),
        }
    }

    /// Writes the questions as tokens; until then they are only counted.
    ///
    /// # Errors
    ///
    /// They are not what was counted.
    pub(super) fn write_questions(&self) -> Result<(), Failure> {
        writing::write(&self.evaluation.suites, &self.recipe.eval, self.model.reader())
    }

    /// Every file and folder that was read.
    pub fn found(&self) -> &BTreeSet<PathBuf> {
        &self.traces.found
    }

    /// Who was asked what, digests and all else that `finetune reproduce` goes by: `manifest.json`.
    ///
    /// # Errors
    ///
    /// A file that was read is gone.
    pub fn manifest(&self) -> Result<Value, SnapshotError> {
        let Self { given, recipe, base, dtypes, opened, machine, evaluation, traces, .. } = self;
        let runs = given.runs.iter().map(PathBuf::as_path);
        Ok(json!({
            "schema": 1,
            "program": manifest::program(),
            "key": self.key.digest,
            "given": given,
            "eval": recipe.eval,
            "merges": recipe.merge.methods,
            // `recipe` is that of a training.
            "asked": recipe,
            "recipe_origin": self.origin,
            "seen_from": std::env::current_dir().ok(),
            "device": manifest::machine(&self.options.device, opened),
            "portions": { "micro_tokens": machine.micro_tokens, "rows": evaluation.rows },
            "seeds": { "train": recipe.train.seed, "suites": evaluation.seeds() },
            "compute": format!("{:?}", machine.compute).to_lowercase(),
            "dtype": dtypes.to_string(),
            "sha256": base.digests,
            "inputs": manifest::inputs(&traces.named)?,
            "commits": traces.commits,
            "parents": manifest::parents(traces.found.iter().map(PathBuf::as_path).chain(runs)),
        }))
    }

    /// What would be asked, for programs.
    ///
    /// # Errors
    ///
    /// A file that was read is gone.
    pub fn outlook(&self) -> Result<Value, SnapshotError> {
        let mut found = self.manifest()?;
        let candidates = self.cast.candidates.iter().map(|candidate| &candidate.name);
        found["folder"] = json!(self.folder);
        found["candidates"] = json!(candidates.collect::<Vec<_>>());
        found["notes"] = json!(self.said());
        Ok(found)
    }

    /// Asks, judges and writes the report.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong, or a stop that was asked for; what was finished before stays finished.
    pub fn run<'a>(&self, stop: &'a AtomicBool, watcher: &'a mut Listener<'a>) -> Result<Report, Failure> {
        let Self { recipe, model, base, opened, machine, evaluation, cast, traces, .. } = self;
        let mut session = Session::open(&self.folder, Some(&self.key), stop, watcher)?;
        session.share(!self.options.own_answers);
        for sentence in remarks::asked(&evaluation.suites, model).into_iter().chain(traces.said.clone()) {
            session.note(sentence)?;
        }
        self.write_questions()?;
        prove(opened, model)?;
        write_json(&self.folder.join(manifest::FILE), &self.manifest()?)?;
        write_lock(&self.folder, &traces.commits, &base.digests)?;
        let exam = Exam { model, evaluation, machine, device: &opened.name };
        let asked = ask(exam, cast, &mut session)?;
        let case = Case { run: self.about(), seed: recipe.train.seed, asked, gates: recipe.gates.clone() };
        let settings = (&recipe.eval, recipe.train.compute);
        let report = conclude(&case, settings, (machine, evaluation.rows), &mut session)?;
        manifest::finish(&self.folder)?;
        session.event(Event::RunDone)?;
        Ok(report)
    }
}

/// `[model]` with weights from elsewhere.
fn named(recipe: &Recipe, source: &str) -> recipe::Model {
    recipe::Model { source: source.to_owned(), init: Init::Checkpoint, ..recipe.model.clone() }
}

/// The mean of what several runs tuned from `base`, and each of them.
fn over(
    base: &Base,
    runs: &[PathBuf],
    machine: &Machine,
    sources: &mut Sources<'_>,
) -> Result<(RoleWeights, Vec<SharedWeights>), Failure> {
    let (mut models, mut digests) = (Vec::new(), Vec::new());
    for run in runs {
        let post = Post::open(run)?;
        models.push(post.on(&base.weights)?);
        for file in &post.files {
            digests.push(digest::known(file, Algorithm::Blake3)?);
            sources.traces.named.insert(file.display().to_string(), file.clone());
        }
    }
    let key = numerics(&of_json(&json!([base.key, digests])), machine);
    Ok((RoleWeights { weights: Arc::new(Mean::of(models.clone())), key }, models))
}

/// The given weights, with an adapter folded in.
fn with_adapter(
    base: &Base,
    adapter: Option<&Path>,
    machine: &Machine,
    sources: &mut Sources<'_>,
) -> Result<RoleWeights, Failure> {
    let Some(folder) = adapter else { return Ok(part_of(base, machine)) };
    sources.traces.named.insert(folder.display().to_string(), folder.to_owned());
    let (weights, key) = adapter_on(base, folder)?;
    Ok(RoleWeights { weights, key: numerics(&key, machine) })
}

/// The folder is that of the models: other merges and suites gather in it.
fn key_of(cast: &Cast) -> Key {
    let is_model = |nth: &usize| {
        let candidate = &cast.candidates[*nth];
        candidate.merge().is_none() && cast.steering(candidate).is_none()
    };
    let models = (0..cast.candidates.len()).filter(is_model);
    Key::new(json!({ "evaluated": models.map(|nth| cast.key(nth)).collect::<Vec<_>>() }))
}
