//! What is trained: on which samples, with which settings, and the key of all that decides the result.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use burn::tensor::DType;
use serde::Serialize;
use serde_json::{Value, json};

use super::encoding::{Encoding, Samples};
use super::kept::kept;
use super::model::{Base, Model};
use super::penalties::Penalties;
use super::rewards::Rewards;
use super::sources::Sources;
use crate::data::{self, Conversation, DataError, Encoder, Sets, guard};
use crate::merge::{EMBEDDING, HEAD, Role};
use crate::recipe::{
    Data, Form, Labelling, MOST_STEPS, Method, MethodKind, Objective, OfAdapter, Recipe, RecipeError, Train,
};
use crate::run::failure::Failure;
use crate::run::session::Key;
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::{Algorithm, of_files, of_json};
use crate::train::extent::Extent;
use crate::train::{self, NUMERICS, frozen};

/// A training, settled.
pub struct Training {
    pub method: Method,
    pub train: Train,
    pub objective: Objective,
    /// What is added to it; settled when the base's weights are.
    pub penalties: Penalties,
    /// A model whose scores say which tokens of pairs count.
    pub rewards: Option<Rewards>,
    /// What the samples are, in numbers.
    pub encoding: Encoding,
    /// SHA-256 of every file of data.
    pub digests: BTreeMap<String, String>,
    /// Steps of the whole schedule, and the one after which training stops.
    pub total_steps: usize,
    pub last_step: usize,
    /// How much of the model is trained and frozen.
    pub extent: Extent,
    /// Whether it starts from a hardened base.
    is_hardened: bool,
    /// What the user should know of the data.
    pub said: Vec<String>,
    read: Read,
    samples: OnceLock<Samples>,
}

/// What `[data]` is: its files read, by this or an earlier command.
#[derive(Clone)]
pub struct Read {
    /// `[data]` with the paths of its files.
    data: Data,
    digests: BTreeMap<String, String>,
    seed: u64,
    /// The digest of all that decides the conversations.
    key: String,
    /// What is said of the files.
    said: Vec<String>,
    /// The conversations, once they are needed.
    sets: Arc<OnceLock<Sets>>,
}

impl Read {
    /// Finds and reads the files of `[data]`, unless an earlier command read the same.
    ///
    /// # Errors
    ///
    /// A file is missing or wrong.
    pub fn new(recipe: &Recipe, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        let data = of_form(find(&recipe.data, sources)?, &recipe.objective)?;
        let digests = digests(data.clone())?;
        let (seed, sets) = (recipe.train.seed, OnceLock::new());
        let key = json!([data, digests, seed]);
        let said = kept("data", &key, || {
            let found = data::load(&data, seed)?;
            let said = found.said.clone();
            let _ = sets.set(found);
            Ok(said)
        })?;
        let key = of_json(&key);
        Ok(Self { data, digests, seed, key, said: said.found, sets: Arc::new(sets) })
    }

    /// The digest of all that decides the conversations.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The conversations, read now where another command did it before.
    ///
    /// # Errors
    ///
    /// A file is gone or wrong.
    pub fn sets(&self) -> Result<&Sets, DataError> {
        if let Some(sets) = self.sets.get() {
            return Ok(sets);
        }
        let found = data::load(&self.data, self.seed)?;
        Ok(self.sets.get_or_init(|| found))
    }
}

