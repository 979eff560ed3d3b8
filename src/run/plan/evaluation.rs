//! What every candidate is asked, and how the answers are judged.

use std::collections::BTreeMap;
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

    /// What drew the items of each suite that does not ask all of them.
    pub fn seeds(&self) -> BTreeMap<String, u64> {
        let asked = self.suites.iter().map(|suite| &suite.posed.asked);
        asked.filter_map(|asked| Some((asked.suite.clone(), asked.seed?))).collect()
    }
}
