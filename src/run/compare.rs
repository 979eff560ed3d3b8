//! Several runs side by side on what they have in common; nobody is asked.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::ask::{Index, Transcript};
use super::failure::{Failure, NothingInCommon};
use super::judge::{Case, scores};
use super::review::case;
use super::session::folder::differing;
use crate::doing;
use crate::eval::{self, Denominator, Item, Metric, MetricKind, Paired, Scores};
use crate::report::SuiteSetup;
use crate::report::compared::{Comparison, Row, Side};
use crate::snapshot::files::read_json;

/// The version of what is printed as JSON.
const SCHEMA: u32 = 1;

/// One run, read.
struct Read {
    folder: PathBuf,
    case: Case,
    /// The parts of its recipe that decide its models.
    recipe: Value,
    /// By candidate and suite.
    scores: Vec<Vec<Vec<Scores>>>,
}

/// Lays runs side by side: the same prompts, the same candidates, the same judges.
///
/// # Errors
///
/// A folder is none of a run that was evaluated, answers are missing, or the runs have nothing in common.
pub fn compare(folders: &[PathBuf]) -> Result<Comparison, Failure> {
    let mut runs = folders.iter().map(|folder| read(folder)).collect::<Result<Vec<_>, _>>()?;
    let mut notes = Vec::new();
    in_common(&mut runs, &mut notes);
    for run in &mut runs {
        let Case { seed, asked, .. } = &run.case;
        let verdicts = run.case.verdicts(None)?;
        let all = asked.answered.iter().zip(&verdicts);
        let all = all.map(|(said, judged)| scores::scores(&asked.suites, said, judged, *seed));
        run.scores = all.collect::<Result<_, _>>()?;
    }
    let sides = sides(&runs);
    let mut rows = Vec::new();
    for nth in 0..runs[0].case.asked.suites.len() {
        let shared = Shared::new(nth, &runs, &sides);
        for metric in shared.wanted(&mut notes) {
            for said in &runs[0].case.asked.answered {
                rows.extend(shared.row(&said.about.name, &metric)?);
            }
        }
    }
    notes.extend(alone(&runs, &sides));
    if rows.is_empty() {
        let folders =
            folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join("`, `");
        return Err(NothingInCommon { folders, notes: notes.join("; ") }.into());
    }
    Ok(Comparison { schema: SCHEMA, runs: sides, notes, rows })
}

fn read(folder: &Path) -> Result<Read, Failure> {
    let _doing = doing::now(format!("reading the run `{}`", folder.display()));
    let case = case(folder, &Index::read(folder)?)?;
    let manifest: Value = read_json(&folder.join("manifest.json")).unwrap_or_default();
    let mut recipe = match manifest["recipe"].as_object() {
        Some(recipe) => json!(recipe),
        None => json!({ "given": manifest["given"] }),
    };
    if let Some(sections) = recipe.as_object_mut() {
        // What is asked and merged is compared itself.
        sections.retain(|section, _| !["name", "schema", "merge", "eval"].contains(&section.as_str()));
    }
    Ok(Read { folder: folder.to_owned(), case, recipe, scores: Vec::new() })
}

/// What runs are called, how they differ, and which of them do so in their seed alone.
fn sides(runs: &[Read]) -> Vec<Side> {
    let without_seed = |run: &Read| {
        let mut recipe = run.recipe.clone();
        recipe["train"]["seed"] = Value::Null;
        recipe
    };
    let all: Vec<Value> = runs.iter().map(without_seed).collect();
    let mut firsts: Vec<&Value> = Vec::new();
    let sides = runs.iter().zip(&all).zip('A'..).map(|((run, recipe), letter)| {
        let group = firsts.iter().position(|first| *first == recipe).unwrap_or_else(|| {
            firsts.push(recipe);
            firsts.len() - 1
        });
        let mut differs = Vec::new();
        differing("", &runs[0].recipe, &run.recipe, &mut differs);
        let folder = run.folder.display().to_string();
        let seed = run.recipe["train"]["seed"].as_u64().unwrap_or(run.case.seed);
        Side { letter: letter.to_string(), folder, seed, differs, group }
    });
    sides.collect()
}