impl Training {
    /// Settles the training of `recipe` on `model`; encodes nothing that was encoded before.
    ///
    /// # Errors
    ///
    /// The data cannot be encoded, are too long or teach nothing.
    pub fn new(recipe: &Recipe, read: Read, model: &Model) -> Result<Self, Failure> {
        let samples = OnceLock::new();
        let extent = Extent::of(&model.shape, &recipe.method, &recipe.train)?;
        if model.marks.is_some() {
            check_guard(recipe, read.sets()?, model)?;
        }
        let (data, digests) = (&read.data, read.digests.clone());
        let encoder = encoder(data, model)?;
        let objective = recipe.objective.clone();
        let made_by = (&objective, recipe.train.seed);
        let encoding = Encoding::known(data, &digests, made_by, model, || {
            let (found, encoding) = Samples::encode(read.sets()?, data, made_by, &encoder, &model.shape)?;
            let _ = samples.set(found);
            Ok(encoding)
        })?;
        let mut said = [read.said.clone(), encoder.said().to_vec()].concat();
        said.extend(encoding.unread.clone());
        said.extend(encoding.said.clone());
        let n_groups = encoding.preflight.n_samples / objective.group();
        let (total_steps, last_step) = train::steps(&recipe.train, n_groups);
        if total_steps > MOST_STEPS {
            let found = format!("{}, which are {total_steps} steps", recipe.train.epochs);
            let expected = format!("at most {MOST_STEPS} steps");
            return Err(RecipeError::BadValue { key: "train.epochs".to_owned(), found, expected }.into());
        }
        let (method, train) = (recipe.method.clone(), recipe.train.clone());
        Ok(Self {
            method,
            train,
            objective,
            penalties: Penalties::default(),
            rewards: None,
            encoding,
            digests,
            total_steps,
            last_step,
            extent,
            is_hardened: recipe.harden.is_some(),
            said,
            read,
            samples,
        })
    }

    /// The samples; encoded now where another command did it before.
    ///
    /// # Errors
    ///
    /// They are not what they were.
    pub fn samples(&self, model: &Model) -> Result<&Samples, Failure> {
        if let Some(samples) = self.samples.get() {
            return Ok(samples);
        }
        let (data, sets) = (&self.read.data, self.read.sets()?);
        let encoder = encoder(data, model)?;
        let made_by = (&self.objective, self.train.seed);
        let (samples, found) = Samples::encode(sets, data, made_by, &encoder, &model.shape)?;
        if found.digest != self.encoding.digest {
            self.encoding.forget();
            return Err(train::TrainError::OtherSamples.into());
        }
        Ok(self.samples.get_or_init(|| samples))
    }

    /// What a guard learns besides: the rows of its tokens, and its labels with a weight of their own.
    pub fn marks(&self, model: &Model) -> Option<train::Marks> {
        let (marks, labelling) = (model.marks.as_ref()?, self.read.data.labelling()?);
        let (rows, labels) = (marks.ids.clone(), marks.labels());
        Some(train::Marks { rows, labels, weight: labelling.label_weight })
    }

    /// How labelled requests are learned, where they are, and those that are held out.
    ///
    /// # Errors
    ///
    /// A file of them is gone or wrong.
    pub fn labelling(&self) -> Result<Option<(Labelling, &[Conversation])>, DataError> {
        let Some(labelling) = self.read.data.labelling() else { return Ok(None) };
        Ok(Some((labelling, &self.read.sets()?.validation)))
    }

    /// How many things there are to learn from, which the steps are counted by: samples, or pairs of them.
    pub fn n_groups(&self) -> usize {
        self.encoding.preflight.n_samples / self.objective.group()
    }

    /// The models that there are when it is done, and the base.
    pub fn roles(&self) -> Vec<Role> {
        let hardened = self.is_hardened.then_some(Role::Hardened);
        let average = self.train.ema.as_ref().map(|_| Role::Ema);
        [Role::Base].into_iter().chain(hardened).chain([Role::Tuned]).chain(average).collect()
    }

