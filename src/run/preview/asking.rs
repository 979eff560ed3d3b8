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
        let outline = &suite.outline;
        let prompts = outline.prompts.iter().sum::<usize>() * suite.posed.n_samples;
        let choices: usize = outline.choices.iter().map(|[_, all]| all).sum();
        let read = prompts + choices + outline.texts.iter().sum::<usize>();
        let batches = suite.n_answers() as f64 / rows as f64;
        seconds += figures.read * read as f64 + figures.decode * batches * new_tokens(suite);
    }
    seconds
}

/// How many tokens an answer will have: twice the mean reference, or half of what is allowed.
fn new_tokens(suite: &Questions) -> f64 {
    let allowed = suite.decoding.max_new_tokens as f64;
    suite.outline.reference.map_or(allowed / 2.0, |mean| (2.0 * mean).min(allowed))
}
