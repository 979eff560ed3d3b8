//! The report of a study: every cell's numbers over seeds, with intervals, differences and the questions asked beforehand.
//!
//! [`StudyReport`] is the study's `report.json`, a stable interface; [`tidy`] has a row for each number of each cell.

use serde::{Deserialize, Serialize};

use crate::eval::MetricKind;
use crate::eval::choice::Rule;
use crate::eval::repeated::Estimate;
use crate::report::gates::GateResult;

mod latex;
mod page;
mod pictures;
mod tables;
pub mod tidy;

pub use latex::latex;
pub use page::{StudyBeside, html};
pub use pictures::{Gallery, pictures};
pub use tables::{markdown, terminal};

/// The version of a study's `report.json`.
pub const SCHEMA: u32 = 2;

/// What a study found out so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StudyReport {
    pub schema: u32,
    /// The name of the recipe.
    pub study: String,
    /// The version of this program.
    pub version: String,
    /// A digest of the cells' reports that this one was made of.
    pub made_of: String,
    pub cells: Vec<CellLine>,
    /// By group of cells, suite, candidate and metric.
    pub rows: Vec<Row>,
    /// λ by the validation suites alone.
    pub choices: Vec<Choice>,
    /// The questions of `[[grid.contrast]]`.
    pub contrasts: Vec<Answer>,
    /// Bounds of the recipe, and whether the numbers keep them.
    pub gates: Vec<GateResult>,
    /// What could not be compared, in words.
    pub notes: Vec<String>,
}

/// One run of the study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellLine {
    pub name: String,
    /// What tables call it and the cells that differ from it in their seed alone.
    pub group: String,
    pub seed: u64,
    /// Where its run lies, seen from the study's folder; none while it is missing.
    pub folder: Option<String>,
}

/// One metric of one candidate over the seeds of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub group: String,
    /// `base`, `tuned` or a merge such as `slerp:0.5`.
    pub candidate: String,
    pub method: Option<String>,
    pub lambda: Option<f64>,
    pub suite: String,
    pub metric: String,
    pub judge: Option<String>,
    pub kind: MetricKind,
    /// Whether tables show it: every metric of a skill, the first judge of the others.
    pub headline: bool,
    pub seeds: Vec<u64>,
    /// By seed.
    pub values: Vec<Option<f64>>,
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Less the base, on the same prompts and seeds.
    #[serde(rename = "difference_from_base", alias = "less_base")]
    pub less_base: Option<Estimate>,
    /// Less the tuned model; merges only.
    #[serde(rename = "difference_from_tuned", alias = "less_tuned")]
    pub less_tuned: Option<Estimate>,
    /// Whether a paired test tells it from the best of its column: the p-value, 1 for the best; none of base and tuned.
    #[serde(rename = "p_against_best", alias = "behind_best")]
    pub behind_best: Option<f64>,
}

/// The λ that a rule takes of a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub rule: Rule,
    /// The cells whose curve it is; none for all cells of the model together.
    pub group: Option<String>,
    pub model: String,
    /// The method with its parameters but λ.
    pub family: String,
    pub candidate: String,
    pub lambda: f64,
    /// The mean score on the validation suites.
    pub score: f64,
    /// The attack success there, where one of them has harmful requests.
    pub attack_success: Option<f64>,
}

/// The answer to a question that the recipe asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub name: String,
    pub group: String,
    pub suite: String,
    pub metric: String,
    pub judge: Option<String>,
    /// In words: `slope of slerp over λ`, `slerp:0.5 less tuned`.
    pub what: String,
    #[serde(flatten)]
    pub estimate: Estimate,
    /// The probability, raised by Holm's rule for all questions of the study.
    pub p_holm: f64,
}

impl StudyReport {
    /// The groups in their order.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for cell in &self.cells {
            if !groups.contains(&cell.group.as_str()) {
                groups.push(&cell.group);
            }
        }
        groups
    }

    /// What a table about a group shows.
    fn group(&self, group: &str) -> GroupRows<'_> {
        GroupRows(self.rows.iter().filter(|row| row.group == group).collect())
    }
}

/// The rows of one group of cells.
struct GroupRows<'r>(Vec<&'r Row>);

