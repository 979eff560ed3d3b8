//! `outcomes.json`: what every item gave for every metric, so that statistics need neither answers nor judges.

use serde::{Deserialize, Serialize};

use crate::eval::{MetricKind, Scores, Values};

/// The version of this format.
pub const SCHEMA: u32 = 1;

/// All outcomes of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomesFile {
    pub schema: u32,
    pub suites: Vec<SuiteOutcomes>,
}

/// Those of one suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteOutcomes {
    pub suite: String,
    /// The items by their ids, in the order of every list below.
    pub ids: Vec<String>,
    pub outcomes: Vec<CandidateOutcomes>,
}

/// One candidate's by one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateOutcomes {
    pub candidate: String,
    pub metric: String,
    pub judge: Option<String>,
    pub kind: MetricKind,
    #[serde(flatten)]
    pub values: Packed,
}

/// One value for each item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packed {
    /// `1` where the item counts in the rate, `0` where it does not, `-` where a judge failed.
    Hits(String),
    /// None where there is no number.
    Numbers(Vec<Option<f64>>),
}

impl Packed {
    fn of(values: &Values) -> Self {
        match values {
            Values::Hits(hits) => Self::Hits(
                hits.iter()
                    .map(|hit| match hit {
                        Some(true) => '1',
                        Some(false) => '0',
                        None => '-',
                    })
                    .collect(),
            ),
            Values::Numbers(numbers) => {
                Self::Numbers(numbers.iter().map(|x| Some(*x).filter(|x| x.is_finite())).collect())
            }
        }
    }

    /// The values as numbers; none where a judge failed.
    pub fn numbers(&self) -> Vec<Option<f64>> {
        match self {
            Self::Hits(hits) => {
                hits.bytes().map(|hit| (hit != b'-').then_some(f64::from(hit == b'1'))).collect()
            }
            Self::Numbers(numbers) => numbers.clone(),
        }
    }

    /// Whether their mean is a rate.
    pub fn is_rate(&self) -> bool {
        matches!(self, Self::Hits(_))
    }
}

impl OutcomesFile {
    /// The outcomes of candidates by name; scores of one suite stand together in each.
    pub fn of(all: &[(String, Vec<Vec<Scores>>)]) -> Self {
        let mut suites: Vec<SuiteOutcomes> = Vec::new();
        for (candidate, scores) in all {
            for scores in scores.iter().flatten() {
                let place =
                    suites.iter().position(|known| known.suite == scores.suite).unwrap_or_else(|| {
                        let (suite, ids) = (scores.suite.clone(), scores.ids.clone());
                        suites.push(SuiteOutcomes { suite, ids, outcomes: Vec::new() });
                        suites.len() - 1
                    });
                suites[place].outcomes.extend(scores.outcomes.iter().map(|outcomes| {
                    let kind = |metric: &&crate::eval::Metric| {
                        (&metric.metric, &metric.judge) == (&outcomes.metric, &outcomes.judge)
                    };
                    let found = scores.metrics.iter().find(kind);
                    CandidateOutcomes {
                        candidate: candidate.clone(),
                        metric: outcomes.metric.clone(),
                        judge: outcomes.judge.clone(),
                        kind: found.map_or(MetricKind::Task, |metric| metric.kind),
                        values: Packed::of(&outcomes.values),
                    }
                }));
            }
        }
        Self { schema: SCHEMA, suites }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_and_numbers_come_back_as_they_were() {
        for values in
            [Values::Hits(vec![Some(true), None, Some(false)]), Values::Numbers(vec![0.5, f64::NAN, -1.0])]
        {
            let packed = Packed::of(&values);
            let text = serde_json::to_string(&packed).unwrap();
            let read: Packed = serde_json::from_str(&text).unwrap();
            assert_eq!(read, packed, "{text}");
            let expected = match values {
                Values::Hits(_) => [Some(1.0), None, Some(0.0)],
                Values::Numbers(_) => [Some(0.5), None, Some(-1.0)],
            };
            assert_eq!(read.numbers(), expected);
        }
    }
}
