//! Two candidates on the same items.

use serde::{Deserialize, Serialize};

use super::error::EvalError;
use super::metric::{Outcomes, Scores, Values};
use super::stats::{self, Discordance, Mean};

/// Candidate `a` less candidate `b` on the same items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    pub a: String,
    pub b: String,
    pub suite: String,
    pub metric: String,
    pub judge: Option<String>,
    /// Items compared.
    pub n: usize,
    /// Items that are not: one of the two has no verdict because a judge failed, or no number.
    #[serde(default)]
    pub left_out: usize,
    /// Value of `a` less value of `b`.
    pub difference: Option<f64>,
    pub standard_error: Option<f64>,
    /// The lower end of the difference's 95 % interval.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// McNemar's exact test for rates, Student's paired one for means.
    pub p: Option<f64>,
    /// Items counted for `a` and not for `b`; none for means.
    #[serde(rename = "discordant_a", alias = "only_a")]
    pub only_a: Option<usize>,
    #[serde(rename = "discordant_b", alias = "only_b")]
    pub only_b: Option<usize>,
}

/// Every metric that both candidates have, `a` less `b`, in the order of `a`.
///
/// # Errors
/// They were not asked the same items.
pub fn pair(a: (&str, &Scores), b: (&str, &Scores)) -> Result<Vec<Paired>, EvalError> {
    let ((a, scores_a), (b, scores_b)) = (a, b);
    let differ =
        |why| EvalError::NotPaired { a: a.to_owned(), b: b.to_owned(), suite: scores_a.suite.clone(), why };
    if scores_a.suite != scores_b.suite {
        return Err(differ(format!("the second was asked suite `{}`", scores_b.suite)));
    }
    if scores_a.ids.len() != scores_b.ids.len() {
        return Err(differ(format!("{} against {} items", scores_a.ids.len(), scores_b.ids.len())));
    }
    if let Some((id_a, id_b)) = scores_a.ids.iter().zip(&scores_b.ids).find(|(a, b)| a != b) {
        return Err(differ(format!("`{id_a}` against `{id_b}`")));
    }
    let twin = |of: &Outcomes| {
        scores_b.outcomes.iter().find(|outcomes| outcomes.metric == of.metric && outcomes.judge == of.judge)
    };
    let paired = |of: &Outcomes| {
        let difference = Difference::of(&of.values, &twin(of)?.values)?;
        Some(difference.named(a, b, &scores_a.suite, of))
    };
    Ok(scores_a.outcomes.iter().filter_map(paired).collect())
}

/// A difference that nobody's name stands on yet.
struct Difference {
    n: usize,
    left_out: usize,
    value: Option<f64>,
    standard_error: Option<f64>,
    interval: Option<stats::Interval>,
    p: Option<f64>,
    only: Option<(usize, usize)>,
}

impl Difference {
    /// None if one is a rate and the other a mean.
    fn of(a: &Values, b: &Values) -> Option<Self> {
        match (a, b) {
            (Values::Hits(a), Values::Hits(b)) => {
                // A judge that fails more often on one candidate would make a difference of its own.
                let counts = Discordance::of(a.iter().zip(b).filter_map(|(a, b)| (*a).zip(*b)));
                Some(Self {
                    n: counts.n(),
                    left_out: a.len() - counts.n(),
                    value: counts.difference(),
                    standard_error: counts.standard_error(),
                    interval: counts.interval(),
                    p: (counts.n() > 0).then(|| counts.mcnemar()),
                    only: Some((counts.only_a, counts.only_b)),
                })
            }
            (Values::Numbers(a), Values::Numbers(b)) => {
                let differences = a.iter().zip(b).map(|(a, b)| a - b).filter(|value| value.is_finite());
                let mean = Mean::of(&differences.collect::<Vec<_>>());
                Some(Self {
                    n: mean.map_or(0, |mean| mean.n),
                    left_out: a.len() - mean.map_or(0, |mean| mean.n),
                    value: mean.map(|mean| mean.value),
                    standard_error: mean.and_then(|mean| mean.standard_error),
                    interval: mean.and_then(|mean| mean.interval()),
                    p: mean.and_then(|mean| mean.p()),
                    only: None,
                })
            }
            _ => None,
        }
    }

    fn named(self, a: &str, b: &str, suite: &str, of: &Outcomes) -> Paired {
        Paired {
            a: a.to_owned(),
            b: b.to_owned(),
            suite: suite.to_owned(),
            metric: of.metric.clone(),
            judge: of.judge.clone(),
            n: self.n,
            left_out: self.left_out,
            difference: self.value,
            standard_error: self.standard_error,
            low: self.interval.map(|ends| ends.0),
            high: self.interval.map(|ends| ends.1),
            p: self.p,
            only_a: self.only.map(|only| only.0),
            only_b: self.only.map(|only| only.1),
        }
    }
}
