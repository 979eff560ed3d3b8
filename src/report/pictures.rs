//! A run's pictures: skill against safety, and both along λ.

use super::pareto::{Point, along, file_name, scatter};
use super::plot::Picture;
use super::{Candidate, Report};
use crate::eval::{Metric, MetricKind};

/// Each rate of harmful or benign requests against the first skill, then every rate along λ; suites for validation apart.
pub fn pictures(report: &Report) -> Vec<Picture> {
    let reported = |metric: &&Metric| {
        metric.k.is_some()
            && report.suites.iter().all(|setup| setup.suite != metric.suite || !setup.validation)
    };
    let columns: Vec<&Metric> = report.columns().into_iter().filter(reported).collect();
    let points = |both: [&Metric; 2]| -> Vec<Point> {
        report.candidates.iter().filter_map(|candidate| point(candidate, both)).collect()
    };
    let file = |kind: &str, metric: &Metric| {
        format!("{}.svg", file_name(&[kind, &metric.suite, &metric.metric].join("-")))
    };
    let mut pictures = Vec::new();
    if let Some(skill) = columns.iter().copied().find(|metric| metric.kind == MetricKind::Task) {
        let bad = |metric: &&Metric| matches!(metric.kind, MetricKind::Safety | MetricKind::OverRefusal);
        for metric in columns.iter().copied().filter(bad) {
            let title = format!("{} over {}", named(metric), named(skill));
            let labels = [skill, metric].map(|metric| format!("{}, %", named(metric)));
            let svg = scatter(title.clone(), labels, &points([skill, metric])).svg();
            pictures.push(Picture { file: file("pareto", metric), title, svg });
        }
    }
    for (nth, metric) in columns.iter().enumerate() {
        // One reading of a suite's answers is enough.
        if columns[..nth].iter().any(|before| before.suite == metric.suite && before.kind == metric.kind) {
            continue;
        }
        let title = format!("{} along λ", named(metric));
        let chart = along(title.clone(), &points([metric, metric]));
        pictures.extend(chart.map(|chart| Picture { file: file("lambda", metric), title, svg: chart.svg() }));
    }
    pictures
}

fn named(metric: &Metric) -> String {
    format!("{} {}", metric.suite, metric.metric.replace('_', " "))
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
