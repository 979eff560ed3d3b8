//! What is learned of one conversation, in tokens.

use super::conversation::Line;

/// A conversation as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub ids: Vec<u32>,
    /// For each id, the token that is to be predicted in its place from those before it, as transformers'
    /// `labels`: `None` is no part of the loss, and the first id, before which nothing comes, never is.
    pub labels: Vec<Option<u32>>,
    /// Where it was read.
    pub line: Line,
}

impl Sample {
    /// A sample of which those ids are learned that `trained` says, one for each.
    pub fn of_trained(ids: Vec<u32>, trained: impl IntoIterator<Item = bool>, line: Line) -> Self {
        let label = |(i, (id, trained)): (usize, (&u32, bool))| (trained && i > 0).then_some(*id);
        let labels: Vec<Option<u32>> = ids.iter().zip(trained).enumerate().map(label).collect();
        assert_eq!(labels.len(), ids.len(), "whether each id is learned");
        Self { ids, labels, line }
    }

    /// For each id, whether something is to be predicted in its place.
    pub fn trained(&self) -> Vec<bool> {
        self.labels.iter().map(Option::is_some).collect()
    }

    /// How many labels the loss covers.
    pub fn n_trained(&self) -> usize {
        self.labels.iter().flatten().count()
    }

    /// Keeps the first `n` ids and their labels.
    pub fn truncate(&mut self, n: usize) {
        self.ids.truncate(n);
        self.labels.truncate(n);
    }
}
