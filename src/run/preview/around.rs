//! What the process holds besides the training, where the device's memory is this machine's.

use std::sync::OnceLock;

use crate::device::{held_memory, is_cpu};
use crate::recipe::MethodKind;
use crate::run::plan::Plan;

/// Bytes of the program itself, its data and its tokenizer: what it held when this was first asked, which is before
/// anything is tried.
pub(super) fn program(plan: &Plan) -> u64 {
    static HELD: OnceLock<u64> = OnceLock::new();
    if !is_cpu(&plan.machine.device) {
        return 0;
    }
    *HELD.get_or_init(|| held_memory().unwrap_or(0))
}

/// Bytes of the files whose pages candidates are computed from: of the base under an adapter, of base and tuned model
/// where all weights were trained. The system takes them back where memory is short.
pub(super) fn mapped(plan: &Plan) -> u64 {
    let asks = !plan.evaluation.suites.is_empty();
    let merges = !plan.merging.merges.is_empty() && (asks || plan.options.keep_merged);
    let n_files = match plan.training.method.kind {
        _ if !is_cpu(&plan.machine.device) => 0,
        MethodKind::Lora if asks || merges => 1,
        MethodKind::Full if merges => 2,
        _ => 0,
    };
    let infos = plan.base.weights.infos().values();
    n_files * infos.map(|info| (info.n_elements() * info.dtype.size()) as u64).sum::<u64>()
}
