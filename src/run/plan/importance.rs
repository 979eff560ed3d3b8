//! Which samples tell how much each number matters to base and tuned model, for merges that go by it.

use serde_json::json;

use super::encoding::digest_of;
use super::model::Model;
use super::sources::Sources;
use super::training::Training;
use crate::data::{self, Encoder, Sample};
use crate::merge::{MergeError, Resolved};
use crate::recipe::{Data, MethodKind, Recipe};
use crate::run::failure::Failure;
use crate::snapshot::digest::of_json;

/// The samples that tell it.
#[derive(Debug)]
pub struct Importance {
    /// Whose answers the base's numbers should keep.
    pub of_base: Vec<Sample>,
    /// How many are drawn from those trained on; of a full tuning none, for the optimizer has seen the
    /// squared gradients already.
    n_tuned: usize,
    /// The digest of all of them.
    pub key: String,
}

impl Importance {
    /// Reads the base's data, which `merge` needs.
    ///
    /// # Errors
    ///
    /// The recipe does not name the data, or they are wrong.
    pub fn new(
        merge: &Resolved,
        recipe: &Recipe,
        model: &Model,
        training: &Training,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let source = recipe.merge.fisher_source.as_ref().ok_or_else(|| MergeError::BadParameters {
            spec: merge.name(),
            why: "it must know what matters to the base, and no data tell".to_owned(),
            help: "set `merge.fisher_source` to data in the form of `[data]` whose answers should stay"
                .to_owned(),
        })?;
        if training.objective.preference().is_some() {
            let why = "what matters to a model that learned from pairs is not told by its answers".to_owned();
            let help = "take another method, or train with `objective.kind = \"sft\"`".to_owned();
            return Err(MergeError::BadParameters { spec: merge.name(), why, help }.into());
        }
        let n = recipe.merge.fisher_samples;
        let source = sources.find("merge.fisher_source", source)?.display().to_string();
        let data =
            Data { source, transforms: Vec::new(), refusal_mix: None, limit: n, ..recipe.data.clone() };
        let of_base = samples(&data, model, recipe.train.seed)?;
        let n_tuned = match recipe.method.kind {
            MethodKind::Full => 0,
            MethodKind::Lora => n.min(training.encoding.preflight.n_samples),
        };
        let key =
            of_json(&json!([digest_of(&[&of_base]), training.encoding.digest, recipe.train.seed, n_tuned]));
        Ok(Self { of_base, n_tuned, key })
    }

    /// Some of what was trained on, drawn by the run's seed.
    ///
    /// # Errors
    ///
    /// As [`Training::samples`].
    pub fn of_tuned(&self, training: &Training, model: &Model) -> Result<Vec<Sample>, Failure> {
        let samples = &training.samples(model)?.train;
        let order = data::order(training.train.seed, 0, samples.len());
        Ok(order.into_iter().take(self.n_tuned).map(|i| samples[i].clone()).collect())
    }

    /// What is looked at, for the user.
    pub fn said(&self) -> String {
        let (n_base, n_tuned) = (self.of_base.len(), self.n_tuned);
        match n_tuned {
            0 => {
                format!(
                    "importance: {n_base} samples tell it for the base; the optimizer knows the tuned model"
                )
            }
            _ => {
                format!("importance: {n_base} samples tell it for the base and {n_tuned} for the tuned model")
            }
        }
    }
}

/// The samples of one file that are looked at, as `[data]` makes them.
///
/// # Errors
///
/// The file is wrong, or its records are too long or teach nothing.
pub fn samples(data: &Data, model: &Model, seed: u64) -> Result<Vec<Sample>, Failure> {
    let data = Data {
        mixture: Vec::new(),
        refusal_mix: None,
        validation: 0.0,
        validation_source: None,
        ..data.clone()
    };
    let encoder = Encoder::new(&model.tokenizer, model.template.as_ref(), &data.system, data.loss_on)?;
    let mut samples = encoder.encode(&data::load(&data, seed)?.train)?.samples;
    data::fit(&mut samples, data.max_tokens, data.too_long)?;
    data::check(&samples, &encoder, model.shape.vocab_size)?;
    Ok(samples)
}
