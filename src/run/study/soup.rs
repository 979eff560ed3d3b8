//! Which models are averaged, of seeds or of their checkpoints: all of them, or those that a greedy soup takes.
//!
//! Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
//! inference time", 2022, arXiv 2203.05482, recipe 1: from the best model on, each joins whose mean with those that are
//! in does not score less on held-out data. Here these are the task suites whose purpose is validation.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::Study;
use super::series::{Read, series};
use crate::eval::MetricKind;
use crate::eval::tasks;
use crate::event::{Event, Listener};
use crate::hub;
use crate::merge;
use crate::recipe::{Cell, Ingredients, Purpose, Recipe, RecipeError, Soup};
use crate::run::alone::{Given, Settled};
use crate::run::failure::{Failure, StudyError};
use crate::run::plan::Shared;
use crate::run::plan::sources::Sources;
use crate::snapshot::files::read_json;
use crate::train::checkpoint::Checkpoints;

/// That a greedy soup has something to go by, and is merged by methods that can do with one model.
pub(super) fn check(cells: &[Cell]) -> Result<(), Failure> {
    for cell in cells.iter().filter(|cell| cell.ingredients == Ingredients::Checkpoints) {
        let train = &cell.recipe.train;
        if train.checkpoint_every == 0 || train.keep_checkpoints == 1 {
            let found = format!(
                "{} with `train.checkpoint_every = {}`",
                train.keep_checkpoints, train.checkpoint_every
            );
            let expected =
                "several checkpoints: steps between them, and how many are kept (0: all)".to_owned();
            return Err(
                RecipeError::BadValue { key: "train.keep_checkpoints".to_owned(), found, expected }.into()
            );
        }
    }
    for cell in cells.iter().filter(|cell| cell.soup == Soup::Greedy) {
        if held_out(&cell.recipe)?.eval.suites.is_empty() {
            return Err(StudyError::NothingToChooseBy { cell: cell.name.clone() }.into());
        }
        for spec in cell.recipe.merge.specs()? {
            let resolved = merge::resolve(&spec, cell.recipe.train.seed)?;
            if resolved.method.needs.several_tuned() {
                let why = "it compares several tuned models, and a greedy soup may be of one";
                return Err(resolved
                    .refused_for(why, "set `grid.soup = \"uniform\"`, or leave it out")
                    .into());
            }
        }
    }
    Ok(())
}

/// The recipe with the suites alone that a soup is chosen by.
fn held_out(recipe: &Recipe) -> Result<Recipe, Failure> {
    let mut recipe = recipe.clone();
    recipe.merge.methods.clear();
    recipe.gates.clear();
    recipe.eval.candidates.clear();
    recipe.steer = None;
    let mut suites = Vec::new();
    for suite in recipe.eval.suites {
        if suite.purpose == Purpose::Validation && tasks::find(&suite.task)?.kind == MetricKind::Task {
            suites.push(suite);
        }
    }
    recipe.eval.suites = suites;
    Ok(recipe)
}

/// The mean over the task suites for validation of what the tuned model of a finished run scores; nothing was scored
/// counts as the least.
fn score(cell: &Cell, folder: &Path) -> Result<f64, Failure> {
    let report = read_json(&folder.join("report.json"))?;
    let read = [Read { cell, report, outcomes: read_json(&folder.join("outcomes.json"))? }];
    let all = series(&read, &mut Vec::new());
    let of_task = all.iter().filter(|one| one.validation && one.lead && one.kind == MetricKind::Task);
    let means = of_task.filter(|one| one.candidate == "tuned").map(|one| Some(one.values.mean()?.mean));
    let means = means.collect::<Option<Vec<f64>>>().filter(|means| !means.is_empty());
    Ok(means.map_or(f64::NEG_INFINITY, |means| means.iter().sum::<f64>() / means.len() as f64))
}

/// The models that join, best first, by their own scores and what `joint` says of several.
///
/// # Errors
///
/// What `joint` returns.
fn greedy<E>(scores: &[f64], mut joint: impl FnMut(&[usize]) -> Result<f64, E>) -> Result<Vec<usize>, E> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Of equals the earlier seed comes first.
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut order = order.into_iter();
    let mut chosen: Vec<usize> = order.next().into_iter().collect();
    let mut best = chosen.first().map_or(f64::NEG_INFINITY, |first| scores[*first]);
    for next in order {
        let tried = [chosen.as_slice(), &[next]].concat();
        let found = joint(&tried)?;
        if found >= best {
            (chosen, best) = (tried, found);
        }
    }
    Ok(chosen)
}

