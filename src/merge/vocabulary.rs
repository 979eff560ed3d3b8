//! Models with different vocabularies brought to one, row by row and by the text of each token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{EMBEDDING, HEAD};
use crate::snapshot::{Dtype, Numbers, SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

/// A tokenizer's tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tokens {
    /// The row of each.
    pub rows: BTreeMap<String, usize>,
    /// Those that stand beside the vocabulary proper, with flags of their own.
    pub added: BTreeSet<String>,
}

impl Tokens {
    /// Tokens by their rows, rising: those that were added, or the others.
    fn in_order(&self, added: bool) -> impl Iterator<Item = &String> {
        let mut tokens: Vec<(&String, &usize)> =
            self.rows.iter().filter(|(token, _)| self.added.contains(*token) == added).collect();
        tokens.sort_by_key(|(_, row)| **row);
        tokens.into_iter().map(|(token, _)| token)
    }
}

/// The vocabulary of a merged model, and where each model's rows of it come from.
#[derive(Debug)]
pub struct Vocabulary {
    /// The result's tokens by their rows; ids may have gaps.
    tokens: Vec<Option<String>>,
    /// For each model, where each row of the result comes from.
    sources: Vec<Vec<RowSource>>,
    /// Where the tokens begin that the tokenizer files of the result lack.
    n_known: usize,
}

/// Which tokens a merged model has.
#[derive(Debug, Default)]
pub struct TokenPolicy {
    /// The tokenizer whose tokens come first.
    pub files_of: usize,
    /// Those that only others have come behind them.
    pub union: bool,
    /// Rows of padding up to a multiple.
    pub multiple: Option<usize>,
    /// The model that rows come from which another lacks.
    pub base: Option<usize>,
    /// Tokens whose rows come from where a rule says.
    pub rules: Vec<(String, RowRule)>,
}

/// Where a token's row comes from in models that lack it; with `force` in all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct RowRule {
    pub source: Option<RowSource>,
    pub force: bool,
}

/// Where a row comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum RowSource {
    Zeros,
    /// A model, and its row there.
    Row((usize, usize)),
    /// The mean of some models' rows.
    Mean(Vec<(usize, usize)>),
    /// The mean of the model's own rows that have a token.
    Padding,
}

impl RowSource {
    fn rows(&self) -> &[(usize, usize)] {
        match self {
            Self::Zeros | Self::Padding => &[],
            Self::Row(row) => std::slice::from_ref(row),
            Self::Mean(rows) => rows,
        }
    }
}

impl Vocabulary {
    /// The vocabulary of a merge of the first `n_models` whose tokens are `known`; tokenizers that
    /// belong to none of them stand behind.
    ///
    /// A row that a model lacks comes from where it is told to; else from the only model that has the
    /// token, else from the base, else it is the mean of those that have it.
    ///
    /// # Errors
    ///
    /// A token is told to come from nowhere.
    pub fn new(known: &[Tokens], n_models: usize, policy: &TokenPolicy) -> Result<Self, String> {
        let own = &known[policy.files_of];
        let n_known = own.rows.values().max().map_or(0, |last| last + 1);
        let mut tokens = vec![None; n_known];
        for (token, row) in &own.rows {
            tokens[*row] = Some(token.clone());
        }
        let mut new: Vec<&String> = Vec::new();
        if policy.union {
            new.extend(known.iter().flat_map(|tokens| tokens.in_order(false)));
            new.extend(known.iter().flat_map(|tokens| tokens.in_order(true)));
        }
        new.extend(policy.rules.iter().map(|(token, _)| token));
        let mut seen: BTreeSet<&str> = own.rows.keys().map(String::as_str).collect();
        new.retain(|token| seen.insert(token));
        tokens.extend(new.into_iter().map(|token| Some(token.clone())));
        let n_named = tokens.len();
        let n_rows = policy.multiple.map_or(n_named, |multiple| n_named.next_multiple_of(multiple.max(1)));
        let known = &known[..n_models];
        let of = |own| {
            let sources = tokens.iter().map(|token| source(known, policy, own, token.as_ref()));
            let padding = std::iter::repeat_n(Ok(RowSource::Padding), n_rows - n_named);
            sources.chain(padding).collect::<Result<Vec<_>, String>>()
        };
        let sources = (0..n_models).map(of).collect::<Result<_, _>>()?;
        tokens.resize(n_rows, None);
        Ok(Self { tokens, sources, n_known })
    }

