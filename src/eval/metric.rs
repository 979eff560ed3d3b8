//! The numbers of a report about one candidate.

use serde::{Deserialize, Serialize};

use super::tasks::MetricKind;

/// Over which answers a rate is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    #[default]
    All,
    /// Those neither empty nor looping.
    Coherent,
    /// Those that the judge could decide.
    Scored,
}

/// One number of a report. Unique by suite, metric, judge, denominator, category and seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub suite: String,
    pub metric: String,
    pub kind: MetricKind,
    /// None where nobody judges, as with empty answers.
    pub judge: Option<String>,
    pub denominator: Denominator,
    /// None: all categories together.
    pub category: Option<String>,
    /// The seed of the run.
    pub seed: u64,
    /// A rate from 0 to 1, or a mean; none if there was nothing to measure it on.
    pub value: Option<f64>,
    /// Items counted in the rate; none for a mean.
    pub k: Option<usize>,
    /// The denominator.
    pub n: usize,
    /// Items that the judge could not decide. They are in the denominator of a rate, and not in a mean.
    pub unscored: usize,
    /// The lower end of the 95 % interval: Wilson's for a rate, Student's for a mean.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// What one candidate's answers to one suite came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub suite: String,
    pub metrics: Vec<Metric>,
    /// The items by their ids, and each item's part in every metric over all of them.
    pub ids: Vec<String>,
    pub outcomes: Vec<Outcomes>,
}

/// What each item gave for one metric, in the order of the items.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcomes {
    pub metric: String,
    pub judge: Option<String>,
    pub values: Values,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Whether the item is counted in the rate; none where the judge failed.
    Hits(Vec<Option<bool>>),
    /// Not finite: unscored.
    Numbers(Vec<f64>),
}
