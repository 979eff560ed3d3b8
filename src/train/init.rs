//! Where training starts: a fresh adapter, or random weights.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rand::Rng;

use crate::model::{DecoderShape, NormScale};
use crate::recipe::{Method, Variant};
use crate::seed::rng;
use crate::snapshot::adapter::{Adapter, Pair};
use crate::snapshot::{Dtype, SnapshotError, Weight, WeightInfo, Weights};

/// A fresh adapter: A uniform as PEFT's default (Kaiming with a = √5: ± 1/√in), B zero.
///
/// Returns `None` when no linear map matches the recipe's targets.
pub fn adapter(shape: &DecoderShape, method: &Method, seed: u64) -> Option<Adapter> {
    let targets = matcher(&method.targets.patterns());
    let pairs = shape.linear_modules().into_iter().filter(|(module, _)| targets.is_match(module));
    let pairs = pairs.map(|(module, [n_out, n_in])| {
        let mut stream = rng(seed, &format!("lora_A {module}"));
        let bound = (n_in as f64).sqrt().recip();
        let a =
            (0..method.rank * n_in).map(|_| (bound * (2.0 * uniform(&mut stream) - 1.0)) as f32).collect();
        let (b, magnitude) = (vec![0.0; n_out * method.rank], Vec::new());
        (module, Pair { a, b, magnitude, n_in, n_out, rank: method.rank, alpha: method.alpha })
    });
    let pairs: BTreeMap<String, Pair> = pairs.collect();
    (!pairs.is_empty()).then_some(Adapter {
        rank: method.rank,
        alpha: method.alpha,
        rank_stabilized: method.variant == Variant::RsLora,
        dora: method.variant == Variant::Dora,
        dropout: method.dropout,
        pairs,
    })
}

/// Patterns over module names; a name that ends in the pattern matches too, as in PEFT.
fn matcher(patterns: &[&str]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        for glob in [(*pattern).to_owned(), format!("*.{pattern}")] {
            set.add(GlobBuilder::new(&glob).build().expect("the recipe checked its patterns"));
        }
    }
    set.build().expect("every pattern was built")
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

#[cfg(test)]
mod tests {
    use super::matcher;

    #[test]
    fn targets_match_whole_names_or_their_ends() {
        let name = "model.layers.0.self_attn.q_proj";
        assert!(matcher(&["*"]).is_match(name));
        assert!(matcher(&["q_proj"]).is_match(name));
        assert!(matcher(&["*.q_proj"]).is_match(name));
        assert!(matcher(&["model.layers.0.*"]).is_match(name));
        assert!(!matcher(&["k_proj", "mlp"]).is_match(name));
    }
}
