//! A study's pictures: skill against safety, and both along λ.

use super::{Row, StudyReport, title};
use crate::eval::MetricKind;
use crate::recipe::ALL_SEEDS;
use crate::report::pareto::{Point, along, file_name, scatter};
use crate::report::plot::Picture;
use crate::report::table::is_rate;

/// For every group of cells each rate of harmful or benign requests against the first skill, then every rate along λ.
pub fn pictures(report: &StudyReport) -> Vec<Picture> {
    // What merges all seeds is a few single dots.
    let alone = |group: &&str| !group.ends_with(ALL_SEEDS);
    report.groups().into_iter().filter(alone).flat_map(|group| of_group(report, group)).collect()
}

fn of_group(report: &StudyReport, group: &str) -> Vec<Picture> {
    let rows = report.group(group);
    let columns: Vec<&Row> = rows.columns().into_iter().filter(|column| is_rate(&column.metric)).collect();
    let points = |[x, y]: [&Row; 2]| -> Vec<Point> {
        let of = |candidate: &str| Some(point(rows.row(candidate, x)?, rows.row(candidate, y)?));
        rows.candidates().into_iter().filter_map(of).collect()
    };
    let apart = |text: String| match report.groups().len() {
        1 => text,
        _ => format!("{text}: {}", title(group)),
    };
    let file = |kind: &str, column: &Row| {
        let words = [kind, group, &column.suite, &column.metric];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        format!("{}.svg", file_name(&words.join("-")))
    };
    let mut pictures = Vec::new();
    let skill = columns.iter().find(|column| column.kind == MetricKind::Task);
    let bad = |column: &&&Row| matches!(column.kind, MetricKind::Safety | MetricKind::OverRefusal);
    for (skill, column) in
        skill.into_iter().flat_map(|skill| columns.iter().filter(bad).map(move |column| (*skill, *column)))
    {
        let title = apart(format!("{} over {}", named(column), named(skill)));
        let labels = [skill, column].map(|column| format!("{}, %", named(column)));
        let svg = scatter(title.clone(), labels, &points([skill, column])).svg();
        pictures.push(Picture { file: file("pareto", column), title, svg });
    }
    for (nth, column) in columns.iter().enumerate() {
        // One reading of a suite's answers is enough.
        let is_shown =
            columns[..nth].iter().any(|before| before.suite == column.suite && before.kind == column.kind);
        if is_shown || column.kind == MetricKind::Degeneration {
            continue;
        }
        let title = apart(format!("{} along λ", named(column)));
        let chart = along(title.clone(), &points([column, column]));
        pictures.extend(chart.map(|chart| Picture { file: file("lambda", column), title, svg: chart.svg() }));
    }
    pictures
}

fn named(column: &Row) -> String {
    format!("{} {}", column.suite, column.metric.replace('_', " "))
}

fn point(x: &Row, y: &Row) -> Point {
    Point {
        candidate: x.candidate.clone(),
        method: x.method.clone(),
        lambda: x.lambda,
        shares: [x, y].map(|row| row.estimate.mean),
        intervals: [x, y].map(|row| row.estimate.over_prompts),
    }
}
