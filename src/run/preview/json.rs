//! A plan for programs.

use serde_json::{Value, json};

use super::measure::Figures;
use super::{Estimate, estimate, stop_ids};
use crate::doing;
use crate::run::cast::Candidate;
use crate::run::failure::Failure;
use crate::run::plan::Plan;

/// The version of what is printed.
const SCHEMA: u32 = 1;

/// What a plan settles and will take; `tell` hears what is being done meanwhile.
///
/// # Errors
///
/// A file that was read is gone, or the model cannot be loaded for the few seconds of measuring.
pub fn json(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<Value, Failure> {
    let _doing = doing::now("measuring a step and some answers, for the estimates");
    let (figures, _) = Figures::of(plan, tell)?;
    let estimate = estimate(plan, &figures)?;
    let (model, extent) = (&plan.model, plan.training.extent);
    let candidates: Vec<String> = Candidate::of_plan(plan).into_iter().map(|one| one.name).collect();
    let suites: Vec<_> = plan.evaluation.suites.iter().map(|suite| &suite.posed.asked).collect();
    let mut found = plan.manifest()?;
    found["schema"] = json!(SCHEMA);
    found["folder"] = json!(plan.folder);
    found["parameters"] =
        json!({ "all": model.shape.n_parameters(), "trained": extent.trained, "frozen": extent.frozen });
    let stops = stop_ids(model);
    found["stop_tokens"] = json!(stops.iter().map(|id| model.tokenizer.token_of(*id)).collect::<Vec<_>>());
    found["candidates"] = json!(candidates);
    found["suites"] = json!(suites);
    found["notes"] = json!(plan.said);
    found["estimate"] = of(&estimate, figures.tried);
    Ok(found)
}

/// Seconds and bytes, and whether they were measured.
fn of(estimate: &Estimate, measured: bool) -> Value {
    let Estimate {
        train_s, evaluate_s, weights, optimizer, activations, average, penalties, rewards, ..
    } = *estimate;
    json!({
        "measured": measured,
        "train_s": train_s,
        "evaluate_s": evaluate_s,
        "memory_bytes": estimate.memory(),
        "weights_bytes": weights,
        "optimizer_bytes": optimizer,
        "activations_bytes": activations,
        "average_bytes": average,
        "penalties_bytes": penalties,
        "rewards_bytes": rewards,
        "program_bytes": estimate.program,
        "mapped_bytes": estimate.mapped,
        "disk_bytes": estimate.disk,
    })
}
