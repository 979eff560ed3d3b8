//! Merging: several models' weights in, one model out, weight by weight.
//!
//! A method is a pure function on one weight's numbers plus a row in the catalog. It knows nothing
//! of models, files or adapters: [`Merged`] streams any [`Weights`] through it.
//!
//! A method is asked for in one of two languages. A [`Spec`] such as `slerp:0.5` is for a base and
//! one tuned model; λ is the weight of the tuned model in every method that has one. mergekit's
//! settings are for any number of models and keep mergekit's meaning and defaults.
//!
//! [`Weights`]: crate::snapshot::Weights

use miette::Diagnostic;
use thiserror::Error;

use crate::catalog::did_you_mean;
use crate::recipe::Spec;

mod deltas;
mod given;
mod merged;
pub mod mergekit;
mod methods;
mod report;
mod select;
mod sphere;

pub use given::{Given, Settings};
pub use merged::{Merged, Part, Rounded};
pub use methods::METHODS;
pub use report::{MergeReport, WeightReport};

/// A row of the catalog.
#[derive(Debug)]
pub struct Method {
    /// The word before the colon in `slerp:0.5`.
    pub name: &'static str,
    pub summary: &'static str,
    /// The paper it comes from.
    pub source: &'static str,
    /// A merge of a base and one tuned model that works; empty where there is none.
    pub example: &'static str,
    /// From the parameters of a spec; the error says what is wrong with them.
    from_spec: fn(toml::Table) -> Result<Box<dyn Merge>, String>,
    /// From mergekit's settings of one weight.
    from_settings: fn(&Settings) -> Result<Box<dyn Merge>, String>,
}

/// A method with its parameters.
pub trait Merge: Send + Sync {
    /// One merged weight, its numbers in the order of the inputs'.
    ///
    /// Arithmetic is f32 or better, sums are f64 in a fixed order.
    fn merge(&self, given: &Given<'_>) -> MergedWeight;

    /// Which input the result is, bit for bit, whatever its numbers: that of λ = 0 or λ = 1.
    ///
    /// `base` is the input that is the base.
    fn end(&self, base: Option<usize>) -> Option<usize> {
        let _ = base;
        None
    }

    /// Whether inputs that are all equal are what comes out.
    fn keeps_equals(&self) -> bool {
        true
    }
}

/// What a method makes of one weight.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedWeight {
    pub values: Vec<f32>,
    /// The method had to use a straight line instead of its own rule.
    pub fell_back: bool,
}

impl From<Vec<f32>> for MergedWeight {
    fn from(values: Vec<f32>) -> Self {
        Self { values, fell_back: false }
    }
}

/// Why a merge cannot be made.
#[derive(Debug, Error, Diagnostic)]
pub enum MergeError {
    #[error("unknown merge method `{name}`")]
    #[diagnostic(code(merge::unknown_method), help("{help}; `finetune list methods` shows all"))]
    UnknownMethod { name: String, help: String },
    #[error("merge `{spec}` cannot be made: {why}")]
    #[diagnostic(code(merge::bad_parameters), help("{help}"))]
    BadParameters { spec: String, why: String, help: String },
    #[error("`{path}` cannot be merged by: {why}")]
    #[diagnostic(
        code(merge::bad_config),
        help("the YAML is mergekit's; `finetune list methods` shows the methods")
    )]
    Config { path: String, why: String },
}

/// The method of this name.
///
/// # Errors
///
/// There is none; the help names the nearest.
pub fn find(name: &str) -> Result<&'static Method, MergeError> {
    METHODS.iter().find(|method| method.name == name).ok_or_else(|| MergeError::UnknownMethod {
        name: name.to_owned(),
        help: did_you_mean(name, METHODS.iter().map(|method| method.name)),
    })
}