impl<'r> GroupRows<'r> {
    /// The columns of a table: what the rows that are shown measure.
    fn columns(&self) -> Vec<&'r Row> {
        let mut columns: Vec<&Row> = Vec::new();
        for row in self.0.iter().filter(|row| row.headline) {
            if !columns.iter().any(|column| column.measures(row)) {
                columns.push(row);
            }
        }
        columns
    }

    /// The candidates in their order.
    fn candidates(&self) -> Vec<&'r str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.0 {
            if !names.contains(&row.candidate.as_str()) {
                names.push(&row.candidate);
            }
        }
        names
    }

    fn row(&self, candidate: &str, column: &Row) -> Option<&'r Row> {
        self.0.iter().find(|row| row.candidate == candidate && row.measures(column)).copied()
    }
}

impl Row {
    /// Whether it is about the same as another, of whatever group and candidate.
    pub fn measures(&self, other: &Self) -> bool {
        (&self.suite, &self.metric, &self.judge) == (&other.suite, &other.metric, &other.judge)
    }
}

/// What tables call a group: the recipe as it is has no name of its own.
fn title(group: &str) -> &str {
    if group.is_empty() { "the recipe as it is" } else { group }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A study of so many groups, seeds and merges, whose numbers are made up.
    pub(super) fn of_many(n_groups: usize, n_seeds: usize, n_merges: usize) -> StudyReport {
        let seeds: Vec<u64> = (1..=n_seeds as u64).collect();
        let group = |nth: usize| format!("group {nth}");
        let cell = |nth: usize, seed: &u64| CellLine {
            name: format!("{}, seed-{seed}", group(nth)),
            group: group(nth),
            seed: *seed,
            folder: Some(format!("cells/group {nth}-seed-{seed}-00")),
        };
        let methods = ["linear", "slerp", "ties", "dare_ties", "della", "breadcrumbs"];
        let mut candidates = vec![("base".to_owned(), None, None), ("tuned".to_owned(), None, None)];
        for nth in 0..n_merges {
            let (method, step) = (methods[nth % methods.len()], nth / methods.len() + 1);
            let lambda = 0.25 * step as f64;
            candidates.push((format!("{method}:{lambda}"), Some(method.to_owned()), Some(lambda)));
        }
        let suites = [
            ("gsm8k", "exact_match_flexible", MetricKind::Task),
            ("harmful", "attack_success_rate", MetricKind::Safety),
            ("xstest", "refusal_rate", MetricKind::OverRefusal),
        ];
        let mut rows = Vec::new();
        for nth in 0..n_groups {
            for (at, (candidate, method, lambda)) in candidates.iter().enumerate() {
                for (which, (suite, metric, kind)) in suites.into_iter().enumerate() {
                    let mean = ((nth * (7 + which) + at * (13 + 3 * which)) % 89) as f64 / 100.0;
                    let estimate = Estimate {
                        mean,
                        sd: Some(0.01),
                        over_prompts: Some((mean * 0.9, mean * 0.9 + 0.1)),
                        over_seeds: None,
                        n_prompts: 200,
                        n_seeds,
                        p: Some(0.04),
                    };
                    let less = (at > 0).then_some(estimate);
                    rows.push(Row {
                        group: group(nth),
                        candidate: candidate.clone(),
                        method: method.clone(),
                        lambda: *lambda,
                        suite: suite.to_owned(),
                        metric: metric.to_owned(),
                        judge: None,
                        kind,
                        headline: true,
                        seeds: seeds.clone(),
                        values: vec![Some(mean); n_seeds],
                        estimate,
                        less_base: less,
                        less_tuned: less.filter(|_| at > 1),
                        behind_best: None,
                    });
                }
            }
        }
        StudyReport {
            schema: SCHEMA,
            study: "many".to_owned(),
            version: "0".to_owned(),
            made_of: String::new(),
            cells: (0..n_groups).flat_map(|nth| seeds.iter().map(move |seed| cell(nth, seed))).collect(),
            rows,
            choices: Vec::new(),
            contrasts: Vec::new(),
            gates: Vec::new(),
            notes: Vec::new(),
        }
    }
}
