//! The merged model's folder: weights, configuration, card and manifest.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::card::card;
use super::manifest::{MANIFEST, Manifest};
use super::partial::Partial;
use super::{Draft, Layout, Options, Request, Written, prepare};
use crate::doing;
use crate::merge::{Merged, Track};
use crate::run::{Failure, Stopped};
use crate::snapshot::digest::{self, Algorithm};
use crate::snapshot::{Dtype, Put, SnapshotError, Weight, WeightInfo, Weights, writer};

/// Merges into the folder `out`, whole or not at all. After a kill the same call goes on with the
/// shards that are missing.
///
/// # Errors
///
/// The request asks for what cannot be had, a model cannot be read, the models do not belong
/// together, `out` cannot be written, or the merge was asked to stop.
pub fn write(request: &Request, out: &Path, options: Options<'_>) -> Result<Written, Failure> {
    writer::must_be_free(out)?;
    let _doing = doing::now(format!("merging into `{}`", out.display()));
    let draft = prepare(request)?;
    let track = options.statistics && draft.layout == Layout::Model;
    let merged = draft.merged.tracked(track.then_some(Track { digests: false }));
    let draft = Draft { merged, ..draft };
    for sentence in &draft.said {
        (options.say)(sentence);
    }
    let shards = draft.shards(request.shard_bytes);
    let partial = Partial::open(out, &key(request, &draft, options)?)?;
    let filled =
        enough_room(out, &shards, &partial).and_then(|()| fill(request, &draft, &shards, &partial, options));
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
    let report = track.then(|| draft.merged.report().0);
    Ok(Written { report, n_weights: draft.merged.infos().len() })
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
fn key(request: &Request, draft: &Draft, options: Options<'_>) -> Result<String, SnapshotError> {
    let inputs = draft.files.iter().map(|path| digest::identity(path)).collect::<Result<Vec<_>, _>>()?;
    let noted = [options.statistics, options.digests];
    Ok(json!([env!("CARGO_PKG_VERSION"), request, inputs, noted]).to_string())
}

fn fill(
    request: &Request,
    draft: &Draft,
    shards: &[writer::Shard<'_>],
    partial: &Partial,
    options: Options<'_>,
) -> Result<(), Failure> {
    let merged = &draft.merged;
    let last = Cell::new(Instant::now());
    let looked = |done: usize, total: usize| {
        if last.get().elapsed() >= Duration::from_secs(2) {
            last.set(Instant::now());
            (options.say)(&format!("alignment: {done} of {total} matrices looked at"));
        }
    };
    merged.settle(&looked, options.stop)?;
    let progress = Progress { merged, n_done: AtomicUsize::new(0), stop: options.stop, tell: options.tell };
    let mut written = BTreeMap::new();
    for shard in shards {
        let finished = match partial.finished(&shard.file) {
            Some(finished) => {
                (options.say)(&format!("going on: `{}` was finished before", shard.file));
                merged.remember(&finished.weights);
                progress.n_done.fetch_add(shard.names.len(), Ordering::Relaxed);
                finished
            }
            None => partial.finish(
                &shard.file,
                |path| writer::write_safetensors(path, &progress, &shard.names, None, options.digests),
                || merged.report_of(&shard.names),
            )?,
        };
        written.extend(finished.blake3.map(|digest| (shard.file.clone(), digest)));
    }
    let folder = partial.path();
    if draft.layout == Layout::Model {
        writer::write_index(folder, shards)?;
        writer::write_config(folder, &draft.donor, |config| {
            writer::set_dtype(config, draft.dtype);
            config.extend(draft.settings.clone());
        })?;
    }
    (draft.finish)(folder)?;
    let mut inputs = BTreeMap::new();
    if options.digests {
        for path in &draft.files {
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
        report: (options.statistics && draft.layout == Layout::Model).then_some(report),
        weights,
    };
    writer::file_at_once(&folder.join("README.md"), card(request, draft, &manifest).as_bytes())?;
    let json = serde_json::to_value(&manifest).expect("a manifest is JSON");
    Ok(writer::write_json(&folder.join(MANIFEST), &json)?)
}

/// A merge that says how far it is and stops when asked.
struct Progress<'a> {
    merged: &'a Merged,
    n_done: AtomicUsize,
    stop: &'a AtomicBool,
    tell: &'a (dyn Fn(usize, usize) + Sync),
}

impl Weights for Progress<'_> {
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
