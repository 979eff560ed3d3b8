//! What the penalties of `[objective]` look at: prompts, and the model that the base was aligned from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::encoding::digest_of;
use super::helpers::{self, Opened};
use super::model::{Base, Model};
use super::sources::Sources;
use crate::data::{self, Encoder, Sample};
use crate::recipe::{Data, Helper, Recipe};
use crate::run::failure::Failure;
use crate::snapshot::digest::{Algorithm, of_files};
use crate::train::penalty::Given;

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
            let settings = json!([asft.weight, asft.measure, asft.scaled]);
            key.insert("asft".to_owned(), json!([opened.key, settings]));
            found.unaligned = Some(opened);
        }
        found.key = (!key.is_empty()).then_some(Value::Object(key));
        Ok(found)
    }

    /// For the training itself.
    pub fn given<'a>(&'a self, recipe: &'a crate::recipe::Objective) -> Given<'a> {
        let unaligned = self.unaligned.as_ref().map(|opened| opened.weights.as_ref());
        Given {
            kl: recipe.kl.as_ref().map(|kl| (kl, self.kl.as_slice())),
            asft: recipe.asft.as_ref().zip(unaligned),
        }
    }
}
