//! `train.freeze = "auto"`: the layers that refusals hang on, found before anything is trained.
//!
//! By the rule of Li et al. 2024, arXiv 2408.17003: the layers over which the gap between normal and malicious prompts opens
//! and grows in the base ([`super::hidden`]), their attention and feed-forward weights. With a run behind the word,
//! `auto:RUN`, the layer that brings most refusals back when it is put back in that run's tuned model, as `finetune inspect
//! layers RUN --probe restore` found it. What is found stands in the plan, the key and the manifest as if the recipe had
//! named it; by what it depends on, it is remembered, so that the next plan reads no prompt.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::hidden::{PAIRS, Pairs, THRESHOLD, cosines, growth, onset, states};
use super::model::{Base, Model};
use super::probing::{greedy, posed, validating};
use super::questions::Questions;
use super::sources::Sources;
use crate::doing;
use crate::eval::{MetricKind, tasks};
use crate::folders::own_cache;
use crate::merge::Rounded;
use crate::model::Decoder;
use crate::recipe::{AutoFreeze, Eval, Recipe, Suite};
use crate::run::failure::{Failure, InspectError};
use crate::snapshot::SharedWeights;
use crate::snapshot::digest::of_json;
use crate::snapshot::files::read_json;
use crate::snapshot::writer::write_json;
use crate::train::{Machine, NUMERICS};

/// Layers that are frozen, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// The first and the last.
    pub layers: [usize; 2],
    pub said: String,
}

impl Frozen {
    /// The places of their attention and feed-forward weights, as in the paper.
    pub fn places(&self) -> Vec<String> {
        let [from, to] = self.layers;
        (from..=to).map(|layer| format!("layers.{layer}.*_proj")).collect()
    }
}

/// Finds the layers.
///
/// # Errors
///
/// There are no prompts to compare, no gap opens, or the run was not looked into; or a weight cannot be read.
pub fn find(
    auto: &AutoFreeze,
    recipe: &Recipe,
    (model, base): (&Model, &Base),
    machine: &Machine,
    sources: &mut Sources<'_>,
) -> Result<Frozen, Failure> {
    match auto {
        AutoFreeze::Restored(run) => Ok(restored(&PathBuf::from(run))?),
        AutoFreeze::Cosine => cosine(recipe, (model, base), machine, sources),
    }
}

