//! What goes beside the loss takes: penalties in every step, what the base or a reward model says of pairs before the
//! first.

use super::measure::Figures;
use crate::device::is_cpu;
use crate::model::loss::chunk_bytes;
use crate::recipe::{Method, MethodKind, Variant};
use crate::run::failure::Failure;
use crate::run::plan::Plan;
use crate::run::plan::penalties::Kept;
use crate::train::init;

/// Bytes of a number of `train/reference.json` and of `train/scores.json`, as they are written.
const REFERENCE_BYTES: u64 = 20;
const SCORE_BYTES: u64 = 13;

/// Logits of a step's positions, of both models and what is made of them, that the divergence from the base has at once.
const LOGITS: u64 = 8 * (32 << 20);

/// Bytes that penalties keep beside the model while it is trained.
pub(super) fn kept(plan: &Plan) -> Kept {
    let training = &plan.training;
    let of = (&training.method, &training.train, training.extent);
    Kept::of(&training.objective, of, &plan.model.shape)
}

/// Bytes of the largest moment of the head, beside activations: of the loss or of the divergence from the base.
///
/// On the processor the gradient of logits takes their place, and is rounded to 16 bits for the products that follow;
/// elsewhere softmax is composed, with four matrices of that size.
pub(super) fn logits(plan: &Plan, micro_positions: usize) -> u64 {
    let (objective, vocab) = (&plan.training.objective, plan.model.shape.vocab_size);
    let chunk = chunk_bytes(micro_positions, vocab) as u64;
    let of_loss = if is_cpu(&plan.machine.device) { chunk + chunk / 2 } else { 4 * chunk };
    let rows = |kl: &crate::recipe::Kl| plan.training.penalties.positions() * kl.batch;
    let of_rows = |n: usize| 8 * 4 * (n * vocab) as u64;
    objective.kl.as_ref().map_or(0, |kl| of_rows(rows(kl)).min(LOGITS)).max(of_loss)
}

/// Bytes that dropout keeps for the way back: of LoRA on the processor a bit for each input; of `DoRA` there the inputs
/// that are left too; elsewhere a mask and those.
pub(super) fn dropout(plan: &Plan, micro_positions: usize) -> Result<u64, Failure> {
    let Method { kind, dropout, variant, .. } = &plan.training.method;
    if *kind == MethodKind::Full || *dropout == 0.0 {
        return Ok(0);
    }
    let bits = match (is_cpu(&plan.machine.device), *variant == Variant::Dora) {
        (true, false) => 1,
        (true, true) => 1 + 8 * 4,
        (false, _) => 8 * (1 + plan.machine.compute.size()),
    };
    let targets = init::targets(&plan.model.shape, &plan.training.method, &plan.training.train)?;
    let inputs: usize = targets.values().map(|[_, n_in]| n_in).sum();
    Ok((micro_positions * inputs * bits / 8) as u64)
}

/// Bytes of the moment before the training in which a reward model reads the pairs; the base is not there yet.
pub(super) fn rewards(plan: &Plan) -> u64 {
    let size = plan.machine.compute.size() as u64;
    plan.training.rewards.as_ref().map_or(0, |rewards| rewards.shape.n_parameters() as u64 * size)
}

/// Bytes of what is kept of pairs in the run folder.
pub(super) fn disk(plan: &Plan) -> u64 {
    let (training, encoding) = (&plan.training, &plan.training.encoding);
    let n_samples = (encoding.preflight.n_samples + encoding.n_validation) as u64;
    let reference = training.objective.preference().map_or(0, |_| REFERENCE_BYTES * n_samples);
    let scores = training.rewards.as_ref().map_or(0, |_| SCORE_BYTES * encoding.preflight.n_trained as u64);
    reference + scores
}

/// Seconds besides the steps of the loss alone.
pub(super) fn seconds(plan: &Plan, figures: &Figures) -> f64 {
    let training = &plan.training;
    let n_tokens = training.encoding.preflight.n_tokens as f64;
    let once = training.objective.preference().map_or(0.0, |_| figures.read * n_tokens + figures.load);
    let rewards = training.rewards.as_ref().map_or(0.0, |rewards| {
        let share = rewards.shape.n_parameters() as f64 / plan.model.shape.n_parameters() as f64;
        share * (figures.read * n_tokens + figures.load)
    });
    // The model learns at these positions, and the base reads them.
    let of_kl = training.objective.kl.as_ref().map_or(0.0, |kl| {
        let positions = training.penalties.mean_tokens() * kl.batch as f64;
        (figures.train + figures.read) * positions * training.last_step as f64
    });
    once + rewards + of_kl
}

/// All of it in words.
pub(super) fn in_words(plan: &Plan) -> Vec<(&'static str, String)> {
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let (training, kept) = (&plan.training, kept(plan));
    let mut rows = Vec::new();
    if training.objective.kl.is_some() {
        let weights = match training.method.kind {
            MethodKind::Full => format!("the base's weights once more, {}", megabytes(kept.base)),
            MethodKind::Lora => "no weights of its own, for the base lies under the adapter".to_owned(),
        };
        rows.push(("penalty", format!("kl: {weights}; a pass of the base beside each of its steps")));
    }
    if training.objective.asft.is_some() {
        let (n, bytes) = (kept.n_matrices, megabytes(kept.outside));
        rows.push(("penalty", format!("asft: what lies outside the alignment, of {n} matrices: {bytes}")));
    }
    if training.objective.preference().is_some() {
        let n = training.encoding.preflight.n_samples + training.encoding.n_validation;
        let scored = training.rewards.as_ref().map_or(String::new(), |rewards| {
            let n = rewards.shape.n_parameters() as f64 / 1e6;
            format!(", a reward model of {n:.1} M parameters another ({})", megabytes(self::rewards(plan)))
        });
        rows.push((
            "before",
            format!("the base reads all {n} answers once{scored}: {} are kept", megabytes(disk(plan))),
        ));
    }
    rows
}
