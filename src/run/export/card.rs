//! The card of a merged model: what somebody who finds the folder wants to know.

use std::fmt::Write;
use std::path::PathBuf;

use super::manifest::Manifest;
use super::{Draft, Models, PairRequest, Request};
use crate::merge::{MergeReport, Unmatched, WeightReport};
use crate::snapshot::writer;

/// The card as Markdown with a hub's front matter.
pub(super) fn card(request: &Request, draft: &Draft, manifest: &Manifest) -> String {
    let mut lines = vec!["---".to_owned()];
    if let Some(base) = &draft.base {
        let relation = if draft.is_adapter() { "adapter" } else { "merge" };
        lines.push(format!("base_model:\n- {}\nbase_model_relation: {relation}", base.display()));
    }
    let library = if draft.is_adapter() { "peft" } else { "transformers" };
    lines.push(format!("tags:\n- merge\nlibrary_name: {library}\n---\n"));
    let rounded = if request.stochastic { "by chance" } else { "to the nearest" };
    let (version, seed) = (&manifest.version, request.seed);
    lines.push(format!("# {}\n", draft.title));
    lines.push(format!("Merged by finetune {version} with seed {seed}, rounded {rounded}.\n"));
    lines.push(asked_for(request));
    if !manifest.inputs.is_empty() {
        lines.push("\n| input | BLAKE3 |\n|---|---|".to_owned());
        let row = |(path, digest): (&PathBuf, &String)| format!("| {} | {digest} |", path.display());
        lines.extend(manifest.inputs.iter().map(row));
    }
    if let Some(report) = &manifest.report {
        lines.push(table(report, &manifest.weights));
        lines.extend(choice(report, &manifest.weights));
    }
    lines.push(
        "\n`merge.json` has all of this for programs; `finetune merge --verify DIR` checks it.\n".to_owned(),
    );
    lines.join("\n")
}

/// What the merge did, in sum and weight by weight.
fn table(report: &MergeReport, weights: &std::collections::BTreeMap<String, WeightReport>) -> String {
    let header = "| tensor | relative update | angle | update kept after rounding | effective λ after rounding | parameters unchanged |";
    let mut lines = vec![format!("\n{header}\n|---|---|---|---|---|---|")];
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let row = |name: &str, update: f64, angle: f64, survived: f64, lambda: Option<f64>, unchanged: f64| {
        let lambda = lambda.map_or_else(|| "—".to_owned(), |lambda| format!("{lambda:.3}"));
        let (update, unchanged) = (percent(update), percent(unchanged));
        format!("| {name} | {update} | {angle:.2}° | {survived:.3} | {lambda} | {unchanged} |")
    };
    let name = format!("all {} that differ", report.touched);
    let r = report;
    lines.push(row(
        &name,
        r.relative_update,
        r.largest_angle_degrees,
        r.survived,
        r.effective_lambda,
        r.unchanged,
    ));
    lines.extend(weights.iter().map(|(name, w)| {
        row(name, w.relative_update, w.angle_degrees, w.survived, w.effective_lambda, w.unchanged)
    }));
    lines.join("\n")
}

/// Which matrices a method chose, and by which figures.
fn choice(
    report: &MergeReport,
    weights: &std::collections::BTreeMap<String, WeightReport>,
) -> Option<String> {
    let choice = report.choice.as_ref()?;
    let header = "| matrix | chosen | ρ | chance baseline of ρ | contraction ‖CΔ‖/‖Δ‖ |";
    let mut lines = vec![format!("\n{header}\n|---|---|---|---|---|")];
    let row = |name: &str, chosen: &str, [rho, baseline, contraction]: [f64; 3]| {
        format!("| {name} | {chosen} | {rho:.5} | {baseline:.5} | {contraction:.4} |")
    };
    let (chosen, n) = (choice.chosen, choice.matrices);
    let means = [choice.rho, choice.baseline, choice.contraction];
    lines.push(row("all, in the mean", &format!("{chosen} of {n}"), means));
    for (name, weight) in weights {
        if let (Some(alignment), Some(chosen)) = (weight.alignment, weight.chosen) {
            let figures = [alignment.rho, alignment.baseline, alignment.contraction];
            lines.push(row(name, if chosen { "yes" } else { "no" }, figures));
        }
    }
    Some(lines.join("\n"))
}

/// The command, or the YAML, that asks for the merge again.
fn asked_for(request: &Request) -> String {
    let mut more = String::new();
    if request.stochastic {
        more.push_str(" --rounding stochastic");
    }
    if request.seed != 0 {
        let _ = write!(more, " --seed {}", request.seed);
    }
    if request.shard_bytes != writer::SHARD_BYTES {
        let _ = write!(more, " --shard-size {}", request.shard_bytes as f64 / 1e9);
    }
    if request.lenient {
        more.push_str(" --allow-not-finite");
    }
    match &request.models {
        Models::Pair(pair) => format!("    finetune merge{}{more} --out DIR", of_pair(pair)),
        Models::Config { text, .. } => {
            let yaml = text.trim_end();
            format!("```yaml\n{yaml}\n```\n\n    finetune merge --config FILE{more} --out DIR")
        }
    }
}

fn of_pair(pair: &PairRequest) -> String {
    let PairRequest { pre, post, merge, dtype, unmatched, importance, helpers, adapter_only } = pair;
    let mut text = format!(" --pre {}", pre.display());
    for post in post {
        let _ = write!(text, " --post {}", post.display());
    }
    for (part, path) in helpers {
        let _ = write!(text, " --model {part}={}", path.display());
    }
    let _ = write!(text, " --merge {merge}");
    if let Some(dtype) = dtype {
        let _ = write!(text, " --out-dtype {dtype}");
    }
    if let Some([of_pre, of_post]) = importance {
        let _ = write!(text, " --pre-fisher {} --post-fisher {}", of_pre.display(), of_post.display());
    }
    text.push_str(match unmatched {
        Unmatched::Refuse => "",
        Unmatched::OfBase => " --unmatched pre",
        Unmatched::OfTuned => " --unmatched post",
        Unmatched::Both => " --unmatched both",
    });
    if *adapter_only {
        text.push_str(" --adapter-only");
    }
    text
}
