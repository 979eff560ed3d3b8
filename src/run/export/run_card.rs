//! The card of a folder that a run exports: where it comes from and how to make it again.

use std::path::Path;

use crate::recipe::{Of, Spec};
use crate::run::plan::{Plan, sources};
use crate::snapshot::{SnapshotError, writer};

/// What is in a folder.
#[derive(Debug, Clone, Copy)]
pub enum Exported<'a> {
    Adapter,
    /// The base that is tuned, made by this merge of the base and what it looks at.
    Hardened(&'a str),
    /// The adapter whose factors are the moving averages of the trained one's.
    Average,
    Tuned,
    /// A guard, whole, whatever was trained of it.
    Guard,
    /// By this merge.
    Merged(&'a str),
}

/// The base as others know it: PEFT knows a hub's model by its id alone.
pub fn base(plan: &Plan) -> String {
    let source = &plan.recipe.model.source;
    let of_hub = sources::of_hub(source).filter(|name| plan.commits.contains_key(&name.pin()));
    of_hub.map_or_else(|| source.clone(), |name| name.id)
}

/// Writes the card as Markdown with a hub's front matter.
///
/// # Errors
///
/// The disk refuses.
pub fn write(folder: &Path, plan: &Plan, what: Exported<'_>) -> Result<(), SnapshotError> {
    let (base, name, seed) = (base(plan), &plan.recipe.name, plan.recipe.train.seed);
    let (relation, library, title) = match what {
        Exported::Adapter => ("adapter", "peft", format!("{name}: the adapter")),
        Exported::Average => {
            ("adapter", "peft", format!("{name}: the moving average of the adapter's factors"))
        }
        Exported::Hardened(spec) => {
            ("merge", "transformers", format!("{name}: the base as {spec} hardens it, before tuning"))
        }
        Exported::Tuned => ("finetune", "transformers", format!("{name}: the tuned model")),
        Exported::Guard => ("finetune", "transformers", format!("{name}: a guard of requests")),
        Exported::Merged(spec) => {
            let of_average = spec.parse::<Spec>().is_ok_and(|spec| spec.of == Of::Ema);
            let of = if of_average { "the average of the tuned weights" } else { "tuned model" };
            ("merge", "transformers", format!("{name}: {spec} of base and {of}"))
        }
    };
    let digests = plan.digests();
    let files = digests.iter().map(|(file, digest)| format!("| {file} | {digest} |\n"));
    let files: String = files.collect();
    let (version, key, recipe) = (env!("CARGO_PKG_VERSION"), &plan.key.digest, plan.recipe.to_toml());
    let text = format!(
        "---\nbase_model:\n- {base}\nbase_model_relation: {relation}\nlibrary_name: {library}\n---\n\n\
         # {title}\n\n\
         Made by finetune {version} with seed {seed} in run {key}. The recipe, every default filled in, makes it again:\n\n\
         ```toml\n{}\n```\n\n| file that was read | SHA-256 |\n|---|---|\n{files}\n\
         What it solves and what it refuses stands in the run's report.\n",
        recipe.trim_end()
    );
    writer::file_at_once(&folder.join("README.md"), text.as_bytes())
}
