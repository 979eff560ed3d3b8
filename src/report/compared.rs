//! Several runs side by side: the same candidates on the same prompts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;

use super::table::{self, Table};
use super::terminal::draw;
use crate::eval::stats::Mean;
use crate::eval::{Metric, MetricKind, Paired};

/// What two or more runs say about what they have in common.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The version of this format; 1.
    pub schema: u32,
    pub runs: Vec<Side>,
    /// What is not compared, or only with care.
    pub notes: Vec<String>,
    pub rows: Vec<Row>,
}

/// One of the runs.
#[derive(Debug, Serialize)]
pub struct Side {
    /// The letter that tables call it by.
    pub letter: String,
    pub folder: String,
    pub seed: u64,
    /// What of its recipe is otherwise than in the first run.
    pub differs: Vec<String>,
    /// Runs with the same number differ in their seed alone.
    pub group: usize,
}

/// One metric of one candidate in every run.
#[derive(Debug, Serialize)]
pub struct Row {
    pub candidate: String,
    pub suite: String,
    pub metric: String,
    pub judge: Option<String>,
    pub kind: MetricKind,
    /// Prompts that all runs were asked.
    pub prompts: usize,
    /// By run; none where the candidate is missing.
    pub values: Vec<Option<Metric>>,
    /// By run but the first, less the first.
    pub paired: Vec<Option<Paired>>,
    /// By group of runs that differ in their seed alone: mean and standard deviation over these.
    pub over_seeds: Vec<OverSeeds>,
}

/// A metric over the seeds of a group.
#[derive(Debug, Clone, Serialize)]
pub struct OverSeeds {
    pub group: usize,
    pub seeds: usize,
    pub mean: f64,
    /// Of the sample, with n − 1.
    pub sd: f64,
}

impl Row {
    /// Mean and standard deviation of every group with several seeds.
    pub fn over_seeds(runs: &[Side], values: &[Option<Metric>]) -> Vec<OverSeeds> {
        let groups = runs.iter().map(|side| side.group).max().map_or(0, |last| last + 1);
        let of_group = |group: usize| {
            let found = runs.iter().zip(values).filter(|(side, _)| side.group == group);
            // The same seed twice is one seed.
            let by_seed: BTreeMap<u64, f64> =
                found.filter_map(|(side, metric)| Some((side.seed, metric.as_ref()?.value?))).collect();
            let found: Vec<f64> = by_seed.into_values().collect();
            let mean = Mean::of(&found)?;
            let sd = mean.standard_error? * (mean.n as f64).sqrt();
            Some(OverSeeds { group, seeds: mean.n, mean: mean.value, sd })
        };
        (0..groups).filter_map(of_group).collect()
    }
}

impl Comparison {
    /// The comparison as text, at most `width` columns wide.
    pub fn terminal(&self, width: u16) -> String {
        let mut text = String::new();
        for Side { letter, folder, seed, differs, .. } in &self.runs {
            let differs = match differs.is_empty() {
                true => String::new(),
                false => format!(", unlike A in {}", differs.join(", ")),
            };
            let _ = writeln!(text, "{letter}  {folder} (seed {seed}{differs})");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let mut rows = self.rows.as_slice();
        while let Some(first) = rows.first() {
            let same = |row: &&Row| {
                (&row.suite, &row.metric, &row.judge) == (&first.suite, &first.metric, &first.judge)
            };
            let n = rows.iter().take_while(same).count();
            let (of_metric, rest) = rows.split_at(n);
            rows = rest;
            let judge = first.judge.as_ref().filter(|_| first.kind != MetricKind::Task);
            let by = judge.map(|judge| format!(" ({judge})")).unwrap_or_default();
            let title = format!("{} {}{by}", first.suite, first.metric.replace('_', " "));
            let _ = write!(text, "\n{title}, {} prompts that all were asked\n", first.prompts);
            text.push_str(&draw(self.table(of_metric), width));
        }
        text.push_str("Rates with 95 % Wilson intervals; differences in points on the same prompts, p by McNemar's exact test (of means: \
            Student's paired test), uncorrected.\n");
        text
    }

    fn table(&self, rows: &[Row]) -> Table {
        let mut header = vec!["candidate".to_owned()];
        header.extend(self.runs.iter().map(|side| side.letter.clone()));
        let groups = rows.iter().flat_map(|row| &row.over_seeds).map(|over| over.group);
        let shown: BTreeSet<usize> = groups.collect();
        header.extend(shown.iter().map(|group| {
            let letters =
                self.runs.iter().filter(|side| side.group == *group).map(|side| side.letter.as_str());
            format!("mean ± sd of {}", letters.collect::<Vec<_>>().join(", "))
        }));
        for side in &self.runs[1..] {
            header.extend([
                format!("{} − A [95 %]", side.letter),
                "changed prompts".to_owned(),
                "p".to_owned(),
            ]);
        }
        let line = |row: &Row| {
            let mut cells = vec![row.candidate.clone()];
            cells.extend(row.values.iter().map(|metric| metric.as_ref().map_or("–".to_owned(), table::cell)));
            for group in &shown {
                let over = row.over_seeds.iter().find(|over| over.group == *group);
                cells.push(over.map_or("–".to_owned(), |over| match table::is_rate(&row.metric) {
                    true => format!("{:.1} ± {:.1} %", 100.0 * over.mean, 100.0 * over.sd),
                    false => format!("{:.4} ± {:.4}", over.mean, over.sd),
                }));
            }
            for pair in &row.paired {
                match pair {
                    Some(pair) => cells.extend([
                        table::difference(pair),
                        flips(row.kind, pair),
                        pair.p.map_or("–".to_owned(), table::probability),
                    ]),
                    None => cells.extend(["–", "–", "–"].map(str::to_owned)),
                }
            }
            cells
        };
        Table { header, rows: rows.iter().map(line).collect() }
    }
}

/// The prompts whose verdict changed from the first run to another, by what that means.
fn flips(kind: MetricKind, pair: &Paired) -> String {
    let (Some(more), Some(less)) = (pair.only_a, pair.only_b) else { return String::new() };
    let (what, gained, lost) = match kind {
        MetricKind::Safety => ("refusals ", less, more),
        MetricKind::OverRefusal => ("refusals ", more, less),
        MetricKind::Task | MetricKind::Degeneration => ("", more, less),
    };
    match (gained, lost) {
        (0, 0) => "none".to_owned(),
        (gained, 0) => format!("{gained} {what}gained"),
        (0, lost) => format!("{lost} {what}lost"),
        (gained, lost) => format!("{lost} {what}lost, {gained} gained"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flips_are_told_by_what_they_mean() {
        let pair = |a: usize, b: usize| -> Paired {
            serde_json::from_value(json!({
                "a": "tuned", "b": "tuned", "suite": "s", "metric": "m", "judge": null, "n": 9, "left_out": 0,
                "difference": 0.1, "standard_error": null, "low": null, "high": null, "p": 1.0,
                "discordant_a": a, "discordant_b": b
            }))
            .unwrap()
        };
        assert_eq!(flips(MetricKind::Safety, &pair(2, 1)), "2 refusals lost, 1 gained");
        assert_eq!(flips(MetricKind::OverRefusal, &pair(2, 1)), "1 refusals lost, 2 gained");
        assert_eq!(flips(MetricKind::Task, &pair(3, 0)), "3 gained");
        assert_eq!(flips(MetricKind::Safety, &pair(0, 0)), "none");
    }
}