/// The method that a spec means for a base and one tuned model, ready to merge.
///
/// # Errors
///
/// The method is unknown, a parameter is unknown, missing or out of range.
pub fn resolve(spec: &Spec) -> Result<Box<dyn Merge>, MergeError> {
    let method = find(&spec.method)?;
    (method.from_spec)(spec.parameters.clone()).map_err(|why| {
        let help = match method.example {
            "" => "`finetune list methods` shows those for a base and one tuned model".to_owned(),
            example => format!("write for example `{example}`"),
        };
        MergeError::BadParameters { spec: spec.to_string(), why, help }
    })
}

#[cfg(test)]
mod tests {
    use super::{Given, METHODS, MergedWeight, resolve};
    use crate::recipe::Spec;

    fn weights(seed: u32) -> Vec<f32> {
        let value = |i: u32| {
            ((i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 8) % 2001) as f32 / 1000.0 - 1.0
        };
        (0..256).map(value).collect()
    }

    /// Every method for a base and one tuned model merges these two.
    fn each(base: &[f32], tuned: &[f32], check: impl Fn(&str, MergedWeight)) {
        for method in METHODS.iter().filter(|method| !method.example.is_empty()) {
            let merge = resolve(&method.example.parse().unwrap()).unwrap();
            let given = Given { name: "w", columns: 16, inputs: &[base, tuned], base: Some(0) };
            check(method.name, merge.merge(&given));
        }
    }

    #[test]
    fn a_model_merged_with_itself_is_itself() {
        let base = weights(1);
        each(&base, &base, |name, merged| {
            for (merged, base) in merged.values.iter().zip(&base) {
                assert!((merged - base).abs() <= 1e-6, "{name}: {merged} is not {base}");
            }
        });
    }

    #[test]
    fn degenerate_weights_give_finite_results() {
        let (some, zero) = (weights(1), vec![0.0; 256]);
        let opposite: Vec<f32> = some.iter().map(|x| -x).collect();
        for (base, tuned) in [(&some, &zero), (&zero, &some), (&zero, &zero), (&some, &opposite)] {
            each(base, tuned, |name, merged| assert!(merged.values.iter().all(|x| x.is_finite()), "{name}"));
        }
    }

    #[test]
    fn lambda_0_is_the_base_and_1_the_tuned_model_where_the_row_says_so() {
        for (method, ends) in
            [("linear", true), ("slerp", true), ("nuslerp", true), ("task_arithmetic", true)]
        {
            let end =
                |lambda: f64| resolve(&format!("{method}:{lambda}").parse().unwrap()).unwrap().end(Some(0));
            assert_eq!((end(0.0), end(1.0), end(0.5)), (Some(0), ends.then_some(1), None), "{method}");
        }
        for method in
            ["ties", "dare_linear", "dare_ties", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties"]
        {
            let merge = resolve(&format!("{method}:0,density=0.5").parse().unwrap()).unwrap();
            assert_eq!(merge.end(Some(0)), Some(0), "{method}");
        }
    }

    #[test]
    fn unknown_parameters_and_impossible_lambdas_are_refused() {
        for method in METHODS {
            for more in [",zebra=1", ",lambda=2"] {
                let example = if method.example.is_empty() { method.name } else { method.example };
                let text = format!("{example}{more}");
                assert!(text.parse::<Spec>().map_or(true, |spec| resolve(&spec).is_err()), "{text}");
            }
            for lambda in ["-0.1", "1.5"] {
                let spec: Spec = format!("{}:{lambda}", method.name).parse().unwrap();
                assert!(resolve(&spec).is_err(), "{spec}");
            }
        }
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for text in [
            "task_arithmetic:0.5,density=0.5",
            "ties:0.5,density=0.5,gamma=0.1",
            "ties:0.5,density=0.5,seed=1",
            "ties:0.5,density=0.5,weight=0.3",
            "dare_linear:0.5,density=0.5,epsilon=0.1",
            "ties:0.5",
            "model_stock",
            "sce",
        ] {
            assert!(resolve(&text.parse().unwrap()).is_err(), "{text}");
        }
    }
}