    /// The vocabulary of the second model, which was tuned from the first and learned new tokens; its
    /// rows of padding stay.
    ///
    /// `known` has each model's row of a token and `sizes` how many rows it has. A row that a model
    /// lacks is the second model's: between the two it is then the same on both sides, and merging
    /// leaves it alone.
    pub fn of_tuned(known: &[Tokens], sizes: &[usize]) -> Self {
        const TUNED: usize = 1;
        let rows = known[TUNED].rows.values().map(|row| row + 1).chain([sizes[TUNED]]);
        let mut tokens = vec![None; rows.max().unwrap_or(0)];
        for (token, row) in &known[TUNED].rows {
            tokens[*row] = Some(token.clone());
        }
        let sources = known.iter().zip(sizes).enumerate().map(|(own, (known, n_rows))| {
            let named: BTreeSet<usize> = known.rows.values().copied().collect();
            let source = |(row, token): (usize, &Option<String>)| {
                let found = match token {
                    Some(token) => known.rows.get(token).copied(),
                    None => Some(row).filter(|row| row < n_rows && !named.contains(row)),
                };
                RowSource::Row(found.map_or((TUNED, row), |row| (own, row)))
            };
            tokens.iter().enumerate().map(source).collect()
        });
        let sources = sources.collect();
        let n_known = tokens.len();
        Self { tokens, sources, n_known }
    }

    /// Rows of the result.
    pub fn n_rows(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens that the tokenizer files lack, with their ids.
    pub fn new_tokens(&self) -> impl Iterator<Item = (usize, &str)> {
        let tokens = self.tokens.iter().enumerate().skip(self.n_known);
        tokens.filter_map(|(id, token)| Some((id, token.as_deref()?)))
    }
}

/// Where a model's row of a token comes from.
fn source(
    known: &[Tokens],
    policy: &TokenPolicy,
    own: usize,
    token: Option<&String>,
) -> Result<RowSource, String> {
    let Some(token) = token else { return Ok(RowSource::Zeros) };
    let row = |model: usize| Some((model, *known[model].rows.get(token)?));
    let rule = policy.rules.iter().find(|(name, _)| name == token).map(|(_, rule)| rule);
    if let Some(row) = row(own).filter(|_| rule.is_none_or(|rule| !rule.force)) {
        return Ok(RowSource::Row(row));
    }
    if let Some(rule) = rule {
        let missing = || format!("`tokens.{token}` has no `source`, and a model has no row for it");
        return rule.source.clone().ok_or_else(missing);
    }
    let all: Vec<(usize, usize)> = (0..known.len()).filter_map(row).collect();
    Ok(match (all.as_slice(), policy.base.and_then(row)) {
        ([], _) => RowSource::Zeros,
        (&[row], _) | (_, Some(row)) => RowSource::Row(row),
        _ => RowSource::Mean(all),
    })
}

/// One model with the rows of another vocabulary.
struct Respelt {
    models: Vec<SharedWeights>,
    own: usize,
    vocabulary: Arc<Vocabulary>,
    infos: BTreeMap<String, WeightInfo>,
}

/// Models with the rows of another vocabulary, if there is one.
pub fn respelt(models: Vec<SharedWeights>, vocabulary: Option<&Arc<Vocabulary>>) -> Vec<SharedWeights> {
    let Some(vocabulary) = vocabulary else { return models };
    let one = |own| Arc::new(Respelt::new(models.clone(), own, vocabulary.clone())) as SharedWeights;
    (0..models.len()).map(one).collect()
}

fn by_token(name: &str) -> bool {
    name == EMBEDDING || name == HEAD
}

impl Respelt {
    /// `models[own]` with the rows of `vocabulary`.
    fn new(models: Vec<SharedWeights>, own: usize, vocabulary: Arc<Vocabulary>) -> Self {
        let mut infos = models[own].infos().clone();
        for (name, info) in infos.iter_mut().filter(|(name, _)| by_token(name)) {
            info.shape[0] = vocabulary.n_rows();
            let mut others = models.iter().filter_map(|model| model.infos().get(name));
            if others.any(|other| other.dtype != info.dtype) {
                info.dtype = Dtype::F32;
            }
        }
        Self { models, own, vocabulary, infos }
    }

    /// Where each of its rows comes from.
    fn rows(&self) -> &[RowSource] {
        &self.vocabulary.sources[self.own]
    }