    /// Everything that decides the result, and nothing else: what is learned, from which weights, whose digest is
    /// `start`, and the settings that are not the default. A setting that comes later leaves the keys of before alone.
    pub fn key(&self, start: &str, compute: DType) -> Key {
        // How often a run looks and saves does not change what it learns; the format stands resolved below.
        let idle = ["validate_every", "checkpoint_every", "keep_checkpoints", "compute", "recompute"];
        let method = match self.method.kind {
            MethodKind::Full => Method { kind: MethodKind::Full, ..Method::default() },
            MethodKind::Lora => self.method.clone(),
        };
        let mut train = self.train.clone();
        if let (MethodKind::Full, Some(ema)) = (method.kind, &mut train.ema) {
            ema.lora = OfAdapter::default();
        }
        let mut parts = json!({
            "samples": self.encoding.digest,
            "base": start,
            "method": changed(&method, &[]),
            "train": changed(&train, &idle),
            "numerics": NUMERICS,
        });
        // What DeRTa does is in the samples.
        if let Some(preference) = self.objective.preference() {
            parts["objective"] = json!(preference);
        }
        if let Some((rewards, mask)) = self.rewards.as_ref().zip(self.objective.mask()) {
            parts["rewards"] = json!([rewards.key, mask]);
        }
        if let Some(penalties) = &self.penalties.key {
            parts["penalties"] = penalties.clone();
        }
        if let Some(Labelling { label_weight, threshold, .. }) = self.read.data.labelling() {
            parts["guard"] = json!([label_weight, threshold]);
        }
        if compute != DType::F32 {
            parts["compute"] = json!(format!("{compute:?}"));
        }
        Key::new(parts)
    }

    /// What is trained, for the training itself.
    ///
    /// # Errors
    ///
    /// As [`Self::samples`].
    pub fn task<'a>(
        &'a self,
        model: &'a Model,
        base: &'a Base,
        key: &'a Key,
    ) -> Result<train::Task<'a>, Failure> {
        let Samples { train: samples, validation } = self.samples(model)?;
        Ok(train::Task {
            shape: &model.shape,
            weights: base.weights.as_ref(),
            method: &self.method,
            train: &self.train,
            objective: &self.objective,
            penalties: self.penalties.given(&self.objective),
            rewards: self
                .rewards
                .as_ref()
                .zip(self.objective.mask())
                .map(|(rewards, mask)| rewards.given(mask)),
            samples,
            validation,
            marks: self.marks(model),
            key: &key.digest,
        })
    }
}

/// That a guard has both labels to learn and to be measured on, and rows that may be learned.
fn check_guard(recipe: &Recipe, sets: &Sets, model: &Model) -> Result<(), Failure> {
    let wrong = |key: &str, found: String, expected: &str| RecipeError::BadValue {
        key: key.to_owned(),
        found,
        expected: expected.to_owned(),
    };
    for (what, set) in [("data.source", &sets.train), ("data.validation", &sets.validation)] {
        let [harmful, safe] = guard::counts(set);
        if harmful == 0 || safe == 0 {
            let found = format!("{harmful} harmful and {safe} safe requests");
            return Err(
                wrong(what, found, "at least one of each, to learn and to fit the threshold on").into()
            );
        }
    }
    if recipe.method.kind == MethodKind::Lora {
        return Ok(());
    }
    let frozen = frozen::weights(&model.shape, &recipe.train)?;
    match [EMBEDDING, HEAD].into_iter().find(|name| frozen.contains(*name)) {
        Some(name) => {
            let expected = "places without embedding and head: a guard learns the rows of its tokens";
            Err(wrong("train.freeze", format!("a list that holds `{name}`"), expected).into())
        }
        None => Ok(()),
    }
}

/// An encoder of conversations as `[data]` wants them.
fn encoder<'a>(data: &Data, model: &'a Model) -> Result<Encoder<'a>, Failure> {
    let encoder = Encoder::new(&model.tokenizer, model.template.as_ref(), &data.system, data.loss_on)?;
    let masked = data.refusal_mix.as_ref().and_then(|mix| Some((&mix.reply, mix.end_rule()?)));
    Ok(match masked {
        Some((reply, rule)) => encoder.with_refusals(reply, rule),
        None => encoder,
    })
}

