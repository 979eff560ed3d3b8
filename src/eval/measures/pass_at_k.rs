//! The chance that at least one of `k` samples of a problem passes.
//!
//! Chen et al., "Evaluating Large Language Models Trained on Code", 2021, arXiv 2107.03374, section 2.1, as
//! openai/human-eval computes it.

/// The unbiased estimate from `n` samples of which `c` passed.
///
/// As upstream, fewer samples than `k` count as a pass: [`estimate`] is what asks for enough of them.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    assert!(c <= n, "no more samples pass than were drawn");
    if n - c < k {
        return 1.0;
    }
    // 1 - C(n-c, k) / C(n, k), as a product: the binomials overflow.
    1.0 - (n - c + 1..=n).map(|idx| 1.0 - k as f64 / idx as f64).product::<f64>()
}

/// The same; none where there are fewer samples than `k`.
pub fn estimate(n: usize, c: usize, k: usize) -> Option<f64> {
    (n >= k).then(|| pass_at_k(n, c, k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_is_a_rate_and_all_samples_a_maximum() {
        assert!((pass_at_k(50, 5, 1) - 0.1).abs() < 1e-12);
        assert_eq!((pass_at_k(50, 1, 50), pass_at_k(50, 0, 50)), (1.0, 0.0));
    }

    #[test]
    fn too_few_samples_leave_it_undefined() {
        assert_eq!((estimate(1, 1, 2), estimate(0, 0, 1)), (None, None));
        assert_eq!((estimate(4, 2, 1), estimate(4, 0, 1)), (Some(0.5), Some(0.0)));
    }
}