/// Leaves of every run the suites and prompts that all have, in the order of the first.
fn in_common(runs: &mut [Read], notes: &mut Vec<String>) {
    let names: Vec<(String, &str)> = runs[0]
        .case
        .asked
        .suites
        .iter()
        .map(|posed| (posed.suite.name.clone(), posed.suite.task.name))
        .collect();
    let place = |run: &Read, (name, task): &(String, &str)| {
        let suites = run.case.asked.suites.iter();
        suites.clone().position(|posed| posed.suite.name == *name && posed.suite.task.name == *task)
    };
    let mut kept: Vec<Vec<(usize, Vec<usize>)>> = vec![Vec::new(); runs.len()];
    for name in &names {
        let places: Option<Vec<usize>> = runs.iter().map(|run| place(run, name)).collect();
        let Some(places) = places else {
            notes.push(format!("`{}` was not asked in every run", name.0));
            continue;
        };
        let posed = |(run, nth): (&Read, &usize)| run.case.asked.suites[*nth].clone();
        let all: Vec<_> = runs.iter().zip(&places).map(posed).collect();
        let rows = shared(&all.iter().map(|posed| posed.items.as_slice()).collect::<Vec<_>>());
        let most = all.iter().map(|posed| posed.items.len()).max().unwrap_or(0);
        if rows.len() < most {
            notes.push(format!(
                "`{}`: only {} of up to {most} prompts were asked in every run",
                name.0,
                rows.len()
            ));
        }
        notes.extend(all[1..].iter().zip('B'..).filter_map(|(posed, letter)| {
            asked_otherwise(&all[0].asked, &posed.asked, rows.len() == most)
                .map(|what| format!("`{}` was asked otherwise in {letter} than in A: {what}", name.0))
        }));
        for (run, (kept, nth)) in kept.iter_mut().zip(&places).enumerate() {
            kept.push((*nth, rows.iter().map(|row| row[run]).collect()));
        }
    }
    for (run, kept) in runs.iter_mut().zip(kept) {
        only(&mut run.case, &kept);
    }
    // A prompt that is shared has one name: that of the first run.
    let names: Vec<Vec<String>> = runs[0]
        .case
        .asked
        .suites
        .iter()
        .map(|posed| posed.items.iter().map(|item| item.id.clone()).collect())
        .collect();
    for run in &mut runs[1..] {
        for (posed, names) in run.case.asked.suites.iter_mut().zip(&names) {
            let items = &mut Arc::make_mut(posed).items;
            items.iter_mut().zip(names).for_each(|(item, name)| item.id.clone_from(name));
        }
    }
}

/// The places of the prompts that all lists have, in the order of the first; a prompt that stands several times is
/// shared as often as every list has it.
fn shared(lists: &[&[Item]]) -> Vec<Vec<usize>> {
    let mut places: Vec<HashMap<&str, VecDeque<usize>>> = vec![HashMap::new(); lists.len()];
    for (places, items) in places.iter_mut().zip(lists) {
        for (nth, item) in items.iter().enumerate() {
            places.entry(item.prompt.as_str()).or_default().push_back(nth);
        }
    }
    let mut found = Vec::new();
    for item in lists[0] {
        let all = |places: &HashMap<&str, VecDeque<usize>>| {
            places.get(item.prompt.as_str()).is_some_and(|nths| !nths.is_empty())
        };
        if places.iter().all(all) {
            let next = |places: &mut HashMap<&str, VecDeque<usize>>| {
                places.get_mut(item.prompt.as_str())?.pop_front()
            };
            found.push(places.iter_mut().filter_map(next).collect());
        }
    }
    found
}

