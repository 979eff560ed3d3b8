//! Shares of a set in whole numbers.

use super::error::DataError;

/// That so many are not trained on.
pub(super) fn held_out(n_validation: usize, n: usize) -> String {
    format!("{n_validation} of {n} conversations are held out to watch the loss")
}

/// How many of `n` a share is: at least one, and not all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share between 0 and 1 of a count that memory can hold"
)]
pub(super) fn share(share: f64, n: usize) -> Result<usize, DataError> {
    let is_share = (0.0..1.0).contains(&share);
    let validation = if is_share { ((n as f64 * share).round() as usize).max(1) } else { n };
    if validation >= n {
        let train = n - validation.min(n);
        return Err(DataError::BadSplit { share, n, train, validation });
    }
    Ok(validation)
}

/// Shares of `n` in whole numbers: each is its share rounded up or down, and together they are `n`.
///
/// The largest remainders are rounded up (Hamilton's method), the first of equals before the others.
pub(super) fn apportioned(n: usize, shares: &[f64]) -> Vec<usize> {
    let sum: f64 = shares.iter().sum();
    // A share of 0.3 of 10 is 3, whatever the last bit says.
    let exact: Vec<f64> = shares.iter().map(|share| (share / sum * n as f64 * 1e9).round() / 1e9).collect();
    let mut counts: Vec<usize> = exact.iter().map(|exact| exact.floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = n.saturating_sub(counts.iter().sum());
    order.into_iter().take(missing).for_each(|i| counts[i] += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_leaves_something_on_both_sides() {
        assert_eq!(share(0.1, 100).unwrap(), 10);
        assert_eq!(share(0.1, 3).unwrap(), 1);
        for (wrong, n) in [(0.1, 1), (0.99, 10), (f64::NAN, 10), (-0.5, 10), (1.5, 10)] {
            assert!(matches!(share(wrong, n), Err(DataError::BadSplit { .. })), "{wrong} of {n}");
        }
    }
}
