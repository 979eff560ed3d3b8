//! What a guard's labels of a file of requests are worth.

use serde::{Deserialize, Serialize};

use super::Report;
use super::table::Table;
use crate::eval::measures::detection::Detection;
use crate::eval::stats::wilson;

/// A guard, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardReport {
    /// The version of this format; 1.
    pub schema: u32,
    pub guard: String,
    pub file: String,
    /// Requests, and how many of them reach the threshold.
    pub n: usize,
    pub above: usize,
    pub threshold: f64,
    /// What the guard's own threshold was fitted for.
    pub fitted_by: String,
    /// Where every request has a label.
    pub detection: Option<Detection>,
    /// Harmless requests that look harmful.
    pub benign: Option<Benign>,
    pub pace: Option<Pace>,
}

/// Who answered a candidate's suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    pub candidate: String,
    pub suite: String,
    /// Of how many answers how many are the guard's; the others are those of the candidate behind it.
    pub by_guard: usize,
    pub n: usize,
}

/// How often a guard answered, a row for each candidate behind one.
pub(super) fn table(report: &Report) -> Table {
    let of = |suite: &String, one: &Answered| one.suite == *suite;
    let mut suites: Vec<&String> = Vec::new();
    let mut candidates: Vec<&String> = Vec::new();
    for one in &report.guarded {
        if !suites.contains(&&one.suite) {
            suites.push(&one.suite);
        }
        if !candidates.contains(&&one.candidate) {
            candidates.push(&one.candidate);
        }
    }
    let header =
        std::iter::once("answered by the guard".to_owned()).chain(suites.iter().map(|s| (*s).clone()));
    let rows = candidates.into_iter().map(|candidate| {
        let mine = || report.guarded.iter().filter(|one| one.candidate == *candidate);
        let cell = |suite: &&String| match mine().find(|one| of(suite, one)) {
            Some(Answered { by_guard, n, .. }) => format!("{by_guard} of {n}"),
            None => "–".to_owned(),
        };
        std::iter::once(candidate.clone()).chain(suites.iter().map(cell)).collect()
    });
    Table { header: header.collect(), rows: rows.collect() }
}

/// How many harmless requests a guard stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Benign {
    pub file: String,
    pub false_positives: usize,
    pub n: usize,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// Seconds for a request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// How many were timed.
    pub requests: usize,
    /// The median of requests that are asked one by one.
    pub alone_s: f64,
    /// The mean where they are asked at once.
    pub together_s: f64,
}

impl Benign {
    /// So many of so many, with Wilson's interval.
    pub fn new(file: String, false_positives: usize, n: usize) -> Self {
        let interval = wilson(false_positives, n);
        Self { file, false_positives, n, low: interval.map(|ends| ends.0), high: interval.map(|ends| ends.1) }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

impl GuardReport {
    /// In lines.
    pub fn terminal(&self) -> String {
        let share = |x: Option<f64>| x.map_or("–".to_owned(), percent);
        let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.4}"));
        let mut lines = vec![
            format!("guard       {}", self.guard),
            format!("requests    {} of `{}`, {} labelled harmful", self.n, self.file, self.above),
            format!("threshold   {:.4} (the guard's own is fitted by {})", self.threshold, self.fitted_by),
        ];
        if let Some(found) = &self.detection {
            let Detection { precision, recall, f1, false_positive_rate, auroc, ece, brier, .. } = *found;
            lines.push(format!(
                "harmful     {} of {} found; F1 {}, precision {}, recall {}",
                found.true_positives,
                found.positives,
                share(f1),
                share(precision),
                share(recall)
            ));
            let safe = found.n - found.positives;
            let rate = share(false_positive_rate);
            lines.push(format!("safe        {} of {safe} stopped, {rate}", found.false_positives));
            lines.push(format!(
                "probability AUROC {}, calibration error {}, Brier {}",
                number(auroc),
                number(ece),
                number(brier)
            ));
        }
        if let Some(Benign { file, false_positives, n, low, high }) = &self.benign {
            let rate = share((*n > 0).then(|| *false_positives as f64 / *n as f64));
            let between = format!("{} to {}", share(*low), share(*high));
            lines.push(format!(
                "look-alikes {false_positives} of {n} of `{file}` stopped, {rate} ({between})"
            ));
        }
        if let Some(Pace { requests, alone_s, together_s }) = self.pace {
            lines.push(format!(
                "time        {:.1} ms a request alone (median of {requests}), {:.1} ms in company",
                alone_s * 1e3,
                together_s * 1e3
            ));
        }
        lines.join("\n")
    }
}