/// Which settings of a suite differ, if any do.
fn asked_otherwise(a: &SuiteSetup, b: &SuiteSetup, same_items: bool) -> Option<String> {
    let settings = |setup: &SuiteSetup| {
        let mut settings = json!(setup);
        if let Value::Object(map) = &mut settings {
            // Where the items differ so does their digest, and how many there are was said.
            let of_items = ["items", "of", "seed", "excluded", "source"];
            map.retain(|key, _| !of_items.contains(&key.as_str()) && (same_items || key != "sha256"));
        }
        settings
    };
    let mut found = Vec::new();
    differing("", &settings(a), &settings(b), &mut found);
    let found: Vec<String> = found
        .into_iter()
        .map(|key| if key == "`sha256`" { "the prompts as tokens".to_owned() } else { key })
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// Keeps these suites, and of each these items.
fn only(case: &mut Case, kept: &[(usize, Vec<usize>)]) {
    fn at<T: Clone>(all: &[T], items: &[usize]) -> Vec<T> {
        items.iter().filter_map(|item| all.get(*item).cloned()).collect()
    }
    let asked = &mut case.asked;
    asked.suites = kept
        .iter()
        .map(|(nth, items)| {
            let mut posed = asked.suites[*nth].clone();
            let own = Arc::make_mut(&mut posed);
            own.items = at(&own.items, items);
            posed
        })
        .collect();
    for said in &mut asked.answered {
        said.suites = kept
            .iter()
            .map(|(nth, items)| {
                let said = said.suites[*nth].as_ref()?;
                Some(Transcript {
                    answers: at(&said.answers, items),
                    thoughts: at(&said.thoughts, items),
                    texts: at(&said.texts, items),
                    choices: at(&said.choices, items),
                    by_guard: if said.by_guard.is_empty() { Vec::new() } else { at(&said.by_guard, items) },
                })
            })
            .collect();
    }
}

/// One suite as all runs have it.
struct Shared<'a> {
    runs: &'a [Read],
    sides: &'a [Side],
    nth: usize,
    name: &'a str,
    kind: MetricKind,
    denominator: Denominator,
}

impl<'a> Shared<'a> {
    fn new(nth: usize, runs: &'a [Read], sides: &'a [Side]) -> Self {
        let Case { run, asked, .. } = &runs[0].case;
        let suite = &asked.suites[nth].suite;
        let kind = suite.task.kind;
        let denominator = match kind {
            MetricKind::Task | MetricKind::Degeneration => Denominator::All,
            MetricKind::Safety | MetricKind::OverRefusal => run.denominator,
        };
        Self { runs, sides, nth, name: &suite.name, kind, denominator }
    }

    /// What a candidate of a run scored over all items.
    fn metrics(&self, run: &Read, candidate: usize) -> Vec<Metric> {
        let all = run.scores[candidate][self.nth].iter().flat_map(|scores| &scores.metrics);
        let whole = |metric: &&Metric| {
            let is_own = metric.kind == self.kind && metric.denominator == self.denominator;
            metric.category.is_none() && is_own
        };
        all.filter(whole).cloned().collect()
    }

    fn like(&self, run: &Read, candidate: usize, wanted: &Metric) -> Option<Metric> {
        let same = |m: &Metric| (&m.metric, &m.judge) == (&wanted.metric, &wanted.judge);
        self.metrics(run, candidate).into_iter().find(same)
    }

