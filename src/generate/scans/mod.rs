//! Steering against needless refusals: how harmful a prompt is by a model's own hidden states, and which way they are
//! pushed for it.
//!
//! Cao, Yang and Zhao, "SCANS: Mitigating the Exaggerated Safety for LLMs via Safety-Conscious Activation Steering", AAAI
//! 2025, arXiv 2408.11491. A prompt that counts as harmless is pushed away from refusing, one that counts as harmful
//! towards it: the sign is the classifier's alone, and nobody can ask for the other one.
//!
//! - [`read`]: hidden states at the end of a prompt and behind the word that is put after it.
//! - [`fit`]: directions, reference and layers from anchors.
//! - [`file`]: all of it in one safetensors file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod file;
pub mod fit;
pub mod read;

use crate::model::Push;
use read::States;

/// What stands behind a prompt while it is classified; it begins an answer that complies.
pub const SUFFIX: &str = " Sure";

/// How far hidden states are pushed, in lengths of their unit vectors, where nobody says otherwise: the authors' for Llama 2.
pub const ALPHA: f64 = 3.5;

/// What is taken for the state of the last layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LastLayer {
    /// The block's output, to which the vector is added.
    #[default]
    Block,
    /// That behind the model's final norm, as the authors' program has it.
    Normed,
}

/// How states are rounded before anything is computed of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[default]
    F32,
    /// As the authors' program keeps them.
    F16,
}

/// A direction and a reference for every layer, and how the two are used.
#[derive(Debug, Clone, PartialEq)]
pub struct Scans {
    /// By layer the direction from harmless to harmful anchors at the prompt's last token, of length 1; `[L][m]`.
    pub vectors: Vec<Vec<f32>>,
    /// By layer the mean change of harmful anchors from the prompt's last token to the suffix; `[L][m]`.
    pub reference: Vec<Vec<f32>>,
    pub settings: Settings,
}

/// How directions and reference are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The layers whose outputs are pushed, both ends included.
    pub layers: [usize; 2],
    /// The layers over which the score is a mean, both ends included.
    pub score_layers: [usize; 2],
    /// How far they are pushed.
    pub alpha: f64,
    /// From which score on a prompt counts as harmful.
    pub threshold: f64,
    /// What is put behind a prompt while it is classified.
    pub suffix: String,
    pub last_layer: LastLayer,
    pub states: Precision,
}

impl Scans {
    /// How harmful a prompt is by its states: the mean over layers of the cosine between its change and the reference's.
    pub fn score(&self, states: &States) -> f64 {
        let [from, to] = self.settings.score_layers;
        let cosines = (from..=to).map(|layer| {
            let change: Vec<f32> =
                states.end[layer].iter().zip(&states.last[layer]).map(|(end, last)| end - last).collect();
            cosine(&change, &self.reference[layer])
        });
        cosines.sum::<f64>() / (to - from + 1) as f64
    }

    /// Which way a prompt with this score is pushed: towards refusing from the threshold on, away from it below.
    pub fn sign(&self, score: f64) -> i8 {
        if score >= self.settings.threshold { 1 } else { -1 }
    }

    /// The push of a prompt with this score from a position on.
    pub fn push(&self, score: f64, from: usize) -> Push {
        Push { sign: self.sign(score), from }
    }

    /// The directions that are added, by layer.
    pub fn directions(&self) -> BTreeMap<usize, Vec<f32>> {
        let [from, to] = self.settings.layers;
        (from..=to).map(|layer| (layer, self.vectors[layer].clone())).collect()
    }
}

/// The cosine of two vectors; 0 where one of them is nothing.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::read::States;
    use super::{LastLayer, Precision, SUFFIX, Scans, Settings};

    pub(super) fn settings(n_layers: usize) -> Settings {
        Settings {
            layers: [0, n_layers - 1],
            score_layers: [0, n_layers - 1],
            alpha: 2.0,
            threshold: 0.5,
            suffix: SUFFIX.to_owned(),
            last_layer: LastLayer::Block,
            states: Precision::F32,
        }
    }

    #[test]
    fn a_score_is_the_mean_cosine_over_its_layers_and_decides_the_sign() {
        let reference = vec![vec![1.0, 0.0], vec![0.0, 2.0], vec![1.0, 1.0]];
        let scans = Scans { vectors: reference.clone(), reference, settings: settings(3) };
        let states = States {
            end: vec![vec![3.0, 0.0], vec![0.0, 0.0], vec![1.0, 1.0]],
            last: vec![vec![1.0, 0.0], vec![0.0, 5.0], vec![1.0, 1.0]],
        };
        // 1, -1, and nothing at all.
        assert!(scans.score(&states).abs() < 1e-12);
        let first =
            Scans { settings: Settings { score_layers: [0, 0], ..scans.settings.clone() }, ..scans.clone() };
        assert!((first.score(&states) - 1.0).abs() < 1e-12);
        assert_eq!([0.5, 0.49].map(|score| scans.sign(score)), [1, -1]);
        assert_eq!(scans.push(0.7, 4), crate::model::Push { sign: 1, from: 4 });
        let middle = Settings { layers: [1, 1], ..settings(3) };
        let middle = Scans { settings: middle, ..scans }.directions();
        assert_eq!(middle.into_iter().collect::<Vec<_>>(), [(1, vec![0.0, 2.0])]);
    }
}
