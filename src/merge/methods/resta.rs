//! The tuned model with what alignment had added, added again.
//!
//! Bhardwaj et al., "Language Models are Homer Simpson! Safety Re-Alignment of Fine-tuned Language Models through Task
//! Arithmetic" (RESTA), 2024, arXiv 2402.11746: W₁ + γ (W₀ − Wᵤ), with DARE on the update W₁ − W₀ first if it is asked for.

use serde::Deserialize;

use crate::merge::given::{Given, fraction, read, whole};
use crate::merge::keep::Keep;
use crate::merge::needs::{ONE_BASE, ONE_TUNED, one, perhaps};
use crate::merge::{Merge, Method, Needs, Rule, Whole};
use crate::recipe::Helper;
use crate::simd::vectorised;

pub(super) const RESTA: Method = Method {
    name: "resta",
    summary: "add what alignment had added to the tuned model once more",
    source: "Bhardwaj et al. 2024, arXiv 2402.11746",
    example: "resta,gamma=0.3",
    needs: Needs::of(&[ONE_BASE, ONE_TUNED, one(Helper::Unaligned), perhaps(Helper::Mask)]).with_chance(),
    from_spec: |parameters| {
        let resta: Resta = read(parameters)?;
        fraction("λ", resta.lambda)?;
        fraction("density", resta.density)?;
        match resta.gamma.is_finite() && resta.gamma >= 0.0 && resta.density > 0.0 {
            true => Ok(Box::new(resta)),
            false => Err("gamma is at least 0 and density above 0".to_owned()),
        }
    },
    of_models: &[],
    from_settings: |_| Err("mergekit has no such method; it merges `--pre` and `--post`".to_owned()),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resta {
    /// What the whole way from the base is multiplied with.
    #[serde(default = "whole")]
    lambda: f64,
    /// How much of the alignment is added.
    gamma: f64,
    /// The share of the update that DARE keeps, scaled up by its inverse.
    #[serde(default = "whole")]
    density: f64,
    #[serde(default)]
    seed: u64,
}

impl Merge for Resta {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        base.filter(|_| self.lambda == 0.0)
    }

    fn prepare<'w>(&'w self, whole: &'w Whole<'_>) -> Box<dyn Rule + 'w> {
        let chance = (self.density, self.seed);
        Box::new(Added { of: self, keep: Keep::new(whole, Helper::Mask, whole.name.to_owned(), chance) })
    }
}

struct Added<'w> {
    of: &'w Resta,
    keep: Keep<'w>,
}

impl Rule for Added<'_> {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        given.update(0, out);
        if !self.keep.is_all() {
            self.keep.apply(given.start, (1.0 / self.of.density) as f32, out);
        }
        let Resta { lambda, gamma, .. } = *self.of;
        add(given.base(), given.inputs[2], gamma as f32, lambda as f32, out);
    }
}

vectorised! {
    fn add<'a>(base: &'a [f32], unaligned: &'a [f32], gamma: f32, lambda: f32, out: &'a mut [f32]) {
        for ((out, base), unaligned) in out.iter_mut().zip(base).zip(unaligned) {
            *out = base + lambda * (*out + gamma * (base - unaligned));
        }
    }
}
