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

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::catalog::did_you_mean;
use crate::recipe::Helper;
use crate::snapshot::SnapshotError;

mod alignment;
mod between;
mod block;
mod choice;
mod deltas;
pub mod direction;
mod given;
mod heads;
mod keep;
mod mean;
mod merged;
pub mod mergekit;
mod methods;
mod needs;
mod pair;
mod product;
mod products;
mod report;
mod scaled;
mod select;
mod spec;
mod sphere;
mod subspace;
mod vocabulary;
mod whole;

pub use alignment::Alignment;
pub use block::{Rounding, Track};
pub use choice::{Alignments, Choice};
pub use given::{Given, Settings};
pub use heads::{Bare, EMBEDDING, HEAD, Untied};
pub use mean::Mean;
pub use merged::{Besides, Merged, Part, Rounded};
pub use methods::METHODS;
pub use needs::{Needs, Role};
pub use pair::{Pair, Unmatched, missing_helper};
pub use report::{LayerReport, MergeReport, WeightReport};
pub use scaled::scaled_adapter;
pub use spec::{Resolved, resolve};
pub use vocabulary::{RowRule, RowSource, TokenPolicy, Tokens, Vocabulary, respelt};
pub use whole::Whole;

/// A row of the catalog.
#[derive(Debug)]
pub struct Method {
    /// The word before the colon in `slerp:0.5`.
    pub name: &'static str,
    pub summary: &'static str,
    /// The paper it comes from.
    pub source: &'static str,
    /// A spec that works.
    pub example: &'static str,
    /// What it must be given in a spec.
    pub needs: Needs,
    /// From the parameters of a spec; the error says what is wrong with them.
    from_spec: fn(toml::Table) -> Result<Box<dyn Merge>, String>,
    /// The parameters that mergekit has for each model; all others are the merge's.
    of_models: &'static [&'static str],
    /// From mergekit's settings of one weight.
    from_settings: fn(&Settings) -> Result<Box<dyn Merge>, String>,
}

/// A method with its parameters.
pub trait Merge: Send + Sync {
    /// Looks at one weight as a whole; what comes back merges any piece of it.
    ///
    /// Arithmetic is f32 or better, sums are f64 in a fixed order.
    fn prepare<'w>(&'w self, whole: &'w Whole<'_>) -> Box<dyn Rule + 'w>;

    /// Which input the result is, bit for bit, whatever its numbers: that of λ = 0 or λ = 1.
    ///
    /// `base` is the input that is the base.
    fn end(&self, _base: Option<usize>) -> Option<usize> {
        None
    }

    /// λ, if the result is `base + λ · (tuned − base)` and nothing else.
    fn of_update(&self) -> Option<f64> {
        None
    }

    /// By which rule it chooses the matrices that it changes, if it does.
    fn choice(&self) -> Option<&Choice> {
        None
    }

    /// Which layers it puts back towards the base, if it is told so by a probe.
    fn restoring(&self) -> Option<Restoring> {
        None
    }

    /// Whether the tuned and the safety model must be adapters.
    fn of_adapters(&self) -> bool {
        false
    }

    /// What somebody who set these parameters may not expect, such as one that has no effect.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Whether inputs that are all equal are what comes out.
    fn keeps_equals(&self) -> bool {
        true
    }
}

/// How a merge goes by the layers that bring refusals back when they alone are those of the base.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restoring {
    /// At most so many of them, those first that bring back most.
    pub layers: usize,
    /// Of the tuned model in them; the base has the rest.
    pub weight: f64,
}

