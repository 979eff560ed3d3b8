//! The merge that a spec asks for: a base and what was tuned from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::block::Update;
use super::merged::Besides;
use super::methods::scaled_by;
use super::whole::Masks;
use super::{Alignments, Merge, MergeError, Merged, Part, Resolved, Role};
use crate::recipe::{Helper, layer_of};
use crate::snapshot::{Dtypes, SharedWeights};

/// A base and its tuned models.
pub struct Pair {
    pub base: SharedWeights,
    /// One; several seeds or checkpoints for a method that compares them.
    pub tuned: Vec<SharedWeights>,
    /// How much each number matters to the base and to the tuned model, under the weights' names.
    pub importance: Option<[SharedWeights; 2]>,
    /// Other models, scores and masks that methods look at.
    pub helpers: BTreeMap<Helper, SharedWeights>,
    pub unmatched: Unmatched,
    /// How updates lie to the alignment, where several merges share what was looked at.
    pub alignments: Option<Arc<Alignments>>,
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
        Self {
            base,
            tuned: vec![tuned],
            importance: None,
            helpers: BTreeMap::new(),
            unmatched: Unmatched::Refuse,
            alignments: None,
        }
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
        self.counted(spec)?;
        let needs = &spec.method.needs;
        let mut models = vec![(self.base.clone(), format!("the {}", Role::Base))];
        // A method of base and helpers alone is shown no tuned model.
        let n = if needs.count(Role::Tuned) == (0..=0) { 0 } else { self.tuned.len() };
        for (tuned, nth) in self.tuned.iter().take(n).zip(1..) {
            let role = Role::Tuned;
            models
                .push((tuned.clone(), if n == 1 { format!("the {role}") } else { format!("{role} {nth}") }));
        }
        let helpers: Vec<Helper> = needs.helpers().filter(|helper| !helper.is_mask()).collect();
        for helper in &helpers {
            models.push((self.helpers[helper].clone(), helper.to_string()));
        }
        let n_inputs = models.len();
        let mut importance = Vec::new();
        if let Some([of_base, of_tuned]) = self.importance.as_ref().filter(|_| needs.importance) {
            importance = vec![models.len(), models.len() + 1];
            models.push((of_base.clone(), "the importance for the base".to_owned()));
            models.push((of_tuned.clone(), "the importance for the tuned model".to_owned()));
        }
        let alone = self.unmatched();
        self.check(&alone)?;
        let alone: BTreeSet<&str> = alone.into_iter().collect();
        let shared = self.base.infos().keys().filter(|name| !alone.contains(name.as_str()));
        let layers = shared.clone().filter_map(|name| Some(layer_of(name)?.0 + 1));
        let methods = spec.methods(shared, layers.max().unwrap_or(0))?;
        let besides = self.besides(&methods, n, helpers.is_empty());
        let mut parts: BTreeMap<String, Part> = methods
            .into_iter()
            // What a file of scores does not have stays the base's.
            .filter(|(name, _)| self.scored(&helpers, name))
            .map(|(name, method)| {
                let inputs = (0..n_inputs).map(|model| (model, name.clone())).collect();
                let importance = importance.iter().map(|model| (*model, name.clone())).collect();
                (name, Part { inputs, base: Some(0), importance, method, besides: besides.clone() })
            })
            .collect();
        for name in self.base.infos().keys().filter(|name| !alone.contains(name.as_str())) {
            parts.entry(name.clone()).or_insert_with(|| taken_over(0, name));
        }
        for name in alone {
            let of_base = matches!(self.unmatched, Unmatched::OfBase | Unmatched::Both);
            let of_tuned = matches!(self.unmatched, Unmatched::OfTuned | Unmatched::Both);
            let owner = (0..=n).find(|model| models[*model].0.infos().contains_key(name));
            let owner = owner.filter(|owner| if *owner == 0 { of_base } else { of_tuned });
            if let Some(owner) = owner {
                parts.insert(name.to_owned(), taken_over(owner, name));
            }
        }
        self.check_adapters(spec, &parts)?;
        let merged = Merged::of_parts(spec.name(), models, parts, None)?;
        Ok(merged.in_dtypes(dtypes, option).drawn_by(spec.seed()))
    }

    /// That the method gets what it needs.
    fn counted(&self, spec: &Resolved) -> Result<(), MergeError> {
        let (method, n) = (spec.method, self.tuned.len());
        let refused = |why: String, help: &str| MergeError::BadParameters {
            spec: spec.name(),
            why,
            help: help.to_owned(),
        };
        let count = method.needs.count(Role::Tuned);
        if !count.contains(&n) && count != (0..=0) {
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
        if method.needs.probe {
            let why = "which layers are put back is asked of a run's models".to_owned();
            let help = "put it into a recipe's `merge.methods`; a merge by layers that you know is \
                        `linear:1,layers.4=0.3`, and `finetune inspect layers RUN --probe restore` finds them";
            return Err(refused(why, help));
        }
        if method.needs.importance && self.importance.is_none() {
            let why = "how much each number matters to the two models is not known".to_owned();
            return Err(refused(why, "give `--pre-fisher` and `--post-fisher`"));
        }
        let given = self.helpers.keys().copied().collect();
        method.needs.given(&given).map_err(|missing| missing_helper(spec, missing))
    }

    /// What parts look at besides numbers, the tables of what was looked at shared by all merges of this pair.
    fn besides(&self, methods: &BTreeMap<String, Arc<dyn Merge>>, n: usize, is_plain: bool) -> Besides {
        let update = match (is_plain, n) {
            (true, _) => Update::BetweenTwo,
            (false, 1) => Update::To(1),
            (false, _) => Update::Own,
        };
        let chooses = methods.values().any(|method| method.choice().is_some());
        let alignments = chooses.then(|| {
            let unaligned = self.helpers[&Helper::Unaligned].clone();
            let made = || Arc::new(Alignments::new(self.base.clone(), self.tuned[0].clone(), unaligned));
            self.alignments.clone().unwrap_or_else(made)
        });
        let masks: Masks = self
            .helpers
            .iter()
            .filter(|(helper, _)| helper.is_mask())
            .map(|(helper, weights)| (*helper, weights.clone()))
            .collect();
        Besides { update, alignments, masks: (!masks.is_empty()).then(|| Arc::new(masks)) }
    }

    /// Whether every file of scores has this weight.
    fn scored(&self, helpers: &[Helper], name: &str) -> bool {
        let mut files = helpers.iter().filter(|helper| helper.is_file());
        files.all(|helper| self.helpers[helper].infos().contains_key(name))
    }

    /// That there are adapters where the method adds their factors.
    fn check_adapters(&self, spec: &Resolved, parts: &BTreeMap<String, Part>) -> Result<(), MergeError> {
        let mut n_pairs = 0;
        let wanted = parts.iter().filter(|(_, part)| part.method.of_adapters());
        let names: Vec<&String> = wanted.map(|(name, _)| name).collect();
        for name in &names {
            let rank = |weights: &SharedWeights| -> Result<Option<usize>, MergeError> {
                Ok(weights.numbers(name)?.factors().map(|factors| factors.rank))
            };
            let Some(of_tuned) = rank(&self.tuned[0])? else { continue };
            n_pairs += 1;
            if rank(&self.helpers[&Helper::Safety])? != Some(of_tuned) {
                let why = format!("the safety model is no adapter of rank {of_tuned} on `{name}`");
                return Err(no_adapters(spec, why));
            }
        }
        if n_pairs == 0 && !names.is_empty() {
            return Err(no_adapters(spec, "the tuned model is no adapter".to_owned()));
        }
        Ok(())
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

/// The error of a merge of adapters' factors where there are none.
fn no_adapters(spec: &Resolved, why: String) -> MergeError {
    MergeError::BadParameters {
        spec: spec.name(),
        why: format!("{why}, and PEFT's arithmetic adds the factors of two adapters"),
        help: "leave `arithmetic=peft` out, which blends the updates themselves".to_owned(),
    }
}

/// A weight of one model, as it is.
fn taken_over(owner: usize, name: &str) -> Part {
    let method = Arc::from(scaled_by(1.0));
    let inputs = vec![(owner, name.to_owned())];
    Part { inputs, base: None, importance: Vec::new(), method, besides: Besides::default() }
}

/// The error of a merge whose helper is not given.
pub fn missing_helper(spec: &Resolved, missing: Helper) -> MergeError {
    MergeError::BadParameters {
        spec: spec.name(),
        why: format!("it needs `{missing}`, and none is given"),
        help: format!(
            "set `{missing}` in the recipe's [merge.models], or give `finetune merge --model {missing}=PATH`; {}",
            missing.origin()
        ),
    }
}
