//! Probabilities of a yes against what is so: how well they sort, where a threshold cuts them, whether they are probabilities.

use serde::{Deserialize, Serialize};

use super::roc::auroc;
use crate::recipe::FittedBy;

/// A probability and whether it should be high.
pub type Labelled = (f64, bool);

/// What probabilities are worth, at one threshold and without any.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    pub n: usize,
    /// How many should be high.
    pub positives: usize,
    /// From which probability on the answer is yes.
    pub threshold: f64,
    /// Yes where it is so, and yes where it is not.
    pub true_positives: usize,
    pub false_positives: usize,
    /// The share of what is so among the yes; none without a yes.
    pub precision: Option<f64>,
    /// The share of the yes among what is so; none where nothing is.
    pub recall: Option<f64>,
    pub f1: Option<f64>,
    /// The share of the yes among what is not so.
    pub false_positive_rate: Option<f64>,
    /// The share of pairs of one that is so and one that is not in which the first has the higher probability, ties half:
    /// the area under the curve of recall over false positives. None where one side is empty.
    pub auroc: Option<f64>,
    /// The expected calibration error over ten bins of equal width: how far the mean probability of a bin is from the share
    /// of what is so in it, weighted by the bin. Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv
    /// 1706.04599, here of the probability of yes.
    pub ece: Option<f64>,
    /// The mean square of probability less truth. Brier, "Verification of forecasts expressed in terms of probability", 1950.
    pub brier: Option<f64>,
}

/// Bins of the calibration error, as in its paper's code.
const BINS: usize = 10;

impl Detection {
    /// What these probabilities are worth at a threshold.
    pub fn of(found: &[Labelled], threshold: f64) -> Self {
        let n = found.len();
        let positives = found.iter().filter(|(_, is_so)| *is_so).count();
        let yes = |so: bool| found.iter().filter(|(p, is_so)| *is_so == so && *p >= threshold).count();
        let (true_positives, false_positives) = (yes(true), yes(false));
        let share = |k: usize, of: usize| (of > 0).then(|| k as f64 / of as f64);
        let mean = |sum: f64| (n > 0).then(|| sum / n as f64);
        let scores =
            |so: bool| found.iter().filter(|(_, is_so)| *is_so == so).map(|(p, _)| *p).collect::<Vec<_>>();
        let square = |(p, is_so): &Labelled| (p - f64::from(u8::from(*is_so))).powi(2);
        Self {
            n,
            positives,
            threshold,
            true_positives,
            false_positives,
            precision: share(true_positives, true_positives + false_positives),
            recall: share(true_positives, positives),
            f1: share(2 * true_positives, positives + true_positives + false_positives),
            false_positive_rate: share(false_positives, n - positives),
            auroc: auroc(&scores(true), &scores(false)),
            ece: mean(gaps(found)),
            brier: mean(found.iter().map(square).sum()),
        }
    }
}

/// The sum over the bins of how far probabilities and truth are apart.
fn gaps(found: &[Labelled]) -> f64 {
    let mut bins = [0.0f64; BINS];
    for (p, is_so) in found {
        let bin = ((p * BINS as f64) as usize).min(BINS - 1);
        bins[bin] += p - f64::from(u8::from(*is_so));
    }
    bins.iter().map(|gap| gap.abs()).sum()
}

