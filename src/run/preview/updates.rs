//! What makes new weights of gradients, where it is not the usual.

use crate::recipe::{OptimizerKind, Train};
use crate::run::plan::Plan;
use crate::train::optimizer;

/// The optimizer in words; nothing where it is AdamW with one rate and its moments in f32.
pub(super) fn in_words(plan: &Plan) -> Option<String> {
    let (extent, Train { optimizer, lora_plus, .. }) = (plan.training.extent, &plan.training.train);
    let mega = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let moments = (*optimizer == OptimizerKind::Adamw8bit).then(|| {
        let exact = optimizer::bytes(OptimizerKind::Adamw, extent.trained);
        let [short, exact] = [extent.remembered, exact].map(mega);
        format!("its moments in 8 bits take {short}, and {exact} in f32")
    });
    let rates = (*lora_plus > 0.0).then(|| format!("B learns at {lora_plus} times the rate of A"));
    let parts: Vec<String> = moments.into_iter().chain(rates).collect();
    (!parts.is_empty()).then(|| format!("AdamW: {}", parts.join("; ")))
}
