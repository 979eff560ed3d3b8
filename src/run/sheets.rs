//! Answers laid side by side, with what the judges say of them.

use super::ask::{Responses, Transcript};
use super::judge::{Case, Verdicts};
use crate::eval::{Criterion, Fault, Form, Item, Judgement, Verdict, quality};
use crate::report::sheet::{Cell, Opinion, Row, Sheet, SheetSuite};

/// Every prompt with the answers of all candidates.
pub fn sheet(case: &Case, verdicts: &Verdicts) -> Sheet {
    let suites = case.asked.suites.iter().enumerate();
    let suites = suites.filter(|(_, posed)| posed.suite.task.form == Form::Answer).map(|(nth, posed)| {
        let row = |(at, item): (usize, &Item)| Row {
            id: item.id.clone(),
            prompt: item.prompt.clone(),
            reference: item.reference.clone(),
            category: item.category.clone(),
            cells: cells(case, verdicts, nth, at),
        };
        let rows = posed.items.iter().enumerate().map(row).collect();
        SheetSuite { name: posed.suite.name.clone(), kind: posed.suite.task.kind, rows }
    });
    let suites = suites.collect();
    let candidates = case.asked.answered.iter().map(|answered| answered.about.name.clone()).collect();
    Sheet { candidates, suites }
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
