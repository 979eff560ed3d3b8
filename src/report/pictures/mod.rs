//! A run's pictures: skill against safety, both along λ, rates by category, what rounding left, the loss.

use super::pareto::{Point, Quantity, along, file_name, scatter};
use super::plot::Picture;
use super::table::is_likelihood;
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
        (metric.k.is_some() || is_likelihood(&metric.metric))
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

/// What is drawn to the right: the first rate of what a model can, else how likely right answers are.
fn skill<'a>(columns: &[&'a Metric]) -> Option<&'a Metric> {
    let mut skills = columns.iter().copied().filter(|metric| metric.kind == MetricKind::Task);
    let first = skills.clone().next();
    skills.find(|metric| metric.k.is_some()).or(first)
}

fn pareto(report: &Report, columns: &[&Metric]) -> Vec<Picture> {
    let Some(skill) = skill(columns) else {
        return Vec::new();
    };
    let bad = columns.iter().filter(|metric| is_of_requests(metric));
    let picture = |metric: &&Metric| {
        let title = format!("{} over {}", named(metric), named(skill));
        scatter(title, &[skill, metric].map(quantity), &points(report, [skill, metric]))
            .picture(file("pareto", metric))
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
        let chart = along(&quantity(metric), format!("{name} along λ"), &points(report, [metric, metric]))?;
        Some(chart.picture(file("lambda", metric)))
    };
    columns.iter().enumerate().filter(is_first).filter_map(picture).collect()
}

fn file(kind: &str, metric: &Metric) -> String {
    format!("{}.svg", file_name(&[kind, &metric.suite, &metric.metric].join("-")))
}

fn quantity(metric: &Metric) -> Quantity {
    Quantity::of(&metric.suite, &metric.metric)
}

fn named(metric: &Metric) -> String {
    quantity(metric).name
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
        values: [x.value?, y.value?],
        intervals: [x, y].map(|metric| metric.low.zip(metric.high)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A rate of so many of ten.
    fn rate(suite: &str, category: Option<&str>, k: usize) -> Value {
        let kind = if suite == "gsm8k" { "task" } else { "safety" };
        let metric = if suite == "gsm8k" { "exact_match" } else { "attack_success_rate" };
        let value = k as f64 / 10.0;
        json!({
            "suite": suite, "metric": metric, "kind": kind, "judge": "jbb13", "denominator": "all", "category": category,
            "seed": 1, "value": value, "k": k, "n": 10, "unscored": 0, "low": value / 2.0, "high": value / 2.0 + 0.5
        })
    }

    /// Base, tuned model and six merges of two methods; what a candidate solves and complies with goes by its number.
    fn report() -> Report {
        let merges = (1..7).map(|nth| {
            let method = if nth % 2 == 0 { "linear" } else { "slerp" };
            (format!("{method}:0.{nth}"), Some(method), Some(f64::from(nth) / 10.0))
        });
        let models = ["base", "tuned"].map(|name| (name.to_owned(), None, None));
        let candidates = models.into_iter().chain(merges).enumerate().map(|(nth, (name, method, lambda))| {
            let (solved, complied) = if nth == 5 { (9, 0) } else { (nth, nth) };
            let metrics = [
                rate("gsm8k", None, solved),
                rate("harmful", None, complied),
                rate("harmful", Some("<cyber>"), complied),
                rate("harmful", Some("chemical"), 1),
            ];
            json!({ "name": name, "method": method, "lambda": lambda, "metrics": metrics })
        });
        let run = json!({
            "name": "r", "version": "0", "model": "m", "data": "d", "method": "full", "steps": 1, "seed": 1, "device": "cpu",
            "dtype": "bf16", "validation_loss": null
        });
        let layer = |layer: usize| json!({ "layer": layer, "relative_update": 0.1, "change_kept": 0.7 });
        let merge = json!({
            "merge": "linear:0.4", "tensors_changed": 2, "tensors_unchanged": 0, "fell_back_to_lerp": 0, "relative_update": 0.1,
            "change_kept": 0.7, "effective_lambda": 0.28, "parameters_unchanged": 0.5, "largest_angle_degrees": 1.0,
            "layers": [layer(0), layer(1)]
        });
        let report = json!({
            "schema": 2, "run": run, "candidates": candidates.collect::<Vec<_>>(), "paired": [], "merge": [merge]
        });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn a_run_has_a_picture_of_each_thing_that_was_measured() {
        let losses = Losses { training: vec![(1, 2.0), (2, 1.0)], validation: vec![(2, 1.5)] };
        let pictures = pictures(&report(), &losses);
        let files: Vec<&str> = pictures.iter().map(|picture| picture.file.as_str()).collect();
        let all = [
            "pareto-harmful-attack_success_rate.svg",
            "lambda-gsm8k-exact_match.svg",
            "lambda-harmful-attack_success_rate.svg",
            "category-harmful-attack_success_rate.svg",
            "rounding.svg",
            "loss.svg",
            "update-by-layer.svg",
            "rounding-by-layer.svg",
        ];
        assert_eq!(files, all);
        // Of six merges there is room for the best of each method: `linear:0.4` solves most and complies with nothing.
        let by_category = &pictures[3];
        let shown = ["base", "tuned", "slerp:0.1", "linear:0.4"];
        assert_eq!(by_category.dots, [shown, shown].concat());
        assert!(by_category.title.contains("the best merge of each method"), "{}", by_category.title);
        let said = "<title>linear:0.4\n&lt;cyber&gt;, attack success rate: 0.0 % [0.0, 50.0] of 10</title>";
        assert!(by_category.svg.contains(said), "{}", by_category.svg);
        let kept = "<title>linear:0.4\nupdate kept after rounding: 70.0 %, effective λ 0.280\nparameters unchanged: 50.0 %</title>";
        assert!(pictures[4].svg.contains(kept), "{}", pictures[4].svg);
    }

    #[test]
    fn what_was_not_measured_has_no_picture() {
        let mut report = report();
        report.merge.clear();
        for candidate in &mut report.candidates {
            candidate.metrics.retain(|metric| metric.suite != "gsm8k" && metric.category.is_none());
        }
        let files: Vec<String> =
            pictures(&report, &Losses::default()).into_iter().map(|picture| picture.file).collect();
        // Without a skill attack success is drawn by candidate.
        let all = ["lambda-harmful-attack_success_rate.svg", "candidates-harmful-attack_success_rate.svg"];
        assert_eq!(files, all);
    }
}
