//! What the plans of a study have in common: every model, file of data and suite is read once.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::model::{Base, Model};
use super::questions::{self, Questions};
use super::sources::{Sources, Traces};
use super::training::Read;
use crate::recipe::Recipe;
use crate::run::failure::Failure;

/// What was read for earlier plans; empty for a plan that stands alone.
#[derive(Default)]
pub struct Shared {
    models: HashMap<String, (Arc<Model>, Traces)>,
    bases: HashMap<String, (Arc<Base>, Traces)>,
    data: HashMap<String, (Read, Traces)>,
    suites: HashMap<String, (Vec<Questions>, Traces)>,
}

impl Shared {
    /// As [`Model::open`].
    pub(super) fn model(
        &mut self,
        recipe: &Recipe,
        sources: &mut Sources<'_>,
    ) -> Result<Arc<Model>, Failure> {
        known(&mut self.models, model_key(recipe), sources, |sources| {
            Model::open(&recipe.model, &recipe.data, sources).map(Arc::new)
        })
    }

    /// As [`Base::open`].
    pub(super) fn base(
        &mut self,
        recipe: &Recipe,
        model: &Model,
        sources: &mut Sources<'_>,
    ) -> Result<Arc<Base>, Failure> {
        let (init, seed) = (recipe.model.init, recipe.train.seed);
        // Only what is drawn depends on the seed.
        let drawn_by = (init == crate::recipe::Init::Random).then_some(seed);
        known(&mut self.bases, json!([model_key(recipe), drawn_by]).to_string(), sources, |sources| {
            Base::open(model, init, seed, sources).map(Arc::new)
        })
    }

    /// As [`Read::new`].
    pub(super) fn data(&mut self, recipe: &Recipe, sources: &mut Sources<'_>) -> Result<Read, Failure> {
        let key = json!([recipe.data, recipe.objective.kind, recipe.train.seed]).to_string();
        known(&mut self.data, key, sources, |sources| Read::new(recipe, sources))
    }

    /// As [`questions::draw`] and [`questions::render`].
    pub(super) fn suites(
        &mut self,
        recipe: &Recipe,
        model: &Model,
        sources: &mut Sources<'_>,
    ) -> Result<Vec<Questions>, Failure> {
        let key = json!([recipe.eval, model_key(recipe)]).to_string();
        known(&mut self.suites, key, sources, |sources| {
            let mut suites = questions::draw(&recipe.eval, sources)?;
            questions::render(&mut suites, &recipe.eval, model.reader())?;
            Ok(suites)
        })
    }
}

/// What of a recipe decides its model and its template.
fn model_key(recipe: &Recipe) -> String {
    let data = &recipe.data;
    json!([recipe.model, data.template, data.date, data.chat_template_kwargs, data.is_of_guard()]).to_string()
}

/// What is known by this key, or found now.
fn known<T: Clone>(
    all: &mut HashMap<String, (T, Traces)>,
    key: String,
    sources: &mut Sources<'_>,
    find: impl FnOnce(&mut Sources<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Some((found, traces)) = all.get(&key) {
        sources.replay(traces);
        return Ok(found.clone());
    }
    let (found, traces) = sources.traced(find)?;
    all.insert(key, (found.clone(), traces));
    Ok(found)
}
