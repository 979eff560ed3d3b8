//! What is learned of one conversation, in tokens.

use super::conversation::Line;

/// A conversation as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub ids: Vec<u32>,
    /// For each id, the token that is to be predicted in its place from those before it, as transformers'
    /// `labels`: `None` is no part of the loss, and the first id, before which nothing comes, never is.
    pub labels: Vec<Option<u32>>,
    /// Where it was read.
    pub line: Line,
    /// What the loss of its labels is multiplied by.
    pub weight: f32,
    /// Whether its labels are others than its ids, or some of those, so that the end of the answer need not be among
    /// them.
    pub is_open: bool,
}

impl Sample {
    /// A sample with these labels, one for each id, which count as all others do.
    pub fn new(ids: Vec<u32>, labels: Vec<Option<u32>>, line: Line) -> Self {
        assert_eq!(labels.len(), ids.len(), "a label for each id, if only none");
        Self { ids, labels, line, weight: 1.0, is_open: false }
    }

    /// A sample of which those ids are learned that `trained` says, one for each.
    pub fn of_trained(ids: Vec<u32>, trained: impl IntoIterator<Item = bool>, line: Line) -> Self {
        let label = |(i, (id, trained)): (usize, (&u32, bool))| (trained && i > 0).then_some(*id);
        let labels: Vec<Option<u32>> = ids.iter().zip(trained).enumerate().map(label).collect();
        Self::new(ids, labels, line)
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

/// What is learned of some conversations.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// Those of a group, such as the two of a pair, one after the other.
    pub samples: Vec<Sample>,
    /// What they are, in numbers.
    pub said: Vec<String>,
}