/// The models that may go into a cell's soup, each with what it is called: of finished runs the last, or every
/// checkpoint.
fn ingredients(cell: &Cell, members: Vec<PathBuf>) -> Vec<(String, PathBuf)> {
    let runs = cell.over.iter().cloned().zip(members);
    match cell.ingredients {
        Ingredients::Last => runs.collect(),
        Ingredients::Checkpoints => runs
            .flat_map(|(name, run)| {
                let checkpoints = Checkpoints::new(&run.join("train"), 0);
                let steps = checkpoints.steps().into_iter();
                let named = move |step| (format!("{name} step {step}"), checkpoints.path(step));
                steps.map(named).collect::<Vec<_>>()
            })
            .collect(),
    }
}

impl Study {
    /// Of the models that a cell may merge those that its soup takes: each mean that is tried is asked the task suites
    /// for validation, in `soups` of the study's folder.
    pub(super) fn soup(
        &self,
        cell: &Cell,
        members: Vec<PathBuf>,
        (stop, watcher): (&AtomicBool, &mut Listener<'_>),
        tell: &mut hub::Tell<'_>,
    ) -> Result<Vec<PathBuf>, Failure> {
        let members_of = ingredients(cell, members.clone());
        if cell.soup == Soup::Uniform {
            return Ok(members_of.into_iter().map(|(_, path)| path).collect());
        }
        let recipe = held_out(&cell.recipe)?;
        let names = |chosen: &[usize]| {
            chosen.iter().map(|nth| members_of[*nth].0.as_str()).collect::<Vec<_>>().join(", ")
        };
        let mut shared = Shared::default();
        let mut asked = |tried: &[usize]| {
            let runs = tried.iter().map(|nth| members_of[*nth].1.clone()).collect();
            let source = recipe.model.source.clone();
            let given = Given { model: source.clone(), adapter: None, pre: Some(source), runs };
            let sources = Sources::new(&self.origin, None, tell);
            let (origin, options) = (&self.origin, &self.options);
            let mut settled = Settled::new(given, recipe.clone(), origin, options, sources, &mut shared)?;
            let name = format!("{}-{}", cell.name, &settled.key()[..8]);
            settled.folder = self.folder.join("soups").join(name);
            settled.run(stop, &mut |event| watcher(event))?;
            let found = score(cell, &settled.folder)?;
            watcher(Event::Note { text: format!("soup of {}: {found:.4} on validation", names(tried)) });
            Ok::<f64, Failure>(found)
        };
        // A run was asked the same suites; a checkpoint was not.
        let scores = match cell.ingredients {
            Ingredients::Last => {
                members.iter().map(|folder| score(cell, folder)).collect::<Result<Vec<_>, _>>()?
            }
            Ingredients::Checkpoints => {
                (0..members_of.len()).map(|nth| asked(&[nth])).collect::<Result<_, _>>()?
            }
        };
        let chosen = greedy(&scores, asked)?;
        let of = members_of.len();
        watcher(Event::Note {
            text: format!("{} of {of} models are in the soup: {}", chosen.len(), names(&chosen)),
        });
        Ok(chosen.iter().map(|nth| members_of[*nth].1.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::greedy;

    /// What is chosen, and every mean that was tried.
    fn chosen(scores: &[f64], joint: &[(&[usize], f64)]) -> (Vec<usize>, Vec<Vec<usize>>) {
        let mut tried = Vec::new();
        let found = greedy(scores, |of| {
            tried.push(of.to_vec());
            let known = joint.iter().find(|(known, _)| *known == of);
            known.map(|(_, score)| *score).ok_or(of.to_vec())
        });
        (found.unwrap(), tried)
    }

    #[test]
    fn a_model_joins_if_the_score_does_not_fall() {
        // Best first: 2, 0, 3, 1. Model 0 lowers the mean and stays out, 3 keeps it, 1 raises it.
        let joint: &[(&[usize], f64)] = &[(&[2, 0], 0.69), (&[2, 3], 0.7), (&[2, 3, 1], 0.75)];
        let (found, tried) = chosen(&[0.6, 0.2, 0.7, 0.5], joint);
        assert_eq!(found, [2, 3, 1]);
        assert_eq!(tried, [vec![2, 0], vec![2, 3], vec![2, 3, 1]]);
        // The bar is the soup's own score, not that of the best model.
        let joint: &[(&[usize], f64)] = &[(&[0, 1], 0.8), (&[0, 1, 2], 0.75)];
        assert_eq!(chosen(&[0.7, 0.6, 0.5], joint).0, [0, 1]);
        // Of equals the earlier seed begins, and what scored nothing comes last.
        let joint: &[(&[usize], f64)] = &[(&[1, 2], 0.1), (&[1, 0], 0.1)];
        assert_eq!(chosen(&[f64::NEG_INFINITY, 0.5, 0.5], joint).1, [vec![1, 2], vec![1, 0]]);
    }
}
