//! What is trained: on which samples, with which settings, and the key of all that decides the result.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use burn::tensor::DType;
use serde::Serialize;
use serde_json::{Value, json};

use super::encoding::{Encoding, Samples};
use super::model::{Base, Model};
use super::sources::Sources;
use crate::data::{self, Conversation, Encoder, Sets, guard};
use crate::merge::{EMBEDDING, HEAD, Role};
use crate::recipe::{Data, Labelling, MOST_STEPS, Method, MethodKind, OfAdapter, Recipe, RecipeError, Train};
use crate::run::failure::Failure;
use crate::run::session::Key;
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::{Algorithm, of_files};
use crate::train::extent::Extent;
use crate::train::{self, NUMERICS, frozen};

/// A training, settled.
pub struct Training {
    pub method: Method,
    pub train: Train,
    /// What the samples are, in numbers.
    pub encoding: Encoding,
    /// SHA-256 of every file of data.
    pub digests: BTreeMap<String, String>,
    /// Steps of the whole schedule, and the one after which training stops.
    pub total_steps: usize,
    pub last_step: usize,
    /// How much of the model is trained and frozen.
    pub extent: Extent,
    /// What the user should know of the data.
    pub said: Vec<String>,
    data: Data,
    sets: Arc<Sets>,
    samples: OnceLock<Samples>,
}

/// What `[data]` is, read but not encoded.
#[derive(Clone)]
pub struct Read {
    /// `[data]` with the paths of its files.
    data: Data,
    digests: BTreeMap<String, String>,
    sets: Arc<Sets>,
}

impl Read {
    /// Finds and reads the files of `[data]`.
    ///
    /// # Errors
    ///
    /// A file is missing or wrong.
    pub fn new(recipe: &Recipe, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        let data = find(&recipe.data, sources)?;
        let digests = digests(data.clone())?;
        let sets = Arc::new(data::load(&data, recipe.train.seed)?);
        Ok(Self { data, digests, sets })
    }

    /// The conversations that are trained on.
    pub fn train(&self) -> &[Conversation] {
        &self.sets.train
    }
}

impl Training {
    /// Settles the training of `recipe` on `model`; encodes nothing that was encoded before.
    ///
    /// # Errors
    ///
    /// The data cannot be encoded, are too long or teach nothing.
    pub fn new(recipe: &Recipe, read: Read, model: &Model) -> Result<Self, Failure> {
        let Read { data, digests, sets } = read;
        let samples = OnceLock::new();
        let extent = Extent::of(&model.shape, &recipe.method, &recipe.train)?;
        if model.marks.is_some() {
            check_guard(recipe, &sets, model)?;
        }
        let encoder = encoder(&data, model)?;
        let encoding = Encoding::known(&data, &digests, recipe.train.seed, model, || {
            let (found, encoding) = Samples::encode(&sets, &data, &encoder, &model.shape)?;
            let _ = samples.set(found);
            Ok(encoding)
        })?;
        let mut said = [sets.said.clone(), encoder.said().to_vec()].concat();
        said.extend(encoder.unread(&sets.train));
        let (total_steps, last_step) = train::steps(&recipe.train, encoding.preflight.n_samples);
        if total_steps > MOST_STEPS {
            let found = format!("{}, which are {total_steps} steps", recipe.train.epochs);
            let expected = format!("at most {MOST_STEPS} steps");
            return Err(RecipeError::BadValue { key: "train.epochs".to_owned(), found, expected }.into());
        }
        let (method, train) = (recipe.method.clone(), recipe.train.clone());
        Ok(Self {
            method,
            train,
            encoding,
            digests,
            total_steps,
            last_step,
            extent,
            said,
            data,
            sets,
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
        let encoder = encoder(&self.data, model)?;
        let (samples, found) = Samples::encode(&self.sets, &self.data, &encoder, &model.shape)?;
        if found.digest != self.encoding.digest {
            self.encoding.forget();
            return Err(train::TrainError::OtherSamples.into());
        }
        Ok(self.samples.get_or_init(|| samples))
    }

    /// What a guard learns besides: the rows of its tokens, and its labels with a weight of their own.
    pub fn marks(&self, model: &Model) -> Option<train::Marks> {
        let (marks, labelling) = (model.marks.as_ref()?, self.data.labelling()?);
        let (rows, labels) = (marks.ids.clone(), marks.labels());
        Some(train::Marks { rows, labels, weight: labelling.label_weight })
    }

    /// How labelled requests are learned, where they are, and those that are held out.
    pub fn labelling(&self) -> Option<(Labelling, &[Conversation])> {
        Some((self.data.labelling()?, &self.sets.validation))
    }

    /// The models that there are when it is done, and the base.
    pub fn roles(&self) -> Vec<Role> {
        let average = self.train.ema.as_ref().map(|_| Role::Ema);
        [Role::Base, Role::Tuned].into_iter().chain(average).collect()
    }

    /// Everything that decides the result, and nothing else: what is learned, from which weights, and the
    /// settings that are not the default. A setting that comes later leaves the keys of before alone.
    pub fn key(&self, base: &Base, compute: DType) -> Key {
        // How often a run looks and saves does not change what it learns; the format stands resolved below.
        let idle = ["validate_every", "checkpoint_every", "keep_checkpoints", "compute"];
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
            "base": base.key,
            "method": changed(&method, &[]),
            "train": changed(&train, &idle),
            "numerics": NUMERICS,
        });
        if let Some(Labelling { label_weight, threshold, .. }) = self.data.labelling() {
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
    Ok(Encoder::new(&model.tokenizer, model.template.as_ref(), &data.system, data.loss_on)?)
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

/// The SHA-256 of every file of data.
fn digests(mut data: Data) -> Result<BTreeMap<String, String>, SnapshotError> {
    let is_mixture = !data.mixture.is_empty();
    let name = |number: usize| if is_mixture { format!("data/{number}") } else { "data".to_owned() };
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
