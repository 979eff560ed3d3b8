//! Rates of harmful and benign requests as bars: by category of the requests, and by candidate.

use super::shown::{is_choice, shown};
use super::{file, is_of_requests, named};
use crate::eval::{Metric, MetricKind};
use crate::report::pareto::told;
use crate::report::plot::{Bar, Bars, Colour, Group, Picture, Spot};
use crate::report::{Candidate, Report};

/// The most candidates with a bar of their own.
const CANDIDATES: usize = 48;

/// For each suite whose requests have categories the rate in each: of base, tuned model and merges.
pub(super) fn by_category(report: &Report, columns: &[&Metric]) -> Vec<Picture> {
    columns
        .iter()
        .filter(|metric| is_of_requests(metric))
        .filter_map(|metric| of_categories(report, metric))
        .collect()
}

fn of_categories(report: &Report, whole: &Metric) -> Option<Picture> {
    let is_part = |metric: &&Metric| {
        metric.category.is_some()
            && (&metric.suite, &metric.metric, &metric.judge) == (&whole.suite, &whole.metric, &whole.judge)
            && (metric.denominator, metric.seed) == (whole.denominator, whole.seed)
    };
    let parts: Vec<&Metric> = report.candidates.first()?.metrics.iter().filter(is_part).collect();
    if parts.len() < 2 {
        return None;
    }
    let candidates = shown(report);
    let group = |part: &&Metric| {
        let category = part.category.as_deref().unwrap_or_default();
        let bars = candidates.iter().filter_map(|(one, colour)| bar(one, part, *colour, category)).collect();
        Group { name: format!("{category} ({})", part.n), bars }
    };
    let choice = if is_choice(report) { ", the best merge of each method" } else { "" };
    let bars = Bars {
        title: format!("{} by category{choice}", named(whole)),
        x: "% with 95 % intervals; requests in brackets".to_owned(),
        legend: candidates.iter().map(|(one, colour)| (one.name.clone(), *colour)).collect(),
        groups: parts.iter().map(group).collect(),
    };
    Some(bars.picture(file("category", whole)))
}

/// Over-refusal of every candidate; attack success too where there is no skill to draw it against.
pub(super) fn by_candidate(report: &Report, columns: &[&Metric]) -> Vec<Picture> {
    let has_skill = columns.iter().any(|metric| metric.kind == MetricKind::Task);
    let is_wanted = |metric: &&&Metric| {
        metric.kind == MetricKind::OverRefusal || (metric.kind == MetricKind::Safety && !has_skill)
    };
    let picture = |metric: &&Metric| {
        let group = |one: &Candidate| {
            let colour = match (&one.method, one.name.as_str()) {
                (Some(_), _) => Colour::CALM,
                (None, "base") => Colour::DARK,
                (None, _) => Colour::DANGER,
            };
            Some(Group { name: one.name.clone(), bars: vec![bar(one, metric, colour, "")?] })
        };
        let groups: Vec<Group> = report.candidates.iter().filter_map(group).take(CANDIDATES).collect();
        let title = format!("{} by candidate", named(metric));
        let x = "% with 95 % intervals".to_owned();
        Bars { title, x, legend: Vec::new(), groups }.picture(file("candidates", metric))
    };
    columns.iter().filter(is_wanted).map(picture).collect()
}

/// A candidate's bar of a rate.
fn bar(candidate: &Candidate, metric: &Metric, colour: Colour, category: &str) -> Option<Bar> {
    let found = candidate.like(metric)?;
    let value = found.value?;
    let interval = found.low.zip(found.high);
    let category = if category.is_empty() { String::new() } else { format!("{category}, ") };
    let name = metric.metric.replace('_', " ");
    let said = format!("{}\n{category}{} of {}", candidate.name, told(&name, value, interval), found.n);
    let spot = Spot { candidate: candidate.name.clone(), said };
    let percent = |(low, high)| (100.0 * low, 100.0 * high);
    Some(Bar { percent: 100.0 * value, interval: interval.map(percent), colour, spot })
}
