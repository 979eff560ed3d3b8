//! What became of merges: the update that rounding kept, and the same layer by layer.

use super::shown::shown;
use crate::merge::{LayerReport, MergeReport};
use crate::report::Report;
use crate::report::plot::{Axis, Bar, Bars, Chart, Colour, Group, Picture, Series, Spot};

/// The most merges with a bar of their own.
const MERGES: usize = 48;
/// Below this share kept a bar is a warning.
const LOST: f64 = 0.8;

/// The share of each merge's change of the base that rounding kept.
pub(super) fn kept(report: &Report) -> Option<Picture> {
    let group = |merge: &MergeReport| {
        let came_to = merge.effective_lambda.map(|lambda| format!(", effective λ {lambda:.3}"));
        let came_to = came_to.unwrap_or_default();
        let percent = 100.0 * merge.survived;
        let said = format!(
            "{}\nupdate kept after rounding: {percent:.1} %{came_to}\nparameters unchanged: {:.1} %",
            merge.merge,
            100.0 * merge.unchanged
        );
        let spot = Spot { candidate: merge.merge.clone(), said };
        let colour = if merge.survived < LOST { Colour::DANGER } else { Colour::CALM };
        let bar = Bar { percent, interval: None, colour, spot };
        Group { name: format!("{}{came_to}", merge.merge), bars: vec![bar] }
    };
    let groups: Vec<Group> = report.merge.iter().take(MERGES).map(group).collect();
    let title = format!("Update kept after rounding to {}", report.run.dtype);
    let bars = Bars { title, x: "% of the merge's own change".to_owned(), legend: Vec::new(), groups };
    (!bars.groups.is_empty()).then(|| bars.picture("rounding.svg".to_owned()))
}

/// The update of the tuned model layer by layer, and what rounding kept of it in merges.
pub(super) fn by_layer(report: &Report) -> Vec<Picture> {
    let with_layers: Vec<&MergeReport> = report.merge.iter().filter(|merge| merge.layers.len() > 1).collect();
    let at = |merge: &MergeReport, of: fn(&LayerReport) -> f64| {
        merge.layers.iter().map(|layer| (layer.layer as f64, 100.0 * of(layer))).collect::<Vec<_>>()
    };
    let Some(first) = with_layers.first() else { return Vec::new() };
    // Of one tuned model the way is one for all its merges.
    let one_way = with_layers.iter().all(|merge| merge.effective_lambda.is_some());
    let update = one_way.then(|| Chart {
        title: "Relative update ‖Δ‖/‖θ‖ by layer".to_owned(),
        x: "layer".to_owned(),
        y: Axis::FromZero("%".to_owned()),
        series: vec![Series::line(
            Some("tuned model less base".to_owned()),
            at(first, |layer| layer.relative_update),
            Colour::CALM,
        )],
        marks: Vec::new(),
    });
    let series = shown(report).into_iter().filter_map(|(candidate, colour)| {
        let merge = with_layers.iter().find(|merge| merge.merge == candidate.name)?;
        Some(Series::line(Some(merge.merge.clone()), at(merge, |layer| layer.survived), colour))
    });
    let series: Vec<Series> = series.collect();
    let kept = (!series.is_empty()).then(|| Chart {
        title: format!("Update kept after rounding to {} by layer", report.run.dtype),
        x: "layer".to_owned(),
        y: Axis::Percent,
        series,
        marks: Vec::new(),
    });
    let update = update.map(|chart| chart.picture("update-by-layer.svg".to_owned()));
    update.into_iter().chain(kept.map(|chart| chart.picture("rounding-by-layer.svg".to_owned()))).collect()
}
