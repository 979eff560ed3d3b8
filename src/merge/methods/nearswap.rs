//! Towards the second model only where the two are already near.

use serde::Deserialize;

use crate::merge::given::{Given, read};
use crate::merge::{Merge, Method, Needs, Rule, piecewise};

pub(super) const NEARSWAP: Method = Method {
    name: "nearswap",
    summary: "the update with every number cut to at most t",
    source: "huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    example: "nearswap,t=0.001",
    needs: Needs::PAIR,
    from_spec: |parameters| build(read(parameters)?),
    of_models: &[],
    from_settings: |settings| {
        settings.with_base(1..=1)?;
        build(settings.all()?)
    },
};

fn build(merge: NearSwap) -> Result<Box<dyn Merge>, String> {
    match merge.t > 0.0 {
        true => Ok(Box::new(merge)),
        false => Err(format!("t is {}, expected a number above 0", merge.t)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NearSwap {
    /// The most that a number may move.
    t: f64,
}

piecewise!(NearSwap);

impl Rule for &NearSwap {
    fn merge(&self, given: &Given<'_>, out: &mut [f32]) {
        let t = self.t as f32;
        for ((out, base), tuned) in out.iter_mut().zip(given.base()).zip(given.other()) {
            let weight = (t / (base - tuned).abs().max(1e-6)).clamp(0.0, 1.0);
            *out = weight * tuned + (1.0 - weight) * base;
        }
    }
}
