//! Weights that are merged as they are asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::block::{Failed, Ready, Rounding, Space, Track, Update, n_not_finite};
use super::report::{MergeReport, Sums, WeightReport};
use super::whole::Masks;
use super::{Alignments, Merge, Whole};
use crate::snapshot::{
    Dtype, Dtypes, Numbers, Put, SharedWeights, SnapshotError, Weight, WeightInfo, Weights,
};

/// A merge of several models' weights, each computed when asked for and kept nowhere.
///
/// Arithmetic is f32 on the exact inputs; each weight is rounded once. A weight that is the same in
/// every input is the base's, bit for bit, unless the method scales.
pub struct Merged {
    name: String,
    models: Vec<SharedWeights>,
    /// What each model is called in messages.
    places: Vec<String>,
    parts: BTreeMap<String, Part>,
    infos: BTreeMap<String, WeightInfo>,
    rounding: Rounding,
    seed: Option<u64>,
    track: Option<Track>,
    /// Numbers that are NaN or infinite are counted and not refused.
    lenient: bool,
    /// How the command that merges is told another dtype.
    option: &'static str,
    reports: Mutex<BTreeMap<String, WeightReport>>,
}

/// How one weight of the result is made.
pub struct Part {
    /// Which model, and the weight's name there.
    pub inputs: Vec<(usize, String)>,
    /// Which input is the base.
    pub base: Option<usize>,
    /// For a method that goes by it: where the importance of each input's numbers is to be found.
    pub importance: Vec<(usize, String)>,
    pub method: Arc<dyn Merge>,
    /// What it looks at besides numbers.
    pub besides: Besides,
}

/// What a part may look at besides its inputs' numbers.
#[derive(Clone, Default)]
pub struct Besides {
    pub update: Update,
    /// For a method that chooses matrices.
    pub alignments: Option<Arc<Alignments>>,
    /// For a method in which chance decides what is kept.
    pub masks: Option<Arc<Masks>>,
}

impl Merged {
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
        models: Vec<(SharedWeights, String)>,
        parts: BTreeMap<String, Part>,
        dtype: Option<Dtype>,
    ) -> Result<Self, SnapshotError> {
        let (models, places): (Vec<_>, Vec<_>) = models.into_iter().unzip();
        let mut infos = BTreeMap::new();
        for (name, part) in &parts {
            let mut found = Vec::new();
            for (model, name) in part.inputs.iter().chain(&part.importance) {
                let info = models[*model].infos().get(name);
                found.push(info.ok_or_else(|| SnapshotError::MissingWeight {
                    name: name.clone(),
                    place: places[*model].clone(),
                    help: "every model of a merge must have the same weights".to_owned(),
                })?);
            }
            if let Some(at) = found.iter().position(|info| info.shape != found[0].shape) {
                let mut models = part.inputs.iter().chain(&part.importance);
                let (model, _) = models.nth(at).expect("it was found there");
                return Err(SnapshotError::OtherShape {
                    name: name.clone(),
                    place: places[*model].clone(),
                    found: found[at].shape.clone(),
                    expected: found[0].shape.clone(),
                    base: places[part.inputs[0].0].clone(),
                });
            }
            let own = found[..part.inputs.len()]
                .iter()
                .map(|info| info.dtype)
                .reduce(promoted)
                .unwrap_or(Dtype::F32);
            let info = WeightInfo { shape: found[0].shape.clone(), dtype: dtype.unwrap_or(own) };
            infos.insert(name.clone(), info);
        }
        let (rounding, track) = (Rounding::Nearest, Some(Track { digests: true }));
        let reports = Mutex::default();
        let (seed, lenient, option) = (None, false, "--out-dtype bf16");
        Ok(Self { name, models, places, parts, infos, rounding, seed, track, lenient, option, reports })
    }

    /// Says in its report which seed draws what chance decides in its methods.
    pub fn drawn_by(self, seed: Option<u64>) -> Self {
        Self { seed, ..self }
    }

    /// Rounds in another way.
    pub fn rounded(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// Rounds each weight to its own dtype, which the command that merges is told by `option`.
    pub fn in_dtypes(mut self, dtypes: &Dtypes, option: &'static str) -> Self {
        for (name, info) in &mut self.infos {
            info.dtype = dtypes.get(name);
        }
        Self { option, ..self }
    }

    /// Notes less of every weight, or nothing.
    pub fn tracked(self, track: Option<Track>) -> Self {
        Self { track, ..self }
    }

    /// Merges numbers that are NaN or infinite as arithmetic does, and counts them.
    pub fn lenient(self, lenient: bool) -> Self {
        Self { lenient, ..self }
    }

    /// What the merge did to these weights, those that tuning touched.
    pub fn report_of(&self, names: &[&str]) -> BTreeMap<String, WeightReport> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let found = names.iter().filter_map(|name| Some(((*name).to_owned(), *reports.get(*name)?)));
        found.collect()
    }

    /// Looks at all that a method must know of every weight before it can choose; `tell` is told how many weights of how
    /// many were looked at, and `stop` ends it. Nothing for most methods.
    ///
    /// # Errors
    ///
    /// A weight cannot be read.
    pub fn settle(&self, tell: &dyn Fn(usize, usize), stop: &AtomicBool) -> Result<(), SnapshotError> {
        let alignments = self.parts.values().find_map(|part| part.besides.alignments.as_ref());
        alignments.map_or(Ok(()), |alignments| alignments.settle(tell, stop))
    }

    /// Takes over what an earlier merge of the same inputs noted of some weights.
    pub fn remember(&self, reports: &BTreeMap<String, WeightReport>) {
        let known = reports.iter().map(|(name, report)| (name.clone(), *report));
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
    }

    /// What the merge did to the weights that were asked for so far.
    pub fn report(&self) -> (MergeReport, BTreeMap<String, WeightReport>) {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let untouched = self.infos.len() - reports.len();
        (MergeReport::new(&self.name, self.seed, &reports, untouched), reports)
    }
}

