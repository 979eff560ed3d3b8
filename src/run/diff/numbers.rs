//! The numbers of two reports, one by one.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::eval::{Metric, Paired};
use crate::report::difference::{Compared, Moved};
use crate::report::{Candidate, JudgeAgreement, Report};
use crate::run::failure::Failure;
use crate::snapshot::files::read_json;

/// The metrics of both runs that were compared, and the other figures that differ.
///
/// # Errors
///
/// A report cannot be read.
pub fn numbers(runs: [&Path; 2], notes: &mut Vec<String>) -> Result<(Compared<Moved>, Vec<String>), Failure> {
    let mut reports: Vec<Report> = Vec::new();
    for (run, letter) in runs.into_iter().zip(["A", "B"]) {
        let path = run.join("report.json");
        if !path.is_file() {
            notes.push(format!("{letter} has no report yet"));
            return Ok((Compared::default(), Vec::new()));
        }
        reports.push(read_json(&path)?);
    }
    let [a, b] = reports.as_slice() else { unreachable!("two runs have two reports") };
    let mut found = Compared::default();
    let mut lacking = [0, 0];
    for candidate in &a.candidates {
        let Some(other) = named(b, &candidate.name) else { continue };
        for metric in &candidate.metrics {
            match like(other, metric) {
                None => lacking[1] += 1,
                Some(its) => {
                    found.compared += 1;
                    found.differ.extend(moved(&candidate.name, metric, its));
                }
            }
        }
        lacking[0] += other.metrics.iter().filter(|metric| like(candidate, metric).is_none()).count();
    }
    for (n, letter) in lacking.into_iter().zip(["A", "B"]) {
        if n > 0 {
            notes.push(format!("{letter} lacks {n} numbers that the other has: of other suites or judges"));
        }
    }
    for (one, other, letter) in [(a, b, 'A'), (b, a, 'B')] {
        let alone = one.candidates.iter().filter(|candidate| named(other, &candidate.name).is_none());
        let alone: Vec<&str> = alone.map(|candidate| candidate.name.as_str()).collect();
        if !alone.is_empty() {
            notes.push(format!("only in {letter}: {}", alone.join(", ")));
        }
    }
    Ok((found, figures(a, b)))
}

fn named<'r>(report: &'r Report, name: &str) -> Option<&'r Candidate> {
    report.candidates.iter().find(|candidate| candidate.name == name)
}

/// The same metric, whatever the seed of the run.
fn like<'c>(candidate: &'c Candidate, wanted: &Metric) -> Option<&'c Metric> {
    let key = |metric: &Metric| {
        let Metric { suite, metric: name, judge, denominator, category, .. } = metric;
        (suite.clone(), name.clone(), judge.clone(), *denominator, category.clone())
    };
    let wanted = key(wanted);
    candidate.metrics.iter().find(|metric| key(metric) == wanted)
}

fn moved(candidate: &str, a: &Metric, b: &Metric) -> Option<Moved> {
    if *a == (Metric { seed: a.seed, ..b.clone() }) {
        return None;
    }
    let denominator = json!(a.denominator).as_str().unwrap_or_default().to_owned();
    Some(Moved {
        candidate: candidate.to_owned(),
        suite: a.suite.clone(),
        metric: a.metric.clone(),
        judge: a.judge.clone(),
        denominator,
        category: a.category.clone(),
        a: a.value,
        b: b.value,
        difference: a.value.zip(b.value).map(|(a, b)| b - a),
        counted: [(a.k, a.n), (b.k, b.n)],
    })
}

/// Figures besides metrics that both have and that differ.
fn figures(a: &Report, b: &Report) -> Vec<String> {
    let merges = differing(&a.merge, &b.merge, |merge| format!("merge {}", merge.merge));
    let pairs = differing(&a.paired, &b.paired, |pair: &Paired| {
        let Paired { a, b, suite, metric, judge, .. } = pair;
        let by = judge.as_ref().map(|judge| format!(" ({judge})")).unwrap_or_default();
        format!("{a} − {b} on {suite} {metric}{by}")
    });
    let agreements = differing(&a.agreement, &b.agreement, |agreed: &JudgeAgreement| {
        let JudgeAgreement { candidate, suite, judges, .. } = agreed;
        format!("agreement of {} on {candidate}, {suite}", judges.join(" and "))
    });
    let programs = differing(&a.programs, &b.programs, |tests| format!("programs of {}", tests.suite));
    [merges, pairs, agreements, programs].concat()
}

/// The names of those that both lists have and that are not the same.
fn differing<T: Serialize>(a: &[T], b: &[T], name: impl Fn(&T) -> String) -> Vec<String> {
    let others: Vec<(String, Value)> = b.iter().map(|one| (name(one), json!(one))).collect();
    let is_other = |one: &&T| {
        let own = name(one);
        others.iter().any(|(other, value)| *other == own && *value != json!(one))
    };
    a.iter().filter(is_other).map(&name).collect()
}
