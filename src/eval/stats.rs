//! How sure a rate, a mean or a difference is.

/// The 97.5 % point of the normal distribution: every interval here is a 95 % interval.
pub const Z: f64 = 1.959_963_984_540_054;

/// The two ends of a 95 % interval.
pub type Interval = (f64, f64);

/// Wilson's interval of a rate of `k` in `n`; none without items.
///
/// Wilson, "Probable Inference", 1927. Unlike the normal interval it stays in 0 to 1 and does not shrink to a point at
/// 0 of `n`, where refusal rates live.
pub fn wilson(k: usize, n: usize) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let (low, high) = wilson_of(k as f64 / n as f64, n as f64);
    // None and all of `n` are ends of the scale; the formula misses them by a rounding.
    Some((if k == 0 { 0.0 } else { low }, if k == n { 1.0 } else { high }))
}

/// Wilson's interval of `rate` among as many as `n` independent items.
pub fn wilson_of(rate: f64, n: f64) -> Interval {
    let centre = rate + Z * Z / (2.0 * n);
    let half = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    ((centre - half) / scale, (centre + half) / scale)
}

/// A mean and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    pub n: usize,
    pub value: f64,
    /// Sample deviation over the root of `n`; none below two values.
    pub standard_error: Option<f64>,
}

impl Mean {
    /// The mean of `values`; none of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let value = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
        let standard_error = (n > 1).then(|| (squares / (n as f64 - 1.0) / n as f64).sqrt());
        Some(Self { n, value, standard_error })
    }

    /// Student's interval, which is wider than the normal one where items are few.
    pub fn interval(&self) -> Option<Interval> {
        let half = self.standard_error? * student_quantile(self.n - 1);
        Some((self.value - half, self.value + half))
    }

    /// The two-sided probability of a mean this far from 0 if the true one is 0; none below two values.
    pub fn p(&self) -> Option<f64> {
        match self.standard_error? {
            0.0 => Some(if self.value == 0.0 { 1.0 } else { 0.0 }),
            error => Some(1.0 - student_within((self.value / error).abs(), self.n - 1)),
        }
    }
}

/// Two candidates' yes or no on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discordance {
    pub both: usize,
    pub only_a: usize,
    pub only_b: usize,
    pub neither: usize,
}

impl Discordance {
    pub fn of(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self { both: 0, only_a: 0, only_b: 0, neither: 0 };
        for pair in pairs {
            *match pair {
                (true, true) => &mut counts.both,
                (true, false) => &mut counts.only_a,
                (false, true) => &mut counts.only_b,
                (false, false) => &mut counts.neither,
            } += 1;
        }
        counts
    }

    pub fn n(&self) -> usize {
        self.both + self.only_a + self.only_b + self.neither
    }

    /// Rate of `a` less rate of `b`; none without items.
    pub fn difference(&self) -> Option<f64> {
        (self.n() > 0).then(|| (self.only_a as f64 - self.only_b as f64) / self.n() as f64)
    }

    /// The standard error of the difference, item by item; none below two items.
    pub fn standard_error(&self) -> Option<f64> {
        let difference = self.difference()?;
        let n = self.n() as f64;
        let square = (self.only_a + self.only_b) as f64 / n - difference * difference;
        // `max`: the square of a difference of one in every item may round to just above it.
        (n > 1.0).then(|| (square.max(0.0) / (n - 1.0)).sqrt())
    }

    /// The interval of the difference; none without items.
    ///
    /// Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    /// data", 2012: one item is added to each kind of disagreement, since with no disagreement at all the plain normal
    /// interval would be a point and claim certainty.
    pub fn interval(&self) -> Option<Interval> {
        let plain = self.difference()?;
        let n = self.n() as f64 + 2.0;
        let (a, b) = ((self.only_a as f64 + 1.0) / n, (self.only_b as f64 + 1.0) / n);
        let half = Z * ((a + b - (a - b).powi(2)) / n).sqrt();
        // The adjusted centre lies nearer to 0: the interval always holds the plain difference too.
        Some((((a - b) - half).clamp(-1.0, plain), ((a - b) + half).clamp(plain, 1.0)))
    }

    /// McNemar's exact two-sided probability: of a fair coin falling at least as one-sided as the disagreements did.
    pub fn mcnemar(&self) -> f64 {
        let n = self.only_a + self.only_b;
        let fewer = self.only_a.min(self.only_b);
        // Binomial terms through logarithms: 0.5^n is 0 in f64 from n = 1075 on.
        let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
        let mut tail = ln_term.exp();
        for k in 1..=fewer {
            ln_term += ((n - k + 1) as f64).ln() - (k as f64).ln();
            tail += ln_term.exp();
        }
        (2.0 * tail).min(1.0)
    }
}

