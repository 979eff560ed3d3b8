//! Which merges of base and tuned model are made, and what they need besides the two.

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde_json::{Value, json};

use super::helpers::{Helpers, looked_at};
use super::importance::Importance;
use super::model::{Base, Model};
use super::named::Named;
use super::probing::{self, Probing};
use super::sources::Sources;
use super::training::Training;
use crate::merge::{self, MergeError, Resolved, Role};
use crate::recipe::{Eval, Recipe};
use crate::run::failure::Failure;
use crate::train::checkpoint::Checkpoints;

/// The merges of a run, settled.
pub struct Merging {
    pub merges: Vec<Resolved>,
    /// Models of one's own that are asked too.
    pub named: Vec<Named>,
    /// What merges look at besides base and tuned model.
    pub helpers: Helpers,
    /// The steps whose checkpoints are compared by merges of several tuned models.
    pub checkpoints: Vec<usize>,
    /// For merges that go by importance.
    pub importance: Option<Importance>,
    /// For merges that go by the layers which refusals hang on.
    pub probing: Option<Probing>,
}

const WITHOUT: &str = "leave `of=ema` out";

/// Every merge of a recipe, its parameters looked at.
///
/// # Errors
///
/// A method or a parameter is unknown, missing or out of range, or a model that a method looks at is not named.
pub fn resolve(recipe: &Recipe) -> Result<Vec<Resolved>, Failure> {
    let specs = recipe.merge.specs()?;
    let merges: Vec<Resolved> =
        specs.iter().map(|spec| merge::resolve(spec, recipe.train.seed)).collect::<Result<_, _>>()?;
    let given = recipe.merge.models.keys().copied().collect();
    for merge in &merges {
        merge.method.needs.given(&given).map_err(|missing| merge::missing_helper(merge, missing))?;
    }
    Ok(merges)
}

/// That merges which are `of=ema` will find an average of the weights and can be made of it; else `cure` says what to do.
///
/// # Errors
///
/// There is none, or the method takes more than a base and one model.
pub fn check_of(merges: &[Resolved], has_average: bool, cure: &str) -> Result<(), Failure> {
    for merge in merges.iter().filter(|merge| merge.of() == Role::Ema) {
        let needs = &merge.method.needs;
        let (why, cure) = if !has_average {
            ("there is no average of the weights", cure)
        } else if needs.several_tuned() {
            ("it compares tuned models, and the average is one", WITHOUT)
        } else if needs.importance {
            ("importance is measured of the tuned model, and not of the average", WITHOUT)
        } else if needs.probe {
            ("layers are put back in the tuned model, and not in the average", WITHOUT)
        } else {
            continue;
        };
        return Err(merge.refused_for(why, cure).into());
    }
    Ok(())
}

/// What merges that go by importance look at.
///
/// # Errors
///
/// The recipe does not name the data, or they are wrong.
pub fn importance(
    merges: &[Resolved],
    recipe: &Recipe,
    model: &Model,
    training: &Training,
    sources: &mut Sources<'_>,
) -> Result<Option<Importance>, Failure> {
    let first = merges.iter().find(|resolved| resolved.method.needs.importance);
    first.map(|merge| Importance::new(merge, recipe, model, training, sources)).transpose()
}

/// What merges that go by a probe ask.
///
/// # Errors
///
/// The recipe has no harmful requests for validation, or they are wrong.
pub fn probing(
    merges: &[Resolved],
    eval: &Eval,
    asked: (&Model, &Device, usize),
    sources: &mut Sources<'_>,
) -> Result<Option<Probing>, Failure> {
    let Some(merge) = merges.iter().find(|merge| merge.method.needs.probe) else { return Ok(None) };
    let suites = probing::validating(eval);
    match Probing::new(eval, (&suites, false), asked, sources) {
        Ok(probing) => Ok(Some(probing)),
        Err(Failure::Inspect(_)) => {
            let why = "which layers bring refusals back must be asked, and no suite is there for it";
            let help = "add a suite of harmful requests with `purpose = \"validation\"`, judged by refusals";
            Err(merge.refused_for(why, help).into())
        }
        Err(other) => Err(other),
    }
}

impl Merging {
    /// What draws the numbers of merges that chance plays a part in.
    pub fn seeds(&self) -> BTreeMap<String, u64> {
        self.merges.iter().filter_map(|merge| Some((merge.name(), merge.seed()?))).collect()
    }

    /// Settles what `merges` need.
    ///
    /// # Errors
    ///
    /// A place of a spec holds none of the weights, or what a method needs will not be there.
    pub fn new(
        (merges, named, helpers, probing): (Vec<Resolved>, Vec<Named>, Helpers, Option<Probing>),
        importance: Option<Importance>,
        recipe: &Recipe,
        model: &Model,
        base: &Base,
        training: &Training,
    ) -> Result<Self, Failure> {
        for resolved in &merges {
            resolved.methods(base.weights.infos().keys(), model.shape.n_layers)?;
        }
        let checkpoints = compared(&merges, recipe, training.last_step)?;
        Ok(Self { merges, named, helpers, checkpoints, importance, probing })
    }

    /// What decides a merge's weights besides base, tuned model and spec; `files` are the digests of what is
    /// compared or tells the importance.
    pub fn besides(&self, merge: &Resolved, files: &[String]) -> Vec<Value> {
        let needs = &merge.method.needs;
        let compared = needs.several_tuned().then(|| json!([self.checkpoints, files]));
        let importance = self.importance.as_ref().filter(|_| needs.importance);
        let importance = importance.map(|known| json!([known.key, files]));
        let seed = merge.seed().map(|seed| json!(seed));
        let helpers = looked_at(merge, &self.helpers);
        compared.into_iter().chain(importance).chain(seed).chain(helpers).collect()
    }
}

/// The steps whose checkpoints there will be for merges that compare several.
fn compared(merges: &[Resolved], recipe: &Recipe, last: usize) -> Result<Vec<usize>, Failure> {
    let Some(resolved) = merges.iter().find(|resolved| resolved.method.needs.several_tuned()) else {
        return Ok(Vec::new());
    };
    let steps = Checkpoints::at_the_end(&recipe.train, last);
    if !resolved.method.needs.count(Role::Tuned).contains(&steps.len()) {
        return Err(MergeError::BadParameters {
            spec: resolved.name(),
            why: format!(
                "it compares tuned models, and this run will have {} checkpoints",
                steps.len().max(1)
            ),
            help:
                "set `train.checkpoint_every` to a number of steps and `train.keep_checkpoints` to how many \
                   are compared"
                    .to_owned(),
        }
        .into());
    }
    Ok(steps)
}
