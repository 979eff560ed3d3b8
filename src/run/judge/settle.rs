//! What every judge with a memory has in common: its findings are stored, and only what is missing is settled.

use std::collections::HashSet;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::eval::{Completion, Item, Judgement};
use crate::run::ask::To;
use crate::run::failure::Failure;
use crate::run::plan::posed::Posed;
use crate::run::session::Session;
use crate::run::session::store::Store;
use crate::train::Machine;

/// A judge whose findings are stored.
pub trait Assessor {
    /// What is found out about one answer.
    type Finding: Clone + Serialize + DeserializeOwned;

    /// The file of its findings about a suite.
    fn file(&self, suite: &str) -> String;

    /// What it does, for whoever watches.
    fn title(&self, candidate: &str, suite: &str) -> String;

    /// The digest of all that a finding depends on; none where there is nothing to find.
    fn key(&self, item: &Item, answer: &Completion) -> Option<String>;

    /// Settles what is missing; findings go to the desk as they come, by their place in `waiting`.
    ///
    /// # Errors
    ///
    /// The judge cannot be had, the disk refuses, or the run was asked to stop.
    fn assess(
        &mut self,
        waiting: &[Waiting<'_>],
        desk: &mut Desk<'_, '_, Self::Finding>,
    ) -> Result<(), Failure>;

    /// The verdicts that follow from findings, by item and sample.
    fn judged(&mut self, findings: Vec<Vec<Option<Self::Finding>>>) -> Judgement;
}

/// An answer that waits for a finding.
pub struct Waiting<'a> {
    pub item: &'a Item,
    pub answer: &'a Completion,
    key: String,
}

/// With what, and for whom, a judge works.
pub struct Means<'s, 'l> {
    pub session: &'s mut Session<'l>,
    pub machine: &'s Machine,
    /// Rows that generate together.
    pub rows: usize,
}

/// Where findings are put down.
pub struct Desk<'s, 'l, T> {
    pub session: &'s mut Session<'l>,
    pub machine: &'s Machine,
    pub rows: usize,
    store: &'s mut Store<T>,
    keys: Vec<String>,
    done: u64,
}

impl<T: Serialize + DeserializeOwned> Desk<'_, '_, T> {
    /// Stores findings, each with its place in what waits.
    ///
    /// # Errors
    ///
    /// The disk refuses, or the run was asked to stop.
    pub fn put(&mut self, found: Vec<(usize, T)>) -> Result<(), Failure> {
        self.done += found.len() as u64;
        self.store.append(found.into_iter().map(|(at, finding)| (self.keys[at].clone(), finding)))?;
        self.session.advance(self.done, None)
    }
}

/// What a judge says of one candidate's answers to one suite. Without means nothing is settled: what is missing
/// is left undecided, and a judge that was never asked says nothing.
///
/// # Errors
///
/// As [`Assessor::assess`].
pub fn settled<A: Assessor>(
    assessor: &mut A,
    posed: &Posed,
    said: To<'_>,
    means: Option<&mut Means<'_, '_>>,
) -> Result<Option<Judgement>, Failure> {
    let (suite, To { candidate, folder, answers }) = (&posed.suite.name, said);
    let path = folder.join(assessor.file(suite));
    let keys: Vec<Vec<Option<String>>> = posed
        .items
        .iter()
        .zip(answers)
        .map(|(item, samples)| samples.iter().map(|answer| assessor.key(item, answer)).collect())
        .collect();
    let mut store: Store<A::Finding> = match means {
        Some(_) => Store::open(&path)?,
        None => Store::peek(&path),
    };
    let reads_only = means.is_none();
    if let Some(means) = means {
        let (mut waiting, mut known) = (Vec::new(), HashSet::new());
        for ((item, samples), keys) in posed.items.iter().zip(answers).zip(&keys) {
            for (answer, key) in samples.iter().zip(keys) {
                let missing = key.as_ref().filter(|key| store.get(key).is_none());
                // Two samples that say the same are looked at once.
                if let Some(key) = missing.filter(|key| known.insert(key.as_str())) {
                    waiting.push(Waiting { item, answer, key: key.clone() });
                }
            }
        }
        if !waiting.is_empty() {
            let title = assessor.title(candidate, suite);
            let reused =
                keys.iter().flatten().flatten().filter(|key| store.get(key).is_some()).count() as u64;
            let keys = waiting.iter().map(|waiting| waiting.key.clone()).collect();
            let (machine, rows, store) = (means.machine, means.rows, &mut store);
            means.session.stage(&title, (waiting.len() as u64, Some(reused)), |session| {
                assessor.assess(&waiting, &mut Desk { session, machine, rows, store, keys, done: 0 })
            })?;
        }
    }
    let found = |key: &Option<String>| key.as_ref().and_then(|key| store.get(key).cloned());
    let found: Vec<Vec<_>> = keys.iter().map(|keys| keys.iter().map(found).collect()).collect();
    let was_asked = found.iter().flatten().any(Option::is_some) || keys.iter().flatten().all(Option::is_none);
    Ok((was_asked || !reads_only).then(|| assessor.judged(found)))
}
