//! Models with different vocabularies brought to one, row by row and by the text of each token.

use std::collections::{BTreeMap, BTreeSet};

use crate::snapshot::{Dtype, SnapshotError, Weight, WeightInfo, Weights};

/// Weights whose rows belong to tokens.
const BY_TOKEN: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

/// The vocabulary of a merged model.
pub struct Vocabulary {
    /// Each model's row of a token.
    rows: Vec<BTreeMap<String, usize>>,
    /// The result's tokens by their rows; ids may have gaps.
    tokens: Vec<Option<String>>,
    /// Rows of the result; those behind the tokens are padding.
    pub n_rows: usize,
    /// The model whose tokenizer files the result takes.
    pub files_of: usize,
    /// Where the tokens begin that those files lack.
    n_known: usize,
}

impl Vocabulary {
    /// The tokens of model `files_of`; with `union` those that only others have come behind them.
    ///
    /// `rows` has each model's row of a token, by its text.
    pub fn new(
        rows: Vec<BTreeMap<String, usize>>,
        files_of: usize,
        union: bool,
        multiple: Option<usize>,
    ) -> Self {
        let own = &rows[files_of];
        let n_known = own.values().max().map_or(0, |last| last + 1);
        let mut tokens = vec![None; n_known];
        for (token, row) in own {
            tokens[*row] = Some(token.clone());
        }
        if union {
            let mut seen: BTreeSet<&str> = own.keys().map(String::as_str).collect();
            for other in &rows {
                let mut new: Vec<(&String, &usize)> = other.iter().collect();
                new.sort_by_key(|(_, row)| **row);
                new.retain(|(token, _)| seen.insert(token));
                tokens.extend(new.into_iter().map(|(token, _)| Some(token.clone())));
            }
        }
        let n_rows = multiple.map_or(tokens.len(), |multiple| tokens.len().next_multiple_of(multiple.max(1)));
        Self { rows, tokens, n_rows, files_of, n_known }
    }

    /// The tokens that the tokenizer files lack, with their ids.
    pub fn new_tokens(&self) -> impl Iterator<Item = (usize, &str)> {
        let tokens = self.tokens.iter().enumerate().skip(self.n_known);
        tokens.filter_map(|(id, token)| Some((id, token.as_deref()?)))
    }
}

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
    /// `models[own]` with the rows of `vocabulary`.
    pub fn new(models: Vec<&'a dyn Weights>, own: usize, vocabulary: &Vocabulary) -> Self {
        let row = |token: &Option<String>| {
            let order = std::iter::once(own).chain((0..models.len()).filter(|model| *model != own));
            let token = token.as_ref()?;
            order.into_iter().find_map(|model| Some((model, *vocabulary.rows[model].get(token)?)))
        };
        let mut rows: Vec<_> = vocabulary.tokens.iter().map(row).collect();
        rows.resize(vocabulary.n_rows, None);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Respelt, Vocabulary};
    use crate::snapshot::{SnapshotError, Weight, WeightInfo, Weights};

    /// An embedding whose row `i` is `first + i`.
    struct Rows(BTreeMap<String, WeightInfo>, f32);

    impl Rows {
        fn new(n: usize, first: f32) -> Self {
            let info = Weight::from_f32(vec![n, 1], &vec![0.0; n]).info;
            Self(BTreeMap::from([("model.embed_tokens.weight".to_owned(), info)]), first)
        }
    }

    impl Weights for Rows {
        fn infos(&self) -> &BTreeMap<String, WeightInfo> {
            &self.0
        }
        fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
            let shape = self.0[name].shape.clone();
            let values: Vec<f32> = (0..shape[0]).map(|i| self.1 + i as f32).collect();
            Ok(Weight::from_f32(shape, &values))
        }
    }

    #[test]
    fn a_gap_in_the_ids_moves_no_row() {
        let words =
            |rows: &[(&str, usize)]| rows.iter().map(|(word, row)| ((*word).to_owned(), *row)).collect();
        // The first model has no token 1; the second has `c` elsewhere and `d` of its own.
        let rows = vec![words(&[("a", 0), ("b", 2), ("c", 3)]), words(&[("a", 0), ("c", 1), ("d", 2)])];
        let vocabulary = Vocabulary::new(rows, 0, true, Some(4));
        assert_eq!(vocabulary.new_tokens().collect::<Vec<_>>(), [(4, "d")]);
        let models = [Rows::new(4, 10.0), Rows::new(3, 20.0)];
        let models: Vec<&dyn Weights> = models.iter().map(|model| model as &dyn Weights).collect();
        let embedding = |own| {
            let respelt = Respelt::new(models.clone(), own, &vocabulary);
            respelt.weight("model.embed_tokens.weight").unwrap().to_f32()
        };
        assert_eq!(embedding(0), [10.0, 0.0, 12.0, 13.0, 22.0, 0.0, 0.0, 0.0]);
        assert_eq!(embedding(1), [20.0, 0.0, 12.0, 21.0, 22.0, 0.0, 0.0, 0.0]);
    }
}
