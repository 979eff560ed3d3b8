//! Conversations as samples, and what is remembered of them from one command to the next: a digest and
//! the counts, so that a run that is trained need not encode again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kept::{Kept, forget, kept};
use super::model::Model;
use crate::data::{self, Encoder, Fitted, Preflight, Sample, Sets};
use crate::model::DecoderShape;
use crate::recipe::{Data, Objective};
use crate::run::failure::Failure;
use crate::train::NUMERICS;

/// What is trained on, and what is held out.
pub struct Samples {
    pub train: Vec<Sample>,
    pub validation: Vec<Sample>,
}

/// Samples in numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Encoding {
    /// Of all ids and labels in their order.
    pub digest: String,
    pub fitted: Fitted,
    pub preflight: Preflight,
    pub n_validation: usize,
    /// What the objective made of the conversations, one sentence each.
    pub said: Vec<String>,
    /// A sentence on the fields of turns that the template does not write.
    pub unread: Option<String>,
    /// Samples that are longer than the model's window, of those that are trained on and those that are held out.
    pub beyond: [Beyond; 2],
    /// Where it is remembered.
    #[serde(skip)]
    path: Option<PathBuf>,
}

/// Samples that are longer than a model's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    pub n: usize,
    pub of: usize,
    /// Tokens of the longest sample.
    pub longest: usize,
}

impl Encoding {
    /// Where it is remembered, if there is a cache.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Tokens of the longest sample that is trained on or held out.
    pub fn longest(&self) -> usize {
        self.beyond.iter().map(|samples| samples.longest).max().unwrap_or(0)
    }
}

impl Beyond {
    fn new(samples: &[Sample], window: usize) -> Self {
        let lengths = samples.iter().map(|sample| sample.ids.len());
        Self {
            n: lengths.clone().filter(|n_tokens| *n_tokens > window).count(),
            of: samples.len(),
            longest: lengths.max().unwrap_or(0),
        }
    }
}

impl Samples {
    /// Encodes conversations and looks at them for the last time before the first step.
    ///
    /// # Errors
    ///
    /// One cannot be encoded, is too long, or all of them teach nothing.
    pub fn encode(
        sets: &Sets,
        data: &Data,
        (objective, seed): (&Objective, u64),
        encoder: &Encoder<'_>,
        shape: &DecoderShape,
    ) -> Result<(Self, Encoding), Failure> {
        let made = |conversations, set| data::samples(conversations, encoder, objective, seed, set);
        let (mut made, mut held) = (made(&sets.train, "train")?, made(&sets.validation, "validation")?);
        let said = made.said.drain(..).chain(held.said.drain(..)).collect();
        let (mut train, mut validation, group) = (made.samples, held.samples, objective.group());
        let fitted = data::fit_groups(&mut train, group, data.max_tokens, data.too_long)?;
        data::fit_groups(&mut validation, group, data.max_tokens, data.too_long)?;
        let preflight = data::check(&train, encoder, shape.vocab_size)?;
        let digest = digest_of(&[&train, &validation]);
        let beyond = [&train, &validation].map(|samples| Beyond::new(samples, shape.max_positions));
        let (n_validation, unread) = (validation.len(), encoder.unread(&sets.train));
        let encoding = Encoding { digest, fitted, preflight, n_validation, said, unread, beyond, path: None };
        Ok((Self { train, validation }, encoding))
    }
}

impl Encoding {
    /// What is remembered of an encoding with the same files, settings and version of this program; else
    /// what `encode` finds, which is remembered.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or whatever `encode` returns.
    pub fn known(
        data: &Data,
        files: &BTreeMap<String, String>,
        (objective, seed): (&Objective, u64),
        model: &Model,
        encode: impl FnOnce() -> Result<Self, Failure>,
    ) -> Result<Self, Failure> {
        let rows = [model.shape.vocab_size, model.shape.max_positions];
        let key = json!([NUMERICS, settings(data), files, model.writing()?, rows, seed, objective]);
        let Kept { found, path } = kept("samples", &key, encode)?;
        Ok(Self { path, ..found })
    }

    /// Forgets what is remembered.
    pub fn forget(&self) {
        forget(self.path.as_ref());
    }
}

/// `[data]` without the places of its files: these count by their contents.
fn settings(data: &Data) -> Value {
    let mut settings = json!(data);
    if let Value::Object(map) = &mut settings {
        for key in ["source", "validation_source", "template"] {
            map.remove(key);
        }
        let mut parts: Vec<&mut Value> = Vec::new();
        for (key, value) in map.iter_mut() {
            match key.as_str() {
                "mixture" => parts.extend(value.as_array_mut().into_iter().flatten()),
                "refusal_mix" => parts.extend(value["sources"].as_array_mut().into_iter().flatten()),
                _ => {}
            }
        }
        for part in parts.into_iter().filter_map(Value::as_object_mut) {
            part.remove("source");
        }
    }
    settings
}

/// The BLAKE3 of the ids and labels of some sets of samples.
pub(super) fn digest_of(sets: &[&[Sample]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for set in sets {
        hasher.update(&(set.len() as u64).to_le_bytes());
        for sample in *set {
            hasher.update(&(sample.ids.len() as u64).to_le_bytes());
            let ids = sample.ids.iter().flat_map(|id| id.to_le_bytes());
            let label = |label: &Option<u32>| label.map_or(-1, i64::from).to_le_bytes();
            let labels = sample.labels.iter().flat_map(label);
            hasher.update(&ids.chain(labels).collect::<Vec<u8>>());
            if sample.weight != 1.0 {
                hasher.update(&sample.weight.to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}
