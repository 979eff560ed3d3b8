//! An inspection layer by layer, as a picture.

use super::inspection::{Cosine, Found, Inspection, Refusals, Restored, Scaled};
use super::plot::{Axis, Chart, Colour, Series};

impl Inspection {
    /// The picture in SVG: percent over the layers, of several that were taken together over their middle.
    pub fn svg(&self) -> String {
        let (series, marks) = match &self.found {
            Found::Restored { rows } => (restored(rows), Vec::new()),
            Found::Scaled { unscaled, factors, rows } => (scaled(unscaled, factors, rows), Vec::new()),
            Found::Cosines { range, rows, .. } => {
                let marks = range.iter().flat_map(|[from, to]| {
                    [(*from as f64, "gap opens".to_owned()), (*to as f64, "grows to here".to_owned())]
                });
                (cosines(rows), marks.collect())
            }
        };
        let title = format!("{} ({}) by {}", self.of, self.model, self.probe);
        Chart { title, x: "layer".to_owned(), y: Axis::Percent, series, marks }.svg()
    }
}

/// Where on the axis layers written `3` or `4-7` stand.
fn middle(layers: &str) -> Option<f64> {
    let (from, to) = layers.split_once('-').unwrap_or((layers, layers));
    Some(f64::midpoint(from.parse().ok()?, to.parse().ok()?))
}

/// Refusals in percent with their intervals, over the layers.
fn refused<'a>(name: String, colour: Colour, rows: impl Iterator<Item = (f64, &'a Refusals)>) -> Series {
    let rows: Vec<(f64, &Refusals)> = rows.collect();
    let at = rows.iter().map(|(x, found)| (*x, 100.0 * found.rate)).collect();
    let band = rows.iter().map(|(x, found)| (*x, 100.0 * found.low, 100.0 * found.high)).collect();
    Series { band, ..Series::line(Some(name), at, colour) }
}

/// One rate for all layers between the first and the last.
fn level(name: String, colour: Colour, percent: f64, over: &Series) -> Series {
    let ends = over.at.first().into_iter().chain(over.at.last());
    let at = ends.map(|(x, _)| (*x, percent)).collect();
    Series { is_dashed: true, ..Series::line(Some(name), at, colour) }
}

fn restored(rows: &[Restored]) -> Vec<Series> {
    let layers = rows.iter().filter_map(|row| Some((middle(row.layers.as_deref()?)?, &row.refusals)));
    let put_back = refused("refused, this layer restored".to_owned(), Colour::DANGER, layers);
    let whole = rows.iter().filter(|row| row.layers.is_none()).zip([Colour::DARK, Colour::NEUTRAL]);
    let whole = whole.map(|(row, colour)| {
        level(format!("refused by {}", row.name), colour, 100.0 * row.refusals.rate, &put_back)
    });
    let mut series: Vec<Series> = whole.collect();
    series.push(put_back);
    series
}

fn scaled(unscaled: &Refusals, factors: &[f64], rows: &[Scaled]) -> Vec<Series> {
    let by_factor = factors.iter().zip(Colour::each()).enumerate().map(|(nth, (factor, colour))| {
        let layers = rows.iter().filter_map(|row| Some((middle(&row.layers)?, row.refusals.get(nth)?)));
        refused(format!("refused, this layer × {factor}"), colour, layers)
    });
    let by_factor: Vec<Series> = by_factor.collect();
    let as_it_is = by_factor
        .first()
        .map(|over| level("refused as it is".to_owned(), Colour::DARK, 100.0 * unscaled.rate, over));
    as_it_is.into_iter().chain(by_factor).collect()
}

/// One number of a layer.
type Reading = fn(&Cosine) -> f64;

fn cosines(rows: &[Cosine]) -> Vec<Series> {
    let of: [(&str, Reading); 4] = [
        ("cosine of normal pairs, × 100", |row| row.normal),
        ("of malicious pairs", |row| row.malicious),
        ("of a normal and a malicious prompt", |row| row.across),
        ("gap, normal − across", |row| row.gap),
    ];
    let series = of.into_iter().zip(Colour::each()).map(|((name, value), colour)| {
        let at = rows.iter().map(|row| (row.layer as f64, 100.0 * value(row))).collect();
        Series { is_dashed: name.starts_with("gap"), ..Series::line(Some(name.to_owned()), at, colour) }
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(found: Found) -> String {
        let (of, suites, notes) = ("runs/<a>".to_owned(), Vec::new(), Vec::new());
        Inspection { schema: 1, probe: "x", of, model: "base", suites, judge: None, notes, found }.svg()
    }

    #[test]
    fn every_probe_has_a_curve_for_each_of_its_numbers() {
        let row = |name: &str, layers: Option<&str>, refused| Restored {
            name: name.to_owned(),
            layers: layers.map(str::to_owned),
            refusals: Refusals::of(refused, 50),
        };
        let rows = vec![
            row("base", None, 47),
            row("tuned", None, 1),
            row("m", Some("0"), 24),
            row("m", Some("1-3"), 3),
        ];
        let picture = svg(Found::Restored { rows });
        for name in ["refused by base", "refused by tuned", "this layer restored", "runs/&lt;a&gt;"] {
            assert!(picture.contains(name), "{name}: {picture}");
        }
        assert_eq!(picture.matches("<polygon").count(), 1);
        assert_eq!([middle("4-7"), middle("3"), middle("x")], [Some(5.5), Some(3.0), None]);

        let of = |layers: &str| Scaled {
            layers: layers.to_owned(),
            refusals: vec![Refusals::of(1, 9), Refusals::of(2, 9)],
            kappa: None,
        };
        let rows = vec![of("0"), of("1")];
        let picture = svg(Found::Scaled { unscaled: Refusals::of(3, 9), factors: vec![1.1, 0.9], rows });
        assert!(picture.contains("× 1.1") && picture.contains("× 0.9") && picture.contains("as it is"));
        assert_eq!(picture.matches("<polygon").count(), 2);

        let row = |layer, gap| Cosine { layer, normal: 0.5, malicious: 0.4, across: 0.5 - gap, gap };
        let rows = vec![row(0, -0.2), row(1, 0.1), row(2, 0.3)];
        let found = Found::Cosines { onset: Some(1), range: Some([1, 2]), threshold: 0.05, pairs: 9, rows };
        let picture = svg(found);
        assert!(
            picture.contains("gap opens") && picture.contains("grows to here") && picture.contains("−20"),
            "{picture}"
        );
        // One curve for each number, the gap's in dashes.
        assert!(picture.matches("<polyline").count() >= 4, "{picture}");
    }
}
