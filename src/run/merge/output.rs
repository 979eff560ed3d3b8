//! The merged model's folder: weights, configuration, card, and the manifest that proves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::card::card;
use super::partial::Partial;
use super::{Asked, Layout, Options, Request, Written, with_merge};
use crate::merge::{MergeReport, Merged, Track, WeightReport};
use crate::run::{Failure, Stopped};
use crate::snapshot::digest::{self, Algorithm};
use crate::snapshot::{Dtype, Put, SnapshotError, Weight, WeightInfo, Weights, writer};

/// The manifest's file name.
pub(super) const MANIFEST: &str = "merge.json";

/// How a folder was merged and from what: enough to do it again and to check it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub schema: u32,
    /// Of this program.
    pub version: String,
    pub request: Request,
    /// The folder that the request's paths are seen from.
    pub seen_from: PathBuf,
    /// BLAKE3 of each file that was read; empty without digests.
    pub inputs: BTreeMap<PathBuf, String>,
    /// BLAKE3 of each file of weights that was written; empty without digests.
    pub shards: BTreeMap<String, String>,
    /// In sum and for each weight that tuning touched; absent without statistics.
    pub report: Option<MergeReport>,
    pub weights: BTreeMap<String, WeightReport>,
}

/// Merges into the folder `out`, whole or not at all. After a kill the same call goes on with the
/// shards that are missing.
///
/// # Errors
///
/// The request asks for what cannot be had, a model cannot be read, the models do not belong
/// together, `out` cannot be written, or the merge was asked to stop.
pub fn write(request: &Request, out: &Path, options: Options<'_>) -> Result<Written, Failure> {
    writer::must_be_free(out)?;
    with_merge(request, |asked| {
        let track = options.statistics && asked.layout == Layout::Model;
        let merged = asked.merged.tracked(track.then_some(Track { digests: false }));
        let asked = Asked { merged, ..asked };
        for sentence in &asked.said {
            (options.say)(sentence);
        }
        let shards = asked.shards(request.shard_bytes);
        let partial = Partial::open(out, &key(request, &asked, options)?)?;
        let filled = enough_room(out, &shards, &partial)
            .and_then(|()| fill(request, &asked, &shards, &partial, options));
        match filled {
            Ok(()) => partial.settle(out)?,
            Err(Failure::Snapshot(SnapshotError::Stopped)) => {
                return Err(Stopped { folder: partial.path().display().to_string() }.into());
            }
            Err(failure) => {
                partial.discard();
                return Err(failure);
            }
        }
        let report = track.then(|| asked.merged.report().0);
        Ok(Written { report, n_weights: asked.merged.infos().len() })
    })
}

/// That the disk has room for the shards that are missing.
fn enough_room(out: &Path, shards: &[writer::Shard<'_>], partial: &Partial) -> Result<(), Failure> {
    let missing = shards.iter().filter(|shard| !partial.path().join(&shard.file).is_file());
    let needed = missing.map(|shard| shard.bytes).sum();
    match writer::free_bytes(out).filter(|free| *free < needed) {
        None => Ok(()),
        Some(free) => {
            let (path, needed, free) = (out.to_owned(), needed / 1_000_000, free / 1_000_000);
            Err(SnapshotError::NoSpace { path, needed, free }.into())
        }
    }
}

/// Everything that decides the folder.
fn key(request: &Request, asked: &Asked<'_>, options: Options<'_>) -> Result<String, SnapshotError> {
    let inputs = asked.files.iter().map(|path| digest::identity(path)).collect::<Result<Vec<_>, _>>()?;
    let noted = [options.statistics, options.digests];
    Ok(json!([env!("CARGO_PKG_VERSION"), request, inputs, noted]).to_string())
}

fn fill(
    request: &Request,
    asked: &Asked<'_>,
    shards: &[writer::Shard<'_>],
    partial: &Partial,
    options: Options<'_>,
) -> Result<(), Failure> {
    let merged = &asked.merged;
    let told = Told { merged, n_done: AtomicUsize::new(0), stop: options.stop, tell: options.tell };
    let mut written = BTreeMap::new();
    for shard in shards {
        let finished = match partial.finished(&shard.file) {
            Some(finished) => {
                (options.say)(&format!("going on: `{}` was finished before", shard.file));
                merged.remember(&finished.weights);
                told.n_done.fetch_add(shard.names.len(), Ordering::Relaxed);
                finished
            }
            None => partial.finish(
                &shard.file,
                |path| writer::write_safetensors(path, &told, &shard.names, None, options.digests),
                || merged.report_of(&shard.names),
            )?,
        };
        written.extend(finished.blake3.map(|digest| (shard.file.clone(), digest)));
    }
    let folder = partial.path();
    if asked.layout == Layout::Model {
        writer::write_index(folder, shards)?;
        writer::write_config(folder, &asked.donor, asked.edit)?;
    }
    (asked.finish)(folder)?;
    let mut inputs = BTreeMap::new();
    if options.digests {
        for path in &asked.files {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            inputs.insert(path.clone(), digest::known(&path, Algorithm::Blake3)?);
        }
    }
    let (report, weights) = merged.report();
    let manifest = Manifest {
        schema: 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        request: request.clone(),
        seen_from: std::env::current_dir().unwrap_or_default(),
        inputs,
        shards: written,
        report: (options.statistics && asked.layout == Layout::Model).then_some(report),
        weights,
    };
    writer::file_at_once(&folder.join("README.md"), card(request, asked, &manifest).as_bytes())?;
    let json = serde_json::to_value(&manifest).expect("a manifest is JSON");
    Ok(writer::write_json(&folder.join(MANIFEST), &json)?)
}

/// A merge that says how far it is and stops when asked.
struct Told<'a> {
    merged: &'a Merged<'a>,
    n_done: AtomicUsize,
    stop: &'a AtomicBool,
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
        if self.stop.load(Ordering::Relaxed) {
            return Err(SnapshotError::Stopped);
        }
        self.merged.write_to(name, dtype, put)?;
        (self.tell)(self.n_done.fetch_add(1, Ordering::Relaxed) + 1, self.merged.infos().len());
        Ok(())
    }
}
