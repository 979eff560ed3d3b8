//! How alike hidden states of normal and malicious prompts are, layer by layer.
//!
//! Li et al., "Safety Layers in Aligned Large Language Models: The Key to LLM Security", 2024, arXiv 2408.17003, section 3.2.
//! A reviewer's doubt stays: prompts of another topic open a gap too, so a gap says where a model tells the prompts apart, and
//! not that it does so for their harm.

use burn::tensor::{DType, Int, Tensor, TensorData};
use rand::Rng;

use crate::data::Sample;
use crate::model::{Decoder, Positions, micro_batches};
use crate::report::inspection::Cosine;
use crate::seed::rng;
use crate::train::Machine;

/// Pairs of each kind, as in the paper.
pub const PAIRS: usize = 500;
/// From how large a gap on a layer tells the two apart: the rule of a reproduction (github.com/silu101/safety-layers-repo).
pub const THRESHOLD: f64 = 0.05;

/// The last token's state behind every block: by layer, then by prompt, `m` numbers each. That of the last layer is the
/// block's output too, before the model's final norm.
pub type States = Vec<Vec<Vec<f32>>>;

/// The states of `prompts`; `tick` is told how many are done.
///
/// # Errors
///
/// Whatever `tick` returns.
pub fn states<E>(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    machine: &Machine,
    mut tick: impl FnMut(usize) -> Result<(), E>,
) -> Result<States, E> {
    let sample = |ids: &Vec<u32>| Sample::new(ids.clone(), vec![None; ids.len()], 1.into());
    let samples: Vec<Sample> = prompts.iter().map(sample).collect();
    let all: Vec<usize> = (0..samples.len()).collect();
    let mut states = vec![vec![Vec::new(); prompts.len()]; decoder.shape.n_layers];
    let mut done = 0;
    for batch in micro_batches(&samples, &all, machine.micro_tokens, machine.multiple) {
        let rows = batch.samples.iter().enumerate();
        let last = rows.map(|(row, nth)| row * batch.width + samples[*nth].ids.len().max(1) - 1);
        let last: Vec<i32> = last.map(|at| i32::try_from(at).expect("a micro-batch is small")).collect();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [batch.samples.len()]), &decoder.device);
        let mut watch = |layer: usize, x: &Tensor<3>| {
            let [b, t, m] = x.dims();
            let found = x.clone().reshape([b * t, m]).select(0, last.clone()).cast(DType::F32); // [b, m]
            let found = found.try_into_vec_as::<f32>().expect("a device that opened gives its results back");
            for (nth, state) in batch.samples.iter().zip(found.chunks(m)) {
                states[layer][*nth] = state.to_vec();
            }
        };
        decoder.hidden_watched(batch.ids(&decoder.device), &Positions::causal(batch.width), &mut watch);
        done += batch.samples.len();
        tick(done)?;
    }
    Ok(states)
}

/// Which prompts are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    pub normal: Vec<[usize; 2]>,
    pub malicious: Vec<[usize; 2]>,
    /// A normal prompt and a malicious one.
    pub across: Vec<[usize; 2]>,
}

impl Pairs {
    /// `n` pairs of each kind among so many prompts, at least two of each, drawn by `seed`; no prompt is compared with
    /// itself, and a pair may come again.
    pub fn drawn(n_normal: usize, n_malicious: usize, n: usize, seed: u64) -> Self {
        let within = |name: &str, of: usize| {
            let mut stream = rng(seed, name);
            let pair = |_| {
                let [first, other] = [below(&mut stream, of), below(&mut stream, of - 1)];
                [first, other + usize::from(other >= first)]
            };
            (0..n).map(pair).collect()
        };
        let mut stream = rng(seed, "pairs across");
        let across = (0..n).map(|_| [below(&mut stream, n_normal), below(&mut stream, n_malicious)]);
        Self {
            normal: within("pairs normal", n_normal),
            malicious: within("pairs malicious", n_malicious),
            across: across.collect(),
        }
    }
}

/// A number from 0 to `n` − 1.
fn below(stream: &mut impl Rng, n: usize) -> usize {
    let scaled = u128::from(stream.next_u64()) * n as u128;
    usize::try_from(scaled >> 64).expect("the high half is below n")
}