/// The threshold that suits these probabilities: of equal ones the lowest, for what is missed costs more; in the middle
/// between the last that is a yes and the next.
pub fn fitted(found: &[Labelled], by: FittedBy) -> f64 {
    let mut sorted = found.to_vec();
    sorted.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let positives = sorted.iter().filter(|(_, is_so)| *is_so).count();
    let (mut hits, mut taken, mut best) = (0, 0, (f64::MIN, 0.5));
    for equal in sorted.chunk_by(|(a, _), (b, _)| a == b) {
        hits += equal.iter().filter(|(_, is_so)| *is_so).count();
        taken += equal.len();
        let (last, next) = (equal[0].0, sorted.get(taken).map_or(0.0, |(p, _)| *p));
        let middle = f64::midpoint(last, next);
        let threshold = if middle > next { middle } else { last };
        let worth = match by {
            FittedBy::F1 => 2.0 * hits as f64 / (positives + taken) as f64,
            // Every threshold that finds enough is as good, so the first, which is the highest, stays.
            FittedBy::Recall(share) => {
                let is_enough = hits as f64 >= share * positives as f64 - 1e-9;
                if is_enough { 1.0 } else { 0.0 }
            }
        };
        let is_better = match by {
            FittedBy::F1 => worth >= best.0,
            FittedBy::Recall(_) => worth > best.0,
        };
        if is_better {
            best = (worth, threshold);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Detection, Labelled, fitted};
    use crate::recipe::FittedBy;

    const EXACT: f64 = 1e-12;

    fn close(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < EXACT, "{found:?} {expected}");
    }

    #[test]
    fn the_numbers_are_those_of_scikit_learn() {
        // roc_auc_score, f1_score, brier_score_loss of these four; the bins by hand: 0.1, 0.35 - 1, 0.4, 0.8 - 1.
        let found = [(0.1, false), (0.4, false), (0.35, true), (0.8, true)];
        let at = Detection::of(&found, 0.35);
        assert_eq!((at.n, at.positives, at.true_positives, at.false_positives), (4, 2, 2, 1));
        close(at.auroc, 0.75);
        close(at.brier, 0.158_125);
        close(at.precision, 2.0 / 3.0);
        close(at.recall, 1.0);
        close(at.f1, 0.8);
        close(at.false_positive_rate, 0.5);
        close(at.ece, (0.1 + 0.65 + 0.4 + 0.2) / 4.0);
        // A tie between the sides is half a pair.
        close(Detection::of(&[(0.5, true), (0.5, false), (0.2, false)], 0.5).auroc, 0.75);
        assert_eq!(Detection::of(&[(0.5, true)], 0.5).auroc, None);
        assert_eq!(Detection::of(&[], 0.5).brier, None);
    }

    #[test]
    fn a_threshold_lies_between_what_it_parts() {
        let apart = [(0.9, true), (0.7, true), (0.3, false), (0.1, false)];
        assert!((fitted(&apart, FittedBy::F1) - 0.5).abs() < EXACT);
        let mixed = [(0.9, true), (0.8, false), (0.6, true), (0.2, false), (0.1, true)];
        // Two of three found with one false alarm, or all with two: F1 2·2/6 against 2·3/8.
        assert!((fitted(&mixed, FittedBy::F1) - 0.05).abs() < EXACT);
        assert!((fitted(&mixed, FittedBy::Recall(0.6)) - 0.4).abs() < EXACT);
        assert!((fitted(&mixed, FittedBy::Recall(0.3)) - 0.85).abs() < EXACT);
        assert!((fitted(&mixed, FittedBy::Recall(1.0)) - 0.05).abs() < EXACT);
    }

    proptest! {
        #[test]
        fn a_higher_threshold_never_finds_more(
            found in prop::collection::vec((0.0..=1.0f64, any::<bool>()), 1..40),
            steps in prop::collection::vec(0.0..=1.0f64, 2..20),
        ) {
            let mut steps = steps;
            steps.sort_by(f64::total_cmp);
            let at: Vec<Detection> = steps.iter().map(|step| Detection::of(&found, *step)).collect();
            prop_assert!(at.windows(2).all(|pair| pair[0].recall >= pair[1].recall));
            prop_assert!(at.windows(2).all(|pair| pair[0].false_positive_rate >= pair[1].false_positive_rate));
            for share in [0.5, 0.95, 1.0] {
                let threshold = fitted(&found, FittedBy::Recall(share));
                prop_assert!(Detection::of(&found, threshold).recall.is_none_or(|recall| recall >= share - 1e-9));
            }
            // No other threshold has a higher F1.
            let best = Detection::of(&found, fitted(&found, FittedBy::F1)).f1;
            let all = found.iter().map(|(p, _): &Labelled| Detection::of(&found, *p).f1);
            prop_assert!(all.into_iter().all(|f1| f1 <= best));
        }
    }
}
