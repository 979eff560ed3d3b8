//! Every candidate asked the same things; what was said is stored once, and read by keys that know nothing of the run.

mod asking;
pub mod index;
mod shared;
pub mod stores;

pub use asking::Exam;
pub use index::{Index, Responses, To, Transcript};

use super::cast::Cast;
use super::failure::Failure;
use super::session::Session;
use crate::event::Event;
use asking::Asking;
use shared::Shelf;

/// Asks every candidate of the cast what is missing.
///
/// # Errors
///
/// A weight cannot be computed, the disk refuses, or the run was asked to stop.
pub fn ask(exam: Exam<'_>, cast: &Cast, session: &mut Session<'_>) -> Result<Vec<Responses>, Failure> {
    let shelf = Shelf::of(exam.device);
    let mut decoder = None;
    let mut asked: Vec<Asking<'_>> = Vec::new();
    for nth in 0..cast.candidates.len() {
        let mut asking = Asking::open(exam, cast, nth, session)?;
        asking.borrow(&shelf, session)?;
        if asking.is_done() {
            session.event(Event::Reused { name: format!("evaluate {}", asking.candidate.name) })?;
        } else {
            decoder = Some(asking.answer(cast, decoder.take(), &asked, session)?);
        }
        asking.lend(&shelf);
        asked.push(asking);
    }
    asked.iter().map(index::answered).collect()
}
