//! Which λ to take: by what the merges score on suites that are kept for this choice, never by those that are reported.

use serde::{Deserialize, Serialize};

/// What a merge scored on the suites of the choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub lambda: f64,
    /// Mean score of the skills; more is better.
    pub score: f64,
    /// Mean attack success, where harmful requests are among the suites; less is better.
    pub harm: Option<f64>,
}

/// A rule that chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The best score, as Farn et al. (2024) choose.
    Score,
    /// The best score among those that are safe enough.
    Budget,
    /// Where the curve from base to tuned model turns most.
    Knee,
}

/// Of equal scores the smaller λ: it changes less.
fn best(points: impl Iterator<Item = (usize, Point)>) -> Option<usize> {
    let better = |a: (usize, Point), b: (usize, Point)| match a.1.score.total_cmp(&b.1.score) {
        std::cmp::Ordering::Less => b,
        std::cmp::Ordering::Equal if b.1.lambda < a.1.lambda => b,
        _ => a,
    };
    points.reduce(better).map(|(nth, _)| nth)
}

/// The point with the best score.
pub fn by_score(points: &[Point]) -> Option<usize> {
    best(points.iter().copied().enumerate())
}

/// The point with the best score among those whose attack success is at most `budget` above that of the base.
pub fn by_budget(points: &[Point], base_harm: f64, budget: f64) -> Option<usize> {
    // A rate that is written as 0.3 is not above 0.1 + 0.2.
    let is_safe = |point: &Point| point.harm.is_some_and(|harm| harm <= base_harm + budget + 1e-12);
    best(points.iter().copied().enumerate().filter(|(_, point)| is_safe(point)))
}

/// The point furthest from the straight line between base and tuned model, with score and attack success both taken as
/// shares of the way between the two (Satopää et al., "Finding a Kneedle in a Haystack", 2011); none where one of the two
/// does not differ between them.
pub fn by_knee(points: &[Point], base: Point, tuned: Point) -> Option<usize> {
    let (gain, cost) = (tuned.score - base.score, tuned.harm? - base.harm?);
    if gain <= 0.0 || cost <= 0.0 {
        return None;
    }
    let above = |point: &Point| Some((point.score - base.score) / gain - (point.harm? - base.harm?) / cost);
    let found = points.iter().enumerate();
    let found = found.filter_map(|(nth, point)| Some((nth, Point { score: above(point)?, ..*point })));
    best(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(lambda: f64, score: f64, harm: f64) -> Point {
        Point { lambda, score, harm: Some(harm) }
    }

    fn curve() -> Vec<Point> {
        vec![point(0.2, 0.3, 0.02), point(0.4, 0.6, 0.05), point(0.6, 0.7, 0.3), point(0.8, 0.7, 0.9)]
    }

    #[test]
    fn the_best_score_is_taken_and_of_equal_ones_the_smaller_change() {
        assert_eq!(by_score(&curve()), Some(2));
        assert_eq!(by_score(&curve().into_iter().rev().collect::<Vec<_>>()), Some(1));
        assert_eq!(by_score(&[]), None);
    }

    #[test]
    fn a_budget_leaves_out_what_is_not_safe_enough() {
        assert_eq!(by_budget(&curve(), 0.02, 0.03), Some(1));
        assert_eq!(by_budget(&curve(), 0.02, 0.28), Some(2));
        assert_eq!(by_budget(&curve(), 0.0, 0.01), None);
        assert_eq!(by_budget(&[Point { harm: None, ..point(0.5, 1.0, 0.0) }], 0.0, 1.0), None);
    }

    #[test]
    fn the_knee_lies_where_safety_begins_to_cost_more_than_it_gains() {
        let (base, tuned) = (point(0.0, 0.1, 0.02), point(1.0, 0.72, 0.98));
        assert_eq!(by_knee(&curve(), base, tuned), Some(1));
        assert_eq!(by_knee(&curve(), base, point(1.0, 0.1, 0.98)), None);
    }
}
