//! `finetune eval`: any model asked and judged, without a training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::json;

use super::ask::{Exam, ask};
use super::cast::{Candidate, Cast, RoleWeights, numerics, part_of};
use super::conclude::{conclude, prove};
use super::failure::Failure;
use super::judge::Case;
use super::plan::judges::Judges;
use super::plan::sources::{Sources, write_lock};
use super::plan::{self, Base, Evaluation, Model, Options, preset, questions, remarks, room};
use super::session::{Key, Session};
use crate::device::{self, Opened};
use crate::doing;
use crate::eval::Denominator;
use crate::eval::presets::Preset;
use crate::event::Listener;
use crate::hub;
use crate::merge::Role;
use crate::recipe::{self, Init, Recipe};
use crate::report::{Report, Run};
use crate::snapshot::Dtypes;
use crate::snapshot::adapter::{self, Adapter, Folded};
use crate::snapshot::digest::{self, Algorithm, of_json};
use crate::snapshot::writer::write_json;

/// The model that is asked: alone, with an adapter, or merged with what it was before.
#[derive(Debug, Clone, Serialize)]
pub struct Given {
    /// A folder or a hub's id.
    pub model: String,
    /// An adapter on it.
    pub adapter: Option<PathBuf>,
    /// What it was tuned from: base and merges are asked too.
    pub pre: Option<String>,
}

/// Asks the given model what `recipe` asks, judges its answers and writes a report.
///
/// The recipe's data, method and training play no part; `[data] template` and `[eval]` do. The report lies in
/// the folder that comes back.
///
/// # Errors
///
/// Whatever is wrong with the model, the suites or the device; a stop that was asked for.
pub fn eval<'a>(
    given: &Given,
    mut recipe: Recipe,
    origin: &str,
    options: &Options,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
    tell: &mut hub::Tell<'_>,
) -> Result<(Report, PathBuf), Failure> {
    let settling = doing::now(format!("settling what `{origin}` asks for"));
    let preset = preset::settle(&mut recipe.eval)?;
    let merges = plan::merging::resolve(&recipe)?;
    let mut sources = Sources::new(origin, options.out.as_deref(), tell);
    let named = |source: &str| recipe::Model { source: source.to_owned(), ..recipe.model.clone() };
    let model = Model::open(&named(&given.model), &recipe.data, &mut sources)?;
    let mut suites = questions::draw(&recipe.eval, &mut sources)?;
    questions::render(&mut suites, &recipe.eval, model.reader())?;
    let opened = device::open(&options.device)?;
    let machine = plan::machine(recipe.train.compute, options, &opened);
    room::check_weights(&model.shape, None, &machine)?;
    room::check_questions(&suites, &model.shape, &opened.device)?;
    let given_weights = Base::open(&model, Init::Checkpoint, 0, &mut sources)?;
    let own = with_adapter(&given_weights, given.adapter.as_deref(), &machine)?;
    let mut dtypes = given_weights.dtypes.clone();
    let (roles, candidates) = match (&given.pre, &given.adapter) {
        (Some(pre), _) => {
            let before = Model::open(&named(pre), &recipe.data, &mut sources)?;
            let before = Base::open(&before, Init::Checkpoint, 0, &mut sources)?;
            dtypes = before.dtypes.clone();
            let base = part_of(&before, &machine);
            (BTreeMap::from([(Role::Base, base), (Role::Tuned, own)]), Candidate::of(&merges))
        }
        (None, Some(_)) => (BTreeMap::from([(Role::Tuned, own)]), vec![Candidate::new("tuned", Role::Tuned)]),
        (None, None) => (BTreeMap::from([(Role::Base, own)]), vec![Candidate::new("model", Role::Base)]),
    };
    let names: Vec<String> = candidates.iter().map(|candidate| candidate.name.clone()).collect();
    recipe.gates.iter().try_for_each(|gate| gate.check_candidate(&names))?;
    let cast = Cast::of_parts(roles, candidates, dtypes.clone());
    // A merge that cannot be made is refused before anybody is asked.
    cast.candidates.iter().try_for_each(|candidate| cast.played(candidate).map(drop))?;
    let judges = Judges::new(&recipe.eval, preset, &mut sources)?;
    let rows = options.eval_rows.unwrap_or(plan::rows(&opened));
    let evaluation = Evaluation { suites, judges, rows };
    // The folder is that of the models: other merges and suites gather in it.
    let models = (0..cast.candidates.len()).filter(|nth| cast.candidates[*nth].merge().is_none());
    let key = Key::new(json!({ "evaluated": models.map(|nth| cast.key(nth)).collect::<Vec<_>>() }));
    let name = Path::new(&given.model).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = options.out.clone();
    let folder =
        folder.unwrap_or_else(|| Path::new("runs").join(format!("eval-{name}-{}", &key.digest[..8])));

    drop(settling);
    let mut session = Session::open(&folder, Some(&key), stop, watcher)?;
    for sentence in remarks::asked(&evaluation.suites, &model).into_iter().chain(sources.traces.said) {
        session.note(sentence)?;
    }
    prove(&opened, &model)?;
    let manifest = json!({
        "schema": 1,
        "program": { "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") },
        "key": key.digest,
        "given": given,
        "eval": recipe.eval,
        "merges": recipe.merge.methods,
        "dtype": dtypes.to_string(),
        "sha256": given_weights.digests,
        "commits": sources.traces.commits,
    });
    write_json(&folder.join("manifest.json"), &manifest)?;
    write_lock(&folder, &sources.traces.commits, &given_weights.digests)?;
    let exam = Exam { model: &model, evaluation: &evaluation, machine: &machine, device: &opened.name };
    let asked = ask(exam, &cast, &mut session)?;
    let case = Case {
        run: about(name, &given.model, &dtypes, &opened, &recipe, preset),
        seed: recipe.train.seed,
        asked,
        gates: recipe.gates.clone(),
    };
    let report = conclude(&case, (&recipe.eval, recipe.train.compute), (&machine, rows), &mut session)?;
    Ok((report, folder))
}

/// What the report says of it.
fn about(
    name: String,
    given: &str,
    dtypes: &Dtypes,
    opened: &Opened,
    recipe: &Recipe,
    preset: Option<&'static Preset>,
) -> Run {
    Run {
        name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: given.to_owned(),
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

/// The given weights, with an adapter folded in.
fn with_adapter(
    base: &Base,
    adapter: Option<&Path>,
    machine: &crate::train::Machine,
) -> Result<RoleWeights, Failure> {
    let Some(folder) = adapter else { return Ok(part_of(base, machine)) };
    let folded = Folded::new(base.weights.clone(), Arc::new(Adapter::read(folder)?))?;
    let files = [adapter::WEIGHTS, adapter::CONFIG].map(|name| folder.join(name));
    let files =
        files.iter().map(|path| digest::known(path, Algorithm::Blake3)).collect::<Result<Vec<_>, _>>()?;
    let key = of_json(&json!([base.key, files]));
    Ok(RoleWeights { weights: Arc::new(folded), key: numerics(&key, machine) })
}
