//! Towards the second model only where the two are already near.

use serde::Deserialize;

use crate::merge::given::{Given, read};
use crate::merge::{Merge, MergedWeight, Method};

pub(super) const NEARSWAP: Method = Method {
    name: "nearswap",
    summary: "the update with every number cut to at most t",
    source: "huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    example: "nearswap,t=0.001",
    from_spec: |parameters| build(read(parameters)?),
    from_settings: |settings| {
        settings.none_of_each()?;
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

impl Merge for NearSwap {
    fn merge(&self, given: &Given<'_>) -> MergedWeight {
        let base = given.base();
        let Some(tuned) = given.others().next() else { return base.to_vec().into() };
        let number = |(base, tuned): (&f32, &f32)| {
            let weight = (self.t as f32 / (base - tuned).abs().max(1e-6)).clamp(0.0, 1.0);
            weight * tuned + (1.0 - weight) * base
        };
        base.iter().zip(tuned).map(number).collect::<Vec<_>>().into()
    }
}
