//! `landscape.csv`: a row for each point and metric.

use serde_json::json;

use super::{Landscape, Point};

const HEADER: [&str; 17] = [
    "part",
    "model",
    "direction",
    "x",
    "y",
    "candidate",
    "suite",
    "metric",
    "kind",
    "judge",
    "denominator",
    "value",
    "k",
    "n",
    "unscored",
    "low",
    "high",
];

/// Every number of every point, with a header; what is absent is empty. `part` is `line` (`x` is λ), `direction` (`x` is
/// α) or `plane` (`x` and `y` are the α of its two directions).
pub fn csv(landscape: &Landscape) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).expect("writing to memory cannot fail");
    let mut put = |part: &str, model: &str, direction: Option<usize>, point: &Point| {
        let text = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
        let count = |n: Option<usize>| n.map(|n| n.to_string()).unwrap_or_default();
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        for metric in &point.metrics {
            let row = [
                part.to_owned(),
                model.to_owned(),
                count(direction),
                text(point.at.first().copied()),
                text(point.at.get(1).copied()),
                point.candidate.clone(),
                metric.suite.clone(),
                metric.metric.clone(),
                word(json!(metric.kind)),
                metric.judge.clone().unwrap_or_default(),
                word(json!(metric.denominator)),
                text(metric.value),
                count(metric.k),
                metric.n.to_string(),
                metric.unscored.to_string(),
                text(metric.low),
                text(metric.high),
            ];
            writer.write_record(row).expect("writing to memory cannot fail");
        }
    };
    for point in &landscape.line.points {
        put("line", "base", None, point);
    }
    for around in &landscape.around {
        for way in &around.directions {
            for point in &way.points {
                put("direction", &around.model, Some(way.direction), point);
            }
        }
    }
    for plane in &landscape.planes {
        for point in &plane.points {
            put("plane", &plane.model, None, point);
        }
    }
    writer.into_inner().expect("writing to memory cannot fail")
}