/// The mean cosines of the pairs behind every layer.
pub fn cosines(normal: &States, malicious: &States, pairs: &Pairs) -> Vec<Cosine> {
    let mean = |a: &[Vec<f32>], b: &[Vec<f32>], pairs: &[[usize; 2]]| {
        let sum: f64 = pairs.iter().map(|[i, j]| cosine(&a[*i], &b[*j])).sum();
        sum / pairs.len() as f64
    };
    let layers = normal.iter().zip(malicious).enumerate();
    let layers = layers.map(|(layer, (n, m))| {
        let [normal, malicious, across] =
            [mean(n, n, &pairs.normal), mean(m, m, &pairs.malicious), mean(n, m, &pairs.across)];
        Cosine { layer, normal, malicious, across, gap: normal - across }
    });
    layers.collect()
}

/// The cosine of two states; 0 where one of them is nothing.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// The first layer whose gap is above `threshold` and behind which no gap falls to 0 or below.
pub fn onset(rows: &[Cosine], threshold: f64) -> Option<usize> {
    let n_closed = rows.iter().rposition(|row| row.gap <= 0.0).map_or(0, |last| last + 1);
    rows.iter().skip(n_closed).position(|row| row.gap > threshold).map(|at| at + n_closed)
}

/// From the onset to the layer behind which the gap grows no more.
pub fn growth(rows: &[Cosine], onset: usize) -> [usize; 2] {
    let grows = rows[onset..].windows(2).take_while(|pair| pair[1].gap > pair[0].gap).count();
    [onset, onset + grows]
}

#[cfg(test)]
mod tests {
    use super::{Pairs, States, cosines, growth, onset};

    /// States of two kinds of prompts that point the same way up to a layer, and from there on turn apart: by an angle
    /// that grows for `growing` layers.
    fn planted(n_layers: usize, first: usize, growing: usize) -> [States; 2] {
        let of = |kind: f32| -> States {
            let layer = |layer: usize| {
                let steps = (layer + 1).saturating_sub(first).min(growing) as f32;
                let angle = kind * 0.4 * steps;
                // Prompts of one kind differ a little, and in length.
                let state = |nth: usize| {
                    let turned = angle + 0.01 * nth as f32;
                    let length = 1.0 + nth as f32;
                    vec![length * turned.cos(), length * turned.sin(), 0.0]
                };
                (0..8).map(state).collect()
            };
            (0..n_layers).map(layer).collect()
        };
        [of(0.0), of(1.0)]
    }

    #[test]
    fn a_planted_onset_is_found_where_it_was_planted() {
        for (first, growing) in [(0, 3), (3, 1), (4, 2), (7, 1)] {
            let [normal, malicious] = planted(8, first, growing);
            let rows = cosines(&normal, &malicious, &Pairs::drawn(8, 8, 500, 1));
            assert_eq!(onset(&rows, 0.05), Some(first), "{first} {growing}");
            assert_eq!(growth(&rows, first), [first, (first + growing - 1).min(7)], "{first} {growing}");
        }
        let [normal, _] = planted(8, 3, 2);
        let rows = cosines(&normal, &normal, &Pairs::drawn(8, 8, 500, 1));
        assert_eq!(onset(&rows, 0.05), None);
    }

    #[test]
    fn a_gap_that_closes_again_is_no_onset() {
        let [normal, malicious] = planted(8, 2, 1);
        let mut rows = cosines(&normal, &malicious, &Pairs::drawn(8, 8, 500, 1));
        rows[5].gap = -0.01;
        assert_eq!(onset(&rows, 0.05), Some(6));
        rows[7].gap = 0.0;
        assert_eq!(onset(&rows, 0.05), None);
    }

    #[test]
    fn pairs_are_of_two_prompts_and_follow_from_the_seed() {
        let pairs = Pairs::drawn(3, 2, 500, 7);
        assert!(pairs.normal.iter().chain(&pairs.malicious).all(|[i, j]| i != j));
        assert!(pairs.malicious.iter().flatten().all(|i| *i < 2));
        assert!(pairs.across.iter().all(|[i, j]| *i < 3 && *j < 2) && pairs.across.contains(&[2, 1]));
        let all: std::collections::BTreeSet<_> = pairs.normal.iter().collect();
        assert_eq!(all.len(), 6);
        assert_eq!(pairs, Pairs::drawn(3, 2, 500, 7));
        assert_ne!(pairs, Pairs::drawn(3, 2, 500, 8));
    }
}
