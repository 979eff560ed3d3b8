//! Weights that are merged as they are asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::report::{MergeReport, WeightReport};
use super::{Given, Merge, MergedWeight};
use crate::snapshot::{Dtype, SnapshotError, Weight, WeightInfo, Weights};

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
    reports: Mutex<BTreeMap<String, WeightReport>>,
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
        Ok(Self { name, models: vec![base, tuned], places, parts, infos, reports: Mutex::default() })
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
        Ok(Self { name, models, places, parts, infos, reports: Mutex::default() })
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
        let inputs = part.inputs.iter().map(|(model, name)| self.models[*model].weight(name));
        let mut inputs: Vec<Weight> = inputs.collect::<Result<_, _>>()?;
        let first = part.base.unwrap_or(0);
        let equal = inputs.iter().all(|input| input.info == inputs[0].info && input.bytes == inputs[0].bytes);
        if equal && part.method.keeps_equals() {
            return Ok(inputs.swap_remove(first).cast(info.dtype));
        }
        let numbers: Vec<Vec<f32>> = inputs.iter().map(Weight::to_f32).collect();
        for ((model, name), numbers) in part.inputs.iter().zip(&numbers) {
            let n = numbers.iter().filter(|x| !x.is_finite()).count();
            if n > 0 {
                let place = self.places[*model].clone();
                return Err(SnapshotError::NotFinite { name: name.clone(), place, n });
            }
        }
        let slices: Vec<&[f32]> = numbers.iter().map(Vec::as_slice).collect();
        let columns = info.shape.last().copied().unwrap_or(1);
        let (written, exact, fell_back) = match part.method.end(part.base) {
            Some(end) => (inputs.swap_remove(end).cast(info.dtype), None, false),
            None => {
                let given = Given { name, columns, inputs: &slices, base: part.base };
                let MergedWeight { values, fell_back } = part.method.merge(&given);
                (Weight::rounded(info.shape.clone(), &values, info.dtype), Some(values), fell_back)
            }
        };
        // Of two models the update is the way between them; of more, the merge's own.
        let after = match (numbers.as_slice(), &exact) {
            ([_, _], _) => slices[1 - first.min(1)],
            (_, Some(exact)) => exact,
            (_, None) => slices[first],
        };
        let report = WeightReport::new(slices[first], after, &written, fell_back);
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), report);
        Ok(written)
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
