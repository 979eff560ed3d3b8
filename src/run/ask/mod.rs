//! Every candidate asked the same things; what was said is stored once, and read by keys that know nothing of the run.

mod asking;
mod gathered;
mod guarded;
pub mod index;
mod pace;
mod pass;
mod responses;
mod shared;
mod steered;
pub mod stores;

pub use index::Index;
pub use pass::Exam;
pub use responses::{Gathered, Responses, To, Transcript};

use std::collections::VecDeque;

use super::cast::Cast;
use super::failure::Failure;
use super::session::Session;
use crate::event::Event;
use asking::Asking;
use pace::{Left, Pace};
use shared::Shelf;

/// Asks every candidate of the cast what is missing; what earlier calls asked comes along.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or the run was asked to stop.
pub fn ask(exam: Exam<'_>, cast: &Cast, session: &mut Session<'_>) -> Result<Gathered, Failure> {
    let shelf = if session.shares() { Shelf::of(exam.device) } else { Shelf::none() };
    let mut waiting = VecDeque::new();
    for nth in 0..cast.candidates.len() {
        let mut asking = Asking::open(exam, cast, nth, session)?;
        asking.borrow(&shelf, session)?;
        waiting.push_back(asking);
    }
    let mut pace =
        Pace::new(exam.evaluation.suites.iter().map(|suite| suite.decoding.max_new_tokens).collect());
    for asking in &waiting {
        asking.tell_lengths(&mut pace);
    }
    // Who stands behind a guard is asked nothing that was not asked before.
    let left = |asking: &Asking<'_>| match cast.guard_of(asking.candidate) {
        Some(_) => vec![Left::default(); exam.evaluation.suites.len()],
        None => asking.left(),
    };
    let mut later: VecDeque<_> = waiting.iter().map(left).collect();
    let mut decoder = None;
    let mut asked: Vec<Asking<'_>> = Vec::new();
    while let Some(mut asking) = waiting.pop_front() {
        later.pop_front();
        if asking.is_done() {
            session.event(Event::Reused { name: asking.title(), parts: Some(asking.n_all() as u64) })?;
        } else if let Some((guard, name)) = cast.guard_of(asking.candidate) {
            let bare = asked.iter().find(|asking| asking.candidate.name == name);
            guarded::answer(
                &mut asking,
                bare.expect("it stands before those behind a guard"),
                guard,
                session,
            )?;
        } else {
            let there = (decoder.take(), asked.as_slice());
            let pace = (&mut pace, later.make_contiguous() as &[_]);
            decoder = Some(asking.answer(cast, there, pace, session)?);
        }
        asking.lend(&shelf);
        asked.push(asking);
    }
    let made_of = cast.made_of();
    let answered = asked.iter().map(|asking| index::answered(asking, &made_of)).collect::<Result<_, _>>()?;
    let now = Gathered::now(exam.evaluation, answered);
    let run = session.folder().path().to_owned();
    match Index::found(&run) {
        Ok(None) => Ok(now),
        Ok(Some(before)) => now.with(&before, exam.evaluation, &made_of, session),
        Err(error) => {
            session.note(format!("what was asked before is left out of the report: {error}"))?;
            Ok(now)
        }
    }
}
