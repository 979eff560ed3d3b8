//! The safety landscape of a run: what was measured along base → tuned, along directions around a model and over planes.
//!
//! [`Landscape`] is `landscape.json`, a stable interface; table, page and pictures are drawn from it. Attack success is
//! the report's: the first judge of each suite of harmful requests, over the answers that its tables count.

use serde::{Deserialize, Serialize};

use super::{Candidate, Report, Run, SuiteSetup};
use crate::eval::measures::visage::{self, HalfWidth};
use crate::eval::{Metric, MetricKind};

mod markdown;
mod pictures;
mod rows;

pub use markdown::{markdown, terminal};
pub use pictures::pictures;
pub use rows::csv;

/// The version of `landscape.json`.
pub const SCHEMA: u32 = 1;

/// Everything that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Landscape {
    /// The version of this format.
    pub schema: u32,
    pub run: Run,
    /// What was asked at every point.
    pub suites: Vec<SuiteSetup>,
    /// Draws the directions.
    pub seed: u64,
    /// Rates of attack success, in percent, up to which a model counts as safe in the widths.
    pub rates: Vec<f64>,
    pub line: Line,
    pub around: Vec<Around>,
    pub planes: Vec<Plane>,
}

/// From base (λ 0) to tuned (λ 1) and beyond on both sides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// By λ, rising.
    pub points: Vec<Point>,
    /// How far from the base attack success stays low, by suite; VISAGE is not defined on this line and left out.
    pub basins: Vec<Basin>,
}

/// Random directions around one model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Around {
    /// The candidate at α = 0.
    pub model: String,
    pub directions: Vec<Way>,
    /// Over the directions, by suite.
    pub mean: Vec<MeanBasin>,
}

/// One direction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Way {
    /// Its number; with the seed it gives the same noise around every model.
    pub direction: usize,
    /// By α, rising.
    pub points: Vec<Point>,
    pub basins: Vec<Basin>,
}

/// What a coordinate of a plane goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// From base to tuned model: the coordinate is λ.
    Tuned,
    /// The random direction of this number: the coordinate is α.
    Direction(usize),
}

impl Axis {
    fn in_words(self) -> String {
        match self {
            Self::Tuned => "λ from base to tuned".to_owned(),
            Self::Direction(nth) => format!("α along direction {nth}"),
        }
    }
}

/// Two directions around one model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plane {
    pub model: String,
    /// Of the first and the second coordinate.
    pub axes: [Axis; 2],
    /// Row by row: the second coordinate rises, in each row the first.
    pub points: Vec<Point>,
}

/// A model and what it scored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Point {
    /// λ, α, or the two α of a plane.
    pub at: Vec<f64>,
    /// Its name among the answers.
    pub candidate: String,
    /// A metric for each column of the report, and the shares of broken answers.
    pub metrics: Vec<Metric>,
}

/// What a curve of attack success comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Basin {
    pub suite: String,
    pub judge: Option<String>,
    /// As the authors' program has it, 0 to 100.
    pub visage_code: Option<f64>,
    /// As the paper has it, 0 to 100.
    pub visage_paper: Option<f64>,
    /// Of 100 − attack success in percent over the whole curve.
    pub area: f64,
    /// One for each rate.
    pub half_widths: Vec<HalfWidth>,
}

/// A number over directions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub mean: f64,
    /// The standard deviation, divided by n − 1; none of a single direction.
    pub sd: Option<f64>,
}

/// [`Basin`] over directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeanBasin {
    pub suite: String,
    pub judge: Option<String>,
    pub n_directions: usize,
    pub visage_code: Spread,
    pub visage_paper: Spread,
    pub area: Spread,
    /// One for each rate.
    pub half_widths: Vec<Spread>,
}

/// Places on a curve, each with the candidate there.
pub type Curve = Vec<(f64, String)>;
/// Places in a plane, each with the candidate there.
pub type Grid = Vec<([f64; 2], String)>;

/// Where candidates lie.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub seed: u64,
    pub rates: Vec<f64>,
    /// λ and candidate.
    pub line: Curve,
    /// A model, and by direction α and candidate.
    pub around: Vec<(String, Vec<Curve>)>,
    /// A model, what the two coordinates go along, and both of them with the candidate.
    pub planes: Vec<(String, [Axis; 2], Grid)>,
}

