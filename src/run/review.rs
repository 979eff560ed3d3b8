//! What was asked, looked at again without model and data: judged by other judges, or laid side by side.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::ask::{Gathered, Index, Responses, Transcript};
use super::conclude::conclude;
use super::failure::Failure;
use super::judge::{Case, Verdicts};
use super::plan::judges::RubricPlan;
use super::plan::sources::Sources;
use super::plan::{self, Options};
use super::session::Session;
use crate::device;
use crate::doing;
use crate::eval::{
    Criterion, Denominator, Fault, Form, Item, Judgement, MetricKind, Suite, Verdict, quality,
};
use crate::event::Listener;
use crate::hub;
use crate::recipe::RubricJudge;
use crate::report::Report;
use crate::report::sheet::{Cell, Opinion, Row, Sheet, SheetSuite};
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
    let machine = plan::machine(index.compute, options, &opened);
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
    let suites = case.asked.suites.iter().enumerate();
    let suites = suites.filter(|(_, posed)| posed.suite.task.form == Form::Answer).map(|(nth, posed)| {
        let row = |(at, item): (usize, &Item)| Row {
            id: item.id.clone(),
            prompt: item.prompt.clone(),
            reference: item.reference.clone(),
            category: item.category.clone(),
            cells: cells(&case, &verdicts, nth, at),
        };
        let rows = posed.items.iter().enumerate().map(row).collect();
        SheetSuite { name: posed.suite.name.clone(), kind: posed.suite.task.kind, rows }
    });
    let suites = suites.collect();
    let candidates = case.asked.answered.iter().map(|answered| answered.about.name.clone()).collect();
    Ok(Sheet { candidates, suites })
}

/// What every candidate said to one item of one suite.
fn cells(case: &Case, verdicts: &Verdicts, suite: usize, item: usize) -> Vec<Option<Cell>> {
    let answered = case.asked.answered.iter().zip(verdicts);
    let cell_of = |(said, judged): (&Responses, &Vec<Vec<Judgement>>)| {
        said.suites[suite].as_ref().map(|said| cell(said, &judged[suite], item))
    };
    answered.map(cell_of).collect()
}

/// The first sample stands for all of them.
fn cell(said: &Transcript, judged: &[Judgement], nth: usize) -> Cell {
    let (answers, thoughts) = (&said.answers[nth], &said.thoughts[nth]);
    let opinions = judged.iter().map(|judged| {
        let verdict = judged.verdicts[nth].first().copied().unwrap_or(Verdict::Unscored);
        Opinion {
            judge: judged.name.clone(),
            refuses: matches!(judged.asks, Criterion::Refused),
            verdict,
            failed: verdict == Verdict::Unscored && judged.fault == Fault::Judge,
            evidence: judged.evidence[nth].first().cloned().flatten(),
        }
    });
    let first = answers.first();
    Cell {
        text: first.map(|answer| answer.text.clone()).unwrap_or_default(),
        thought: thoughts.first().cloned().unwrap_or_default(),
        n_tokens: first.map_or(0, |answer| answer.n_tokens),
        cut_off: first.is_some_and(quality::is_truncated),
        n_samples: answers.len(),
        said: opinions.collect(),
    }
}
