//! Layers made a little stronger or weaker: how many refusals come or go?
//!
//! Li et al. 2024, arXiv 2408.17003, section 3.3, multiply a range of layers and count refusals. The signed score κ of a
//! layer is that of SLDR, 2026, arXiv 2610.10345.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::subject::Subject;
use super::{Asked, Outcome, bad, in_words, no_tuned};
use crate::merge::Role;
use crate::recipe::layer_of;
use crate::report::inspection::{Found, Refusals, Scaled};
use crate::run::cast::{Candidate, Cast, Parts, RoleWeights};
use crate::run::failure::Failure;
use crate::run::plan::probing::Probing;
use crate::run::plan::sources::Sources;
use crate::run::session::Session;
use crate::snapshot::digest::of_json;
use crate::snapshot::{Dtype, SharedWeights, SnapshotError, Weight, WeightInfo, Weights};

/// Weights in which the linear maps of some layers are multiplied; biases and norms are as they were.
///
/// The weights beneath are only read: without this they are what they were, bit for bit.
pub struct ScaledLayers {
    inner: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
    range: [usize; 2],
    factor: f64,
}

impl ScaledLayers {
    /// Multiplies the linear maps of the layers in `range`, both ends included, with `factor`.
    pub fn new(inner: SharedWeights, range: [usize; 2], factor: f64) -> Self {
        let mut infos = inner.infos().clone();
        for (name, info) in &mut infos {
            if is_scaled(range, name) {
                info.dtype = Dtype::F32;
            }
        }
        Self { inner, infos, range, factor }
    }
}

/// Whether a weight is a linear map of these layers.
fn is_scaled([from, to]: [usize; 2], name: &str) -> bool {
    name.ends_with("_proj.weight") && layer_of(name).is_some_and(|(layer, ..)| (from..=to).contains(&layer))
}

impl Weights for ScaledLayers {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let weight = self.inner.weight(name)?;
        if !is_scaled(self.range, name) {
            return Ok(weight);
        }
        let (mut values, factor) = (weight.to_f32(), self.factor as f32);
        for x in &mut values {
            *x *= factor;
        }
        Ok(Weight::from_f32(weight.info.shape, &values))
    }
}

/// κ of refusals at factors: the largest of (refusals at 1 + s − refusals at 1 − s) / s over all `s` that come in such
/// pairs; none if none do.
pub fn kappa(factors: &[f64], refused: &[usize]) -> Option<f64> {
    let by_factor = || factors.iter().zip(refused);
    let stronger = by_factor().filter(|(factor, _)| **factor > 1.0);
    let scores = stronger.filter_map(|(factor, more)| {
        let s = factor - 1.0;
        let (_, less) = by_factor().find(|(other, _)| (**other - (1.0 - s)).abs() < 1e-9)?;
        Some((*more as f64 - *less as f64) / s)
    });
    scores.max_by(f64::total_cmp)
}

/// The probe, settled.
pub(super) struct Scaling<'a> {
    subject: &'a Subject,
    ranges: &'a [[usize; 2]],
    factors: Vec<f64>,
    /// What the model is called.
    name: &'static str,
    probing: Probing,
    /// The model as it is, then by range and factor.
    cast: Cast,
}

