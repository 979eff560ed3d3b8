//! How much each number matters to base and tuned model, for merges that go by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::Event;
use crate::recipe::MethodKind;
use crate::run::failure::Failure;
use crate::run::plan::Plan;
use crate::run::plan::importance::Importance;
use crate::run::session::Session;
use crate::snapshot::{SharedWeights, SnapshotError, Weight, WeightFiles, WeightInfo, Weights};
use crate::train::checkpoint::{Checkpoints, squared_gradients};
use crate::train::importance::{FILE, FOLDER, Measure, write};

/// The importance for the base and for the tuned model; what is not there yet is computed.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or the run was asked to stop.
pub(super) fn computed(
    plan: &Plan,
    planned: &Importance,
    tuned: &SharedWeights,
    session: &mut Session<'_>,
) -> Result<[SharedWeights; 2], Failure> {
    let Plan { model, base, training, machine, .. } = plan;
    let mut of = |which: &str, weights: &dyn Weights| {
        let target = session.folder().path().join(FOLDER).join(format!("{which}-{}", &planned.key[..8]));
        if !target.is_dir() {
            let drawn;
            let samples = match which {
                "base" => &planned.of_base,
                _ => {
                    drawn = planned.of_tuned(training, model)?;
                    &drawn
                }
            };
            session.stage(&format!("importance for {which}"), (samples.len() as u64, None), |session| {
                write::<Failure>(
                    &target,
                    &model.shape,
                    weights,
                    machine,
                    (samples, Measure::Fisher),
                    |done| {
                        session.event(Event::Progress { done: done as u64, remaining: None })?;
                        Ok(session.go_on()?)
                    },
                )
            })?;
        }
        Ok::<SharedWeights, Failure>(Arc::new(WeightFiles::open_file(&target.join(FILE))?))
    };
    let of_base = of("base", base.weights.as_ref())?;
    let of_tuned = match training.method.kind {
        MethodKind::Lora => of("tuned", tuned.as_ref())?,
        MethodKind::Full => {
            let last = Checkpoints::new(&session.folder().train(), 0).path(training.last_step);
            Arc::new(squared_gradients(&last)?)
        }
    };
    let infos = || base.weights.infos().clone();
    Ok([of_base, of_tuned].map(|known| -> SharedWeights { Arc::new(Filled { known, infos: infos() }) }))
}

/// Importance that is nowhere where it is not known: of weights that are no part of the model.
struct Filled {
    known: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
}

impl Weights for Filled {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        match (self.known.infos().contains_key(name), self.infos.get(name)) {
            (false, Some(info)) => Ok(Weight::from_f32(info.shape.clone(), &vec![0.0; info.n_elements()])),
            _ => self.known.weight(name),
        }
    }
}
