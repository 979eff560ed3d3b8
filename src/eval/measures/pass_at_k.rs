//! The chance that at least one of `k` samples of a problem passes.
//!
//! Chen et al., "Evaluating Large Language Models Trained on Code", 2021, arXiv 2107.03374, section 2.1, as
//! openai/human-eval computes it.

/// The unbiased estimate from `n` samples of which `c` passed.
///
/// As upstream, fewer samples than `k` count as a pass: [`mean`] is what asks for enough of them.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    assert!(c <= n, "no more samples pass than were drawn");
    if n - c < k {
        return 1.0;
    }
    // 1 - C(n-c, k) / C(n, k), as a product: the binomials overflow.
    1.0 - (n - c + 1..=n).map(|idx| 1.0 - k as f64 / idx as f64).product::<f64>()
}

/// The mean over problems, each `(n, c)`; none without problems, or where one has fewer than `k` samples.
pub fn mean(problems: &[(usize, usize)], k: usize) -> Option<f64> {
    let enough = !problems.is_empty() && problems.iter().all(|(n, _)| *n >= k);
    enough.then(|| problems.iter().map(|(n, c)| pass_at_k(*n, *c, k)).sum::<f64>() / problems.len() as f64)
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
    fn a_problem_with_too_few_samples_leaves_the_mean_undefined() {
        assert_eq!(mean(&[(4, 1), (1, 1)], 2), None);
        assert_eq!(mean(&[], 1), None);
        assert_eq!(mean(&[(4, 2), (4, 0)], 1), Some(0.25));
    }
}
