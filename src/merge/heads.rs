//! Models that share their head with the embedding, and models that have one of their own, brought to
//! one form.

use std::collections::BTreeMap;

use crate::snapshot::{Numbers, SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

/// The weight with a row for each token.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The weight with a row for each token that may come next; absent where it is the embedding.
pub const HEAD: &str = "lm_head.weight";

/// A model that shares its head with the embedding as one that has a head of its own.
pub struct Untied {
    inner: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
}

impl Untied {
    pub fn new(inner: SharedWeights) -> Self {
        let mut infos = inner.infos().clone();
        if let Some(info) = infos.get(EMBEDDING).cloned() {
            infos.insert(HEAD.to_owned(), info);
        }
        Self { inner, infos }
    }
}

impl Weights for Untied {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        self.inner.weight(if name == HEAD { EMBEDDING } else { name })
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        self.inner.numbers(if name == HEAD { EMBEDDING } else { name })
    }
}

/// A model without the head it has.
pub struct Bare {
    inner: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
}

impl Bare {
    pub fn new(inner: SharedWeights) -> Self {
        let mut infos = inner.infos().clone();
        infos.remove(HEAD);
        Self { inner, infos }
    }

    /// Whether a model's head is its embedding, bit for bit.
    ///
    /// # Errors
    ///
    /// A weight cannot be computed.
    pub fn same(model: &dyn Weights) -> Result<bool, SnapshotError> {
        let (embedding, head) = (model.numbers(EMBEDDING)?, model.numbers(HEAD)?);
        let (of_embedding, of_head) = (&model.infos()[EMBEDDING], &model.infos()[HEAD]);
        Ok(of_embedding.shape == of_head.shape && embedding.equal(&head, of_head.n_elements()))
    }
}

impl Weights for Bare {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        self.inner.weight(name)
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        self.inner.numbers(name)
    }
}
