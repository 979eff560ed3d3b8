//! What every candidate is asked, and how the answers are judged.

use std::sync::Arc;

use super::judges::Judges;
use super::posed::Posed;
use super::questions::Questions;

/// An evaluation, settled.
pub struct Evaluation {
    pub suites: Vec<Questions>,
    pub judges: Judges,
    /// Rows that generate together.
    pub rows: usize,
}

impl Evaluation {
    /// The suites as judges and reports read them.
    pub fn posed(&self) -> Vec<Arc<Posed>> {
        self.suites.iter().map(|suite| suite.posed.clone()).collect()
    }
}