impl Weights for Merged {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let (Some(part), Some(info)) = (self.parts.get(name), self.infos.get(name)) else {
            return self.models[0].weight(name); // Its error names what is missing.
        };
        let bytes = Mutex::new(vec![0; info.bytes()]);
        self.compute(name, part, info, &|range, fill| {
            fill(0, &mut bytes.lock().unwrap_or_else(PoisonError::into_inner)[range]);
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

impl Merged {
    /// Merges one weight block by block, several at a time; `put` takes them in any order.
    fn compute(&self, name: &str, part: &Part, info: &WeightInfo, put: Put<'_>) -> Result<(), SnapshotError> {
        let places = part.inputs.iter().chain(&part.importance);
        let all = places.clone().map(|(model, name)| self.models[*model].numbers(name));
        let all: Vec<Numbers> = all.collect::<Result<_, _>>()?;
        let (inputs, importance) = all.split_at(part.inputs.len());
        let columns = info.shape.last().copied().unwrap_or(1);
        let len = info.n_elements();
        let Besides { update, alignments, masks } = &part.besides;
        let (alignment, chosen) = match (alignments, part.method.choice()) {
            (Some(alignments), Some(choice)) => (alignments.of(name)?, alignments.chosen(name, choice)?),
            _ => (None, None),
        };
        let whole = Whole {
            importance,
            base: part.base,
            is_matrix: info.shape.len() == 2,
            chosen,
            masks: masks.as_deref(),
            ..Whole::new(name, columns, len, inputs)
        };
        // What is not chosen is the tuned model's, whatever else the method looks at.
        let looked_at = if alignments.is_some() && chosen.is_none() { &inputs[..2] } else { inputs };
        let equal = looked_at.iter().skip(1).all(|input| input.equal(&inputs[0], len));
        let untouched = equal && part.method.keeps_equals();
        let end = if untouched { Some(part.base.unwrap_or(0)) } else { part.method.end(part.base) };
        let rule = match end {
            Some(end) => Err(end),
            None if len == 0 => Err(0),
            None => Ok(part.method.prepare(&whole)),
        };
        let track = self.track.filter(|_| !untouched);
        let Self { rounding, lenient, option, .. } = *self;
        let update = *update;
        let ready = Ready { whole: &whole, update, dtype: info.dtype, rule, rounding, track, lenient };
        let blocks = (0..whole.n_blocks()).into_par_iter();
        let sums = blocks.map_init(Space::default, |space, block| ready.block(block, space, put));
        let sums: Vec<Result<Sums, Failed>> = sums.collect();
        let sums: Vec<Sums> = sums.into_iter().collect::<Result<_, _>>().map_err(|failed| match failed {
            Failed::Put(error) => error,
            Failed::TooLarge => SnapshotError::TooLarge { name: name.to_owned(), dtype: info.dtype, option },
            Failed::NotFinite(input) => {
                let (model, name) = places.clone().nth(input).expect("it is an input");
                let counts = whole.counts(1, |given, counts| {
                    counts[0] += n_not_finite(given.all().nth(input).expect("it is an input"));
                });
                let (place, n) = (self.places[*model].clone(), counts[0] as usize);
                SnapshotError::NotFinite { name: name.clone(), place, n }
            }
        })?;
        if track.is_some() {
            let fell_back = ready.rule.is_ok_and(|rule| rule.fell_back());
            let one_update = match update {
                Update::BetweenTwo => part.inputs.len() == 2,
                Update::To(_) => true,
                Update::Own => false,
            };
            let mut report = WeightReport::new(&sums, fell_back, one_update);
            (report.alignment, report.chosen) = (alignment, chosen);
            self.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), report);
        }
        Ok(())
    }
}

/// Weights rounded to one format: what a model is when it is written and read again.
pub struct Rounded {
    inner: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
}

impl Rounded {
    pub fn new(inner: SharedWeights, dtypes: &Dtypes) -> Self {
        let infos = inner.infos().iter();
        let rounded = |name: &str, info: &WeightInfo| WeightInfo { dtype: dtypes.get(name), ..info.clone() };
        let infos = infos.map(|(name, info)| (name.clone(), rounded(name, info))).collect();
        Self { inner, infos }
    }
}

impl Weights for Rounded {
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