/// The share of Student's distribution with `freedom` degrees between `-t` and `t`.
///
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4: finite sums, exact for whole degrees.
fn student_within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cos } else { 1.0 };
    let mut sum = if freedom == 1 { 0.0 } else { term };
    let mut factor = if odd { 2 } else { 1 };
    while factor + 2 <= freedom.saturating_sub(1) {
        term *= cos * cos * factor as f64 / (factor + 1) as f64;
        sum += term;
        factor += 2;
    }
    let share = if odd { (angle + sin * sum) * std::f64::consts::FRAC_2_PI } else { sin * sum };
    share.clamp(0.0, 1.0)
}

/// The `t` with 95 % of Student's distribution between `-t` and `t`.
pub fn student_quantile(freedom: usize) -> f64 {
    // One degree of freedom has the widest: 12.7.
    let (mut low, mut high) = (0.0_f64, 13.0_f64);
    // 60 halvings of 13 reach below the spacing of f64 at 2.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if student_within(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    high
}

/// The p-values as they are when all of them are looked at together.
///
/// Holm, "A simple sequentially rejective multiple test procedure", 1979.
pub fn holm(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<usize> = (0..values.len()).filter(|i| values[*i].is_some()).collect();
    order.sort_by(|a, b| values[*a].partial_cmp(&values[*b]).expect("p-values are numbers"));
    let mut adjusted = vec![None; values.len()];
    let mut largest: f64 = 0.0;
    for (rank, i) in order.iter().enumerate() {
        let p = values[*i].unwrap_or(1.0);
        largest = largest.max((order.len() - rank) as f64 * p).min(1.0);
        adjusted[*i] = Some(largest);
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Textbook values are printed to this many digits.
    const PRINTED: f64 = 5e-4;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < PRINTED
    }

    #[test]
    fn no_success_still_leaves_room_for_some() {
        let (low, high) = wilson(0, 520).unwrap();
        assert_eq!(low, 0.0);
        assert!(close(high, 0.0073));
        assert_eq!(wilson(0, 0), None);
        assert!([1, 7, 520, 1319].iter().all(|n| wilson(*n, *n).unwrap().1 == 1.0));
    }

    #[test]
    fn students_quantiles_are_those_of_the_tables() {
        for (freedom, t) in
            [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (7, 2.365), (10, 2.228), (99, 1.984)]
        {
            assert!(close(student_quantile(freedom), t), "{freedom}: {}", student_quantile(freedom));
        }
    }

    #[test]
    fn a_mean_of_one_value_has_no_error_and_a_mean_of_none_no_value() {
        assert_eq!(Mean::of(&[]), None);
        let one = Mean::of(&[0.5]).unwrap();
        assert_eq!((one.value, one.standard_error, one.interval(), one.p()), (0.5, None, None, None));
    }

    #[test]
    fn a_mean_two_errors_from_zero_is_near_the_five_percent_line() {
        let mean = Mean { n: 100, value: 1.984, standard_error: Some(1.0) };
        assert!(close(mean.p().unwrap(), 0.05));
    }

    #[test]
    fn no_disagreement_is_a_difference_of_zero_without_certainty() {
        let counts = Discordance::of([(true, true); 10]);
        assert_eq!(
            (counts.difference(), counts.standard_error(), counts.mcnemar()),
            (Some(0.0), Some(0.0), 1.0)
        );
        let (low, high) = counts.interval().unwrap();
        assert!(low < -0.05 && high > 0.05, "{low} {high}");
    }

    #[test]
    fn mcnemar_is_the_binomial_tail_twice() {
        let counts = |only_a, only_b| Discordance { both: 0, only_a, only_b, neither: 0 };
        assert!((counts(0, 5).mcnemar() - 2.0 / 32.0).abs() < 1e-12);
        assert!((counts(1, 5).mcnemar() - 14.0 / 64.0).abs() < 1e-12);
        assert_eq!(counts(5, 5).mcnemar(), 1.0);
        assert!(counts(900, 1100).mcnemar() < 1e-4);
    }

    #[test]
    fn the_interval_holds_the_difference() {
        for (only_a, only_b, both) in [(0, 0, 1), (50, 0, 0), (0, 50, 0), (3, 1, 100), (0, 2, 5)] {
            let counts = Discordance { both, only_a, only_b, neither: 0 };
            let (low, high) = counts.interval().unwrap();
            let difference = counts.difference().unwrap();
            assert!(-1.0 <= low && low <= difference && difference <= high && high <= 1.0);
        }
    }
}
