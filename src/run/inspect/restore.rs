//! One layer at a time put back to the base in the tuned model: which of them brings refusals back?

use std::collections::BTreeMap;

use super::subject::Subject;
use super::{Asked, Outcome, in_words, no_tuned};
use crate::merge::Role;
use crate::report::inspection::{Found, Restored};
use crate::run::cast::{Candidate, Cast, Parts, part_of};
use crate::run::failure::Failure;
use crate::run::plan::probing::Probing;
use crate::run::plan::sources::Sources;
use crate::run::probe::restored;
use crate::run::session::Session;

/// The probe, settled.
pub(super) struct Restore<'a> {
    subject: &'a Subject,
    ranges: &'a [[usize; 2]],
    probing: Probing,
    /// Base, tuned, then a merge for each range: λ is 1 but in its layers, where it is 0.
    cast: Cast,
}

impl<'a> Restore<'a> {
    /// Settles what is asked of which merges.
    ///
    /// # Errors
    ///
    /// There is no tuned model, or nothing to ask.
    pub(super) fn new(
        subject: &'a Subject,
        asked: &Asked,
        ranges: &'a [[usize; 2]],
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let tuned = subject.tuned().ok_or_else(|| no_tuned(asked))?;
        let probing = subject.probing(asked, sources)?;
        let merges = ranges.iter().map(|range| restored(&in_words(*range), subject.recipe.train.seed));
        let merges = merges.collect::<Result<Vec<_>, _>>()?;
        let roles =
            BTreeMap::from([(Role::Base, part_of(&subject.base, &subject.machine)), (Role::Tuned, tuned)]);
        let candidates = Candidate::of(&[Role::Base, Role::Tuned], &merges, &[]);
        let cast = Cast::of_parts(roles, Parts::default(), candidates, subject.base.dtypes.clone());
        Ok(Self { subject, ranges, probing, cast })
    }

    /// Asks and counts.
    ///
    /// # Errors
    ///
    /// As [`Subject::count`].
    pub(super) fn run(&self, session: &mut Session<'_>) -> Result<Outcome, Failure> {
        let counts = self.subject.count(&self.probing, &self.cast, session)?;
        let layers = [None, None].into_iter().chain(self.ranges.iter().map(|range| Some(in_words(*range))));
        let rows: Vec<Restored> = self
            .cast
            .candidates
            .iter()
            .zip(layers)
            .zip(counts)
            .map(|((candidate, layers), refusals)| Restored {
                name: candidate.name.clone(),
                layers,
                refusals,
            })
            .collect();
        let notes = vec![told(&rows)];
        let suites = vec![self.probing.evaluation.suites[0].posed.asked.clone()];
        let (judge, found) = (Some(self.probing.judge.name.to_owned()), Found::Restored { rows });
        Ok(Outcome { model: "tuned", suites, judge, notes, found })
    }
}

/// Which row brings most refusals back.
fn told(rows: &[Restored]) -> String {
    let restored = rows.iter().filter(|row| row.layers.is_some());
    // Of several the first.
    let best = restored.rev().max_by_key(|row| row.refusals.refused).expect("a model has layers");
    let [base, tuned] = [0, 1].map(|nth| rows[nth].refusals.refused);
    match best.refusals.refused > tuned {
        true => format!(
            "Most refusals come back with `layers.{}`: {} of {n} (base {base}, tuned {tuned}). As a merge that is `{}`; to \
             keep it, freeze it (`train.freeze`). Look at other prompts before you trust it.",
            best.layers.as_deref().unwrap_or_default(),
            best.refusals.refused,
            best.name,
            n = best.refusals.n,
        ),
        false => "Put back alone, no layer brings refusals back.".to_owned(),
    }
}
