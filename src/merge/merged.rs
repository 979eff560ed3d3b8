//! Weights that are merged as they are asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::report::{MergeReport, WeightReport};
use super::{Merge, MergedWeight};
use crate::snapshot::{Dtype, SnapshotError, Weight, WeightInfo, Weights};

/// A merge of base and tuned weights, each computed when asked for and kept nowhere.
///
/// Arithmetic is f32 on the exact inputs; each weight is rounded once, to `dtype`. A weight that
/// tuning left alone is the base's, bit for bit.
pub struct Merged<'a> {
    name: String,
    base: &'a dyn Weights,
    tuned: &'a dyn Weights,
    method: Box<dyn Merge>,
    infos: BTreeMap<String, WeightInfo>,
    reports: Mutex<BTreeMap<String, WeightReport>>,
}

impl<'a> Merged<'a> {
    /// Sets up the merge called `name`; nothing is computed yet.
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
        let infos = rounded_infos(base, dtype);
        Ok(Self { name, base, tuned, method, infos, reports: Mutex::default() })
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
        let dtype = self.infos.get(name).map_or(Dtype::F32, |info| info.dtype);
        let (base, tuned) = (self.base.weight(name)?, self.tuned.weight(name)?);
        if base.info == tuned.info && base.bytes == tuned.bytes {
            return Ok(base.cast(dtype));
        }
        let (before, after) = (base.to_f32(), tuned.to_f32());
        let (written, fell_back) = match self.method.lambda() {
            0.0 => (base.cast(dtype), false),
            1.0 => (tuned.cast(dtype), false),
            _ => {
                let MergedWeight { values, fell_back } = self.method.merge(&before, &after);
                (Weight::rounded(base.info.shape, &values, dtype), fell_back)
            }
        };
        let report = WeightReport::new(&before, &after, &written, fell_back);
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
