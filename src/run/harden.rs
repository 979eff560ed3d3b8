//! The stage that hardens the base before it is tuned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::export::run_card::Exported;
use super::failure::Failure;
use super::plan::{Base, Plan};
use super::session::Session;
use super::tune::write_model;
use crate::merge::Merged;
use crate::snapshot::{Dtype, Put, SnapshotError, Weight, WeightInfo, Weights};

/// How often it is looked how far the writing is.
const LOOK: Duration = Duration::from_millis(50);

/// Makes the base that is tuned, unless it is there, and opens it.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or the run was asked to stop.
pub(super) fn harden(plan: &Plan, session: &mut Session<'_>) -> Result<Arc<Base>, Failure> {
    let target = session.folder().hardened();
    if let Some(hardening) = plan.hardening.as_ref().filter(|_| !target.is_dir()) {
        let counted = Arc::new(Counted {
            merged: hardening.merged(&plan.base)?,
            n_done: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let n = counted.infos().len() as u64;
        session.stage("harden", (n, None), |session| {
            written(&counted, session, || {
                write_model(plan, &target, counted.clone(), Exported::Hardened(&hardening.name()))
            })
        })?;
    }
    Ok(plan.start(session.folder())?)
}

/// Lets `work` go on in a thread of its own, and tells meanwhile how many of the weights it wrote.
fn written(
    counted: &Counted,
    session: &mut Session<'_>,
    work: impl FnOnce() -> Result<(), Failure> + Send,
) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        let mut told = 0;
        let mut asked_to_stop = Ok(());
        while !work.is_finished() {
            std::thread::sleep(LOOK);
            let done = counted.n_done.load(Ordering::Relaxed);
            if done > told && asked_to_stop.is_ok() {
                told = done;
                asked_to_stop = session.advance(done as u64, None);
            }
            counted.stop.store(asked_to_stop.is_err() || session.go_on().is_err(), Ordering::Relaxed);
        }
        let written = work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        asked_to_stop.and_then(|()| session.go_on().map_err(Failure::from)).and(written)
    })
}

/// A merge of which it is known how far it is, and which ends between two weights when asked.
struct Counted {
    merged: Merged,
    n_done: AtomicUsize,
    stop: AtomicBool,
}

impl Weights for Counted {
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
        self.n_done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
