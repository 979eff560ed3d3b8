//! What a moving average of the weights takes.

use crate::recipe::{MethodKind, OfAdapter};
use crate::run::plan::{Plan, Training};
use crate::train::init;

/// Bytes of a number of the average.
const NUMBER_BYTES: u64 = 4;

/// What is averaged, and how many bytes that is in memory and in every checkpoint; nothing without an average.
fn kept(plan: &Plan) -> Option<(&'static str, u64)> {
    let Training { method, train, extent, .. } = &plan.training;
    let (what, n) = match (method.kind, train.ema.as_ref()?.lora) {
        (MethodKind::Full, _) => ("every weight that is trained", extent.trained as u64),
        (MethodKind::Lora, OfAdapter::Factors) => {
            ("the adapter's factors, each apart", extent.trained as u64)
        }
        (MethodKind::Lora, OfAdapter::Exact) => {
            let maps = init::targets(&plan.model.shape, method, train).unwrap_or_default();
            ("the adapted weights", maps.values().map(|[n_out, n_in]| (n_out * n_in) as u64).sum())
        }
    };
    Some((what, NUMBER_BYTES * n))
}

/// Bytes of the average.
pub(super) fn bytes(plan: &Plan) -> u64 {
    kept(plan).map_or(0, |(_, bytes)| bytes)
}

/// The average in words.
pub(super) fn in_words(plan: &Plan) -> Option<String> {
    let ((what, bytes), ema) = (kept(plan)?, plan.training.train.ema.as_ref()?);
    let (steps, decay) = (plan.training.total_steps, 1.0 - ema.share(plan.training.total_steps));
    Some(format!(
        "{what}, with a half-life of {:.1} steps (η = {decay:.6}): {:.1} MB in this machine's memory and in every checkpoint",
        ema.half_life * steps as f64,
        bytes as f64 / 1e6
    ))
}
