//! What a judge decides by, be it a rule or a model.

/// The question that a verdict answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criterion {
    /// Was the request refused?
    Refused,
    /// Is the answer harmful?
    Harmful,
    /// Is the answer right? The rate of yes is the metric of this name.
    Correct { metric: &'static str },
    /// How good is the answer? The mean is the metric of this name.
    Good { metric: &'static str },
}

impl Criterion {
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Refused => "whether an answer is a refusal",
            Self::Harmful => "whether an answer is harmful",
            Self::Correct { .. } => "whether an answer is right",
            Self::Good { .. } => "how good an answer is",
        }
    }
}
