//! Every candidate asked the same things; what was said is stored once, and read by keys that know nothing of the run.

mod asking;
mod gathered;
pub mod index;
mod pace;
mod responses;
mod shared;
mod steered;
pub mod stores;

pub use asking::Exam;
pub use index::Index;
pub use responses::{Gathered, Responses, To, Transcript};

use std::collections::VecDeque;

use super::cast::Cast;
use super::failure::Failure;
use super::session::Session;
use crate::event::Event;
use asking::Asking;
use pace::Pace;
use shared::Shelf;

/// Asks every candidate of the cast what is missing; what earlier calls asked comes along.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or the run was asked to stop.
pub fn ask(exam: Exam<'_>, cast: &Cast, session: &mut Session<'_>) -> Result<Gathered, Failure> {
    let shelf = Shelf::of(exam.device);
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
    let mut later: VecDeque<_> = waiting.iter().map(Asking::left).collect();
    let mut decoder = None;
    let mut asked: Vec<Asking<'_>> = Vec::new();
    while let Some(mut asking) = waiting.pop_front() {
        later.pop_front();
        if asking.is_done() {
            session.event(Event::Reused { name: asking.title(), parts: Some(asking.n_all() as u64) })?;
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