/// The best layer that a probe of a run put back.
fn restored(run: &std::path::Path) -> Result<Frozen, InspectError> {
    let file = run.join("inspect/layers-restore.json");
    let found: Value = read_json(&file).map_err(|_| InspectError::NotRestored { run: run.to_owned() })?;
    let rows = found["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let refused = |row: &Value| row["refused"].as_u64().unwrap_or(0);
    let tuned = rows.iter().find(|row| row["name"] == "tuned").map_or(0, refused);
    // Of several the first.
    let best = rows.iter().rev().filter(|row| row["layers"].is_string()).max_by_key(|row| refused(row));
    let best = best.filter(|row| refused(row) > tuned);
    let layers = best.and_then(|row| {
        let text = row["layers"].as_str()?;
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        Some([from.parse().ok()?, to.parse().ok()?])
    });
    match (best, layers) {
        (Some(best), Some(layers)) => Ok(Frozen {
            layers,
            said: format!(
                "`train.freeze = \"auto\"` freezes {}: put back in the tuned model of `{}` they bring refusals from {tuned} \
                 to {} of {}",
                in_words(layers),
                run.display(),
                refused(best),
                best["n"]
            ),
        }),
        _ => Err(InspectError::NothingToFreeze {
            why: format!(
                "no layer that was put back in the tuned model of `{}` brings refusals back",
                run.display()
            ),
        }),
    }
}

/// The layers over which the gap between normal and malicious prompts opens and grows.
fn cosine(
    recipe: &Recipe,
    (model, base): (&Model, &Base),
    machine: &Machine,
    sources: &mut Sources<'_>,
) -> Result<Frozen, Failure> {
    let both = vec![suite(&recipe.eval, true)?, suite(&recipe.eval, false)?];
    let eval = greedy(&recipe.eval, both);
    let posed = posed(&eval, (model, &machine.device), sources)?;
    if let Some(few) = posed.iter().find(|suite| suite.outline.prompts.len() < 2) {
        let (suite, n) = (few.posed.suite.name.clone(), few.outline.prompts.len());
        return Err(InspectError::FewPrompts { suite, n }.into());
    }
    let prompts: Vec<&Vec<Vec<u32>>> = posed.iter().map(|suite| &suite.tokens().prompts).collect();
    let compute = format!("{:?}", machine.answers);
    let weights = json!([base.key, base.dtypes, compute, machine.device_name]);
    let key = json!([NUMERICS, weights, prompts, eval.seed, THRESHOLD, PAIRS]);
    let key = of_json(&key);
    let path = own_cache().map(|cache| cache.join("layers").join(format!("{}.json", &key[..32])));
    if let Some(known) = path.as_ref().and_then(|path| read_json::<Frozen>(path).ok()) {
        return Ok(known);
    }
    let layers = compared(&posed, eval.seed, (model, base), machine)?;
    let said = format!(
        "`train.freeze = \"auto\"` freezes {}: over these the gap between prompts of `{}` and of `{}` opens and grows in the \
         base. Prompts of another topic open one too: `finetune inspect layers` looks closer",
        in_words(layers),
        posed[0].posed.suite.name,
        posed[1].posed.suite.name
    );
    let found = Frozen { layers, said };
    // Without a cache every plan looks again.
    let _ = path.map(|path| write_json(&path, &json!(found)));
    Ok(found)
}

/// Reads the prompts of both suites and compares them.
fn compared(
    posed: &[Questions],
    seed: u64,
    (model, base): (&Model, &Base),
    machine: &Machine,
) -> Result<[usize; 2], Failure> {
    let _doing = doing::now("looking for the layers to freeze".to_owned());
    let weights: SharedWeights = std::sync::Arc::new(Rounded::new(base.weights.clone(), &base.dtypes));
    let decoder = Decoder::load(&model.shape, &weights, &machine.device, machine.answers)?;
    let read =
        |suite: &Questions| states(&decoder, &suite.tokens().prompts, machine, |_| Ok::<(), Failure>(()));
    let (malicious, normal) = (read(&posed[0])?, read(&posed[1])?);
    let n = |suite: &Questions| suite.outline.prompts.len();
    let pairs = Pairs::drawn(n(&posed[1]), n(&posed[0]), PAIRS, seed);
    let rows = cosines(&normal, &malicious, &pairs);
    match onset(&rows, THRESHOLD) {
        Some(onset) => Ok(growth(&rows, onset)),
        None => {
            let why =
                format!("no gap above {THRESHOLD} between the prompts stays positive to the last layer");
            Err(InspectError::NothingToFreeze { why }.into())
        }
    }
}

/// The first suite of harmful requests, or of any others, among those that are not reported.
fn suite(eval: &Eval, harmful: bool) -> Result<Suite, InspectError> {
    let fits =
        |suite: &Suite| tasks::find(&suite.task).is_ok_and(|task| task.kind == MetricKind::Safety) == harmful;
    let what = if harmful { "harmful requests" } else { "normal requests" };
    validating(eval).into_iter().find(fits).ok_or(InspectError::NoProbePrompts { what })
}

fn in_words([from, to]: [usize; 2]) -> String {
    if from == to { format!("layer {from}") } else { format!("layers {from} to {to}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_that_brings_most_refusals_back_is_frozen() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inspect")).unwrap();
        let write = |rows: Value| {
            let text = json!({ "rows": rows }).to_string();
            std::fs::write(folder.path().join("inspect/layers-restore.json"), text).unwrap();
            restored(folder.path())
        };
        let row = |name: &str, layers: Value, refused: u64| json!({ "name": name, "layers": layers, "refused": refused, "n": 50 });
        let found = write(json!([
            row("base", Value::Null, 47),
            row("tuned", Value::Null, 1),
            row("a", json!("0-1"), 24),
            row("b", json!("2"), 24),
        ]))
        .unwrap();
        assert_eq!(found.places(), ["layers.0.*_proj", "layers.1.*_proj"]);
        assert!(
            found.said.contains("layers 0 to 1") && found.said.contains("from 1 to 24 of 50"),
            "{}",
            found.said
        );
        let none = write(json!([row("tuned", Value::Null, 9), row("a", json!("0"), 9)])).unwrap_err();
        assert!(none.to_string().contains("brings refusals back"), "{none}");
        assert!(matches!(restored(&folder.path().join("none")), Err(InspectError::NotRestored { .. })));
    }
}
