//! The landscape in pictures: curves along the line and around models, maps of planes.

use super::{Around, Axis as Side, Landscape, Plane, Point, title};
use crate::eval::{Metric, MetricKind};
use crate::report::plot::{Axis, Chart, Colour, Map, Picture, Series};

/// What empties a rate of its meaning, drawn beside it: shares that exclude each other, and their name.
const BROKEN: [(&[&str], &str); 2] =
    [(&["empty_rate", "repeated_rate"], "empty or repeated answers"), (&["garbled_rate"], "garbled answers")];

/// Every picture of a landscape; only rates are drawn.
pub fn pictures(landscape: &Landscape) -> Vec<Picture> {
    let columns: Vec<&Metric> = landscape.columns().into_iter().filter(|metric| metric.k.is_some()).collect();
    let mut pictures = vec![line(landscape, &columns)];
    pictures.extend(landscape.around.iter().map(|around| of_model(around, &columns)));
    if landscape.around.len() > 1 {
        let of_safety = columns.iter().filter(|metric| metric.kind == MetricKind::Safety);
        pictures.extend(of_safety.map(|metric| compared(&landscape.around, metric)));
    }
    for plane in &landscape.planes {
        pictures.extend(columns.iter().map(|metric| map(plane, metric)));
    }
    pictures
}

fn line(landscape: &Landscape, columns: &[&Metric]) -> Picture {
    let points = &landscape.line.points;
    let mut series: Vec<Series> = Vec::new();
    for (metric, colour) in columns.iter().zip(colours(columns)) {
        // Bands of several curves would hide each other.
        let band = if metric.kind == MetricKind::Safety { band(points, metric) } else { Vec::new() };
        series.push(Series { band, ..Series::line(Some(title(metric)), curve(points, metric), colour) });
    }
    series.extend(broken(&[points]));
    let marks = vec![(0.0, "base".to_owned()), (1.0, "tuned".to_owned())];
    let title = format!("{}: from base to tuned", landscape.run.name);
    let x = "λ, the weight of the tuned model".to_owned();
    Chart { title, x, y: Axis::Percent, series, marks }.picture("line.svg".to_owned())
}

/// Each direction faint, their mean in front.
fn of_model(around: &Around, columns: &[&Metric]) -> Picture {
    let mut series = Vec::new();
    for (metric, colour) in columns.iter().zip(colours(columns)) {
        if around.directions.len() > 1 {
            let each = around.directions.iter().map(|way| curve(&way.points, metric));
            series.extend(each.map(|at| Series { is_faint: true, ..Series::line(None, at, colour) }));
        }
    }
    for (metric, colour) in columns.iter().zip(colours(columns)) {
        series.push(Series::line(Some(title(metric)), mean(around, metric), colour));
    }
    let ways: Vec<&[Point]> = around.directions.iter().map(|way| way.points.as_slice()).collect();
    series.extend(broken(&ways));
    let title = match around.directions.len() {
        1 => format!("Around {}, along a random direction", around.model),
        n => format!("Around {}, mean of {n} random directions", around.model),
    };
    let marks = vec![(0.0, around.model.clone())];
    let chart = Chart { title, x: ALPHA.to_owned(), y: Axis::Percent, series, marks };
    chart.picture(format!("around-{}.svg", file_name(&around.model)))
}

const ALPHA: &str = "α, in norms of each tensor";

/// One rate around several models.
fn compared(all: &[Around], metric: &Metric) -> Picture {
    let series = all
        .iter()
        .zip(Colour::each())
        .map(|(around, colour)| Series::line(Some(around.model.clone()), mean(around, metric), colour));
    let title = format!("{}, mean over random directions", title(metric));
    let (x, series) = (ALPHA.to_owned(), series.collect());
    let chart = Chart { title, x, y: Axis::Percent, series, marks: Vec::new() };
    chart.picture(format!("compared-{}.svg", file_name(&metric.suite)))
}

