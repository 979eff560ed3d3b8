//! The merged model's folder: weights, configuration, card, and the manifest that proves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::{Asked, Models, Options, Request, Written, with_merge};
use crate::merge::{MergeReport, Merged, Track, WeightReport};
use crate::run::{Failure, digests};
use crate::snapshot::{Dtype, Put, SnapshotError, Weight, WeightInfo, Weights, files, writer};

/// The manifest's file name.
pub(super) const MANIFEST: &str = "merge.json";

/// How a folder was merged and from what: enough to do it again and to check it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub schema: u32,
    /// Of this program.
    pub version: String,
    pub request: Request,
    /// BLAKE3 of each file that was read; empty without digests.
    pub inputs: BTreeMap<PathBuf, String>,
    /// BLAKE3 of each file of weights that was written; empty without digests.
    pub shards: BTreeMap<String, String>,
    /// In sum and for each weight that tuning touched; absent without statistics.
    pub report: Option<MergeReport>,
    pub weights: BTreeMap<String, WeightReport>,
}

/// Merges into the folder `out`, whole or not at all.
///
/// # Errors
///
/// The request asks for what cannot be had, a model cannot be read, the models do not belong
/// together, or `out` cannot be written.
pub fn write(request: &Request, out: &Path, options: Options<'_>) -> Result<Written, Failure> {
    with_merge(request, |asked| {
        let merged = asked.merged.tracked(options.statistics.then_some(Track { digests: false }));
        let asked = Asked { merged, ..asked };
        let told = Told { merged: &asked.merged, n_done: AtomicUsize::new(0), tell: options.tell };
        writer::folder_at_once(out, |folder| {
            writer::write_model_files(folder, &told, &asked.donor, None, asked.edit)?;
            (asked.finish)(folder)?;
            let manifest = manifest(request, &asked, folder, options)?;
            writer::file_at_once(&folder.join("README.md"), card(request, &asked, &manifest).as_bytes())?;
            let json = serde_json::to_value(&manifest).expect("a manifest is JSON");
            writer::write_json(&folder.join(MANIFEST), &json)
        })?;
        let report = options.statistics.then(|| asked.merged.report().0);
        Ok(Written { report, n_weights: asked.merged.infos().len() })
    })
}

/// A merge that says how far it is.
struct Told<'a> {
    merged: &'a Merged<'a>,
    n_done: AtomicUsize,
    tell: &'a (dyn Fn(usize, usize) + Sync),
}

impl Weights for Told<'_> {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        self.merged.infos()
    }
    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        self.merged.weight(name)
    }
    fn write_to(&self, name: &str, dtype: Dtype, put: Put<'_>) -> Result<(), SnapshotError> {
        self.merged.write_to(name, dtype, put)?;
        (self.tell)(self.n_done.fetch_add(1, Ordering::Relaxed) + 1, self.merged.infos().len());
        Ok(())
    }
}

fn manifest(
    request: &Request,
    asked: &Asked<'_>,
    folder: &Path,
    options: Options<'_>,
) -> Result<Manifest, SnapshotError> {
    let (mut inputs, mut shards) = (BTreeMap::new(), BTreeMap::new());
    if options.digests {
        for folder in &asked.folders {
            for path in files::files_of(folder)? {
                let path = std::path::absolute(&path).unwrap_or(path);
                inputs.insert(path.clone(), digests::known(&path)?);
            }
        }
        for path in files::files_of(folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            shards.insert(name, digests::fresh(&path)?);
        }
    }
    let (report, weights) = asked.merged.report();
    Ok(Manifest {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        request: request.clone(),
        inputs,
        shards,
        report: options.statistics.then_some(report),
        weights,
    })
}

/// What somebody who finds the folder wants to know.
fn card(request: &Request, asked: &Asked<'_>, manifest: &Manifest) -> String {
    let mut lines = vec!["---".to_owned()];
    if let Some(base) = &asked.base {
        lines.push(format!("base_model:\n- {}\nbase_model_relation: merge", base.display()));
    }
    lines.push("tags:\n- merge\nlibrary_name: transformers\n---\n".to_owned());
    let rounded = if request.stochastic { "by chance" } else { "to the nearest" };
    let (version, seed) = (&manifest.version, request.seed);
    lines.push(format!("# {}\n", asked.title));
    lines.push(format!("Merged by finetune {version} with seed {seed}, rounded {rounded}.\n"));
    lines.push(asked_for(request));
    if !manifest.inputs.is_empty() {
        lines.push("\n| input | BLAKE3 |\n|---|---|".to_owned());
        let row = |(path, digest): (&PathBuf, &String)| format!("| {} | {digest} |", path.display());
        lines.extend(manifest.inputs.iter().map(row));
    }
    if let Some(report) = &manifest.report {
        let header =
            "| weight | relative update | angle | change left after rounding | effective λ | unchanged |";
        lines.push(format!("\n{header}\n|---|---|---|---|---|---|"));
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let row = |name: &str, update: f64, angle: f64, survived: f64, lambda: f64, unchanged: f64| {
            let (update, unchanged) = (percent(update), percent(unchanged));
            format!("| {name} | {update} | {angle:.2}° | {survived:.3} | {lambda:.3} | {unchanged} |")
        };
        let name = format!("all {} that differ", report.touched);
        let r = report;
        let all = [r.relative_update, r.largest_angle_degrees, r.survived, r.effective_lambda, r.unchanged];
        lines.push(row(&name, all[0], all[1], all[2], all[3], all[4]));
        lines.extend(manifest.weights.iter().map(|(name, w)| {
            row(name, w.relative_update, w.angle_degrees, w.survived, w.effective_lambda, w.unchanged)
        }));
    }
    lines.push(
        "\n`merge.json` has all of this for programs; `finetune merge --verify DIR` checks it.\n".to_owned(),
    );
    lines.join("\n")
}

/// The command, or the YAML, that asks for the merge again.
fn asked_for(request: &Request) -> String {
    match &request.models {
        Models::Pair { pre, post, merge, dtype } => {
            let dtype = dtype.map_or_else(String::new, |dtype| format!(" --out-dtype {dtype}"));
            let rounding = if request.stochastic { " --rounding stochastic" } else { "" };
            let seed = if request.seed == 0 { String::new() } else { format!(" --seed {}", request.seed) };
            let (pre, post) = (pre.display(), post.display());
            format!(
                "    finetune merge --pre {pre} --post {post} --merge {merge}{dtype}{rounding}{seed} --out DIR"
            )
        }
        Models::Config { text, .. } => format!("```yaml\n{}\n```", text.trim_end()),
    }
}
