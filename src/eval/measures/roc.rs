//! How well a score tells two kinds of items apart, and where to cut.

/// The chance that an item of the first kind has a higher score than one of the second; half of a tie counts. None where
/// one kind has no items.
///
/// Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve", 1982.
pub fn auroc(positive: &[f64], negative: &[f64]) -> Option<f64> {
    let mut sorted = negative.to_vec();
    sorted.sort_by(f64::total_cmp);
    let below = |x: &f64| {
        let less = sorted.partition_point(|other| other < x);
        let most = sorted.partition_point(|other| other <= x);
        (less + most) as f64 / 2.0
    };
    let pairs = positive.len() * negative.len();
    (pairs > 0).then(|| positive.iter().map(below).sum::<f64>() / pairs as f64)
}

/// Two kinds of items on the two sides of a bound: who is at or above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    pub at: f64,
    /// How many of the first kind, and how many of the second.
    pub positive: usize,
    pub negative: usize,
}

impl Cut {
    /// Who is at or above a bound.
    pub fn new(at: f64, positive: &[f64], negative: &[f64]) -> Self {
        let above = |scores: &[f64]| scores.iter().filter(|score| **score >= at).count();
        Self { at, positive: above(positive), negative: above(negative) }
    }

    /// The bound that tells the two kinds apart best: the share of the first kind above it less that of the second
    /// (Youden, "Index for rating diagnostic tests", 1950). It lies in the middle between two scores; of bounds that are as
    /// good the one with the widest gap around it is taken, of these the lowest. None where one kind has no items.
    pub fn best(positive: &[f64], negative: &[f64]) -> Option<Self> {
        if positive.is_empty() || negative.is_empty() {
            return None;
        }
        let mut all: Vec<f64> = positive.iter().chain(negative).copied().collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        let gaps = all.windows(2).map(|pair| (f64::midpoint(pair[0], pair[1]), pair[1] - pair[0]));
        // All above it: nothing is told apart, but where nothing can be that is no worse.
        let mut best = (Self::new(all[0], positive, negative), 0.0);
        for (at, gap) in gaps {
            let cut = Self::new(at, positive, negative);
            // In whole pairs, so that equal bounds are equal.
            let worth =
                |cut: &Self| cut.positive * negative.len() + (negative.len() - cut.negative) * positive.len();
            if (worth(&cut), gap) > (worth(&best.0), best.1) {
                best = (cut, gap);
            }
        }
        Some(best.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cut, auroc};

    #[test]
    fn what_lies_apart_is_told_apart_and_what_lies_alike_by_chance() {
        assert_eq!(auroc(&[0.9, 0.8], &[0.1, 0.2, 0.3]), Some(1.0));
        assert_eq!(auroc(&[0.1], &[0.2]), Some(0.0));
        assert_eq!(auroc(&[0.5, 0.5], &[0.5, 0.5]), Some(0.5));
        // scikit-learn's roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).
        assert_eq!(auroc(&[0.35, 0.8], &[0.1, 0.4]), Some(0.75));
        assert_eq!(auroc(&[], &[0.5]), None);
    }

    #[test]
    fn the_bound_lies_in_the_widest_gap_that_tells_apart_best() {
        let cut = Cut::best(&[0.8, 0.9, 0.3], &[0.1, 0.2, 0.4]).unwrap();
        // Above 0.4 are two of three and nobody else, above 0.2 all three and one other: as good, and not as wide.
        assert_eq!((cut.positive, cut.negative), (2, 0));
        assert!((cut.at - 0.6).abs() < 1e-12);
        let apart = Cut::best(&[0.7], &[0.1]).unwrap();
        assert!((apart.at - 0.4).abs() < 1e-12 && (apart.positive, apart.negative) == (1, 0));
        let alike = Cut::best(&[0.5, 0.5], &[0.5]).unwrap();
        assert_eq!((alike.at, alike.positive, alike.negative), (0.5, 2, 1));
        assert_eq!(Cut::best(&[], &[0.5]), None);
        // At the bound itself an item counts as above.
        assert_eq!(Cut::new(0.5, &[0.5, 0.49], &[0.5]), Cut { at: 0.5, positive: 1, negative: 1 });
    }
}