impl<'a> Scaling<'a> {
    /// Settles what is asked of which scaled models.
    ///
    /// # Errors
    ///
    /// A factor makes no sense, or there is nothing to ask.
    pub(super) fn new(
        subject: &'a Subject,
        asked: &Asked,
        ranges: &'a [[usize; 2]],
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let factors = asked.factors.clone();
        if let Some(factor) = factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
            return Err(bad("--factor", factor.to_string(), "a number above 0, such as 1.1").into());
        }
        let (name, own) = subject.one(asked.tuned).ok_or_else(|| no_tuned(asked))?;
        let probing = subject.probing(asked, sources)?;
        let (mut candidates, mut others) = (vec![Candidate::new(name, Role::Base)], Vec::new());
        for range in ranges {
            for factor in &factors {
                let scaled = format!("scaled:{factor},layers.{}", in_words(*range));
                candidates.push(Candidate::named(&scaled, others.len()));
                let weights = Arc::new(ScaledLayers::new(own.weights.clone(), *range, *factor));
                others
                    .push(RoleWeights { weights, key: of_json(&json!([own.key, "scaled", range, factor])) });
            }
        }
        let roles = BTreeMap::from([(Role::Base, own)]);
        let cast = Cast::of_parts(
            roles,
            Parts { others, ..Parts::default() },
            candidates,
            subject.base.dtypes.clone(),
        );
        Ok(Self { subject, ranges, factors, name, probing, cast })
    }

    /// Asks and counts.
    ///
    /// # Errors
    ///
    /// As [`Subject::count`].
    pub(super) fn run(&self, session: &mut Session<'_>) -> Result<Outcome, Failure> {
        let counts = self.subject.count(&self.probing, &self.cast, session)?;
        let (unscaled, of_ranges) = counts.split_first().expect("the model as it is comes first");
        let rows = self.ranges.iter().zip(of_ranges.chunks(self.factors.len()));
        let row = |(range, refusals): (&[usize; 2], &[Refusals])| {
            let refused: Vec<usize> = refusals.iter().map(|found| found.refused).collect();
            let kappa = kappa(&self.factors, &refused);
            Scaled { layers: in_words(*range), refusals: refusals.to_vec(), kappa }
        };
        let rows: Vec<Scaled> = rows.map(row).collect();
        let mut notes = vec![
            "κ is the largest of (refusals at 1 + s − refusals at 1 − s) / s: above 0 a layer strengthens refusals, below \
             0 it weakens them."
                .to_owned(),
        ];
        let is_flat = |row: &Scaled| row.refusals.iter().all(|found| found.refused == unscaled.refused);
        if rows.iter().all(is_flat) {
            notes.push(
                "No row differs: take stronger factors, or requests that are refused now and then."
                    .to_owned(),
            );
        }
        let (factors, unscaled) = (self.factors.clone(), *unscaled);
        Ok(Outcome {
            model: self.name,
            suites: vec![self.probing.evaluation.suites[0].posed.asked.clone()],
            judge: Some(self.probing.judge.name.to_owned()),
            notes,
            found: Found::Scaled { unscaled, factors, rows },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ScaledLayers, kappa};
    use crate::model::{DecoderShape, Sizes};
    use crate::snapshot::{Dtype, SharedWeights, Weights};
    use crate::train::init::RandomWeights;

    #[test]
    fn kappa_is_the_largest_signed_slope() {
        assert_eq!(kappa(&[1.1, 0.9], &[30, 20]).map(f64::round), Some(100.0));
        assert_eq!(kappa(&[1.1, 0.9], &[20, 30]).map(f64::round), Some(-100.0));
        // At s = 0.1 it is -10 / 0.1, at 0.2 it is 30 / 0.2.
        assert_eq!(kappa(&[1.1, 0.9, 1.2, 0.8], &[20, 30, 50, 20]).map(f64::round), Some(150.0));
        assert_eq!(kappa(&[1.1, 0.8], &[20, 30]), None);
        assert_eq!(kappa(&[], &[]), None);
    }

    #[test]
    fn only_the_linear_maps_of_the_range_are_multiplied() {
        let sizes = Sizes {
            vocab_size: 10,
            hidden_size: 8,
            intermediate_size: 12,
            n_layers: 3,
            n_heads: 2,
            n_kv_heads: 1,
            head_dim: 4,
        };
        let shape = DecoderShape { qkv_bias: true, ..DecoderShape::plain("small", sizes) };
        let inner: SharedWeights = Arc::new(RandomWeights::new(&shape, 0.1, Dtype::Bf16, 3));
        let scaled = ScaledLayers::new(inner.clone(), [1, 2], 1.1);
        let mut n_scaled = 0;
        for name in inner.infos().keys() {
            let (before, after) = (inner.weight(name).unwrap(), scaled.weight(name).unwrap());
            assert_eq!(after.info, scaled.infos()[name]);
            if before.bytes == after.bytes {
                continue;
            }
            n_scaled += 1;
            assert!(name.ends_with("_proj.weight") && !name.contains("layers.0."), "{name}");
            for (before, after) in before.to_f32().iter().zip(after.to_f32()) {
                assert_eq!(before * 1.1, after);
            }
        }
        assert_eq!(n_scaled, 14);
    }
}
