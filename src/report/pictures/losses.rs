//! The loss of a training, step by step.

use crate::report::plot::{Axis, Chart, Colour, Picture, Series};

/// What a training noted: steps and losses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Losses {
    pub training: Vec<(usize, f64)>,
    pub validation: Vec<(usize, f64)>,
}

/// The most places of a curve: more than a picture has pixels.
const PLACES: usize = 500;
/// A smoothed curve is the mean over this part of all steps.
const PART: usize = 25;

impl Losses {
    /// What stands in the columns `step`, `loss` and `validation_loss` of a `metrics.csv`; nothing where there are none.
    pub fn of_csv(text: &str) -> Self {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let mut losses = Self::default();
        let Ok(header) = reader.headers().cloned() else { return losses };
        let column = |name: &str| header.iter().position(|own| own == name);
        let Some(step) = column("step") else { return losses };
        let (loss, validation) = (column("loss"), column("validation_loss"));
        for record in reader.records().flatten() {
            let number = |column: Option<usize>| {
                record.get(column?)?.parse::<f64>().ok().filter(|loss| loss.is_finite())
            };
            let Some(step) = record.get(step).and_then(|step| step.parse().ok()) else { continue };
            losses.training.extend(number(loss).map(|loss| (step, loss)));
            losses.validation.extend(number(validation).map(|loss| (step, loss)));
        }
        losses
    }

    /// The picture; none of fewer than two steps.
    pub(super) fn picture(&self) -> Option<Picture> {
        if self.training.len() < 2 {
            return None;
        }
        let window = (self.training.len() / PART).max(1);
        let plain =
            |at: &[(usize, f64)]| at.iter().map(|(step, loss)| (*step as f64, *loss)).collect::<Vec<_>>();
        let each = thinned(&plain(&self.training));
        let mut series = vec![Series {
            is_faint: window > 1,
            ..Series::line(Some("training".to_owned()), each, Colour::CALM)
        }];
        if window > 1 {
            let name = format!("training, mean of the last {window} steps");
            let smooth = thinned(&smoothed(&plain(&self.training), window));
            series.push(Series::line(Some(name), smooth, Colour::CALM));
        }
        if !self.validation.is_empty() {
            let mut at = plain(&self.validation);
            // One look alone would be no line.
            if let ([only], Some((first, _))) = (at.as_slice(), self.training.first()) {
                at = vec![(*first as f64, only.1), *only];
            }
            let is_dashed = self.validation.len() == 1;
            let line = Series::line(Some("validation".to_owned()), thinned(&at), Colour::DANGER);
            series.push(Series { is_dashed, ..line });
        }
        let (x, y) = ("optimizer step".to_owned(), Axis::Fitted("loss, nats per token".to_owned()));
        let chart = Chart { title: "Loss".to_owned(), x, y, series, marks: Vec::new() };
        Some(chart.picture("loss.svg".to_owned()))
    }
}

/// The mean of each place and those before it.
fn smoothed(at: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let mean = |nth: usize| {
        let own = &at[(nth + 1).saturating_sub(window)..=nth];
        (at[nth].0, own.iter().map(|(_, y)| y).sum::<f64>() / own.len() as f64)
    };
    (0..at.len()).map(mean).collect()
}

/// Neighbours taken together where there are too many.
fn thinned(at: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |own: &[(f64, f64)]| {
        let n = own.len() as f64;
        (own.iter().map(|(x, _)| x).sum::<f64>() / n, own.iter().map(|(_, y)| y).sum::<f64>() / n)
    };
    at.chunks(at.len().div_ceil(PLACES).max(1)).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str =
        "step,epoch,loss,validation_loss,tokens\n1,0.1,2.5,,7\n2,0.2,1.5,,7\n2,,,1.75,\n3,0.3,NaN,,7\n";

    #[test]
    fn the_log_of_a_training_is_read_by_its_columns() {
        let losses = Losses::of_csv(CSV);
        assert_eq!(losses.training, [(1, 2.5), (2, 1.5)], "what is no number is left out");
        assert_eq!(losses.validation, [(2, 1.75)]);
        assert_eq!(Losses::of_csv(""), Losses::default());
        assert_eq!(Losses::of_csv("a,b\n1,2\n"), Losses::default());
        assert!(Losses::default().picture().is_none());
        let svg = losses.picture().unwrap().svg;
        assert!(svg.contains("validation") && !svg.contains("mean of the last"), "{svg}");
    }

    #[test]
    fn a_long_training_is_smoothed_and_has_no_more_places_than_pixels() {
        let training: Vec<(usize, f64)> = (1..=5000).map(|step| (step, (step % 2) as f64)).collect();
        let svg = Losses { training, validation: Vec::new() }.picture().unwrap().svg;
        assert!(svg.contains("mean of the last 200 steps") && svg.len() < 40_000, "{}", svg.len());
        assert_eq!(smoothed(&[(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)], 2), [(1.0, 2.0), (2.0, 3.0), (3.0, 5.0)]);
        let many: Vec<(f64, f64)> = (0..1001).map(|x| (f64::from(x), 1.0)).collect();
        assert_eq!(thinned(&many).len(), 334);
    }
}