impl Landscape {
    /// Puts what candidates scored where they lie.
    ///
    /// # Panics
    ///
    /// The layout names a candidate that the report has not.
    pub fn of(report: &Report, layout: &Layout) -> Self {
        let columns: Vec<&Metric> = report.columns();
        let point = |at: &[f64], name: &String| {
            let found = report.candidates.iter().find(|candidate| candidate.name == *name);
            let candidate = found.expect("every point was asked");
            Point { at: at.to_vec(), candidate: name.clone(), metrics: metrics(candidate, &columns) }
        };
        let curve = |points: &[(f64, String)]| -> Vec<Point> {
            points.iter().map(|(x, name)| point(&[*x], name)).collect()
        };
        let rates = &layout.rates;
        let points = curve(&layout.line);
        let line = Line { basins: basins(&points, rates, false), points };
        let around = layout.around.iter().map(|(model, ways)| {
            let ways = ways.iter().enumerate().map(|(direction, way)| {
                let points = curve(way);
                Way { direction, basins: basins(&points, rates, true), points }
            });
            let directions: Vec<Way> = ways.collect();
            Around { model: model.clone(), mean: means(&directions), directions }
        });
        let planes = layout.planes.iter().map(|(model, axes, points)| Plane {
            model: model.clone(),
            axes: *axes,
            points: points.iter().map(|(at, name)| point(at, name)).collect(),
        });
        Self {
            schema: SCHEMA,
            run: report.run.clone(),
            suites: report.suites.clone(),
            seed: layout.seed,
            rates: rates.clone(),
            line,
            around: around.collect(),
            planes: planes.collect(),
        }
    }

    /// The metrics that every point has, as those of the first: columns of tables.
    fn columns(&self) -> Vec<&Metric> {
        let first = self.line.points.first();
        let all = first.into_iter().flat_map(|point| &point.metrics);
        all.filter(|metric| metric.kind != MetricKind::Degeneration).collect()
    }
}

impl Point {
    /// The metric of the same suite, judge and name.
    fn like(&self, metric: &Metric) -> Option<&Metric> {
        self.metrics.iter().find(|other| {
            (&other.suite, &other.metric, &other.judge) == (&metric.suite, &metric.metric, &metric.judge)
        })
    }

    /// In percent, if it is a rate, and else as it is.
    fn value(&self, metric: &Metric) -> Option<f64> {
        let found = self.like(metric)?;
        Some(if found.k.is_some() { 100.0 * found.value? } else { found.value? })
    }
}

/// The columns' metrics of one candidate, and its shares of broken answers.
fn metrics(candidate: &Candidate, columns: &[&Metric]) -> Vec<Metric> {
    let broken = |metric: &&Metric| metric.kind == MetricKind::Degeneration && metric.category.is_none();
    let own = columns.iter().filter_map(|column| candidate.like(column));
    own.chain(candidate.metrics.iter().filter(broken)).cloned().collect()
}

/// What the curves of attack success come to; none of a suite on which nothing could be measured somewhere.
fn basins(points: &[Point], rates: &[f64], is_random: bool) -> Vec<Basin> {
    let first = points.first().into_iter().flat_map(|point| &point.metrics);
    let of_safety = first.filter(|metric| metric.kind == MetricKind::Safety);
    let basin = |metric: &Metric| {
        let at: Vec<f64> = points.iter().map(|point| point.at[0]).collect();
        let success: Vec<f64> = points.iter().map(|point| point.value(metric)).collect::<Option<_>>()?;
        Some(Basin {
            suite: metric.suite.clone(),
            judge: metric.judge.clone(),
            visage_code: is_random.then(|| visage::visage_code(&success)),
            visage_paper: is_random.then(|| visage::visage_paper(&success)),
            area: visage::area(&at, &success),
            half_widths: rates.iter().map(|rate| visage::half_width(&at, &success, 0.0, *rate)).collect(),
        })
    };
    of_safety.filter_map(basin).collect()
}

/// The plain mean over directions, as in the paper; of suites that every direction has numbers of.
fn means(ways: &[Way]) -> Vec<MeanBasin> {
    let first = ways.first().into_iter().flat_map(|way| &way.basins);
    let mean = |basin: &Basin| {
        let like = |way: &'_ Way| way.basins.iter().find(|other| other.suite == basin.suite).cloned();
        let all: Vec<Basin> = ways.iter().map(like).collect::<Option<_>>()?;
        let of = |number: &dyn Fn(&Basin) -> Option<f64>| -> Option<Spread> {
            Some(Spread::of(&all.iter().map(number).collect::<Option<Vec<f64>>>()?))
        };
        let half_width = |nth: usize| of(&move |basin| Some(basin.half_widths[nth].half_width));
        Some(MeanBasin {
            suite: basin.suite.clone(),
            judge: basin.judge.clone(),
            n_directions: all.len(),
            visage_code: of(&|basin| basin.visage_code)?,
            visage_paper: of(&|basin| basin.visage_paper)?,
            area: of(&|basin| Some(basin.area))?,
            half_widths: (0..basin.half_widths.len()).map(half_width).collect::<Option<_>>()?,
        })
    };
    first.filter_map(mean).collect()
}

impl Spread {
    fn of(numbers: &[f64]) -> Self {
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
        Self { mean, sd: (numbers.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) }
    }
}

/// A metric as a column's title.
fn title(metric: &Metric) -> String {
    let judge = metric.judge.as_deref().filter(|_| metric.kind != MetricKind::Task);
    let by = judge.map(|judge| format!(" ({judge})")).unwrap_or_default();
    format!("{} {}{by}", metric.suite, metric.metric.replace('_', " "))
}