/// A method settled for one weight.
pub trait Rule: Sync {
    /// Merges a piece into as many numbers.
    fn merge(&self, given: &Given<'_>, out: &mut [f32]);

    /// The weights of two inputs whose weighted sum is all that the result is.
    fn weights(&self) -> Option<[f32; 2]> {
        None
    }

    /// Whether the method had to use a straight line instead of its own rule.
    fn fell_back(&self) -> bool {
        false
    }
}

/// Methods that need not look at the whole weight are their own rule.
macro_rules! piecewise {
    ($method:ty) => {
        impl $crate::merge::Merge for $method {
            fn prepare(&self, _whole: &$crate::merge::Whole<'_>) -> Box<dyn $crate::merge::Rule + '_> {
                Box::new(self)
            }
        }
    };
}
pub(crate) use piecewise;

/// Why a merge cannot be made.
#[derive(Debug, Error, Diagnostic)]
pub enum MergeError {
    #[error("unknown merge method `{name}`")]
    #[diagnostic(code(merge::unknown_method), help("{help}; `finetune list methods` shows all"))]
    UnknownMethod { name: String, help: String },
    #[error("merge `{spec}` cannot be made: {why}")]
    #[diagnostic(code(merge::bad_parameters), help("{help}"))]
    BadParameters { spec: String, why: String, help: String },
    #[error("`{path}` cannot be merged: {why}")]
    #[diagnostic(
        code(merge::bad_config),
        help("the YAML is mergekit's; `finetune list methods` shows the methods")
    )]
    Config { path: String, why: String },
    #[error("{} weights are in one of the models only, such as `{first}`, which {place} has alone", names.len())]
    #[diagnostic(code(merge::unmatched), help("{help}"))]
    Unmatched { names: Vec<String>, first: String, place: String, help: String },
    #[error("checkpoint `{}` is not there", path.display())]
    #[diagnostic(
        code(merge::no_checkpoint),
        help(
            "fewer were kept when step {step} was made; train into another folder (`--out`) with this recipe"
        )
    )]
    NoCheckpoint { path: PathBuf, step: usize },
    #[error("`{}` cannot be the merge's `{helper}`: {why}", path.display())]
    #[diagnostic(code(merge::bad_helper), help("{}", helper.origin()))]
    BadHelper { helper: Helper, path: PathBuf, why: String },
    #[error("`{}` has no average of its weights for `of=ema`", path.display())]
    #[diagnostic(
        code(merge::no_average),
        help("name the folder of a run whose recipe has `train.ema`, or a checkpoint of one")
    )]
    NoAverage { path: PathBuf },
    #[error("`{tuned}` lacks {n} tokens of `{base}`, such as `{first}`")]
    #[diagnostic(
        code(merge::lost_tokens),
        help(
            "a tuned model may have new tokens, not fewer; `--config` with a `tokenizer` section can merge these"
        )
    )]
    LostTokens { n: usize, first: String, base: String, tuned: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl MergeError {
    /// Whether what was asked for is wrong, and not the models it was asked of.
    pub fn is_request(&self) -> bool {
        matches!(self, Self::UnknownMethod { .. } | Self::BadParameters { .. } | Self::Config { .. })
    }
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

#[cfg(test)]
mod tests {
    use super::whole::Room;
    use super::{METHODS, Merge, Method, Role, Whole, resolve};
    use crate::recipe::Spec;
    use crate::snapshot::{Numbers, Weight};

    /// What a method makes of a base and one tuned weight, and whether it fell back to a line.
    pub fn merged(merge: &dyn Merge, columns: usize, base: &[f32], tuned: &[f32]) -> (Vec<f32>, bool) {
        of_several(merge, columns, &[base, tuned])
    }

    /// What it makes of a base and several, all of whose numbers matter alike.
    fn of_several(merge: &dyn Merge, columns: usize, models: &[&[f32]]) -> (Vec<f32>, bool) {
        let len = models[0].len();
        let numbers = |x: &[f32]| Numbers::Stored(Weight::from_f32(vec![len / columns, columns], x));
        let inputs: Vec<Numbers> = models.iter().map(|model| numbers(model)).collect();
        let importance = [numbers(&vec![1.0; len]), numbers(&vec![1.0; len])];
        let whole = Whole {
            importance: &importance,
            base: Some(0),
            chosen: merge.choice().map(|_| true),
            ..Whole::new("w", columns, len, &inputs)
        };
        let rule = merge.prepare(&whole);
        let mut values = Vec::new();
        for block in 0..whole.n_blocks() {
            let _: Result<(), ()> = whole.pieces(block, &mut Room::default(), |given| {
                let mut out = vec![0.0; given.len()];
                rule.merge(given, &mut out);
                values.extend(out);
                Ok(())
            });
        }
        (values, rule.fell_back())
    }

    fn built(text: &str) -> Box<dyn Merge> {
        let spec: Spec = text.parse().unwrap();
        resolve(&spec, 0).unwrap().build(spec.single_lambda()).unwrap()
    }

    fn weights(seed: u32) -> Vec<f32> {
        let value = |i: u32| {
            ((i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 8) % 2001) as f32 / 1000.0 - 1.0
        };
        (0..256).map(value).collect()
    }

    /// How many models a method is shown at the least.
    fn n_inputs(method: &Method) -> usize {
        let helpers = method.needs.helpers().filter(|helper| !helper.is_mask());
        1 + method.needs.count(Role::Tuned).start() + helpers.count()
    }

    /// Every method that a spec can name merges these two; one that looks at more, the tuned several times.
    fn each(base: &[f32], tuned: &[f32], check: impl Fn(&str, &[f32])) {
        for method in METHODS.iter().filter(|method| !method.example.is_empty()) {
            let mut models = vec![tuned; n_inputs(method)];
            models[0] = base;
            check(method.name, &of_several(built(method.example).as_ref(), 16, &models).0);
        }
    }

    #[test]
    fn a_model_merged_with_itself_is_itself() {
        let base = weights(1);
        each(&base, &base, |name, merged| {
            for (merged, base) in merged.iter().zip(&base) {
                assert!((merged - base).abs() <= 1e-6, "{name}: {merged} is not {base}");
            }
        });
    }

    #[test]
    fn degenerate_weights_give_finite_results() {
        let (some, zero) = (weights(1), vec![0.0; 256]);
        let opposite: Vec<f32> = some.iter().map(|x| -x).collect();
        for (base, tuned) in [(&some, &zero), (&zero, &some), (&zero, &zero), (&some, &opposite)] {
            each(base, tuned, |name, merged| assert!(merged.iter().all(|x| x.is_finite()), "{name}"));
        }
    }

    /// The method's example with another λ, if it takes that.
    fn with_lambda(method: &Method, lambda: &str) -> Option<(Spec, Box<dyn Merge>)> {
        let mut spec: Spec = method.example.parse().unwrap();
        spec.lambda = Some(lambda.parse().unwrap());
        let merge = resolve(&spec, 0).ok()?.build(spec.single_lambda()).unwrap();
        Some((spec, merge))
    }

    /// The models that this method is shown, each another.
    fn models(method: &Method) -> Vec<Vec<f32>> {
        (0..n_inputs(method) as u32).map(weights).collect()
    }

    fn differ(merge: &dyn Merge, models: &[Vec<f32>], model: usize) -> bool {
        let given: Vec<&[f32]> = models.iter().map(Vec::as_slice).collect();
        let (found, _) = of_several(merge, 16, &given);
        models[model].iter().zip(&found).any(|(a, b)| (a - b).abs() > 1e-6)
    }

    #[test]
    fn a_lambda_of_0_is_the_base() {
        let mut n_methods = 0;
        for method in METHODS.iter().filter(|method| !method.example.is_empty()) {
            let Some((spec, merge)) = with_lambda(method, "0") else { continue };
            assert!(!differ(merge.as_ref(), &models(method), 0), "{spec}");
            // Bit for bit where it is written.
            assert_eq!(merge.end(Some(0)), Some(0), "{spec}");
            n_methods += 1;
        }
        assert!(n_methods > 0);
    }

    #[test]
    fn a_method_that_calls_its_result_one_of_the_models_gives_that_model() {
        let mut n_ends = [0, 0];
        for method in METHODS.iter().filter(|method| !method.example.is_empty()) {
            let example = (method.example.parse().unwrap(), built(method.example));
            let others = ["0", "0.5", "1"].into_iter().filter_map(|lambda| with_lambda(method, lambda));
            for (spec, merge) in others.chain([example]) {
                if let Some(end) = merge.end(Some(0)) {
                    assert!(!differ(merge.as_ref(), &models(method), end), "{spec}");
                    n_ends[end] += 1;
                }
            }
        }
        assert!(n_ends.iter().all(|n| *n > 0), "{n_ends:?}");
    }

    #[test]
    fn what_chance_drops_follows_from_the_seed() {
        let kept = |text: &str, seed: u64| -> Vec<bool> {
            let spec: Spec = text.parse().unwrap();
            let resolved = resolve(&spec, seed).unwrap();
            assert_eq!(resolved.name(), text);
            let merge = resolved.build(spec.single_lambda()).unwrap();
            let (values, _) = merged(merge.as_ref(), 16, &[0.0; 4096], &[1.0; 4096]);
            values.into_iter().map(|value| value != 0.0).collect()
        };
        let of_two = |method: &&Method| method.needs.random && n_inputs(method) == 2;
        for method in METHODS.iter().filter(of_two) {
            let text = format!("{}:0.5,density=0.5", method.name);
            assert_eq!(kept(&text, 1), kept(&text, 1), "{text}");
            assert_eq!(kept(&text, 7), kept(&format!("{text},seed=7"), 1), "{text}");
            let differ = kept(&text, 1).iter().zip(kept(&text, 2)).filter(|(a, b)| **a != *b).count();
            assert!((1800..2300).contains(&differ), "{text}: {differ} of 4096 differ");
        }
        let seed = |text: &str| resolve(&text.parse().unwrap(), 3).unwrap().seed();
        assert_eq!(seed("linear:0.5"), None);
        assert_eq!(seed("della:0.5,density=0.5"), Some(3));
        assert_eq!(seed("della:0.5,density=0.5,seed=9"), Some(9));
    }

    #[test]
    fn unknown_parameters_and_impossible_lambdas_are_refused() {
        for method in METHODS {
            for more in [",zebra=1", ",lambda=2"] {
                let example = if method.example.is_empty() { method.name } else { method.example };
                let text = format!("{example}{more}");
                assert!(text.parse::<Spec>().map_or(true, |spec| resolve(&spec, 0).is_err()), "{text}");
            }
        }
        for method in METHODS.iter().filter(|method| !method.example.is_empty()) {
            let takes = |lambda: &str| with_lambda(method, lambda).is_some();
            assert!(!takes("-0.1"), "{}", method.name);
            // Between the two models or past the tuned one, never both.
            assert!(!(takes("0.5") && takes("1.5")), "{}", method.name);
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
            "model_stock:0.5",
            "karcher,weight=0.5",
            "passthrough",
            "spectral:0.5",
            "fisher:0.5,floor=0",
        ] {
            assert!(resolve(&text.parse().unwrap(), 0).is_err(), "{text}");
        }
    }
}
