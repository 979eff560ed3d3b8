//! What the penalties of `[objective]` look at: prompts, and the model that the base was aligned from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::encoding::digest_of;
use super::helpers::{self, Opened};
use super::model::{Base, Model};
use super::sources::Sources;
use crate::data::{self, Encoder, Sample};
use crate::model::DecoderShape;
use crate::recipe::{Data, Helper, Method, MethodKind, Objective, Projection, Recipe, Train};
use crate::run::failure::Failure;
use crate::snapshot::digest::{Algorithm, of_files};
use crate::train::extent::Extent;
use crate::train::init;
use crate::train::penalty::Given;

/// Bytes of a number that penalties keep.
const NUMBER_BYTES: u64 = 4;

/// What penalties keep in memory beside the model that is trained, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// The weights of the base that training would change.
    pub base: u64,
    /// What lies outside the alignment, [out, out] for each adapted matrix, and how many these are.
    pub outside: u64,
    pub n_matrices: usize,
}

impl Kept {
    /// What `objective` keeps where this is trained of a model of this shape.
    pub fn of(
        objective: &Objective,
        (method, train, extent): (&Method, &Train, Extent),
        shape: &DecoderShape,
    ) -> Self {
        let is_copied = objective.kl.is_some() && method.kind == MethodKind::Full;
        let base = if is_copied { NUMBER_BYTES * extent.trained as u64 } else { 0 };
        let targets = objective.asft.as_ref().and_then(|_| init::targets(shape, method, train).ok());
        let targets = targets.unwrap_or_default();
        let outside = targets.values().map(|[n_out, _]| NUMBER_BYTES * (n_out * n_out) as u64).sum();
        Self { base, outside, n_matrices: targets.len() }
    }

    /// All of it.
    pub fn bytes(self) -> u64 {
        self.base + self.outside
    }
}

/// What they look at.
#[derive(Default)]
pub struct Penalties {
    kl: Vec<Sample>,
    unaligned: Option<Opened>,
    /// SHA-256 of the file of prompts.
    pub digests: BTreeMap<String, String>,
    /// What decides what they add; `None` without any.
    pub key: Option<Value>,
    /// What the user should know.
    pub said: Vec<String>,
}

impl Penalties {
    /// Reads the prompts and opens the model that the recipe's penalties need.
    ///
    /// # Errors
    ///
    /// One is nowhere, or wrong.
    pub fn settle(
        recipe: &Recipe,
        model: &Model,
        base: &Base,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut key = serde_json::Map::new();
        if let Some(kl) = &recipe.objective.kl {
            let path = sources.find("objective.kl.source", &kl.source)?;
            let data = Data {
                source: path.display().to_string(),
                format: kl.format,
                fields: kl.fields.clone(),
                mixture: Vec::new(),
                transforms: Vec::new(),
                limit: 0,
                validation: 0.0,
                validation_source: None,
                ..recipe.data.clone()
            };
            let encoder =
                Encoder::new(&model.tokenizer, model.template.as_ref(), &data.system, data.loss_on)?;
            found.kl = encoder.encode(&data::load(&data, recipe.train.seed)?.train)?.samples;
            data::fit(&mut found.kl, data.max_tokens, data.too_long)?;
            found.digests = of_files(&[("kl".to_owned(), path)], Algorithm::Sha256)?;
            let n_positions: usize = found.kl.iter().map(Sample::n_trained).sum();
            let n = found.kl.len();
            found.said.push(format!(
                "kl: {n} conversations with {n_positions} positions at which the model is held to the base, {} in a step",
                kl.batch.min(n)
            ));
            let settings = json!([kl.weight, kl.temperature, kl.direction, kl.batch]);
            key.insert("kl".to_owned(), json!([digest_of(&[&found.kl]), settings]));
        }
        if let Some(asft) = &recipe.objective.asft {
            let source = asft.unaligned(&recipe.merge).expect("the recipe was checked");
            let opened = helpers::whole(Helper::Unaligned, source, model, base, sources)?;
            let mut settings = vec![json!(asft.weight), json!(asft.measure), json!(asft.scaled)];
            settings.extend((asft.projection != Projection::default()).then(|| json!(asft.projection)));
            key.insert("asft".to_owned(), json!([opened.key, settings]));
            found.unaligned = Some(opened);
        }
        found.key = (!key.is_empty()).then_some(Value::Object(key));
        Ok(found)
    }

    /// The mean number of tokens of a conversation that the model is held to the base on.
    pub fn mean_tokens(&self) -> f64 {
        self.kl.iter().map(|sample| sample.ids.len()).sum::<usize>() as f64 / self.kl.len().max(1) as f64
    }

    /// The most positions of one of them at which the two are compared.
    pub fn positions(&self) -> usize {
        self.kl.iter().map(Sample::n_trained).max().unwrap_or(0)
    }

    /// For the training itself.
    pub fn given<'a>(&'a self, recipe: &'a Objective) -> Given<'a> {
        let unaligned = self.unaligned.as_ref().map(|opened| opened.weights.as_ref());
        Given {
            kl: recipe.kl.as_ref().map(|kl| (kl, self.kl.as_slice())),
            asft: recipe.asft.as_ref().zip(unaligned),
        }
    }
}
