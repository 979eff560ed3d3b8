//! Updates that lie off what alignment used are led back to it.
//!
//! Hsu et al., "Safe LoRA: the Silver Lining of Reducing Safety Risks when Fine-tuning Large Language Models", 2024,
//! arXiv 2405.16833: an update Δ whose ρ is low becomes C Δ ([`alignment`](crate::merge::alignment)). As in the authors'
//! program C is V Vᵀ / ‖V‖ and no projector: what it leaves of the update is the contraction in the report.

use serde::Deserialize;

use crate::merge::alignment::{Contracted, contracted};
use crate::merge::choice::{By, Choice};
use crate::merge::given::{Given, fraction, read, whole};
use crate::merge::needs::{ONE_BASE, ONE_TUNED, one};
use crate::merge::{Merge, Method, Needs, Rule, Whole};
use crate::recipe::Helper;

pub(super) const SAFELORA: Method = Method {
    name: "safelora",
    summary: "lead updates that lie off the alignment direction back to it",
    source: "Hsu et al. 2024, arXiv 2405.16833",
    example: "safelora,tau=0.5",
    needs: Needs::of(&[ONE_BASE, ONE_TUNED, one(Helper::Unaligned)]),
    from_spec: |mut parameters| {
        let choice = Choice::take(&mut parameters, Some(By::Tau(0.5)), true)?;
        let Parameters { lambda, official } = read(parameters)?;
        fraction("λ", lambda)?;
        let choice = if official { choice.official()? } else { choice };
        Ok(Box::new(SafeLora { lambda, choice }))
    },
    of_models: &[],
    from_settings: |_| Err("mergekit has no such method; it merges `--pre` and `--post`".to_owned()),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default = "whole")]
    lambda: f64,
    /// Ties and matrices without ρ as in the authors' program.
    #[serde(default)]
    official: bool,
}

struct SafeLora {
    /// What the whole update is multiplied with.
    lambda: f64,
    choice: Choice,
}

impl Merge for SafeLora {
    fn end(&self, base: Option<usize>) -> Option<usize> {
        base.filter(|_| self.lambda == 0.0)
    }

    fn choice(&self) -> Option<&Choice> {
        Some(&self.choice)
    }

    fn prepare<'w>(&'w self, whole: &'w Whole<'_>) -> Box<dyn Rule + 'w> {
        let led = (whole.chosen == Some(true)).then(|| contracted(whole));
        Box::new(Led { lambda: self.lambda as f32, led })
    }
}

struct Led<'w> {
    lambda: f32,
    led: Option<Contracted<'w>>,
}

impl Rule for Led<'_> {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        match &self.led {
            Some(led) => led.read(given.start, given.columns, out),
            None if self.lambda == 1.0 => return out.copy_from_slice(given.other()),
            None => given.update(0, out),
        }
        for (out, base) in out.iter_mut().zip(given.base()) {
            *out = base + self.lambda * *out;
        }
    }
}
