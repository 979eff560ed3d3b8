//! Skill against safety, candidate by candidate: who is better in both?

use std::collections::BTreeMap;

use super::plot::{Axis, Chart, Colour, Dot, Scatter, Series, Spot, Track};
use super::table::{is_likelihood, is_rate};

/// What is measured of candidates.
#[derive(Clone)]
pub(super) struct Quantity {
    pub name: String,
    /// A share of one, shown in percent; else a number as it is.
    pub is_share: bool,
}

impl Quantity {
    pub fn of(suite: &str, metric: &str) -> Self {
        Self { name: format!("{suite} {}", metric.replace('_', " ")), is_share: is_rate(metric) }
    }

    /// Whether pictures show such a metric: shares, and how likely right answers are.
    pub fn is_drawn(metric: &str) -> bool {
        is_rate(metric) || is_likelihood(metric)
    }

    /// The number in a picture.
    fn shown(&self, x: f64) -> f64 {
        if self.is_share { 100.0 * x } else { x }
    }

    /// What stands at its axis.
    pub fn label(&self) -> String {
        if self.is_share { format!("{}, %", self.name) } else { self.name.clone() }
    }

    fn told(&self, x: f64, interval: Option<(f64, f64)>) -> String {
        if self.is_share {
            return told(&self.name, x, interval);
        }
        let ends = interval.map(|(low, high)| format!(" [{low:.3}, {high:.3}]"));
        format!("{}: {x:.3}{}", self.name, ends.unwrap_or_default())
    }
}

/// A candidate and two numbers of it, with the ends of their intervals.
pub(super) struct Point {
    pub candidate: String,
    /// Of merges; base, tuned model and others have none.
    pub method: Option<String>,
    pub lambda: Option<f64>,
    pub values: [f64; 2],
    pub intervals: [Option<(f64, f64)>; 2],
}

impl Point {
    /// What a merge is but for its λ: dots of the same are joined.
    fn family(&self) -> String {
        match (&self.method, self.lambda) {
            (Some(method), Some(lambda)) => {
                // `ties:0.5,density=0.3` is another line than `ties:0.5`.
                let rest = self.candidate.strip_prefix(&format!("{method}:{lambda}"));
                format!("{method}{}", rest.unwrap_or_default())
            }
            (Some(method), None) => method.clone(),
            (None, _) => self.candidate.clone(),
        }
    }

    fn label(&self) -> String {
        match (&self.method, self.lambda) {
            (Some(_), Some(lambda)) => lambda.to_string(),
            (Some(method), None) => {
                let rest = self.candidate.strip_prefix(method.as_str()).unwrap_or(&self.candidate);
                rest.trim_start_matches([',', ':']).replace(',', " ")
            }
            (None, _) => self.candidate.clone(),
        }
    }

    fn dot(&self, both: &[Quantity; 2]) -> Dot {
        let shown = |side: usize, x: f64| both[side].shown(x);
        let ends =
            |side: usize| self.intervals[side].map(|(low, high)| (shown(side, low), shown(side, high)));
        let (at, intervals) = ([0, 1].map(|side| shown(side, self.values[side])), [0, 1].map(ends));
        let said = [0, 1].map(|side| both[side].told(self.values[side], self.intervals[side]));
        let said = format!("{}\n{}", self.candidate, said.join("\n"));
        let spot = Spot { candidate: self.candidate.clone(), said };
        Dot { at, intervals, label: self.label(), spot }
    }
}

/// A share under its name, with its interval: `refusal rate: 60.0 % [51.2, 68.0]`.
pub(super) fn told(name: &str, share: f64, interval: Option<(f64, f64)>) -> String {
    let ends = interval.map(|(low, high)| format!(" [{:.1}, {:.1}]", 100.0 * low, 100.0 * high));
    format!("{name}: {:.1} %{}", 100.0 * share, ends.unwrap_or_default())
}

/// The colours of base and tuned model.
const MODELS: [Colour; 2] = [Colour::DARK, Colour::NEUTRAL];

/// By family, its colour, the same in all pictures of these points; models that are neither merges nor base and tuned model have
/// what the methods leave.
fn colours(points: &[Point]) -> BTreeMap<String, Colour> {
    let (mut known, mut free, mut greys) = (BTreeMap::new(), Colour::each(), MODELS.into_iter());
    let (merges, models): (Vec<&Point>, Vec<&Point>) =
        points.iter().partition(|point| point.method.is_some());
    for point in merges.into_iter().chain(models) {
        known.entry(point.family()).or_insert_with(|| {
            let grey = if point.method.is_none() { greys.next() } else { None };
            grey.or_else(|| free.next()).unwrap_or(Colour::NEUTRAL)
        });
    }
    known
}

/// The first of both to the right, the second up.
pub(super) fn scatter(title: String, both: &[Quantity; 2], points: &[Point]) -> Scatter {
    let colours = colours(points);
    let mut tracks: Vec<Track> = Vec::new();
    for point in points {
        let (name, dot) = (point.family(), point.dot(both));
        match tracks.iter_mut().find(|track| track.name == name) {
            Some(track) => track.dots.push(dot),
            None => {
                let colour = colours[&name];
                tracks.push(Track { name, dots: vec![dot], colour, is_joined: point.lambda.is_some() });
            }
        }
    }
    let is_share = [0, 1].map(|side| both[side].is_share);
    Scatter { title, labels: [0, 1].map(|side| both[side].label()), is_share, tracks }
}

