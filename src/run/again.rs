//! A finished run looked at again: judged by other judges, or its answers laid side by side.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::asking::Asking;
use super::evaluate::{Candidate, evaluate};
use super::folder::{Folder, Logs};
use super::judging::Verdicts;
use super::plan::Options;
use super::{Failure, Plan, Sink, report_of, write_report};
use crate::eval::{Form, Judged, Verdict};
use crate::event::Listener;
use crate::hub;
use crate::recipe::{Recipe, RecipeError, RubricJudge};
use crate::report::Report;
use crate::report::sheet::{Cell, Row, Said, Sheet, SheetSuite};
use crate::snapshot::files::read_json;

/// Judges that a finished run's answers are to be judged by.
#[derive(Debug, Clone, Default)]
pub struct Judges {
    /// Rules, in the place of the run's own.
    pub rules: Vec<String>,
    /// Models, besides the run's own.
    pub rubrics: Vec<RubricJudge>,
}

/// Settles a finished run again, with other judges.
///
/// # Errors
///
/// The folder is no run, or what it was made from is gone or has changed.
pub fn plan(
    folder: &Path,
    judges: &Judges,
    mut options: Options,
    tell: &mut hub::Tell<'_>,
) -> Result<Plan, Failure> {
    let path = folder.join("manifest.json");
    let manifest: Value = read_json(&path).map_err(|_| RecipeError::NotFound {
        name: folder.display().to_string(),
        help: "a run folder holds `manifest.json`; name the folder that the study wrote".to_owned(),
    })?;
    let origin = manifest["recipe_origin"].as_str().unwrap_or_default().to_owned();
    let recipe: Result<Recipe, _> = serde_json::from_value(manifest["recipe"].clone());
    let recipe = recipe.map_err(|error| RecipeError::NotFound {
        name: path.display().to_string(),
        help: format!("another version of this program wrote it ({error}); run the study again"),
    })?;
    let mut recipe = Recipe::parse(&recipe.to_toml(), &origin, &[])?;
    if !judges.rules.is_empty() {
        recipe.eval.judges.clone_from(&judges.rules);
        // What else it settled stands in the recipe by now.
        recipe.eval.preset.clear();
    }
    for judge in &judges.rubrics {
        recipe.eval.rubrics.retain(|other| other.rubric != judge.rubric);
        recipe.eval.rubrics.push(judge.clone());
    }
    options.out = Some(folder.to_owned());
    let text = recipe.to_toml();
    Plan::new(recipe, text, origin, options, tell)
}

/// Judges the stored answers and writes the report anew; generates nothing.
///
/// # Errors
///
/// An answer is missing, a judge cannot be asked, or the run was asked to stop.
pub fn judge<'a>(plan: &Plan, stop: &AtomicBool, watcher: &'a mut Listener<'a>) -> Result<Report, Failure> {
    let folder = Folder::hold(&plan.folder, &plan.key)?;
    let mut sink = Sink { logs: Logs::open(&folder)?, watcher };
    let evaluated = evaluate(plan, &folder, None, stop, &mut sink)?;
    let result = read_json::<Value>(&folder.train().join("result.json")).unwrap_or_default();
    let report = report_of(plan, result["validation_loss"].as_f64(), evaluated);
    write_report(&folder, &report)?;
    Ok(report)
}

/// Every prompt with the answers of all candidates and what every judge says of them.
///
/// # Errors
///
/// As [`judge`].
pub fn sheet<'a>(plan: &Plan, stop: &AtomicBool, watcher: &'a mut Listener<'a>) -> Result<Sheet, Failure> {
    let folder = Folder::hold(&plan.folder, &plan.key)?;
    let mut sink = Sink { logs: Logs::open(&folder)?, watcher };
    let candidates = Candidate::all(plan);
    let mut asked = Vec::new();
    for candidate in &candidates {
        let asking = Asking::open(plan, &folder, candidate)?;
        if asking.n_missing() > 0 {
            return Err(asking.incomplete().into());
        }
        asked.push(asking);
    }
    let verdicts = Verdicts::find(plan, &asked, stop, &mut sink)?;
    let suites =
        plan.suites.iter().enumerate().filter(|(_, planned)| planned.suite.task.form == Form::Answer);
    let suites = suites.map(|(i, planned)| {
        let answers: Vec<_> = asked.iter().map(|asking| asking.answers(i)).collect();
        let by = asked.iter().zip(&answers);
        let judged: Vec<Vec<Judged>> = by
            .map(|(asking, answers)| verdicts.of(plan, &planned.suite, &planned.items, answers, (asking, i)))
            .collect();
        let row = |(nth, item): (usize, &crate::eval::Item)| Row {
            id: item.id.clone(),
            prompt: item.prompt.clone(),
            reference: item.reference.clone(),
            category: item.category.clone(),
            cells: answers
                .iter()
                .zip(&judged)
                .map(|(answers, judged)| cell(&answers[nth], judged, nth))
                .collect(),
        };
        let rows = planned.items.iter().enumerate().map(row).collect();
        SheetSuite { name: planned.suite.name.clone(), kind: planned.suite.task.kind, rows }
    });
    let suites = suites.collect();
    Ok(Sheet { candidates: candidates.iter().map(Candidate::name).collect(), suites })
}

/// The first sample stands for all of them.
fn cell(answers: &[crate::eval::Completion], judged: &[Judged], nth: usize) -> Cell {
    let said = judged.iter().map(|judged| Said {
        judge: judged.name.clone(),
        refuses: matches!(judged.asks, crate::eval::Criterion::Refused),
        verdict: judged.verdicts[nth].first().copied().unwrap_or(Verdict::Unscored),
        evidence: judged.evidence[nth].first().cloned().flatten(),
    });
    let first = answers.first();
    Cell {
        text: first.map(|answer| answer.text.clone()).unwrap_or_default(),
        n_tokens: first.map_or(0, |answer| answer.n_tokens),
        cut_off: first.is_some_and(crate::eval::quality::is_truncated),
        n_samples: answers.len(),
        said: said.collect(),
    }
}
