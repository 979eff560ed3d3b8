//! What the cells of a group measured, by seed: the rows of every table before anything is reckoned.

use crate::eval::MetricKind;
use crate::eval::repeated::Repeated;
use crate::recipe::Cell;
use crate::report::Report;
use crate::report::outcomes::{CandidateOutcomes, OutcomesFile};

/// A finished cell, read.
pub(super) struct Read<'a> {
    pub(super) cell: &'a Cell,
    pub(super) report: Report,
    pub(super) outcomes: OutcomesFile,
}

/// One metric of one candidate of a group, by seed.
pub(super) struct Series<'a> {
    pub(super) group: &'a str,
    /// Where its cells stand in the grid, seeds apart.
    pub(super) at: &'a [(String, String)],
    pub(super) candidate: &'a str,
    pub(super) method: Option<&'a str>,
    pub(super) lambda: Option<f64>,
    pub(super) suite: &'a str,
    pub(super) metric: &'a str,
    pub(super) judge: Option<&'a str>,
    pub(super) kind: MetricKind,
    pub(super) headline: bool,
    /// Whether it is what its suite measures first.
    pub(super) lead: bool,
    /// λ is chosen by its suite.
    pub(super) validation: bool,
    /// The base as the cells name it.
    pub(super) model: &'a str,
    /// How much more attack success a choice of λ may take.
    pub(super) budget: Option<f64>,
    pub(super) seeds: Vec<u64>,
    /// The prompts by their ids.
    ids: &'a [String],
    pub(super) values: Repeated,
}

#[cfg(test)]
impl<'a> Series<'a> {
    /// A row that is what its suite measures first; λ is no number where there is none.
    pub(super) fn of_test(
        (suite, candidate, lambda): (&'a str, &'a str, f64),
        (kind, validation): (MetricKind, bool),
        values: Repeated,
    ) -> Self {
        Self {
            group: "",
            at: &[],
            candidate,
            method: candidate.split_once(':').map(|(method, _)| method),
            lambda: Some(lambda).filter(|lambda| lambda.is_finite()),
            suite,
            metric: "rate",
            judge: None,
            kind,
            headline: true,
            lead: true,
            validation,
            model: "m",
            budget: Some(0.1),
            seeds: vec![1],
            ids: &[],
            values,
        }
    }
}

impl Series<'_> {
    /// What it measures: suite, metric and judge.
    pub(super) fn measure(&self) -> (&str, &str, Option<&str>) {
        (self.suite, self.metric, self.judge)
    }

    /// The candidate without its λ: `ties,density=0.2` of `ties:0.3,density=0.2`.
    pub(super) fn family(&self) -> Option<String> {
        let (head, rest) =
            self.candidate.split_once(',').map_or((self.candidate, None), |(head, rest)| (head, Some(rest)));
        let (method, _) = head.split_once(':')?;
        Some(rest.map_or(method.to_owned(), |rest| format!("{method},{rest}")))
    }

    /// These less others of the same prompts, over the seeds that both have.
    pub(super) fn less(&self, other: &Self) -> Option<Repeated> {
        let common = self.common(other);
        if self.ids != other.ids || common.is_empty() {
            return None;
        }
        let of = |one: &Self| {
            let place = |seed: &u64| one.seeds.iter().position(|own| own == seed);
            one.values.of_seeds(&common.iter().filter_map(place).collect::<Vec<_>>())
        };
        of(self).less(&of(other))
    }

    /// The seeds that both have; of a study that is not finished, some.
    pub(super) fn common(&self, other: &Self) -> Vec<u64> {
        self.seeds.iter().copied().filter(|seed| other.seeds.contains(seed)).collect()
    }
}

/// Every metric over the seeds of every group.
pub(super) fn series<'a>(read: &'a [Read<'a>], notes: &mut Vec<String>) -> Vec<Series<'a>> {
    let mut groups: Vec<(&str, Vec<&Read<'_>>)> = Vec::new();
    for one in read {
        match groups.iter_mut().find(|(name, _)| *name == one.cell.group) {
            Some((_, members)) => members.push(one),
            None => groups.push((&one.cell.group, vec![one])),
        }
    }
    let mut all = Vec::new();
    for (group, members) in groups {
        for suite in &members[0].outcomes.suites {
            let mut shown: Vec<(&str, Option<&str>)> = Vec::new();
            let asked = members[0].report.suites.iter().find(|asked| asked.suite == suite.suite);
            let validation = asked.is_some_and(|asked| asked.validation);
            for one in &suite.outcomes {
                let of = |member: &&'a Read<'a>| {
                    let theirs = member.outcomes.suites.iter().find(|other| other.suite == suite.suite)?;
                    let same = |other: &&CandidateOutcomes| {
                        (&other.candidate, &other.metric, &other.judge)
                            == (&one.candidate, &one.metric, &one.judge)
                    };
                    let found = theirs.outcomes.iter().find(same)?;
                    let values = found.values.numbers();
                    let is_whole = theirs.ids == suite.ids && values.len() == suite.ids.len();
                    is_whole.then_some((member.cell.recipe.train.seed, values))
                };
                let found: Vec<(u64, Vec<Option<f64>>)> = members.iter().filter_map(of).collect();
                if found.len() < members.len() {
                    let note = format!(
                        "`{}` of {}: {} of {} seeds were asked the same prompts",
                        suite.suite,
                        one.candidate,
                        found.len(),
                        members.len()
                    );
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
                if found.is_empty() {
                    continue;
                }
                let judge = one.judge.as_deref();
                // Tables have room for the first judge where several say whether a request was refused.
                let first = shown.iter().find(|(metric, _)| *metric == one.metric);
                let is_first = first.is_none_or(|(_, by)| *by == judge);
                let lead = shown.first().is_none_or(|(metric, _)| *metric == one.metric) && is_first;
                if first.is_none() {
                    shown.push((&one.metric, judge));
                }
                let about = members[0].report.candidates.iter().find(|about| about.name == one.candidate);
                let (seeds, values) = found.into_iter().unzip();
                all.push(Series {
                    group,
                    at: &members[0].cell.at,
                    candidate: &one.candidate,
                    method: about.and_then(|about| about.method.as_deref()),
                    lambda: about.and_then(|about| about.lambda),
                    suite: &suite.suite,
                    metric: &one.metric,
                    judge,
                    kind: one.kind,
                    headline: one.kind != MetricKind::Degeneration && is_first,
                    lead,
                    validation,
                    model: &members[0].cell.recipe.model.source,
                    budget: members[0].cell.recipe.merge.budget,
                    seeds,
                    ids: &suite.ids,
                    values: Repeated::new(values, one.values.is_rate()),
                });
            }
        }
    }
    all
}