/// The second number of each method along λ, with the models that are no merges as level lines; none where no method has
/// two λ.
pub(super) fn along(quantity: &Quantity, title: String, points: &[Point]) -> Option<Chart> {
    let mut curves: Vec<(String, Colour, Vec<&Point>)> = Vec::new();
    let colours = colours(points);
    for point in points.iter().filter(|point| point.method.is_some()) {
        let name = point.family();
        match curves.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., own)) => own.push(point),
            None => {
                let colour = colours[&name];
                curves.push((name, colour, vec![point]));
            }
        }
    }
    curves.retain(|(.., own)| own.len() > 1 && own.iter().all(|point| point.lambda.is_some()));
    let lambdas = curves.iter().flat_map(|(.., own)| own.iter().filter_map(|point| point.lambda));
    let (from, to) = lambdas.fold((f64::MAX, f64::MIN), |(from, to), x| (from.min(x), to.max(x)));
    if from >= to {
        return None;
    }
    let models = points.iter().filter(|point| point.method.is_none());
    let mut series: Vec<Series> = models
        .map(|point| {
            let (level, colour) = (quantity.shown(point.values[1]), colours[&point.family()]);
            let line = Series::line(Some(point.candidate.clone()), vec![(from, level), (to, level)], colour);
            Series { is_dashed: true, ..line }
        })
        .collect();
    for (family, colour, mut own) in curves {
        own.sort_by(|a, b| a.lambda.unwrap_or_default().total_cmp(&b.lambda.unwrap_or_default()));
        let x = |point: &Point| point.lambda.unwrap_or_default();
        let at = own.iter().map(|point| (x(point), quantity.shown(point.values[1]))).collect();
        let band = own.iter().filter_map(|point| {
            let (low, high) = point.intervals[1]?;
            Some((x(point), quantity.shown(low), quantity.shown(high)))
        });
        let band = band.collect();
        let spots = own.iter().map(|point| Spot {
            candidate: point.candidate.clone(),
            said: format!("{}\n{}", point.candidate, quantity.told(point.values[1], point.intervals[1])),
        });
        let spots = spots.collect();
        series.push(Series { band, spots, ..Series::line(Some(family), at, colour) });
    }
    let x = "λ, the weight of the tuned model".to_owned();
    let y = if quantity.is_share { Axis::Percent } else { Axis::Fitted(quantity.name.clone()) };
    Some(Chart { title, x, y, series, marks: Vec::new() })
}

/// A name as a file's that every system takes.
pub(super) fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(candidate: &str, method: Option<&str>, lambda: Option<f64>, values: [f64; 2]) -> Point {
        let (candidate, method) = (candidate.to_owned(), method.map(str::to_owned));
        Point { candidate, method, lambda, values, intervals: [None, Some((0.0, 1.0))] }
    }

    fn points() -> Vec<Point> {
        vec![
            point("base", None, None, [0.1, 0.0]),
            point("linear:0.6", Some("linear"), Some(0.6), [0.6, 0.5]),
            point("linear:0.2", Some("linear"), Some(0.2), [0.3, 0.1]),
            point("ties:0.5,density=0.3", Some("ties"), Some(0.5), [0.4, 0.4]),
            point("select,lowest=3", Some("select"), None, [0.4, 0.4]),
        ]
    }

    fn share(name: &str) -> Quantity {
        Quantity { name: name.to_owned(), is_share: true }
    }

    #[test]
    fn dots_of_a_method_are_joined_and_each_says_what_it_is() {
        let scatter = scatter("t".to_owned(), &[share("x"), share("y")], &points());
        let names: Vec<&str> = scatter.tracks.iter().map(|track| track.name.as_str()).collect();
        assert_eq!(names, ["base", "linear", "ties,density=0.3", "select"]);
        assert_eq!(scatter.tracks[1].dots.len(), 2);
        assert_eq!(scatter.tracks[3].dots[0].label, "lowest=3");
        let svg = scatter.svg();
        assert_eq!(svg.matches("<title>").count(), 5);
        assert!(svg.contains("<title>linear:0.6\nx: 60.0 %\ny: 50.0 % [0.0, 100.0]</title>"), "{svg}");
        assert_eq!(scatter.labels, ["x, %", "y, %"]);
    }

    #[test]
    fn a_curve_needs_two_lambdas_and_rises_with_them() {
        let chart = along(&share("y"), "t".to_owned(), &points()).unwrap();
        let names: Vec<&str> = chart.series.iter().filter_map(|series| series.name.as_deref()).collect();
        assert_eq!(names, ["base", "linear"]);
        assert_eq!(chart.series[1].at, [(0.2, 10.0), (0.6, 50.0)]);
        assert_eq!(chart.series[1].band, [(0.2, 0.0, 100.0), (0.6, 0.0, 100.0)]);
        assert_eq!(chart.series[1].spots[0].said, "linear:0.2\ny: 10.0 % [0.0, 100.0]");
        assert!(chart.series[0].spots.is_empty(), "a level line is no measured place");
        assert!(along(&share("y"), "t".to_owned(), &points()[..2]).is_none());
    }
    #[test]
    fn numbers_that_are_no_shares_stay_what_they_are() {
        let likelihood = Quantity::of("alpaca", "log_likelihood_per_token");
        let points: Vec<Point> = points()
            .into_iter()
            .map(|point| Point { values: [-1.5, -1.5 - point.values[1]], ..point })
            .collect();
        let scatter = scatter("t".to_owned(), &[likelihood.clone(), share("y")], &points);
        assert_eq!(scatter.labels, ["alpaca log likelihood per token", "y, %"]);
        assert_eq!(scatter.tracks[0].dots[0].at, [-1.5, -150.0]);
        assert!(scatter.svg().contains("alpaca log likelihood per token: -1.500\n"));
        let chart = along(&likelihood, "t".to_owned(), &points).unwrap();
        assert_eq!(chart.series[1].at, [(0.2, -1.6), (0.6, -2.0)]);
        assert!(matches!(chart.y, Axis::Fitted(_)));
    }
}
