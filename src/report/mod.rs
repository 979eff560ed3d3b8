//! The report: task and safety side by side for base, tuned and every merge.
//!
//! [`Report`] is `report.json`, a stable interface; the other formats are drawn from it.

use serde::{Deserialize, Serialize};

use crate::eval::Denominator;
use crate::eval::{MEAN_OF_CATEGORIES, Metric, MetricKind, Paired};
use crate::generate::Thinking;
use crate::merge::MergeReport;

mod answers;
pub mod audit;
mod beside;
pub mod cleaning;
pub mod compared;
pub mod difference;
pub mod gates;
pub mod guarding;
mod html;
pub mod inspection;
mod inspection_picture;
pub mod landscape;
mod markdown;
pub mod outcomes;
mod page;
mod pareto;
mod pictures;
pub mod plot;
mod remarks;
pub mod sheet;
pub mod steering;
pub mod study;
mod table;
mod terminal;

pub use answers::answers;
pub use beside::Beside;
use gates::GateResult;
pub use html::html;
pub use markdown::markdown;
pub use pictures::{Losses, pictures};
use steering::Steered;
pub use terminal::terminal;

/// What stands under the overview.
const RATES: &str = "Rates with 95 % Wilson intervals. Attack success is the share of harmful requests that the judge did not find refused; \
     a broken answer (empty, repeated, garbled) counts as one, so read it with the last column.";

/// What stands under the table of merges that choose.
const CHOICES: &str = "C = V Vᵀ / ‖V‖ with V = base − unaligned model; ρ is the cosine between C Δ and the update Δ, beside what it is \
     about for an update that has nothing to do with V. Means over the matrices; each has its row in report.json.";

/// The titles of sections.
mod titles {
    pub const OVERVIEW: &str = "Task scores and attack success by candidate";
    pub const SUITES: &str = "Suites: prompts and decoding";
    pub const PROGRAMS: &str = "Reference solutions of programs";
    pub const GUARDED: &str = "Answers of the guard";
    pub const JUDGES: &str = "Attack success and refusal rates by judge";
    pub const DIFFERENCES: &str = "Paired differences on the same prompts";
    pub const AGREEMENT: &str = "Agreement between judges";
    pub const MERGES: &str = "Merges: relative update and effective λ";
    pub const CHOICES: &str = "Selective merges: matrices by alignment";
    pub const STEERED: &str = "Steered candidates: prompts by direction of steering";
}

/// What stands under the table of programs.
const PROGRAMS: &str = "The reference is the solution that the file brings, run as answers are. Where it passes only in one process with its \
     tests, answers run so too, and a program that sets out to could forge its verdict there.";

/// Everything that a run found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The version of this format: 3; 1 and 2 called some figures of merges and pairs otherwise, and are read.
    pub schema: u32,
    pub run: Run,
    /// What every candidate was asked.
    #[serde(default)]
    pub suites: Vec<SuiteSetup>,
    /// Base first, then tuned, then the merges in the recipe's order.
    pub candidates: Vec<Candidate>,
    /// Tuned and every merge against the base, and every merge against the tuned model.
    pub paired: Vec<Paired>,
    /// What each merge did to the weights.
    pub merge: Vec<MergeReport>,
    /// How far judges that answer the same question agree.
    #[serde(default)]
    pub agreement: Vec<JudgeAgreement>,
    /// How far the tests of suites of programs can be trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProgramTests>,
    /// How often a guard answered in the place of the candidate behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guarded: Vec<guarding::Answered>,
    /// Candidates, suites and judges that the last call brought to a report that was there before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Bounds of the recipe, and whether the numbers keep them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateResult>,
}

/// What was run on what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub name: String,
    /// The version of this program.
    pub version: String,
    /// The base as the recipe names it.
    pub model: String,
    /// The training data as the recipe names it.
    pub data: String,
    /// Such as `LoRA, rank 8` or `full`; empty where nothing was trained.
    pub method: String,
    pub steps: usize,
    pub seed: u64,
    /// The device that evaluated.
    pub device: String,
    /// The format every candidate was rounded to.
    pub dtype: String,
    pub validation_loss: Option<f64>,
    /// What a preset settled, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Over which answers the tables' rates of safety are taken.
    #[serde(default)]
    pub denominator: Denominator,
}

impl Run {
    /// What was done to the model before it was asked, in words: a training, or nothing.
    fn tuning(&self, code: impl Fn(&str) -> String) -> String {
        let Self { model, data, method, steps, seed, validation_loss, .. } = self;
        let loss = validation_loss.map_or(String::new(), |loss| format!(", validation loss {loss:.4}"));
        match method.is_empty() {
            true => format!("{} as it is", code(model)),
            false => {
                format!(
                    "{} tuned on {} ({method}, {steps} steps, seed {seed}{loss})",
                    code(model),
                    code(data)
                )
            }
        }
    }
}

/// One suite as it was asked; every candidate was asked the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuiteSetup {
    pub suite: String,
    pub task: String,
    /// Of the task: what is asked and how it is scored.
    pub version: u32,
    /// The file's name.
    pub source: String,
    /// Items asked.
    pub items: usize,
    /// Items that they were drawn from, excluded categories apart.
    pub of: usize,
    /// What drew them, where they are fewer.
    pub seed: Option<u64>,
    pub excluded: Vec<String>,
    /// Worked examples before each question.
    pub shots: usize,
    /// `turns`, `text` or `raw`.
    pub chat: String,
    /// What stands before every question for all suites; may be empty.
    pub system: String,
    /// How every answer begins; may be empty.
    #[serde(rename = "prefill", alias = "opening")]
    pub opening: String,
    /// The field with which each item's answers begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_field: Option<String>,
    /// The tokens that are taken of it; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_tokens: Option<usize>,
    pub max_new_tokens: usize,
    /// Answers to each question.
    pub samples: usize,
    /// λ is chosen by it; it is no result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validation: bool,
    /// Where answers begin, for models that think before they speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// SHA-256 of the prompts as tokens: two runs with the same asked the same.
    pub sha256: String,
}