    /// That every row that is named is there.
    fn check(&self, name: &str) -> Result<(), SnapshotError> {
        for (model, row) in self.rows().iter().flat_map(RowSource::rows) {
            let n_rows = self.models[*model].infos()[name].shape[0];
            if *row >= n_rows {
                let (name, place) = (name.to_owned(), format!("model {}", model + 1));
                return Err(SnapshotError::TokenWithoutRow { name, place, token: *row, n_rows });
            }
        }
        Ok(())
    }
}

impl Weights for Respelt {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        if !by_token(name) || !self.infos.contains_key(name) {
            return self.models[self.own].weight(name);
        }
        let info = self.infos[name].clone();
        let mut values = vec![0.0; info.n_elements()];
        self.numbers(name)?.read(0, &mut values);
        Ok(Weight::rounded(info.shape, &values, info.dtype))
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        if !by_token(name) || !self.infos.contains_key(name) {
            return self.models[self.own].numbers(name);
        }
        self.check(name)?;
        let width = self.infos[name].shape[1];
        let tables = self.models.iter().map(|model| model.numbers(name)).collect::<Result<Vec<_>, _>>()?;
        let read = move |source: &RowSource, column: usize, out: &mut [f32]| match source.rows() {
            [(model, row)] => {
                tables[*model].read(row * width + column, out);
            }
            rows => {
                let mut other = vec![0.0; out.len()];
                out.fill(0.0);
                for (model, row) in rows {
                    tables[*model].read(row * width + column, &mut other);
                    out.iter_mut().zip(&other).for_each(|(sum, x)| *sum += x);
                }
                for sum in out {
                    *sum /= rows.len().max(1) as f32;
                }
            }
        };
        let padding = self.rows().contains(&RowSource::Padding).then(|| {
            let (mut sums, mut row) = (vec![0.0f64; width], vec![0.0; width]);
            let named = self.rows().iter().filter(|source| **source != RowSource::Padding);
            for source in named.clone() {
                read(source, 0, &mut row);
                sums.iter_mut().zip(&row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            let n = named.count() as f64;
            sums.into_iter().map(|sum| (sum / n) as f32).collect::<Vec<f32>>()
        });
        Ok(Numbers::by_rows(width, move |row, column, out| match (&self.rows()[row], &padding) {
            (RowSource::Padding, Some(mean)) => out.copy_from_slice(&mean[column..column + out.len()]),
            (source, _) => read(source, column, out),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{EMBEDDING, TokenPolicy, Tokens, Vocabulary, respelt};
    use crate::snapshot::{SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

    /// An embedding whose row `i` is `first + i`.
    struct Rows(BTreeMap<String, WeightInfo>, f32);

    impl Rows {
        fn new(n: usize, first: f32) -> Self {
            let info = Weight::from_f32(vec![n, 1], &vec![0.0; n]).info;
            Self(BTreeMap::from([(EMBEDDING.to_owned(), info)]), first)
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

    fn tokens(rows: &[(&str, usize)]) -> Tokens {
        let rows = rows.iter().map(|(word, row)| ((*word).to_owned(), *row));
        Tokens { rows: rows.collect(), ..Tokens::default() }
    }

    /// Each model's embedding in the new vocabulary; model `m` has rows `10 m + 10 + i`.
    fn embeddings(vocabulary: Vocabulary, sizes: &[usize]) -> Vec<Vec<f32>> {
        let model =
            |(m, n): (usize, &usize)| -> SharedWeights { Arc::new(Rows::new(*n, 10.0 * m as f32 + 10.0)) };
        let models = sizes.iter().enumerate().map(model).collect();
        let respelt = respelt(models, Some(&Arc::new(vocabulary)));
        respelt.iter().map(|model| model.weight(EMBEDDING).unwrap().to_f32()).collect()
    }

    #[test]
    fn a_gap_in_the_ids_moves_no_row() {
        // The first model has no token 1; the second has `c` elsewhere and `d` of its own.
        let known = [tokens(&[("a", 0), ("b", 2), ("c", 3)]), tokens(&[("a", 0), ("c", 1), ("d", 2)])];
        let policy = TokenPolicy { union: true, multiple: Some(4), base: Some(0), ..TokenPolicy::default() };
        let vocabulary = Vocabulary::new(&known, 2, &policy).unwrap();
        assert_eq!(vocabulary.new_tokens().collect::<Vec<_>>(), [(4, "d")]);
        let found = embeddings(vocabulary, &[4, 3]);
        // Padding is the mean of the five rows before it.
        assert_eq!(found[0], [10.0, 0.0, 12.0, 13.0, 22.0, 11.4, 11.4, 11.4]);
        assert_eq!(found[1], [20.0, 0.0, 12.0, 21.0, 22.0, 15.0, 15.0, 15.0]);
    }

    #[test]
    fn a_tuned_model_keeps_its_new_tokens_and_its_padding() {
        // The tuned model moved `b`, learned `c` and has two rows of padding, the base one.
        let known = [tokens(&[("a", 0), ("b", 1)]), tokens(&[("b", 0), ("a", 1), ("c", 2)])];
        let vocabulary = Vocabulary::of_tuned(&known, &[3, 5]);
        let found = embeddings(vocabulary, &[3, 5]);
        assert_eq!(found[0], [11.0, 10.0, 22.0, 23.0, 24.0]);
        assert_eq!(found[1], [20.0, 21.0, 22.0, 23.0, 24.0]);
    }
}
