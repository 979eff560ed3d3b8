//! Which candidates a picture has room for, and their colours.

use crate::eval::MetricKind;
use crate::report::plot::Colour;
use crate::report::{Candidate, Report};

/// The most merges, and the most others beside the base.
const MERGES: usize = 4;
const OTHERS: usize = 2;

/// Base, tuned model and merges: all where they are few, else the best of each method, by task score less attack success.
pub(super) fn shown(report: &Report) -> Vec<(&Candidate, Colour)> {
    let others = report.candidates.iter().filter(|one| one.method.is_none()).take(1 + OTHERS);
    let all: Vec<&Candidate> = report.candidates.iter().filter(|one| one.method.is_some()).collect();
    let mut merges = all.clone();
    if all.len() > MERGES {
        merges.sort_by(|a, b| worth(report, b).total_cmp(&worth(report, a)));
        let mut methods = Vec::new();
        merges.retain(|one| {
            let is_new = !methods.contains(&&one.method);
            methods.push(&one.method);
            is_new
        });
        merges.truncate(MERGES);
        let place = |one: &Candidate| all.iter().position(|other| other.name == one.name);
        merges.sort_by_key(|one| place(one));
    }
    let free = Colour::each().filter(|colour| *colour != Colour::DANGER);
    let colours = [Colour::DARK, Colour::DANGER, Colour::NEUTRAL].into_iter();
    others.zip(colours).chain(merges.into_iter().zip(free)).collect()
}

/// Whether merges were left out.
pub(super) fn is_choice(report: &Report) -> bool {
    report.candidates.iter().filter(|one| one.method.is_some()).count() > MERGES
}

/// Task scores less attack success, summed over suites.
fn worth(report: &Report, candidate: &Candidate) -> f64 {
    let columns = report.columns();
    let of = |metric: &&crate::eval::Metric| {
        let value = candidate.like(metric)?.value?;
        match metric.kind {
            MetricKind::Task if metric.k.is_some() => Some(value),
            MetricKind::Safety => Some(-value),
            _ => None,
        }
    };
    columns.iter().filter_map(of).sum()
}