/// `[data]` with the paths of its files.
fn find(data: &Data, sources: &mut Sources<'_>) -> Result<Data, Failure> {
    let mut data = data.clone();
    data.sources().try_for_each(|(key, source)| {
        *source = sources.find(&key, source)?.display().to_string();
        Ok::<(), Failure>(())
    })?;
    if let Some(source) = &mut data.validation_source {
        *source = sources.find("data.validation_source", source)?.display().to_string();
    }
    Ok(data)
}

/// `[data]` in the form that the objective reads, where the recipe names none.
fn of_form(mut data: Data, objective: &Objective) -> Result<Data, RecipeError> {
    let Some(form) = objective.kind.form() else { return Ok(data) };
    let is_pairs = objective.preference().is_some();
    // The parts of a mixture for DeRTa may also be ordinary conversations, so that they are recognised.
    let parts = data.mixture.iter_mut().filter(|_| is_pairs).enumerate();
    let parts = parts.map(|(i, part)| (format!("data.mixture.{i}"), &mut part.format, &part.fields));
    let one = ("data".to_owned(), &mut data.format, &data.fields);
    for (key, own, fields) in std::iter::once(one).filter(|_| !data.source.is_empty()).chain(parts) {
        if *own == Form::Auto && form.asked(fields).is_some() {
            *own = form;
        } else if own.asked(fields) != Some(form) {
            return Err(RecipeError::BadValue {
                key: format!("{key}.{}", if *own == Form::Auto { "fields" } else { "format" }),
                found: format!("of the form `{}`", own.asked(fields).unwrap_or(*own).name()),
                expected: format!(
                    "`{}`, which `objective.kind = \"{}\"` learns from",
                    form.name(),
                    objective.kind.name()
                ),
            });
        }
    }
    Ok(data)
}

/// The SHA-256 of every file of data.
fn digests(mut data: Data) -> Result<BTreeMap<String, String>, SnapshotError> {
    let is_mixture = !data.mixture.is_empty();
    let n_trained = data.mixture.len().max(1);
    let name = |number: usize| match number.checked_sub(n_trained) {
        Some(refused @ 1..) => format!("refused/{refused}"),
        _ if is_mixture => format!("data/{number}"),
        _ => "data".to_owned(),
    };
    let mut files: Vec<(String, PathBuf)> = data
        .sources()
        .zip(1..)
        .map(|((_, source), number)| (name(number), PathBuf::from(&*source)))
        .collect();
    files.extend(data.validation_source.map(|source| ("validation".to_owned(), source.into())));
    of_files(&files, Algorithm::Sha256)
}

/// The settings of a section that are not the default.
fn changed<T: Serialize + Default>(section: &T, without: &[&str]) -> Value {
    let (mut found, default) = (json!(section), json!(T::default()));
    if let Value::Object(map) = &mut found {
        map.retain(|key, value| !without.contains(&key.as_str()) && *value != default[key]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::changed;
    use crate::recipe::{Ema, Method, MethodKind, OfAdapter, Train};
    use serde_json::json;

    #[test]
    fn a_key_holds_what_is_not_the_default_and_nothing_else() {
        // So a setting that this version does not know yet leaves the key of this run as it is.
        assert_eq!(changed(&Train::default(), &[]), json!({}));
        let train = Train { steps: 7, validate_every: 3, ..Train::default() };
        assert_eq!(changed(&train, &["validate_every"]), json!({ "steps": 7 }));
        let method = Method { kind: MethodKind::Full, ..Method::default() };
        assert_eq!(changed(&method, &[]), json!({ "kind": "full" }));
        let ema = Some(Ema { half_life: 0.25, lora: OfAdapter::Exact });
        let expected = json!({ "ema": { "half_life": 0.25, "lora": "exact" } });
        assert_eq!(changed(&Train { ema, ..Train::default() }, &[]), expected);
    }
}