fn map(plane: &Plane, metric: &Metric) -> Picture {
    let Plane { model, axes, points } = plane;
    let mut sides = [0, 1].map(|side| points.iter().map(|point| point.at[side]).collect::<Vec<f64>>());
    for side in &mut sides {
        side.sort_by(f64::total_cmp);
        side.dedup();
    }
    let [x, y] = sides;
    let title = format!("{} around {model}", title(metric));
    let map = Map {
        title: title.clone(),
        labels: axes.map(Side::in_words),
        x,
        y,
        values: points.iter().map(|point| point.value(metric)).collect(),
    };
    let what = format!("{}-{}", metric.suite, metric.metric);
    let kind = if axes[0] == Side::Tuned { "across" } else { "plane" };
    let file = format!("{kind}-{}-{}.svg", file_name(model), file_name(&what));
    Picture { file, title, svg: map.svg(), dots: Vec::new() }
}

/// Attack success in red, over-refusal in orange, skills in the colours that remain.
fn colours(columns: &[&Metric]) -> Vec<Colour> {
    let mut others = Colour::each().filter(|colour| ![Colour::DANGER, Colour::WARNING].contains(colour));
    let mut seen = Vec::new();
    let mut colour = |kind: MetricKind| {
        let own = match kind {
            MetricKind::Safety => Some(Colour::DANGER),
            MetricKind::OverRefusal => Some(Colour::WARNING),
            MetricKind::Task | MetricKind::Degeneration => None,
        };
        let own = own.filter(|own| !seen.contains(own));
        seen.extend(own);
        own.or_else(|| others.next()).unwrap_or(Colour::NEUTRAL)
    };
    columns.iter().map(|metric| colour(metric.kind)).collect()
}

/// The points at which there is something to draw.
fn curve(points: &[Point], metric: &Metric) -> Vec<(f64, f64)> {
    points.iter().filter_map(|point| Some((point.at[0], point.value(metric)?))).collect()
}

/// The 95 % intervals.
fn band(points: &[Point], metric: &Metric) -> Vec<(f64, f64, f64)> {
    let of = |point: &Point| {
        let found = point.like(metric)?;
        Some((point.at[0], 100.0 * found.low?, 100.0 * found.high?))
    };
    points.iter().filter_map(of).collect()
}

/// The shares of broken answers over all suites and ways, those that there are.
fn broken(ways: &[&[Point]]) -> Vec<Series> {
    let series = BROKEN.iter().zip([Colour::NEUTRAL, Colour::DARK]).filter_map(|((names, name), colour)| {
        let share = |nth: usize| {
            let points = ways.iter().map(|way| &way[nth]);
            let some = points.flat_map(|point| &point.metrics).filter(|m| names.contains(&m.metric.as_str()));
            let (k, n) = some.fold((0, 0), |(k, n), metric| (k + metric.k.unwrap_or(0), n + metric.n));
            // Every answer is counted once for each way to be broken.
            100.0 * (k * names.len()) as f64 / n.max(1) as f64
        };
        let first = ways.first()?.iter().enumerate();
        let at: Vec<(f64, f64)> = first.map(|(nth, point)| (point.at[0], share(nth))).collect();
        let is_any = at.iter().any(|(_, share)| *share > 0.0);
        is_any.then(|| Series { is_dashed: true, ..Series::line(Some((*name).to_owned()), at, colour) })
    });
    series.collect()
}

/// The mean over directions, where all have something.
fn mean(around: &Around, metric: &Metric) -> Vec<(f64, f64)> {
    let Some(first) = around.directions.first() else { return Vec::new() };
    let at = |nth: usize| {
        let values: Option<Vec<f64>> =
            around.directions.iter().map(|way| way.points[nth].value(metric)).collect();
        let values = values?;
        Some((first.points[nth].at[0], values.iter().sum::<f64>() / values.len() as f64))
    };
    (0..first.points.len()).filter_map(at).collect()
}

/// A name as a file's that every system takes.
fn file_name(name: &str) -> String {
    name.replace([':', ',', '/', '\\', '='], "_")
}
