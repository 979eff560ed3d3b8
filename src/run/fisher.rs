//! How much each number matters to base and tuned model, for merges that go by it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::folder::Folder;
use super::plan::{Plan, digest};
use super::sources::Sources;
use super::{Failure, Stopped};
use crate::data::{self, Encoder, Sample};
use crate::event::{Event, Listener};
use crate::merge::MergeError;
use crate::recipe::{Data, Kind, Recipe};
use crate::snapshot::{SharedWeights, SnapshotError, Weight, WeightFiles, WeightInfo, Weights};
use crate::train::checkpoint::{Checkpoints, second_moments};
use crate::train::fisher::{FILE, write};

/// The samples that tell it.
#[derive(Debug)]
pub struct PlannedFisher {
    /// Whose answers the base's numbers should keep.
    of_base: Vec<Sample>,
    /// What was trained on. Of a full tuning the optimizer has seen the squared gradients already.
    of_tuned: Vec<Sample>,
    /// The digest of both.
    pub key: String,
}

impl PlannedFisher {
    /// Reads the base's data and draws from the training's.
    ///
    /// # Errors
    ///
    /// The recipe does not name the data, or they are wrong.
    pub fn new(
        recipe: &Recipe,
        train: &[Sample],
        encoder: &Encoder<'_>,
        n_tokens: usize,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let source = recipe.merge.fisher_source.as_ref().ok_or_else(|| MergeError::BadParameters {
            spec: "fisher".to_owned(),
            why: "it must know what matters to the base, and no data tell".to_owned(),
            help: "set `merge.fisher_source` to data in the form of `[data]` whose answers should stay"
                .to_owned(),
        })?;
        let n = recipe.merge.fisher_samples;
        let data = Data {
            source: sources.find("merge.fisher_source", source)?.display().to_string(),
            mixture: Vec::new(),
            transforms: Vec::new(),
            limit: n,
            validation: 0.0,
            validation_source: None,
            ..recipe.data.clone()
        };
        let mut of_base = encoder.encode(&data::load(&data, recipe.train.seed)?.train)?.samples;
        data::fit(&mut of_base, data.max_tokens, data.too_long)?;
        data::check(&of_base, encoder, n_tokens)?;
        let of_tuned = match recipe.method.kind {
            Kind::Full => Vec::new(),
            Kind::Lora => {
                let order = data::order(recipe.train.seed, 0, train.len());
                order.into_iter().take(n).map(|i| train[i].clone()).collect()
            }
        };
        let ids =
            |samples: &[Sample]| json!(samples.iter().map(|s| (&s.ids, &s.trained)).collect::<Vec<_>>());
        let key = digest(&json!([ids(&of_base), ids(&of_tuned)]));
        Ok(Self { of_base, of_tuned, key })
    }

    /// What is looked at, for the user.
    pub fn said(&self) -> String {
        let (n_base, n_tuned) = (self.of_base.len(), self.of_tuned.len());
        match n_tuned {
            0 => {
                format!("fisher looks at {n_base} samples for the base; the optimizer knows the tuned model")
            }
            _ => format!("fisher looks at {n_base} samples for the base and {n_tuned} for the tuned model"),
        }
    }
}

/// The importance for the base and for the tuned model; what is not there yet is computed.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or `stopped` says so.
pub fn importance(
    plan: &Plan,
    planned: &PlannedFisher,
    folder: &Folder,
    tuned: &dyn Weights,
    stopped: &dyn Fn() -> Option<Stopped>,
    listener: &mut Listener<'_>,
) -> Result<[SharedWeights; 2], Failure> {
    let path = |which: &str| folder.path().join("fisher").join(format!("{which}-{}", &planned.key[..8]));
    let mut computed = |which: &str, weights: &dyn Weights, samples: &[Sample]| {
        let target: PathBuf = path(which);
        if !target.is_dir() {
            let (name, started) = (format!("fisher of {which}"), Instant::now());
            listener(Event::Stage { name: name.clone(), total: samples.len() as u64 });
            write::<Failure>(&target, &plan.shape, weights, &plan.machine, samples, |done| {
                listener(Event::Progress { done: done as u64 });
                stopped().map_or(Ok(()), |stopped| Err(stopped.into()))
            })?;
            listener(Event::StageDone { name, elapsed_s: started.elapsed().as_secs_f64() });
        }
        Ok::<SharedWeights, Failure>(Arc::new(WeightFiles::open_file(&target.join(FILE))?))
    };
    let of_base = computed("base", plan.base.as_ref(), &planned.of_base)?;
    let of_tuned = match plan.recipe.method.kind {
        Kind::Lora => computed("tuned", tuned, &planned.of_tuned)?,
        Kind::Full => {
            let last = Checkpoints::new(&folder.train(), 0).path(plan.last_step);
            Arc::new(second_moments(&last)?)
        }
    };
    let infos = || plan.base.infos().clone();
    Ok([of_base, of_tuned].map(|known| -> SharedWeights { Arc::new(Filled { known, infos: infos() }) }))
}

/// Importance that is nowhere where it is not known: of weights that are no part of the model.
struct Filled {
    known: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
}

impl Weights for Filled {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        match (self.known.infos().contains_key(name), self.infos.get(name)) {
            (false, Some(info)) => Ok(Weight::from_f32(info.shape.clone(), &vec![0.0; info.n_elements()])),
            _ => self.known.weight(name),
        }
    }
}
