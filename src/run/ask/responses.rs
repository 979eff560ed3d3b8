//! What candidates said, without the models that said it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::stores::SuiteKeys;
use crate::eval::Completion;
use crate::merge::MergeReport;
use crate::report::steering::Steered;
use crate::run::plan::judges::Judges;
use crate::run::plan::posed::Posed;

/// Everything that can be judged and reported.
pub struct Gathered {
    /// This call's first.
    pub suites: Vec<Arc<Posed>>,
    pub judges: Judges,
    /// In the order in which they were first asked.
    pub answered: Vec<Responses>,
    /// Candidates of before that were made of other weights, rounded or computed otherwise: they come back when those do.
    pub apart: Vec<About>,
}

/// What one candidate said, without the model that said it.
pub struct Responses {
    pub about: About,
    /// Where its files lie.
    pub path: PathBuf,
    /// By suite; none where it was not asked.
    pub suites: Vec<Option<Transcript>>,
}

/// What one candidate said to one suite, and where what judges find of it lies.
#[derive(Clone, Copy)]
pub struct To<'a> {
    pub candidate: &'a str,
    pub folder: &'a Path,
    pub answers: &'a [Vec<Completion>],
}

impl Responses {
    /// What it said to a suite, if it was asked.
    pub fn to(&self, suite: usize) -> Option<To<'_>> {
        let answers = &self.suites[suite].as_ref()?.answers;
        Some(To { candidate: &self.about.name, folder: &self.path, answers })
    }
}

/// What a report says of a candidate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    pub method: Option<String>,
    pub lambda: Option<f64>,
    /// Draws what chance decides in the merge.
    pub seed: Option<u64>,
    /// What the merge did to the weights.
    pub figures: Option<MergeReport>,
    /// How its hidden states are steered, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steered: Option<Steered>,
    /// What its weights depend on, of which its keys are made.
    #[serde(default)]
    pub(super) weights: String,
    /// What the weights of base and tuned model depend on: candidates with the same stand in one report.
    #[serde(default)]
    pub(super) made_of: String,
    /// By suite, under which keys its answers lie; none where it was not asked.
    pub(super) keys: Vec<Option<SuiteKeys>>,
}

/// What a candidate said to one suite.
pub struct Transcript {
    /// By item and sample.
    pub answers: Vec<Vec<Completion>>,
    /// What was thought before each answer; empty where nothing was.
    pub thoughts: Vec<Vec<String>>,
    /// The log-likelihood of each text, and its tokens.
    pub texts: Vec<(f64, usize)>,
    /// The log-likelihoods of the options of each question.
    pub choices: Vec<Vec<f64>>,
    /// Of a candidate behind a guard, by item and sample, whether the guard answered; empty of others.
    pub by_guard: Vec<Vec<bool>>,
}

impl Transcript {
    /// The log-likelihood of each text, by its token.
    pub fn texts_per_token(&self) -> Vec<f64> {
        self.texts.iter().map(|(sum, n)| sum / *n as f64).collect()
    }
}
