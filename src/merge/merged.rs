//! Weights that are merged as they are asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use rayon::prelude::*;

use super::report::{MergeReport, Sums, WeightReport};
use super::{Merge, Whole};
use crate::seed;
use crate::simd::vectorised;
use crate::snapshot::{Dtype, Put, SnapshotError, Weight, WeightInfo, Weights};

/// A merge of several models' weights, each computed when asked for and kept nowhere.
///
/// Arithmetic is f32 on the exact inputs; each weight is rounded once. A weight that is the same in
/// every input is the base's, bit for bit, unless the method scales.
pub struct Merged<'a> {
    name: String,
    models: Vec<&'a dyn Weights>,
    /// What each model is called in messages.
    places: Vec<String>,
    parts: BTreeMap<String, Part>,
    infos: BTreeMap<String, WeightInfo>,
    rounding: Rounding,
    track: Option<Track>,
    reports: Mutex<BTreeMap<String, WeightReport>>,
}

/// How a merged number becomes one of the format it is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// Up or down by chance, so that the mean is right; the draw of a number depends on the seed,
    /// the weight's name and the number's place.
    Stochastic { seed: u64 },
}

/// What is noted of every weight: always the figures of its report.
#[derive(Debug, Clone, Copy)]
pub struct Track {
    /// Digests of what is written, which tell equal merges.
    pub digests: bool,
}

/// How one weight of the result is made.
pub struct Part {
    /// Which model, and the weight's name there.
    pub inputs: Vec<(usize, String)>,
    /// Which input is the base.
    pub base: Option<usize>,
    pub method: Arc<dyn Merge>,
}

impl<'a> Merged<'a> {
    /// Sets up the merge of a base and one tuned model called `name`; nothing is computed yet.
    ///
    /// # Errors
    ///
    /// The two sides do not have the same weights in the same shapes.
    pub fn new(
        name: String,
        base: &'a dyn Weights,
        tuned: &'a dyn Weights,
        method: Box<dyn Merge>,
        dtype: Dtype,
    ) -> Result<Self, SnapshotError> {
        same_weights(base, tuned)?;
        let method: Arc<dyn Merge> = Arc::from(method);
        let part = |name: &String| {
            let inputs = vec![(0, name.clone()), (1, name.clone())];
            (name.clone(), Part { inputs, base: Some(0), method: method.clone() })
        };
        let parts = base.infos().keys().map(part).collect();
        let infos = rounded_infos(base, dtype);
        let places = vec!["the base".to_owned(), "the tuned model".to_owned()];
        Ok(Self::with(name, vec![base, tuned], places, parts, infos))
    }

