//! A spec such as `slerp:0.5,attn=0.3` settled: the method of every weight.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Merge, MergeError, Method, Restoring, Role, find};
use crate::recipe::{Lambda, Of, Spec, layer_of};

/// The parameter of a method that chance plays a part in.
const SEED: &str = "seed";

/// A spec whose every parameter was looked at.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub method: &'static Method,
    spec: Spec,
    seed: u64,
}

/// Looks at a spec's method and parameters, at every λ it names. What chance decides in it is drawn by
/// `seed` unless the spec has its own.
///
/// # Errors
///
/// The method is unknown, a parameter is unknown, missing or out of range.
pub fn resolve(spec: &Spec, seed: u64) -> Result<Resolved, MergeError> {
    let resolved = Resolved { method: find(&spec.method)?, spec: spec.clone(), seed };
    if let (None, Some((place, lambda))) = (&spec.lambda, spec.places.first()) {
        let why = format!("`{place}={lambda}` stands without a λ for the other weights");
        return Err(resolved.refused(why));
    }
    let lambdas = spec.lambda.iter().chain(spec.places.iter().map(|(_, lambda)| lambda));
    let points: Vec<f64> = lambdas.flat_map(Lambda::points).copied().collect();
    if points.is_empty() {
        resolved.build(None)?;
    }
    for point in points {
        resolved.build(Some(point))?;
    }
    Ok(resolved)
}

impl Resolved {
    pub fn name(&self) -> String {
        self.spec.to_string()
    }

    /// λ, if there is one and it is the same for every weight.
    pub fn lambda(&self) -> Option<f64> {
        self.spec.single_lambda()
    }

    /// The role of the model that λ is the weight of.
    pub fn of(&self) -> Role {
        match self.spec.of {
            Of::Tuned => Role::Tuned,
            Of::Ema => Role::Ema,
        }
    }

    /// What draws the numbers that are dropped; nothing where chance plays no part.
    pub fn seed(&self) -> Option<u64> {
        let own = self.spec.parameters.get(SEED).and_then(toml::Value::as_integer);
        self.method.needs.random.then(|| own.map_or(self.seed, i64::cast_unsigned))
    }

    /// Whether it chooses the matrices that it changes.
    pub fn chooses(&self) -> bool {
        let first = self.spec.lambda.as_ref().map(|lambda| lambda.at(0.0));
        self.build(first).is_ok_and(|merge| merge.choice().is_some())
    }

    /// How it goes by a probe of the layers, if it does.
    pub fn restoring(&self) -> Option<Restoring> {
        self.build(None).ok().and_then(|merge| merge.restoring())
    }

    /// The method with its λ for each of the weights of a model of so many layers.
    ///
    /// # Errors
    ///
    /// A place of the spec holds none of the weights.
    pub fn methods<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
        n_layers: usize,
    ) -> Result<BTreeMap<String, Arc<dyn Merge>>, MergeError> {
        let last = n_layers.saturating_sub(1).max(1) as f64;
        let mut used = vec![false; self.spec.places.len()];
        let mut made: BTreeMap<Option<u64>, Arc<dyn Merge>> = BTreeMap::new();
        let mut methods = BTreeMap::new();
        for name in names {
            let depth = match layer_of(name) {
                Some((layer, ..)) => layer as f64 / last,
                None => f64::from(!name.contains("embed")),
            };
            let mut places = self.spec.places.iter().enumerate();
            let lambda = match places.find(|(_, (place, _))| place.holds(name)) {
                Some((nth, (_, lambda))) => {
                    used[nth] = true;
                    Some(lambda)
                }
                None => self.spec.lambda.as_ref(),
            };
            let lambda = lambda.map(|lambda| lambda.at(depth));
            let method = match made.get(&lambda.map(f64::to_bits)) {
                Some(method) => method.clone(),
                None => Arc::from(self.build(lambda)?),
            };
            made.insert(lambda.map(f64::to_bits), method.clone());
            methods.insert(name.clone(), method);
        }
        match self.spec.places.iter().zip(used).find(|(_, used)| !used) {
            None => Ok(methods),
            Some(((place, _), _)) => {
                Err(self
                    .refused(format!("`{place}` holds none of the model's weights, or others come first")))
            }
        }
    }

    pub(super) fn build(&self, lambda: Option<f64>) -> Result<Box<dyn Merge>, MergeError> {
        let mut parameters = self.spec.parameters.clone();
        if let Some(lambda) = lambda {
            parameters.insert("lambda".to_owned(), lambda.into());
        }
        if let Some(seed) = self.seed() {
            parameters.insert(SEED.to_owned(), seed.cast_signed().into());
        }
        (self.method.from_spec)(parameters).map_err(|why| self.refused(why))
    }

    /// That it cannot be made, and why.
    pub fn refused_for(&self, why: &str, help: &str) -> MergeError {
        MergeError::BadParameters { spec: self.name(), why: why.to_owned(), help: help.to_owned() }
    }

    fn refused(&self, why: String) -> MergeError {
        let help = match self.method.example {
            "" => "`finetune list methods` shows those for a base and one tuned model".to_owned(),
            example => format!("write for example `{example}`"),
        };
        MergeError::BadParameters { spec: self.name(), why, help }
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;

    fn names() -> Vec<String> {
        let mut names = vec!["model.embed_tokens.weight".to_owned(), "model.norm.weight".to_owned()];
        for layer in 0..3 {
            for module in ["self_attn.q_proj", "mlp.up_proj"] {
                names.push(format!("model.layers.{layer}.{module}.weight"));
            }
        }
        names
    }

    #[test]
    fn each_weight_has_the_lambda_of_its_place_and_depth() {
        let resolved = resolve(&"linear:0~1,layers.1=0.25,attn=0.75".parse().unwrap(), 0).unwrap();
        let methods = resolved.methods(names().iter(), 3).unwrap();
        let lambda = |name: &str| methods[&format!("model.{name}.weight")].of_update();
        assert_eq!(lambda("embed_tokens"), Some(0.0));
        assert_eq!(lambda("norm"), Some(1.0));
        assert_eq!(lambda("layers.1.self_attn.q_proj"), Some(0.25));
        assert_eq!(lambda("layers.0.self_attn.q_proj"), Some(0.75));
        assert_eq!(lambda("layers.2.mlp.up_proj"), Some(1.0));
        let resolved = resolve(&"linear:0,layers.*.up_proj=1".parse().unwrap(), 0).unwrap();
        let methods = resolved.methods(names().iter(), 3).unwrap();
        let lambda = |name: &str| methods[&format!("model.{name}.weight")].of_update();
        assert_eq!([lambda("layers.2.mlp.up_proj"), lambda("norm")], [Some(1.0), Some(0.0)]);
    }

    #[test]
    fn a_place_without_weights_or_without_effect_is_refused() {
        for text in [
            "linear:0.5,head=0",
            "linear:0.5,layers.7=0",
            "linear:0.5,*.v_proj=0",
            "linear:0.5,attn=0,q_proj=1",
        ] {
            assert!(
                resolve(&text.parse().unwrap(), 0).unwrap().methods(names().iter(), 3).is_err(),
                "{text}"
            );
        }
        for text in ["linear,attn=0.3", "karcher,attn=0.5", "linear:0.5,attn=2", "slerp:0.1~1.5"] {
            assert!(resolve(&text.parse().unwrap(), 0).is_err(), "{text}");
        }
    }
}
