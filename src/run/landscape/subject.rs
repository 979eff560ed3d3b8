//! Base and tuned model with what they are asked: a finished run's, or given ones.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::Request;
use crate::device::Opened;
use crate::doing;
use crate::eval::{self, MetricKind};
use crate::event::Listener;
use crate::hub;
use crate::recipe::{Recipe, RecipeError};
use crate::report::Run;
use crate::run::alone::{Given, Settled};
use crate::run::cast::Cast;
use crate::run::failure::{Failure, FolderError};
use crate::run::plan::sources::Sources;
use crate::run::plan::{Evaluation, Model, Options, Plan, Shared};
use crate::run::session::Session;
use crate::snapshot::files::read_json;
use crate::train::Machine;

/// Two models, settled, with every merge of a request as a candidate.
pub struct Subject {
    pub model: Arc<Model>,
    pub evaluation: Evaluation,
    pub machine: Machine,
    pub opened: Opened,
    pub cast: Cast,
    /// What reports say of them.
    pub run: Run,
    /// The seed that stands beside every metric.
    pub seed: u64,
}

impl Subject {
    /// Those of the finished run in `folder`, asked the suites of its recipe, which [`recipe_of`] finds.
    ///
    /// # Errors
    ///
    /// Model or data of the run are gone, or changed.
    pub fn of_run<'a>(
        folder: &Path,
        (recipe, origin): (Recipe, String),
        request: &Request,
        options: Options,
        (stop, watcher): (&'a AtomicBool, &'a mut Listener<'a>),
        tell: &mut hub::Tell<'_>,
    ) -> Result<Self, Failure> {
        let _doing = doing::now(format!("opening the run `{}`", folder.display()));
        let recipe = fitted(recipe, request)?;
        let text = recipe.to_toml();
        let options = Options { out: Some(folder.to_owned()), ..options };
        let plan = Plan::new(recipe, text, origin, options, &mut Shared::default(), tell)?;
        plan.write_questions()?;
        let mut session = Session::open(&plan.folder, Some(&plan.key), stop, watcher)?;
        let cast = Cast::of_run(&plan, &mut session)?;
        let (run, seed) = (super::super::about(&plan, None), plan.recipe.train.seed);
        let Plan { model, evaluation, machine, opened, .. } = plan;
        Ok(Self { model, evaluation, machine, opened, cast, run, seed })
    }

    /// A base and what was tuned from it, a folder, an adapter, a run folder or a hub's id, asked the suites of `recipe`.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the models, the suites or the device.
    pub fn of_pair(
        (pre, post): (&str, &str),
        mut recipe: Recipe,
        request: &Request,
        origin: &str,
        options: &Options,
        mut sources: Sources<'_>,
    ) -> Result<Self, Failure> {
        pre.clone_into(&mut recipe.model.source);
        let recipe = fitted(recipe, request)?;
        let seed = recipe.train.seed;
        let given = Given::tuned(post, &recipe, &mut sources)?;
        let settled = Settled::new(given, recipe, origin, options, sources, &mut Shared::default())?;
        settled.write_questions()?;
        let run = settled.about();
        let Settled { model, evaluation, machine, opened, cast, .. } = settled;
        Ok(Self { model, evaluation, machine, opened, cast, run, seed })
    }
}

/// The recipe of a finished run as it was settled, and where it was found. `assignments` change keys of it, such as
/// `eval.limit=50`.
///
/// # Errors
///
/// The folder is none of a finished training.
pub fn recipe_of(folder: &Path, assignments: &[String]) -> Result<(Recipe, String), Failure> {
    let no_training = |why: &str, help: &str| FolderError::NoTraining {
        folder: folder.to_owned(),
        why: why.to_owned(),
        help: help.to_owned(),
    };
    let path = folder.join("manifest.json");
    if !path.is_file() {
        let help = "name the folder that a run wrote, or two models with `--pre` and `--post`";
        return Err(no_training("it has no `manifest.json`", help).into());
    }
    let mut manifest: Value = read_json(&path)?;
    if manifest["recipe"].is_null() {
        let help = "name the two models with `--pre` and `--post`";
        return Err(no_training("nothing was trained there", help).into());
    }
    if !folder.join("report.json").is_file() {
        let help = "the command that made it, typed again, goes on";
        return Err(no_training("it has no report yet", help).into());
    }
    let origin = manifest["recipe_origin"].as_str().unwrap_or_default().to_owned();
    let recipe = serde_json::from_value(manifest["recipe"].take());
    let other = |_| {
        no_training("another version of this program made it", "name its models with `--pre` and `--post`")
    };
    let recipe: Recipe = recipe.map_err(other)?;
    Ok((Recipe::parse(&recipe.to_toml(), &origin, assignments)?, origin))
}

/// The recipe with the merges that the request needs, and without what a landscape has no use for.
fn fitted(mut recipe: Recipe, request: &Request) -> Result<Recipe, Failure> {
    recipe.merge.methods = request.merges()?;
    recipe.gates.clear();
    recipe.eval.candidates.clear();
    recipe.steer = None;
    let mut is_safety = false;
    for suite in &mut recipe.eval.suites {
        if let Some(limit) = request.limit {
            // Without a limit, or with 0, all items are asked.
            let own = Some(suite.limit.unwrap_or(recipe.eval.limit)).filter(|own| *own > 0);
            suite.limit = Some(own.map_or(limit, |own| own.min(limit)));
        }
        is_safety |= eval::tasks::find(&suite.task)?.kind == MetricKind::Safety;
    }
    if !is_safety {
        return Err(RecipeError::BadValue {
            key: "eval.suites".to_owned(),
            found: "no suite of harmful requests".to_owned(),
            expected: "one, such as `task = \"harmful\"`".to_owned(),
        }
        .into());
    }
    Ok(recipe)
}