    /// Sets up a merge of any models, each weight with its own part; nothing is computed yet.
    ///
    /// Each model comes with what it is called in messages. Weights are rounded to `dtype`, or to the
    /// format of their inputs.
    ///
    /// # Errors
    ///
    /// A part's inputs are not there or have different shapes.
    pub fn of_parts(
        name: String,
        models: Vec<(&'a dyn Weights, String)>,
        parts: BTreeMap<String, Part>,
        dtype: Option<Dtype>,
    ) -> Result<Self, SnapshotError> {
        let (models, places): (Vec<_>, Vec<_>) = models.into_iter().unzip();
        let mut infos = BTreeMap::new();
        for (name, part) in &parts {
            let mut found = Vec::new();
            for (model, name) in &part.inputs {
                let info = models[*model].infos().get(name);
                found.push(info.ok_or_else(|| SnapshotError::MissingWeight {
                    name: name.clone(),
                    place: places[*model].clone(),
                    help: "every model of a merge must have the same weights".to_owned(),
                })?);
            }
            if let Some(at) = found.iter().position(|info| info.shape != found[0].shape) {
                return Err(SnapshotError::BadShape {
                    name: name.clone(),
                    place: places[part.inputs[at].0].clone(),
                    found: found[at].shape.clone(),
                    expected: found[0].shape.clone(),
                });
            }
            let own = found.iter().map(|info| info.dtype).reduce(promoted).unwrap_or(Dtype::F32);
            let info = WeightInfo { shape: found[0].shape.clone(), dtype: dtype.unwrap_or(own) };
            infos.insert(name.clone(), info);
        }
        Ok(Self::with(name, models, places, parts, infos))
    }

    fn with(
        name: String,
        models: Vec<&'a dyn Weights>,
        places: Vec<String>,
        parts: BTreeMap<String, Part>,
        infos: BTreeMap<String, WeightInfo>,
    ) -> Self {
        let (rounding, track) = (Rounding::Nearest, Some(Track { digests: true }));
        Self { name, models, places, parts, infos, rounding, track, reports: Mutex::default() }
    }

    /// Rounds in another way.
    pub fn rounded(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// Notes less of every weight, or nothing.
    pub fn tracked(self, track: Option<Track>) -> Self {
        Self { track, ..self }
    }

    /// What the merge did to the weights that were asked for so far.
    pub fn report(&self) -> (MergeReport, BTreeMap<String, WeightReport>) {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let untouched = self.infos.len() - reports.len();
        (MergeReport::new(&self.name, &reports, untouched), reports)
    }
}

impl Weights for Merged<'_> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let (Some(part), Some(info)) = (self.parts.get(name), self.infos.get(name)) else {
            return self.models[0].weight(name); // Its error names what is missing.
        };
        let bytes = Mutex::new(vec![0; info.bytes()]);
        self.compute(name, part, info, &|at, some| {
            let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
            bytes[at..at + some.len()].copy_from_slice(some);
            Ok(())
        })?;
        let bytes = bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Weight { info: info.clone(), bytes: Cow::Owned(bytes) })
    }

    fn write_to(&self, name: &str, dtype: Dtype, put: Put<'_>) -> Result<(), SnapshotError> {
        match (self.parts.get(name), self.infos.get(name)) {
            (Some(part), Some(info)) if info.dtype == dtype => self.compute(name, part, info, put),
            _ => self.weight(name)?.write_to(dtype, put),
        }
    }
}

/// Why a piece could not be merged.
enum Failed {
    /// This input has numbers that are no numbers.
    NotFinite(usize),
    /// The result is larger than its format holds.
    TooLarge,
    Put(SnapshotError),
}

impl Merged<'_> {
    /// Merges one weight block by block, several at a time; `put` takes them in any order.
    fn compute(&self, name: &str, part: &Part, info: &WeightInfo, put: Put<'_>) -> Result<(), SnapshotError> {
        let inputs = part.inputs.iter().map(|(model, name)| self.models[*model].weight(name));
        let inputs: Vec<Weight> = inputs.collect::<Result<_, _>>()?;
        let columns = info.shape.last().copied().unwrap_or(1);
        let len = info.n_elements();
        let whole = Whole { name, columns, len, inputs: &inputs, base: part.base };
        let first = part.base.unwrap_or(0);
        let equal =
            inputs.iter().skip(1).all(|input| input.info == inputs[0].info && input.bytes == inputs[0].bytes);
        let untouched = equal && part.method.keeps_equals();
        let end = if untouched { Some(first) } else { part.method.end(part.base) };
        let rule = if len == 0 || end.is_some() { None } else { Some(part.method.prepare(&whole)) };
        let track = self.track.filter(|_| !untouched);
        let size = info.dtype.size();
        let block = |(bytes, exact, written): &mut (Vec<u8>, Vec<f32>, Vec<f32>), block: usize| {
            let from = block * whole.block_len();
            let n = whole.block_len().min(len - from);
            bytes.resize(n * size, 0);
            let mut sums = Sums::default();
            whole.pieces(block, |given| {
                if let Some(input) = given.inputs.iter().position(|x| !within(x, f32::MAX)) {
                    return Err(Failed::NotFinite(input));
                }
                exact.resize(given.len(), 0.0);
                match (&rule, end) {
                    (Some(rule), _) => rule.merge(given, exact),
                    (None, end) => exact.copy_from_slice(given.inputs[end.unwrap_or(first)]),
                }
                if !within(exact, info.dtype.largest()) {
                    return Err(Failed::TooLarge);
                }
                let at = given.start - from;
                let bytes = &mut bytes[at * size..(at + given.len()) * size];
                match self.rounding {
                    Rounding::Nearest => info.dtype.encode(exact, bytes),
                    Rounding::Stochastic { seed } => {
                        let mut rng = seed::rng(seed, &format!("rounding {name}"));
                        rng.set_word_pos(given.start as u128);
                        info.dtype.encode_stochastic(exact, || rng.next_u32(), bytes);
                    }
                }
                if track.is_some() {
                    written.resize(given.len(), 0.0);
                    info.dtype.decode(bytes, written);
                    // Of two models the update is the way between them; of more, the merge's own.
                    let after: &[f32] =
                        if given.inputs.len() == 2 { given.inputs[1 - first.min(1)] } else { exact };
                    sums.add(given.inputs[first], after, exact, written);
                }
                Ok(())
            })?;
            if let Some(Track { digests: true }) = track {
                sums.digest = blake3::hash(bytes).into();
            }
            put(from * size, bytes).map_err(Failed::Put)?;
            Ok(sums)
        };
        let blocks = (0..whole.n_blocks()).into_par_iter();
        let sums: Vec<Result<Sums, Failed>> = blocks.map_init(Default::default, block).collect();
        let sums: Vec<Sums> = sums.into_iter().collect::<Result<_, _>>().map_err(|failed| match failed {
            Failed::Put(error) => error,
            Failed::TooLarge => SnapshotError::TooLarge { name: name.to_owned(), dtype: info.dtype },
            Failed::NotFinite(input) => {
                let (model, name) = &part.inputs[input];
                let n = inputs[input].to_f32().iter().filter(|x| !x.is_finite()).count();
                SnapshotError::NotFinite { name: name.clone(), place: self.places[*model].clone(), n }
            }
        })?;
        if track.is_some() {
            let report = WeightReport::new(&sums, rule.is_some_and(|rule| rule.fell_back()));
            self.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), report);
        }
        Ok(())
    }
}

