//! A run's pictures: skill against safety, both along λ, rates by category, what rounding left, the loss.

use super::pareto::{Point, along, file_name, scatter};
use super::plot::Picture;
use super::{Candidate, Report};
use crate::eval::{Metric, MetricKind};

mod losses;
mod merges;
mod rates;
mod shown;

pub use losses::Losses;

/// Each rate of harmful or benign requests against the first skill, every rate along λ, those by category and by
/// candidate, what became of merges, and the loss; suites for validation apart.
pub fn pictures(report: &Report, losses: &Losses) -> Vec<Picture> {
    let reported = |metric: &&Metric| {
        metric.k.is_some()
            && report.suites.iter().all(|setup| setup.suite != metric.suite || !setup.validation)
    };
    let columns: Vec<&Metric> = report.columns().into_iter().filter(reported).collect();
    let mut pictures = pareto(report, &columns);
    pictures.extend(curves(report, &columns));
    pictures.extend(rates::by_category(report, &columns));
    pictures.extend(rates::by_candidate(report, &columns));
    pictures.extend(merges::kept(report));
    pictures.extend(losses.picture());
    pictures.extend(merges::by_layer(report));
    pictures
}

fn is_of_requests(metric: &Metric) -> bool {
    matches!(metric.kind, MetricKind::Safety | MetricKind::OverRefusal)
}

fn pareto(report: &Report, columns: &[&Metric]) -> Vec<Picture> {
    let Some(skill) = columns.iter().find(|metric| metric.kind == MetricKind::Task) else {
        return Vec::new();
    };
    let bad = columns.iter().filter(|metric| is_of_requests(metric));
    let picture = |metric: &&Metric| {
        let title = format!("{} over {}", named(metric), named(skill));
        let names = [skill, metric].map(|metric| named(metric));
        scatter(title, names, &points(report, [skill, metric])).picture(file("pareto", metric))
    };
    bad.map(picture).collect()
}

fn curves(report: &Report, columns: &[&Metric]) -> Vec<Picture> {
    // One reading of a suite's answers is enough.
    let is_first = |(nth, metric): &(usize, &&Metric)| {
        columns[..*nth].iter().all(|before| before.suite != metric.suite || before.kind != metric.kind)
    };
    let picture = |(_, metric): (usize, &&Metric)| {
        let name = named(metric);
        let chart = along(&name, format!("{name} along λ"), &points(report, [metric, metric]))?;
        Some(chart.picture(file("lambda", metric)))
    };
    columns.iter().enumerate().filter(is_first).filter_map(picture).collect()
}

fn file(kind: &str, metric: &Metric) -> String {
    format!("{}.svg", file_name(&[kind, &metric.suite, &metric.metric].join("-")))
}

fn named(metric: &Metric) -> String {
    format!("{} {}", metric.suite, metric.metric.replace('_', " "))
}

fn points(report: &Report, both: [&Metric; 2]) -> Vec<Point> {
    report.candidates.iter().filter_map(|candidate| point(candidate, both)).collect()
}

/// A candidate that has both.
fn point(candidate: &Candidate, both: [&Metric; 2]) -> Option<Point> {
    let [x, y] = both.map(|metric| candidate.like(metric));
    let (x, y) = (x?, y?);
    Some(Point {
        candidate: candidate.name.clone(),
        method: candidate.method.clone(),
        lambda: candidate.lambda,
        shares: [x.value?, y.value?],
        intervals: [x, y].map(|metric| metric.low.zip(metric.high)),
    })
}
