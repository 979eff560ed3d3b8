//! How long the evaluation of a run will take.

use super::measure::Figures;
use crate::run::cast::Candidate;
use crate::run::plan::Plan;
use crate::run::plan::questions::Questions;

/// Seconds of asking every candidate everything, and of probing every layer where a merge goes by it.
pub(super) fn evaluation(plan: &Plan, figures: &Figures) -> f64 {
    let n = Candidate::of_plan(plan).len();
    let probing = plan.merging.probing.as_ref().map_or(0.0, |probing| {
        (plan.model.shape.n_layers + 2) as f64 * asking(plan, figures, &probing.evaluation.suites)
    });
    n as f64 * asking(plan, figures, &plan.evaluation.suites) + probing
}

/// Seconds of asking one candidate these suites.
fn asking(plan: &Plan, figures: &Figures, suites: &[Questions]) -> f64 {
    let mut seconds = figures.load;
    for suite in suites {
        let rows = plan.evaluation.rows.clamp(1, suite.n_answers().max(1));
        let prompts: usize = suite.prompts.iter().map(Vec::len).sum::<usize>() * suite.posed.n_samples;
        let choices = suite.choices.iter().flat_map(|question| &question.choices);
        let texts = suite.texts.iter().flatten().map(|sample| sample.ids.len());
        let read: usize = choices.map(|choice| choice.ids.len()).chain(texts).sum::<usize>() + prompts;
        let batches = suite.n_answers() as f64 / rows as f64;
        seconds += figures.read * read as f64 + figures.decode * batches * new_tokens(plan, suite);
    }
    seconds
}

/// How many tokens an answer will have: twice the mean reference, or half of what is allowed.
fn new_tokens(plan: &Plan, suite: &Questions) -> f64 {
    let allowed = suite.decoding.max_new_tokens as f64;
    let references = suite.posed.items.iter().filter_map(|item| item.reference.as_ref());
    let lengths: Vec<usize> = references
        .take(50)
        .filter_map(|text| plan.model.tokenizer.encode(text).ok())
        .map(|ids| ids.len())
        .collect();
    match lengths.len() {
        0 => allowed / 2.0,
        n => (2.0 * lengths.iter().sum::<usize>() as f64 / n as f64).min(allowed),
    }
}
