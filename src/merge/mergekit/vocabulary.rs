//! Models with different vocabularies brought to one, row by row and by the text of each token.

use std::collections::BTreeMap;

use crate::snapshot::{Dtype, SnapshotError, Weight, WeightInfo, Weights};

/// Weights whose rows belong to tokens.
const BY_TOKEN: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// One model with the rows of another vocabulary.
///
/// A row that the model lacks comes from the first model that has the token: between two models a
/// new token's row is then the same on both sides, and merging leaves it alone.
pub struct Respelt<'a> {
    models: Vec<&'a dyn Weights>,
    own: usize,
    /// For each row of the result: which model, and its row there; `None` is zeros.
    rows: Vec<Option<(usize, usize)>>,
    infos: BTreeMap<String, WeightInfo>,
}

impl<'a> Respelt<'a> {
    /// `models[own]` with one row for each of `tokens`, then zeros up to `n_rows`.
    ///
    /// `vocabularies` has each model's row of a token, by its text.
    pub fn new(
        models: Vec<&'a dyn Weights>,
        own: usize,
        vocabularies: &[BTreeMap<String, usize>],
        tokens: &[String],
        n_rows: usize,
    ) -> Self {
        let row = |token: &String| {
            let order = std::iter::once(own).chain((0..models.len()).filter(|model| *model != own));
            order.into_iter().find_map(|model| Some((model, *vocabularies[model].get(token)?)))
        };
        let mut rows: Vec<_> = tokens.iter().map(row).collect();
        rows.resize(n_rows.max(rows.len()), None);
        let mut infos = models[own].infos().clone();
        for name in BY_TOKEN {
            if let Some(info) = infos.get_mut(name) {
                info.shape[0] = rows.len();
                let others = models.iter().filter_map(|model| model.infos().get(name));
                if others.clone().any(|other| other.dtype != info.dtype) {
                    info.dtype = Dtype::F32;
                }
            }
        }
        Self { models, own, rows, infos }
    }
}

impl Weights for Respelt<'_> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        if !BY_TOKEN.contains(&name) || !self.infos.contains_key(name) {
            return self.models[self.own].weight(name);
        }
        let info = self.infos[name].clone();
        let width = info.shape[1];
        let mut tables: Vec<Option<Vec<f32>>> = vec![None; self.models.len()];
        let mut values = Vec::with_capacity(info.n_elements());
        for row in &self.rows {
            let Some((model, row)) = *row else {
                values.resize(values.len() + width, 0.0);
                continue;
            };
            if tables[model].is_none() {
                tables[model] = Some(self.models[model].weight(name)?.to_f32());
            }
            let table = tables[model].as_ref().expect("it was just read");
            match table.get(row * width..(row + 1) * width) {
                Some(numbers) => values.extend_from_slice(numbers),
                None => {
                    return Err(SnapshotError::BadShape {
                        name: name.to_owned(),
                        place: "a model of the merge".to_owned(),
                        found: vec![table.len() / width, width],
                        expected: vec![row + 1, width],
                    });
                }
            }
        }
        Ok(Weight::rounded(info.shape, &values, info.dtype))
    }
}

/// A model with tied embeddings as one that has a head of its own.
pub struct Untied<'a> {
    inner: &'a dyn Weights,
    infos: BTreeMap<String, WeightInfo>,
}

impl<'a> Untied<'a> {
    pub fn new(inner: &'a dyn Weights) -> Self {
        let mut infos = inner.infos().clone();
        if let Some(info) = infos.get(BY_TOKEN[0]).cloned() {
            infos.insert(BY_TOKEN[1].to_owned(), info);
        }
        Self { inner, infos }
    }
}

impl Weights for Untied<'_> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let name = if name == BY_TOKEN[1] { BY_TOKEN[0] } else { name };
        self.inner.weight(name)
    }
}
