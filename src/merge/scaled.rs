//! A merge along the straight line to an adapter's model is the adapter, scaled: `W + λ·s·B·A`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::methods::scaled_by;
use super::{Besides, MergeError, Part, Resolved};
use crate::snapshot::Weights;
use crate::snapshot::adapter::{MAGNITUDE, factor};

/// How each factor of the scaled adapter is made: `B` times λ, `A` as it is.
///
/// # Errors
///
/// The method does more than scale the update, or a place of the spec holds nothing.
pub fn scaled_adapter(
    spec: &Resolved,
    factors: &dyn Weights,
    n_layers: usize,
) -> Result<BTreeMap<String, Part>, MergeError> {
    if factors.infos().keys().any(|name| name.ends_with(MAGNITUDE)) {
        return Err(MergeError::BadParameters {
            spec: spec.name(),
            why: "a DoRA adapter turns the base's rows, which no scale of it can halve".to_owned(),
            help: "leave `--adapter-only` out: the merged model is written whole".to_owned(),
        });
    }
    // A is stored beside every B, and λ belongs to the weight that both are an update of.
    let of_b: BTreeMap<String, &String> = factors
        .infos()
        .keys()
        .filter_map(|name| factor(name).filter(|(_, which)| *which == "B").map(|(module, _)| (module, name)))
        .map(|(module, name)| (format!("{module}.weight"), name))
        .collect();
    let methods = spec.methods(of_b.keys(), n_layers)?;
    let part = |name: &String, scale: f64| {
        let method = Arc::from(scaled_by(scale));
        Part {
            inputs: vec![(0, name.clone())],
            base: None,
            importance: Vec::new(),
            method,
            besides: Besides::default(),
        }
    };
    let mut parts: BTreeMap<String, Part> =
        factors.infos().keys().map(|name| (name.clone(), part(name, 1.0))).collect();
    for (weight, method) in methods {
        let scale = method.of_update().ok_or_else(|| MergeError::BadParameters {
            spec: spec.name(),
            why: "it does more than scale the update, and an adapter cannot hold that".to_owned(),
            help: "leave `--adapter-only` out, or merge by linear, extrapolate or task_arithmetic".to_owned(),
        })?;
        parts.insert(of_b[&weight].clone(), part(of_b[&weight], scale));
    }
    Ok(parts)
}
