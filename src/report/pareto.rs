//! Skill against safety, candidate by candidate: who is better in both?

use std::collections::BTreeMap;

use super::plot::{Axis, Chart, Colour, Dot, Scatter, Series, Spot, Track};

/// A candidate and two shares of one, with the ends of their intervals.
pub(super) struct Point {
    pub candidate: String,
    /// Of merges; base, tuned model and others have none.
    pub method: Option<String>,
    pub lambda: Option<f64>,
    pub shares: [f64; 2],
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

    fn dot(&self, names: &[String; 2]) -> Dot {
        let intervals = self.intervals.map(|ends| ends.map(|(low, high)| (100.0 * low, 100.0 * high)));
        let at = self.shares.map(|share| 100.0 * share);
        let said = [0, 1].map(|side| told(&names[side], self.shares[side], self.intervals[side]));
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

/// The first share to the right, the second up, each with its name.
pub(super) fn scatter(title: String, names: [String; 2], points: &[Point]) -> Scatter {
    let colours = colours(points);
    let mut tracks: Vec<Track> = Vec::new();
    for point in points {
        let (name, dot) = (point.family(), point.dot(&names));
        match tracks.iter_mut().find(|track| track.name == name) {
            Some(track) => track.dots.push(dot),
            None => {
                let colour = colours[&name];
                tracks.push(Track { name, dots: vec![dot], colour, is_joined: point.lambda.is_some() });
            }
        }
    }
    let labels = names.map(|name| format!("{name}, %"));
    Scatter { title, labels, tracks }
}

/// The second share, of this name, of each method along λ, with the models that are no merges as level lines; none where
/// no method has two λ.
pub(super) fn along(name: &str, title: String, points: &[Point]) -> Option<Chart> {
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
            let (level, colour) = (100.0 * point.shares[1], colours[&point.family()]);
            let line = Series::line(Some(point.candidate.clone()), vec![(from, level), (to, level)], colour);
            Series { is_dashed: true, ..line }
        })
        .collect();
    for (family, colour, mut own) in curves {
        own.sort_by(|a, b| a.lambda.unwrap_or_default().total_cmp(&b.lambda.unwrap_or_default()));
        let x = |point: &Point| point.lambda.unwrap_or_default();
        let at = own.iter().map(|point| (x(point), 100.0 * point.shares[1])).collect();
        let band = own.iter().filter_map(|point| {
            let (low, high) = point.intervals[1]?;
            Some((x(point), 100.0 * low, 100.0 * high))
        });
        let band = band.collect();
        let spots = own.iter().map(|point| Spot {
            candidate: point.candidate.clone(),
            said: format!("{}\n{}", point.candidate, told(name, point.shares[1], point.intervals[1])),
        });
        let spots = spots.collect();
        series.push(Series { band, spots, ..Series::line(Some(family), at, colour) });
    }
    let x = "λ, the weight of the tuned model".to_owned();
    Some(Chart { title, x, y: Axis::Percent, series, marks: Vec::new() })
}

/// A name as a file's that every system takes.
pub(super) fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(candidate: &str, method: Option<&str>, lambda: Option<f64>, shares: [f64; 2]) -> Point {
        let (candidate, method) = (candidate.to_owned(), method.map(str::to_owned));
        Point { candidate, method, lambda, shares, intervals: [None, Some((0.0, 1.0))] }
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

    #[test]
    fn dots_of_a_method_are_joined_and_each_says_what_it_is() {
        let scatter = scatter("t".to_owned(), ["x".to_owned(), "y".to_owned()], &points());
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
        let chart = along("y", "t".to_owned(), &points()).unwrap();
        let names: Vec<&str> = chart.series.iter().filter_map(|series| series.name.as_deref()).collect();
        assert_eq!(names, ["base", "linear"]);
        assert_eq!(chart.series[1].at, [(0.2, 10.0), (0.6, 50.0)]);
        assert_eq!(chart.series[1].band, [(0.2, 0.0, 100.0), (0.6, 0.0, 100.0)]);
        assert_eq!(chart.series[1].spots[0].said, "linear:0.2\ny: 10.0 % [0.0, 100.0]");
        assert!(chart.series[0].spots.is_empty(), "a level line is no measured place");
        assert!(along("y", "t".to_owned(), &points()[..2]).is_none());
    }
}
