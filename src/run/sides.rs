//! What a run's candidates are made of: the base, what was tuned from it, and what merges ask for
//! besides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::evaluate::{Candidate, adapter, task};
use super::fisher::importance;
use super::folder::Folder;
use super::plan::Plan;
use super::{Failure, Stopped};
use crate::event::Listener;
use crate::merge::{MergeError, MergeReport, Pair, Resolved, Role, Rounded, Unmatched, resolve};
use crate::model::Decoder;
use crate::recipe::{Kind, Recipe};
use crate::snapshot::adapter::{Adapter, Folded};
use crate::snapshot::{SharedWeights, Weights};
use crate::train::{checkpoint::Checkpoints, trained_adapter};

/// The weights of a finished training, none of them rounded, all read where they lie.
pub struct Sides<'a> {
    plan: &'a Plan,
    /// Before any rounding, as all here.
    tuned: SharedWeights,
    /// The checkpoints that are compared by merges of several tuned models.
    stock: Vec<SharedWeights>,
    importance: Option<[SharedWeights; 2]>,
    /// The weights that tuning can have changed; absent where it can have changed all.
    touched: Option<BTreeSet<String>>,
}

impl<'a> Sides<'a> {
    /// Opens them; what merges need and is not there yet is computed.
    ///
    /// # Errors
    ///
    /// A file is missing or broken, or `stop` is set.
    pub fn open(
        plan: &'a Plan,
        folder: &Folder,
        stop: &AtomicBool,
        listener: &mut Listener<'_>,
    ) -> Result<Self, Failure> {
        let (tuned, touched) = match plan.recipe.method.kind {
            Kind::Lora => {
                let adapter = adapter(plan, folder)?;
                let touched = adapter.pairs.keys().map(|module| format!("{module}.weight")).collect();
                (folded(plan, adapter)?, Some(touched))
            }
            Kind::Full => (full(folder, plan.last_step)?, None),
        };
        let stock =
            plan.stock.iter().map(|step| checkpoint(plan, folder, *step)).collect::<Result<_, _>>()?;
        let stopped = || {
            let folder = folder.path().display().to_string();
            stop.load(Ordering::Relaxed).then_some(Stopped { folder })
        };
        let importance = match &plan.fisher {
            Some(planned) => Some(importance(plan, planned, folder, tuned.as_ref(), &stopped, listener)?),
            None => None,
        };
        Ok(Self { plan, tuned, stock, importance, touched })
    }

    /// Hands a candidate's weights, rounded as they would be written, to `use_them`; for a merge the
    /// figures of what it did come back.
    pub fn with<T>(
        &self,
        candidate: &Candidate,
        use_them: impl FnOnce(&dyn Weights) -> Result<T, Failure>,
    ) -> Result<(T, Option<MergeReport>), Failure> {
        let (base, tuned, dtype) = (self.plan.base.clone(), self.tuned.clone(), self.plan.dtype);
        match candidate {
            Candidate::Base => Ok((use_them(&Rounded::new(base, dtype))?, None)),
            Candidate::Tuned => Ok((use_them(&Rounded::new(tuned, dtype))?, None)),
            Candidate::Merge(spec) => {
                let resolved = resolve(spec, self.plan.recipe.train.seed)?;
                // What a base has besides its model, such as tables that follow from its configuration, stays.
                let mut pair = Pair { unmatched: Unmatched::OfBase, ..Pair::new(base, tuned) };
                if resolved.method.needs.several_tuned() {
                    pair.tuned.clone_from(&self.stock);
                }
                pair.importance.clone_from(&self.importance);
                let merged = pair.merged(&resolved, dtype)?;
                let result = use_them(&merged)?;
                Ok((result, Some(merged.report().0)))
            }
        }
    }

    /// Puts a candidate on the device. Of a decoder that is there already, what tuning did not touch is
    /// the same for every candidate and stays.
    pub fn load(
        &self,
        candidate: &Candidate,
        there: Option<Decoder>,
    ) -> Result<(Decoder, Option<MergeReport>), Failure> {
        let Plan { shape, machine, .. } = self.plan;
        self.with(candidate, |weights| {
            let Some(mut decoder) = there else {
                return Ok(Decoder::load(shape, weights, &machine.device, machine.compute)?);
            };
            let touched = |name: &str| self.touched.as_ref().is_none_or(|names| names.contains(name));
            decoder.reload(weights, touched)?;
            Ok(decoder)
        })
    }
}

fn folded(plan: &Plan, adapter: Adapter) -> Result<SharedWeights, Failure> {
    Ok(Arc::new(Folded::new(plan.base.clone(), Arc::new(adapter))?))
}

/// The export is rounded; a checkpoint is not.
fn full(folder: &Folder, step: usize) -> Result<SharedWeights, Failure> {
    Ok(Arc::new(Checkpoints::new(&folder.train(), 0).weights(step)?))
}

/// The tuned model after `step` steps.
fn checkpoint(plan: &Plan, folder: &Folder, step: usize) -> Result<SharedWeights, Failure> {
    let path = Checkpoints::new(&folder.train(), 0).path(step);
    if !path.is_dir() {
        return Err(MergeError::NoCheckpoint { path, step }.into());
    }
    match plan.recipe.method.kind {
        Kind::Lora => folded(plan, trained_adapter(&task(plan), &folder.train(), step)?),
        Kind::Full => full(folder, step),
    }
}

/// The steps whose checkpoints there will be for merges that compare several.
pub fn stock(methods: &[Resolved], recipe: &Recipe, last: usize) -> Result<Vec<usize>, Failure> {
    let Some(resolved) = methods.iter().find(|resolved| resolved.method.needs.several_tuned()) else {
        return Ok(Vec::new());
    };
    let steps = Checkpoints::at_the_end(&recipe.train, last);
    if steps.len() < *resolved.method.needs.count(Role::Tuned).start() {
        return Err(MergeError::BadParameters {
            spec: resolved.name(),
            why: format!(
                "it compares tuned models, and this run will have {} checkpoints",
                steps.len().max(1)
            ),
            help:
                "set `train.checkpoint_every` to a number of steps and `train.keep_checkpoints` to how many \
                   are compared"
                    .to_owned(),
        }
        .into());
    }
    Ok(steps)
}
