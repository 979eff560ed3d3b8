//! Where training starts: a fresh adapter, or random weights.

use std::collections::BTreeMap;

use rand::Rng;

use super::{TrainError, frozen};
use crate::model::{DecoderShape, NormScale};
use crate::recipe::{Method, Place, Train, Variant};
use crate::seed::rng;
use crate::snapshot::adapter::{Adapter, Pair};
use crate::snapshot::{Dtype, SnapshotError, Weight, WeightInfo, Weights};

/// What a model has besides the linear maps of its layers, and an adapter of ours has no pair for.
const NOT_ADAPTED: [&str; 2] = ["lm_head", "model.embed_tokens"];

/// The linear maps that get an adapter, with their `[out, in]`: those that the recipe's targets mean, less the frozen.
///
/// # Errors
///
/// A target, or a place that is to be frozen, means none of them, or all are frozen.
pub fn targets(
    shape: &DecoderShape,
    method: &Method,
    train: &Train,
) -> Result<BTreeMap<String, [usize; 2]>, TrainError> {
    let mut modules = shape.linear_modules();
    let places = method.targets.places().expect("the recipe checked its targets");
    let idle = places.iter().find(|place| !modules.keys().any(|module| place.holds(module)));
    if places.is_empty() || idle.is_some() {
        return Err(no_target(idle, shape.n_layers, modules.keys()));
    }
    frozen::within("method.targets", &places, shape.n_layers)?;
    modules.retain(|module, _| places.iter().any(|place| place.holds(module)));
    frozen::take_out(&mut modules, shape, train)?;
    Ok(modules)
}

/// Why a target, or an empty list of them, means none of the `modules`.
fn no_target<'m>(
    idle: Option<&Place>,
    n_layers: usize,
    modules: impl Iterator<Item = &'m String>,
) -> TrainError {
    let target = idle.map_or("[]".to_owned(), ToString::to_string);
    if let Some(module) = NOT_ADAPTED.iter().find(|module| idle.is_some_and(|place| place.holds(module))) {
        return TrainError::NotAdapted { target, module };
    }
    let help = frozen::nearest_module(&target, n_layers, modules.map(String::as_str));
    TrainError::NoTarget { target, help }
}

/// A fresh adapter: A uniform as PEFT's default (Kaiming with a = √5: ± 1/√in), B zero.
///
/// # Errors
///
/// As [`targets`].
pub fn adapter(shape: &DecoderShape, method: &Method, train: &Train) -> Result<Adapter, TrainError> {
    let pairs = targets(shape, method, train)?.into_iter();
    let pairs = pairs.map(|(module, [n_out, n_in])| {
        let mut stream = rng(train.seed, &format!("lora_A {module}"));
        let bound = (n_in as f64).sqrt().recip();
        let a =
            (0..method.rank * n_in).map(|_| (bound * (2.0 * uniform(&mut stream) - 1.0)) as f32).collect();
        let (b, magnitude) = (vec![0.0; n_out * method.rank], Vec::new());
        (module, Pair { a, b, magnitude, n_in, n_out, rank: method.rank, alpha: method.alpha })
    });
    Ok(Adapter {
        rank: method.rank,
        alpha: method.alpha,
        rank_stabilized: method.variant == Variant::RsLora,
        dora: method.variant == Variant::Dora,
        dropout: method.dropout,
        pairs: pairs.collect(),
    })
}

/// Between 0 and 1, 53 bits.
fn uniform(stream: &mut impl Rng) -> f64 {
    (stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Random weights of a shape: matrices normal, norms doing nothing, biases zero.
#[derive(Debug)]
pub struct RandomWeights {
    infos: BTreeMap<String, WeightInfo>,
    /// The weight of a norm that does nothing.
    norm: f32,
    deviation: f64,
    seed: u64,
}

impl RandomWeights {
    /// Weights whose matrices have standard deviation `deviation`.
    pub fn new(shape: &DecoderShape, deviation: f64, dtype: Dtype, seed: u64) -> Self {
        let infos = shape.weights().into_iter().map(|(name, shape)| (name, WeightInfo { shape, dtype }));
        let norm = if shape.norm_scale == NormScale::Weight { 1.0 } else { 0.0 };
        Self { infos: infos.collect(), norm, deviation, seed }
    }
}

impl Weights for RandomWeights {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let info = &self.infos[name];
        let mut stream = rng(self.seed, &format!("weight {name}"));
        let n = info.n_elements();
        let values: Vec<f32> = match (info.shape.len(), name.rsplit('.').next() == Some("bias")) {
            (1, true) => vec![0.0; n],
            (1, false) => vec![self.norm; n],
            _ => (0..n).map(|_| (self.deviation * normal(&mut stream)) as f32).collect(),
        };
        Ok(Weight::rounded(info.shape.clone(), &values, info.dtype))
    }
}

/// Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958.
fn normal(stream: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(stream)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(stream)).cos()
}
