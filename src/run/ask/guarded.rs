//! Asking a candidate behind a guard: nothing is generated that the bare candidate has said before.

use super::asking::Asking;
use super::stores::{Answer, Keys, Speaker, Watched};
use crate::run::failure::Failure;
use crate::run::guard::Sentry;
use crate::run::plan::guard::GuardPlan;
use crate::run::session::Session;

/// Answers what is missing: harmful requests by the guard, all others as `bare` did, bit for bit.
///
/// The guard is shown the request itself, the user's turn of an item: neither system message nor worked examples, nor the
/// beginning that answers are made to have, which its own answers therefore lack. What is measured by likelihoods passes
/// it by.
pub(super) fn answer(
    asking: &mut Asking<'_>,
    bare: &Asking<'_>,
    guard: &GuardPlan,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let (evaluation, machine) = (asking.exam.evaluation, asking.exam.machine);
    let folder = session.folder().path().join("guard").join(&guard.key[..8]);
    let mut sentry = Sentry::open(guard, (machine, evaluation.rows), &folder)?;
    let (own, its) = (asking.weights().to_owned(), bare.weights());
    for (nth, suite) in evaluation.suites.iter().enumerate() {
        let (own, its) = (Keys { weights: &own, suite }, Keys { weights: its, suite });
        let missing = asking.stores[nth].missing_answers(own);
        let request = |item: usize| suite.posed.items[item].prompt.as_str();
        let requests: Vec<&str> = missing.iter().map(|(item, _)| request(*item)).collect();
        let p = sentry.probabilities(&requests, session)?;
        let is_stopped = |p: f64| p >= guard.threshold;
        let stopped = requests.iter().zip(&p).filter(|(_, p)| is_stopped(**p));
        let stopped: Vec<&str> = stopped.map(|(request, _)| *request).collect();
        let mut replies = sentry.replies(&stopped, true, session)?.into_iter();
        let mut lines = Vec::new();
        for ((item, sample), p_harm) in missing.into_iter().zip(p) {
            let answer = match is_stopped(p_harm) {
                true => {
                    let said = replies.next().expect("there is a reply to every request that was stopped");
                    let id = suite.posed.items[item].id.clone();
                    let guard = Some(Watched { p_harm, by: Speaker::Guard });
                    Answer {
                        item: id,
                        sample,
                        text: said.text,
                        n_tokens: said.n_tokens,
                        finish: said.finish,
                        guard,
                    }
                }
                false => {
                    let said = bare.stores[nth].answer(&its.answer(item, sample));
                    let said = said.expect("the bare candidate was asked before").clone();
                    Answer { guard: Some(Watched { p_harm, by: Speaker::Model }), ..said }
                }
            };
            lines.push((own.answer(item, sample), answer));
        }
        asking.stores[nth].put_answers(lines)?;
        asking.stores[nth].take_over(own, &bare.stores[nth], its)?;
    }
    Ok(())
}
