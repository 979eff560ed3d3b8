//! A suite as it is put to every candidate: all that judges and reports read of it.

use crate::eval::{Item, Suite};
use crate::report::SuiteSetup;

/// One suite, its items drawn.
#[derive(Debug, Clone)]
pub struct Posed {
    pub suite: Suite,
    pub items: Vec<Item>,
    /// Answers to each item.
    pub n_samples: usize,
    /// How every answer begins.
    pub opening: String,
    /// What a report says of it.
    pub asked: SuiteSetup,
}
