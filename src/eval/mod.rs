//! Measuring a candidate: what it is asked, and what its answers say about it.
//!
//! A [`Suite`] turns a file into items; something else generates the completions; [`score`] turns items and completions
//! into rates with intervals, and [`pair`] compares two candidates on the same items. Nothing here knows of models or
//! devices, so stored answers can be judged again by any judge at any time.
//!
//! A rate never stands alone: beside it stand the counts, Wilson's interval, and the shares of answers that were empty,
//! looping or cut off. An item that a judge could not decide stays in the denominator and is counted as unscored; where
//! the judge failed, and not the answer, it takes no part in a comparison.

pub mod choice;
mod criterion;
pub mod endpoint;
mod error;
pub mod fewshot;
pub mod ifeval;
pub mod item;
mod judgement;
pub mod judges;
pub mod measures;
mod metric;
pub mod pairing;
pub mod presets;
pub mod python_random;
pub mod quality;
pub mod repeated;
pub mod rubrics;
pub mod score;
pub mod stats;
mod tally;
pub mod tasks;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use self::criterion::Criterion;
pub use self::error::EvalError;
pub use self::item::{Completion, Finish, Item, MultipleChoice, Verdict};
pub use self::judgement::{Answers, Fault, Judgement, Trials};
use self::judges::JudgeRow;
pub use self::metric::{Denominator, Metric, Outcomes, Scores, Values};
pub use self::pairing::{Paired, pair};
pub use self::score::{chosen, likelihood, means, read, score};
pub use self::tally::{MEAN_OF_CATEGORIES, OFF_FORM};
pub use self::tasks::{Form, MetricKind};
use self::tasks::{Source, Task};
use crate::catalog::did_you_mean;
use crate::seed;

/// A task on a file: every name looked up, nothing read yet.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Stands in ids and reports; the task's own name unless there are two suites of one task.
    pub name: String,
    pub task: &'static Task,
    pub path: PathBuf,
    /// The field that holds the prompt, where the task does not know it.
    pub field: Option<String>,
    /// The field with which each item's answers begin.
    pub opening_field: Option<String>,
    /// Categories of the file that are not asked.
    pub exclude: Vec<String>,
    /// At most this many items, drawn by the run's seed.
    pub limit: Option<usize>,
    /// Worked examples before each prompt.
    pub shots: usize,
    /// The file they are drawn from, where the task does not find it.
    pub shots_path: Option<PathBuf>,
    pub judges: Vec<&'static JudgeRow>,
}

impl Suite {
    /// The suite of the task `task` on the file at `path`, judged by `judges` or, if there are none, by the task's own.
    ///
    /// # Errors
    /// An unknown task or judge, a judge that measures something else, or one that stands twice.
    pub fn new(task: &str, path: impl Into<PathBuf>, judges: &[String]) -> Result<Self, EvalError> {
        let task = tasks::find(task)?;
        let mut names: Vec<&str> = judges.iter().map(String::as_str).collect();
        if names.is_empty() {
            names = task.judges.to_vec();
        }
        let judges: Vec<_> = names.into_iter().map(judges::find).collect::<Result<_, _>>()?;
        if let Some(twice) =
            (1..judges.len()).find(|idx| judges[..*idx].iter().any(|row| row.name == judges[*idx].name))
        {
            return Err(EvalError::JudgeTwice { judge: judges[twice].name, suite: task.name });
        }
        if let Some(judge) = judges.iter().find(|judge| !task.kind.fits(judge.asks)) {
            let fitting = judges::JUDGES.iter().filter(|judge| task.kind.fits(judge.asks));
            return Err(EvalError::WrongJudge {
                judge: judge.name.to_owned(),
                says: judge.asks.in_words(),
                suite: task.name.to_owned(),
                measures: task.kind.in_words(),
                fitting: fitting.map(|judge| judge.name).collect::<Vec<_>>().join(", "),
            });
        }
        Ok(Self {
            name: task.name.to_owned(),
            task,
            path: path.into(),
            field: None,
            opening_field: None,
            exclude: Vec::new(),
            limit: None,
            shots: task.shots,
            shots_path: None,
            judges,
        })
    }

    /// The items to ask: the file's without the excluded categories, or the subset of them that `seed` draws, in the
    /// file's order; and how many it was drawn from.
    ///
    /// # Errors
    /// Whatever is wrong with the file, with its line; a category that it does not have.
    pub fn items(&self, seed: u64) -> Result<(Vec<Item>, usize), EvalError> {
        let mut items = self.task.load(&Source {
            suite: &self.name,
            path: &self.path,
            field: self.field.as_deref(),
            opening_field: self.opening_field.as_deref(),
            shots: self.shots,
            shots_path: self.shots_path.as_deref(),
        })?;
        self.without_excluded(&mut items)?;
        let of = items.len();
        Ok((subset(items, self.limit, seed, &self.name), of))
    }