    /// Of a skill every metric that all runs have, of refusals the rate by the first judge that all have.
    fn wanted(&self, notes: &mut Vec<String>) -> Vec<Metric> {
        let mut all = self.metrics(&self.runs[0], 0);
        let headline = all.first().and_then(|metric| metric.judge.clone());
        all.retain(|metric| self.runs.iter().all(|run| self.like(run, 0, metric).is_some()));
        if self.kind == MetricKind::Task {
            return all;
        }
        all.truncate(1);
        let by = all.first().and_then(|metric| metric.judge.clone());
        let name = self.name;
        match (&by, headline) {
            (Some(by), Some(headline)) if *by != headline => {
                notes.push(format!("`{name}`: not every run has verdicts of {headline}; compared by {by}"));
            }
            (None, Some(_)) => notes.push(format!("`{name}`: the runs have no judge in common")),
            _ => {}
        }
        let shows = |(run, side): (&Read, &Side)| {
            let own = self.metrics(run, 0).into_iter().next()?.judge?;
            (by.as_ref().is_some_and(|by| *by != own)).then(|| format!("{own} in {}", side.letter))
        };
        let moved: Vec<String> = self.runs[1..].iter().zip(&self.sides[1..]).filter_map(shows).collect();
        if !moved.is_empty() {
            notes.push(format!("`{name}`: tables of reports show another judge: {}", moved.join(", ")));
        }
        all
    }

    /// One metric of one candidate of the first run, if another has the candidate too.
    fn row(&self, candidate: &str, metric: &Metric) -> Result<Option<Row>, Failure> {
        let named = |run: &Read| run.case.asked.answered.iter().position(|said| said.about.name == candidate);
        let places: Vec<Option<usize>> = self.runs.iter().map(named).collect();
        if places[1..].iter().all(Option::is_none) {
            return Ok(None);
        }
        let all = || self.runs.iter().zip(&places);
        let values: Vec<Option<Metric>> =
            all().map(|(run, place)| self.like(run, (*place)?, metric)).collect();
        let scores: Vec<Option<&[Scores]>> =
            all().map(|(run, place)| Some(run.scores[(*place)?][self.nth].as_slice())).collect();
        let others = scores[1..].iter().zip(&self.sides[1..]);
        let paired = others.map(|(other, side)| pair((candidate, metric), (*other, scores[0]), &side.letter));
        Ok(Some(Row {
            candidate: candidate.to_owned(),
            suite: self.name.to_owned(),
            metric: metric.metric.clone(),
            judge: metric.judge.clone(),
            kind: self.kind,
            prompts: self.runs[0].case.asked.suites[self.nth].items.len(),
            over_seeds: Row::over_seeds(self.sides, &values),
            paired: paired.collect::<Result<_, _>>()?,
            values,
        }))
    }
}

/// A candidate of one run less its namesake of the first.
fn pair(
    (candidate, metric): (&str, &Metric),
    (of_other, of_first): (Option<&[Scores]>, Option<&[Scores]>),
    letter: &str,
) -> Result<Option<Paired>, Failure> {
    let (Some(other), Some(first)) = (of_other, of_first) else { return Ok(None) };
    let names = [format!("{letter}:{candidate}"), format!("A:{candidate}")];
    for (other, first) in other.iter().zip(first) {
        let pairs = eval::pair((&names[0], other), (&names[1], first))?;
        let like = |pair: &Paired| (&pair.metric, &pair.judge) == (&metric.metric, &metric.judge);
        if let Some(found) = pairs.into_iter().find(like) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Candidates that stand in one run alone.
fn alone(runs: &[Read], sides: &[Side]) -> Vec<String> {
    let names = |run: &Read| -> Vec<String> {
        run.case.asked.answered.iter().map(|said| said.about.name.clone()).collect()
    };
    let all: Vec<Vec<String>> = runs.iter().map(names).collect();
    let own = |(nth, side): (usize, &Side)| {
        let others = || all.iter().enumerate().filter(|(other, _)| *other != nth).map(|(_, names)| names);
        let own: Vec<String> =
            all[nth].iter().filter(|name| !others().any(|names| names.contains(name))).cloned().collect();
        (!own.is_empty()).then(|| format!("only in {}: {}", side.letter, own.join(", ")))
    };
    sides.iter().enumerate().filter_map(own).collect()
}