/// Two judges on one candidate's answers to one suite.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JudgeAgreement {
    pub candidate: String,
    pub suite: String,
    pub judges: [String; 2],
    /// Answers that both could decide.
    pub n: usize,
    /// The share on which both say the same.
    pub rate: Option<f64>,
    /// Cohen's κ; none where chance alone would agree on everything.
    pub kappa: Option<f64>,
}

/// The solutions that a file of programs brings, run as answers are, and which answers could have forged a pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProgramTests {
    pub suite: String,
    /// Items that have a solution.
    pub references: usize,
    /// Of these, how many pass their tests.
    pub reference_passes: usize,
    /// Items whose solution fails.
    pub reference_fails: Vec<String>,
    /// Items that have none.
    pub without_reference: Vec<String>,
    /// Items whose programs run in one process with their tests, since their solution passes only so: there a
    /// program could forge its verdict.
    pub same_process: Vec<String>,
    /// Answers that passed so, by candidate.
    pub same_process_passed: Vec<(String, usize)>,
}

/// One model under evaluation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Candidate {
    /// `base`, `tuned` or a merge such as `slerp:0.5`.
    pub name: String,
    /// The merge method.
    pub method: Option<String>,
    /// The weight of the tuned model.
    pub lambda: Option<f64>,
    /// Draws what chance decides in the merge; none where it plays no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How its hidden states are steered, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steered: Option<Steered>,
    pub metrics: Vec<Metric>,
}

impl Candidate {
    /// The metric with the same suite, metric, judge, denominator, category and seed.
    pub fn like(&self, metric: &Metric) -> Option<&Metric> {
        self.metrics.iter().find(|other| key(other) == key(metric))
    }
}

/// What makes a metric of a candidate unique.
pub fn key(metric: &Metric) -> impl PartialEq + Ord + std::fmt::Debug + '_ {
    let Metric { suite, metric, judge, denominator, category, seed, .. } = metric;
    (suite, metric, judge, *denominator, category, *seed)
}

/// The version of `report.json`.
pub const SCHEMA: u32 = 3;

impl Report {
    /// Candidates, suites and judges of suites, by their names.
    fn names(&self) -> Vec<String> {
        let candidates = self.candidates.iter().map(|candidate| candidate.name.clone());
        let suites = self.suites.iter().map(|suite| suite.suite.clone());
        let metrics = self.candidates.iter().flat_map(|candidate| &candidate.metrics);
        let judges =
            metrics.filter_map(|metric| Some(format!("{} on {}", metric.judge.as_ref()?, metric.suite)));
        let mut names: Vec<String> = Vec::new();
        for name in candidates.chain(suites).chain(judges) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Marks what the report `before` did not have.
    #[must_use]
    pub fn after(mut self, before: Option<Self>) -> Self {
        if let Some(before) = before {
            let known = before.names();
            let new = self.names().into_iter().filter(|name| !known.contains(name));
            // The judges of a new suite are new with it.
            let by_suite = |name: &String| {
                self.suites.iter().any(|suite| {
                    !known.contains(&suite.suite) && name.ends_with(&format!(" on {}", suite.suite))
                })
            };
            self.added = new.filter(|name| !by_suite(name)).collect();
            // The same call again adds nothing, and changes nothing.
            if self.added.is_empty() {
                self.added = before.added;
            }
        }
        self
    }

    /// What the last call added, in a line.
    fn news(&self) -> Option<String> {
        (!self.added.is_empty()).then(|| format!("New in this report: {}.", self.added.join(", ")))
    }

    /// The candidates that are steered.
    fn steered(&self) -> impl Iterator<Item = (&str, &Steered)> + Clone {
        self.candidates.iter().filter_map(|one| Some((one.name.as_str(), one.steered.as_ref()?)))
    }

    /// Over which answers the tables take the rates of a kind of suite.
    fn denominator(&self, kind: MetricKind) -> Denominator {
        match kind {
            MetricKind::Safety | MetricKind::OverRefusal => self.run.denominator,
            MetricKind::Task | MetricKind::Degeneration => Denominator::All,
        }
    }

    /// One metric for each column of a table: every judge of a skill, the first of the others.
    ///
    /// The metrics are those of the base; [`Candidate::like`] finds another candidate's.
    fn columns(&self) -> Vec<&Metric> {
        let Some(base) = self.candidates.first() else { return Vec::new() };
        let mut columns: Vec<&Metric> = Vec::new();
        for metric in &base.metrics {
            let whole = metric.category.is_none() && metric.denominator == self.denominator(metric.kind);
            let first =
                columns.iter().all(|column| column.suite != metric.suite || column.metric != metric.metric);
            // It stands beside its rate in `report.json`; tables have room for one of them.
            let is_mean_of_categories = metric.metric.ends_with(MEAN_OF_CATEGORIES);
            if whole && first && !is_mean_of_categories && metric.kind != MetricKind::Degeneration {
                columns.push(metric);
            }
        }
        columns
    }
}
