//! What was asked, looked at again without model and data: judged by other judges, or laid side by side.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::ask::{Gathered, Index};
use super::conclude::conclude;
use super::failure::Failure;
use super::judge::Case;
use super::plan::judges::RubricPlan;
use super::plan::sources::Sources;
use super::plan::{self, Options};
use super::session::Session;
use super::sheets;
use crate::device;
use crate::doing;
use crate::eval::{Denominator, MetricKind, Suite};
use crate::event::Listener;
use crate::hub;
use crate::recipe::RubricJudge;
use crate::report::Report;
use crate::report::sheet::Sheet;
use crate::snapshot::files::read_json;

/// Judges that a finished run's answers are to be judged by.
#[derive(Debug, Clone, Default)]
pub struct OtherJudges {
    /// Rules, besides the run's own.
    pub rules: Vec<String>,
    /// Models, besides the run's own.
    pub rubrics: Vec<RubricJudge>,
    /// The judge whose rates tables show from now on.
    pub headline: Option<String>,
}

/// What was asked in a run folder, as it was judged.
///
/// # Errors
///
/// The folder is none of a run that was evaluated, or answers are missing.
pub(super) fn case(folder: &Path, index: &Index) -> Result<Case, Failure> {
    let earlier: Option<Report> = read_json(&folder.join("report.json")).ok();
    Ok(Case {
        run: index.run.clone(),
        seed: index.seed,
        asked: Gathered {
            suites: index.posed()?,
            judges: index.judges()?,
            answered: index.answered(folder)?,
            apart: index.apart(),
        },
        gates: earlier
            .map(|report| report.gates.into_iter().map(|result| result.gate).collect())
            .unwrap_or_default(),
    })
}

/// Judges the stored answers and writes the report anew; generates nothing.
///
/// # Errors
///
/// An answer is missing, a judge cannot be asked, or the run was asked to stop.
pub fn judge<'a>(
    folder: &Path,
    judges: &OtherJudges,
    options: &Options,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
    tell: &mut hub::Tell<'_>,
) -> Result<Report, Failure> {
    let mut index = Index::read(folder)?;
    for judge in &judges.rubrics {
        index.eval.rubrics.retain(|other| other.rubric != judge.rubric);
        index.eval.rubrics.push(judge.clone());
    }
    if judges.headline.is_some() {
        // What else it settled stands among the settings by now.
        index.eval.preset.clear();
        (index.run.preset, index.run.denominator) = (None, Denominator::All);
    }
    let mut case = case(folder, &index)?;
    if let Some(headline) = &judges.headline {
        case.asked.judges.headline = Some(headline.clone());
    }
    let mut sources = Sources::new("", Some(folder), tell);
    for judge in &judges.rubrics {
        let plan = RubricPlan::new(judge, &index.eval, &mut sources)?;
        case.asked.judges.rubrics.retain(|other| other.rubric.name != plan.rubric.name);
        case.asked.judges.rubrics.push(plan);
    }
    for posed in &mut case.asked.suites {
        let own = &posed.suite;
        let new = judges.rules.iter().filter(|name| own.judges.iter().all(|judge| judge.name != **name));
        let names: Vec<String> =
            own.judges.iter().map(|judge| judge.name.to_owned()).chain(new.cloned()).collect();
        // The judges of refusals; a skill keeps its own.
        if own.task.kind != MetricKind::Task && names.len() > own.judges.len() {
            let with_new = Suite::new(own.task.name, own.path.clone(), &names)?;
            std::sync::Arc::make_mut(posed).suite.judges = with_new.judges;
        }
    }
    let opened = device::open(&options.device)?;
    let machine = plan::machine([index.compute, index.eval.compute], options, &opened);
    let rows = options.eval_rows.unwrap_or(plan::rows(&opened));
    let mut session = Session::open(folder, None, stop, watcher)?;
    conclude(&case, (&index.eval, index.compute), (&machine, rows), &mut session)
}

/// Every prompt with the answers of all candidates and what every judge said of them; nobody is asked.
///
/// # Errors
///
/// The folder is none of a run that was evaluated, or answers are missing.
pub fn sheet(folder: &Path) -> Result<Sheet, Failure> {
    let _doing = doing::now(format!("reading the run `{}`", folder.display()));
    let case = case(folder, &Index::read(folder)?)?;
    let verdicts = case.verdicts(None)?;
    Ok(sheets::sheet(&case, &verdicts))
}
