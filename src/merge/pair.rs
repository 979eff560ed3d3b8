//! The merge that a spec asks for: a base and what was tuned from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::methods::scaled_by;
use super::{MergeError, Merged, Part, Resolved, Role};
use crate::recipe::layer_of;
use crate::snapshot::{Dtypes, SharedWeights};

/// A base and its tuned models.
pub struct Pair {
    pub base: SharedWeights,
    /// One; several seeds or checkpoints for a method that compares them.
    pub tuned: Vec<SharedWeights>,
    /// How much each number matters to the base and to the tuned model, under the weights' names.
    pub importance: Option<[SharedWeights; 2]>,
    pub unmatched: Unmatched,
}

/// What becomes of weights that the base or the tuned models have alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// There must be none.
    #[default]
    Refuse,
    /// The base's are taken over, others left out.
    OfBase,
    /// Those of the tuned models are taken over, others left out.
    OfTuned,
    /// All are taken over.
    Both,
}

impl Pair {
    /// A base and one tuned model with the same weights.
    pub fn new(base: SharedWeights, tuned: SharedWeights) -> Self {
        Self { base, tuned: vec![tuned], importance: None, unmatched: Unmatched::Refuse }
    }

    /// Weights that not every model has, rising.
    pub fn unmatched(&self) -> Vec<&str> {
        let models = || [&self.base].into_iter().chain(&self.tuned);
        let names: BTreeSet<&str> =
            models().flat_map(|model| model.infos().keys().map(String::as_str)).collect();
        let everywhere = |name: &&str| models().all(|model| model.infos().contains_key(*name));
        names.into_iter().filter(|name| !everywhere(name)).collect()
    }

    /// Sets up the merge; nothing is computed yet. Every weight is rounded to its dtype, which the command that merges
    /// is told by `option`.
    ///
    /// # Errors
    ///
    /// The method takes another number of models or needs what is not there, or the models do not
    /// have the same weights in the same shapes.
    pub fn merged(
        &self,
        spec: &Resolved,
        dtypes: &Dtypes,
        option: &'static str,
    ) -> Result<Merged, MergeError> {
        let (method, n) = (spec.method, self.tuned.len());
        let refused = |why: String, help: &str| MergeError::BadParameters {
            spec: spec.name(),
            why,
            help: help.to_owned(),
        };
        let count = method.needs.count(Role::Tuned);
        if !count.contains(&n) {
            let (why, help) = match *count.start() {
                1 => (
                    format!("it takes one tuned model, and there are {n}"),
                    "name one; `--config` merges several",
                ),
                _ => (
                    format!("it compares at least two tuned models, and there are {n}"),
                    "give `--post` several times, such as two seeds or two checkpoints of one run",
                ),
            };
            return Err(refused(why, help));
        }
        let mut models = vec![(self.base.clone(), format!("the {}", Role::Base))];
        for (tuned, nth) in self.tuned.iter().zip(1..) {
            let role = Role::Tuned;
            models
                .push((tuned.clone(), if n == 1 { format!("the {role}") } else { format!("{role} {nth}") }));
        }
        let mut importance = Vec::new();
        match &self.importance {
            Some([of_base, of_tuned]) if method.needs.importance => {
                importance = vec![models.len(), models.len() + 1];
                models.push((of_base.clone(), "the importance for the base".to_owned()));
                models.push((of_tuned.clone(), "the importance for the tuned model".to_owned()));
            }
            None if method.needs.importance => {
                let why = "how much each number matters to the two models is not known".to_owned();
                return Err(refused(why, "give `--pre-fisher` and `--post-fisher`"));
            }
            _ => {}
        }
        let alone = self.unmatched();
        self.check(&alone)?;
        let alone: BTreeSet<&str> = alone.into_iter().collect();
        let shared = self.base.infos().keys().filter(|name| !alone.contains(name.as_str()));
        let layers = shared.clone().filter_map(|name| Some(layer_of(name)?.0 + 1));
        let methods = spec.methods(shared, layers.max().unwrap_or(0))?;
        let mut parts: BTreeMap<String, Part> = methods
            .into_iter()
            .map(|(name, method)| {
                let inputs = (0..=n).map(|model| (model, name.clone())).collect();
                let importance = importance.iter().map(|model| (*model, name.clone())).collect();
                (name, Part { inputs, base: Some(0), importance, method })
            })
            .collect();
        for name in alone {
            let of_base = matches!(self.unmatched, Unmatched::OfBase | Unmatched::Both);
            let of_tuned = matches!(self.unmatched, Unmatched::OfTuned | Unmatched::Both);
            let owner = (0..=n).find(|model| models[*model].0.infos().contains_key(name));
            let owner = owner.filter(|owner| if *owner == 0 { of_base } else { of_tuned });
            if let Some(owner) = owner {
                let inputs = vec![(owner, name.to_owned())];
                let method = Arc::from(scaled_by(1.0));
                let part = Part { inputs, base: None, importance: Vec::new(), method };
                parts.insert(name.to_owned(), part);
            }
        }
        let merged = Merged::of_parts(spec.name(), models, parts, None)?;
        Ok(merged.in_dtypes(dtypes, option).drawn_by(spec.seed()))
    }

    fn check(&self, alone: &[&str]) -> Result<(), MergeError> {
        let (Unmatched::Refuse, Some(first)) = (self.unmatched, alone.first()) else { return Ok(()) };
        let of_base = self.base.infos().contains_key(*first);
        Err(MergeError::Unmatched {
            names: alone.iter().map(ToString::to_string).collect(),
            first: (*first).to_owned(),
            place: if of_base { "the base" } else { "a tuned model" }.to_owned(),
            help: "are both of one family? `--unmatched pre`, `post` or `both` says whose are taken over"
                .to_owned(),
        })
    }
}