/// Whether every magnitude is at most `largest`; NaN never is.
fn within(x: &[f32], largest: f32) -> bool {
    largest_magnitude(x) <= largest.to_bits()
}

vectorised! {
    fn largest_magnitude<'a>(x: &'a [f32]) -> u32 {
        x.iter().map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max)
    }
}

/// Weights rounded to one format: what a model is when it is written and read again.
pub struct Rounded<'a> {
    inner: &'a dyn Weights,
    infos: BTreeMap<String, WeightInfo>,
}

impl<'a> Rounded<'a> {
    pub fn new(inner: &'a dyn Weights, dtype: Dtype) -> Self {
        Self { inner, infos: rounded_infos(inner, dtype) }
    }
}

impl Weights for Rounded<'_> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let weight = self.inner.weight(name)?;
        let dtype = self.infos.get(name).map_or(weight.info.dtype, |info| info.dtype);
        Ok(weight.cast(dtype))
    }

    fn write_to(&self, name: &str, dtype: Dtype, put: Put<'_>) -> Result<(), SnapshotError> {
        self.inner.write_to(name, dtype, put)
    }
}

/// The narrowest format that holds the numbers of both.
fn promoted(a: Dtype, b: Dtype) -> Dtype {
    if a == b { a } else { Dtype::F32 }
}

fn rounded_infos(weights: &dyn Weights, dtype: Dtype) -> BTreeMap<String, WeightInfo> {
    let infos = weights.infos().iter();
    infos.map(|(name, info)| (name.clone(), WeightInfo { shape: info.shape.clone(), dtype })).collect()
}

fn same_weights(base: &dyn Weights, tuned: &dyn Weights) -> Result<(), SnapshotError> {
    let help = "base and tuned model must be of one family and one tokenizer".to_owned();
    for (side, other, place) in [(base, tuned, "the tuned model"), (tuned, base, "the base")] {
        for (name, info) in side.infos() {
            match other.infos().get(name) {
                None => {
                    let (name, place) = (name.clone(), place.to_owned());
                    return Err(SnapshotError::MissingWeight { name, place, help });
                }
                Some(found) if found.shape != info.shape => {
                    return Err(SnapshotError::BadShape {
                        name: name.clone(),
                        place: place.to_owned(),
                        found: found.shape.clone(),
                        expected: info.shape.clone(),
                    });
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}