    fn without_excluded(&self, items: &mut Vec<Item>) -> Result<(), EvalError> {
        let categories: BTreeSet<&str> = items.iter().filter_map(|item| item.category.as_deref()).collect();
        if let Some(name) = self.exclude.iter().find(|name| !categories.contains(name.as_str())) {
            let (suite, name) = (self.name.clone(), name.clone());
            let help = match categories.is_empty() {
                true => "its items have no categories".to_owned(),
                false => did_you_mean(&name, categories.iter().copied()),
            };
            return Err(EvalError::UnknownCategory { suite, name, help });
        }
        let excluded = |item: &Item| item.category.as_ref().is_some_and(|name| self.exclude.contains(name));
        items.retain(|item| !excluded(item));
        match items.is_empty() {
            true => Err(EvalError::NoItems { path: self.path.clone(), suite: self.name.clone() }),
            false => Ok(()),
        }
    }
}

/// At most `limit` of `items`, in their order: the same for every candidate, and a larger limit holds the smaller's.
fn subset(items: Vec<Item>, limit: Option<usize>, seed: u64, suite: &str) -> Vec<Item> {
    let n = items.len();
    match limit.filter(|limit| *limit < n) {
        Some(limit) => seed::parted(items, &seed::drawn(n, limit, seed, &format!("subset {suite}"))).0,
        None => items,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(n: usize) -> Vec<Item> {
        let item = |idx| Item { id: format!("{idx:03}"), ..Item::default() };
        (0..n).map(item).collect()
    }

    #[test]
    fn a_subset_keeps_the_order_and_depends_on_seed_and_suite_only() {
        let draw = |limit, seed, suite| subset(items(100), Some(limit), seed, suite);
        let twenty = draw(20, 1, "gsm8k");
        assert_eq!(twenty.len(), 20);
        let twelve: Vec<String> = draw(12, 1, "gsm8k").into_iter().map(|item| item.id).collect();
        assert_eq!(twelve.join(" "), "000 003 027 041 050 051 060 072 077 079 084 099");
        assert!(twenty.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(twenty, draw(20, 1, "gsm8k"));
        assert_ne!(twenty, draw(20, 2, "gsm8k"));
        assert_ne!(twenty, draw(20, 1, "advbench"));
    }

    #[test]
    fn a_larger_subset_holds_the_smaller() {
        let large = subset(items(100), Some(50), 1, "gsm8k");
        assert!(subset(items(100), Some(20), 1, "gsm8k").iter().all(|item| large.contains(item)));
    }

    #[test]
    fn excluded_categories_are_not_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "goal,category\na,fraud\nb,malware\nc,fraud\n").unwrap();
        let mut suite = Suite::new("harmful", &path, &[]).unwrap();
        suite.field = Some("goal".to_owned());
        let ask = |suite: &Suite| {
            let (items, _) = suite.items(1)?;
            Ok::<_, EvalError>(items.into_iter().map(|item| item.prompt).collect::<Vec<_>>())
        };
        suite.exclude = vec!["fraud".to_owned()];
        assert_eq!(ask(&suite).unwrap(), ["b"]);
        suite.exclude = vec!["frauds".to_owned()];
        let error = ask(&suite).unwrap_err();
        assert!(error.to_string().contains("suite `harmful` has no category `frauds`"), "{error}");
        assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("`fraud`"));
        suite.exclude = vec!["fraud".to_owned(), "malware".to_owned()];
        assert!(ask(&suite).unwrap_err().to_string().contains("no items"));
    }

    #[test]
    fn a_limit_above_the_file_keeps_all() {
        assert_eq!(subset(items(3), Some(5), 1, "gsm8k"), items(3));
        assert_eq!(subset(items(3), None, 1, "gsm8k"), items(3));
    }

    #[test]
    fn a_judge_of_numbers_is_refused_for_refusals() {
        let error = Suite::new("advbench", "a.csv", &["gsm8k_strict".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("suite `advbench` measures attack success"), "{error}");
        assert!(Suite::new("advbench", "a.csv", &["jbb13".to_owned()]).is_ok());
    }

    #[test]
    fn a_judge_named_twice_is_refused() {
        let error = Suite::new("advbench", "a.csv", &["jbb13".to_owned(), "jbb13".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("`jbb13` stands twice"), "{error}");
    }

    #[test]
    fn a_misspelt_suite_is_told_its_neighbour() {
        let error = Suite::new("gsm9k_chat", "a.jsonl", &[]).unwrap_err();
        assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("`gsm8k_chat`"));
    }
}
