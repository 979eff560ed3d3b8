//! What a training makes smaller: the loss of a micro-batch, and the gradient it sends into the stream.
//!
//! An objective works on plain tensors: it is given the stream behind the last norm and the head, and
//! writes down its gradients by hand, so that no more logits exist at once than one chunk of rows.
//! `step` carries the gradient of the stream on through the blocks.
//!
//! Where the next ones go, each a variant here and a file beside `sft.rs`:
//!
//! - Other labels, or none at some positions ([`derta`](crate::data::derta), the masks of
//!   [`pairs`](crate::data::pairs)), need no objective of their own: a sample's labels are made with it, in `data`, and
//!   every objective learns whatever they are.
//! - Another loss of pairs is a case of [`pair::loss`]: [`Objective::Preference`] counts pairs, gives each row the weight
//!   of its pair, and is told by the micro-batch what the base says of it ([`reference`](super::reference)).
//! - A penalty beside the objective ([`kl`], [`asft`]) is added by [`Penalties`](super::penalty::Penalties).

use burn::tensor::Tensor;

pub mod asft;
pub mod kl;
mod labelled;
pub mod pair;
mod preference;
mod projector;
mod sft;

pub use preference::log_probabilities;

use crate::event::PairFigures;
use crate::model::loss::Gradients;
use crate::model::{Head, MicroBatch};
use crate::recipe::{self, Preference};

/// A row of the catalog.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub summary: &'static str,
    /// What `[data]` must have.
    pub needs: &'static str,
    pub example: &'static str,
    pub source: &'static str,
}

/// Every kind of objective, and what may be added to it, in the order they are listed.
pub const OBJECTIVES: &[Row] = &[
    Row {
        name: "sft",
        summary: "the answers as they are",
        needs: "conversations",
        example: "kind = \"sft\"",
        source: "supervised fine-tuning",
    },
    Row {
        name: "derta",
        summary: "refuse at any place of a harmful answer",
        needs: "prompt, safe, harmful: a file of your own",
        example: "kind = \"derta\", rto_keep = 0.05",
        source: "Yuan et al. 2024, arXiv 2407.09121",
    },
    Row {
        name: "dpo",
        summary: "of two answers the chosen one gains on the rejected one, measured from the base",
        needs: "prompt, chosen, rejected",
        example: "kind = \"dpo\", beta = 0.1",
        source: "Rafailov et al. 2023, arXiv 2305.18290; cdpo: Mitchell 2023; robust: arXiv 2403.00409; ipo: arXiv 2310.12036",
    },
    Row {
        name: "adpo",
        summary: "dpo over good tokens of the chosen and bad tokens of the rejected answer",
        needs: "the same, chosen_scores, rejected_scores or a reward_model",
        example: "kind = \"adpo\", mask_threshold = 0.0",
        source: "Tan et al. 2025, arXiv 2502.11555",
    },
    Row {
        name: "kl",
        summary: "beside any: the distance from the base on given prompts",
        needs: "a file of prompts or conversations",
        example: "kl = { source = \"prompts.jsonl\", weight = 0.1 }",
        source: "Kullback and Leibler 1951; as a penalty: Ouyang et al. 2022, arXiv 2203.02155",
    },
    Row {
        name: "asft",
        summary: "beside any, for LoRA: how far the update leads out of what alignment changed",
        needs: "the model that the base was aligned from",
        example: "asft = { unaligned = \"org/base\", measure = \"relative\" }",
        source: "Yang et al. 2025, arXiv 2506.08473",
    },
];

/// What a sample's loss is.
#[derive(Debug, Clone)]
pub enum Objective {
    /// The cross-entropy of each label.
    Sft,
    /// The same, where that of these tokens counts `weight` times.
    Labelled { labels: [u32; 2], weight: f64 },
    /// The loss of each pair: samples lie in pairs, the chosen answer first.
    Preference(Preference),
}

/// What a model thinks of some pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pairs {
    pub n: usize,
    /// In how many the chosen answer gained more than the rejected one.
    pub n_right: usize,
    /// Sums of the rewards, the chosen answers' first.
    pub rewards: [f64; 2],
}

impl Pairs {
    /// Counts a pair with these rewards.
    pub fn add(&mut self, rewards: [f64; 2]) {
        self.n += 1;
        self.n_right += usize::from(rewards[0] > rewards[1]);
        self.rewards.iter_mut().zip(rewards).for_each(|(sum, reward)| *sum += reward);
    }

    /// What is told of them; nothing of none.
    pub fn figures(&self) -> Option<PairFigures> {
        let mean = |sum: f64| sum / self.n as f64;
        (self.n > 0).then(|| PairFigures {
            reward_chosen: mean(self.rewards[0]),
            reward_rejected: mean(self.rewards[1]),
            reward_margin: mean(self.rewards[0] - self.rewards[1]),
            reward_accuracy: mean(self.n_right as f64),
        })
    }

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rewards = [0, 1].map(|i| self.rewards[i] + other.rewards[i]);
        Self { n: self.n + other.n, n_right: self.n_right + other.n_right, rewards }
    }
}

/// The loss of one micro-batch.
#[derive(Debug)]
pub struct Cost {
    /// Its sum.
    pub sum: f64,
    /// What the model thinks of its pairs, if it has any.
    pub pairs: Pairs,
    /// The gradient of the scaled sum for the stream, `[b·t, m]` in f32.
    pub stream: Option<Tensor<2>>,
    /// The same for the head's weight, `[v, m]` in f32.
    pub head: Option<Tensor<2>>,
}

impl Objective {
    /// The one that a recipe asks for.
    pub fn of(recipe: &recipe::Objective) -> Self {
        recipe.preference().map_or(Self::Sft, Self::Preference)
    }

    /// What a micro-batch adds to the number by which the losses of a step are averaged; what adds nothing
    /// costs nothing.
    pub fn count(&self, batch: &MicroBatch) -> usize {
        match self {
            Self::Sft | Self::Labelled { .. } => batch.targets.len(),
            Self::Preference(_) => batch.samples.len() / 2,
        }
    }

    /// The loss of one micro-batch, with gradients times `scale`.
    ///
    /// # Shapes
    ///
    /// - `stream`: `[b·t, m]`, plain, in the compute format
    pub fn cost(
        &self,
        stream: &Tensor<2>,
        head: &Head,
        batch: &MicroBatch,
        scale: f64,
        wanted: Gradients,
    ) -> Cost {
        match self {
            Self::Sft => sft::cost(stream, head, batch, scale, wanted),
            Self::Preference(preference) => preference::cost(preference, stream, head, batch, scale, wanted),
            Self::Labelled { labels, weight } => {
                labelled::cost(stream, head, batch, (labels, *weight), scale, wanted)
            }
        }
    }
}
