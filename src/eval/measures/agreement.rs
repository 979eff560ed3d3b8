//! How far two judges agree on the same answers.
//!
//! Cohen, "A coefficient of agreement for nominal scales", 1960. Plain agreement flatters two judges that both say
//! "safe" nearly always; kappa takes off what chance alone would give judges of those habits.

/// Two judges on the same answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    pub n: usize,
    /// The share of answers on which both say the same; none without answers.
    pub rate: Option<f64>,
    /// 1 for full agreement, 0 for that of chance; none where chance alone would already agree on everything.
    pub kappa: Option<f64>,
}

impl Agreement {
    /// From pairs of labels, one pair an answer. Answers that a judge left unscored are the caller's to leave out.
    pub fn of<T: PartialEq>(pairs: &[(T, T)]) -> Self {
        let n = pairs.len();
        let n_same = pairs.iter().filter(|(a, b)| a == b).count();
        // Whole numbers up to the division: "chance agrees on everything" is then an exact comparison.
        let square = (n as u128).pow(2);
        let mut by_chance = 0u128;
        for (idx, (label, _)) in pairs.iter().enumerate() {
            let is_first = pairs[..idx].iter().all(|(seen, _)| seen != label);
            if is_first {
                let n_a = pairs.iter().filter(|(a, _)| a == label).count() as u128;
                let n_b = pairs.iter().filter(|(_, b)| b == label).count() as u128;
                by_chance += n_a * n_b;
            }
        }
        let same = n_same as u128 * n as u128;
        let kappa =
            (square > by_chance).then(|| (same as f64 - by_chance as f64) / (square - by_chance) as f64);
        Self { n, rate: (n > 0).then(|| n_same as f64 / n as f64), kappa }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_of_chance_alone_has_a_kappa_of_zero() {
        let found = Agreement::of(&[(true, true), (true, false), (false, true), (false, false)]);
        assert_eq!((found.rate, found.kappa), (Some(0.5), Some(0.0)));
    }

    #[test]
    fn two_judges_that_never_waver_have_no_kappa() {
        assert_eq!(Agreement::of(&[("safe", "safe"); 9]).kappa, None);
        assert_eq!(Agreement::of::<bool>(&[]), Agreement { n: 0, rate: None, kappa: None });
        assert_eq!(Agreement::of(&[("safe", "unsafe"); 9]).kappa, Some(0.0));
    }
}
