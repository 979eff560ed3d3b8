//! How alike hidden states of normal and malicious prompts are, layer by layer.
//!
//! Li et al. 2024, arXiv 2408.17003, section 3.2. A reviewer's doubt stays: prompts of another topic open a gap too, so a
//! gap says where a model tells the prompts apart, and not that it does so for their harm.

use burn::tensor::{DType, Int, Tensor, TensorData};
use rand::Rng;

use super::subject::Subject;
use super::{Asked, Outcome, no_tuned};
use crate::data::Sample;
use crate::eval::{MetricKind, tasks};
use crate::event::Event;
use crate::merge::Rounded;
use crate::model::{Decoder, Positions, micro_batches};
use crate::recipe::Suite;
use crate::report::inspection::{Cosine, Found};
use crate::run::failure::{Failure, InspectError};
use crate::run::plan::probing::{greedy, posed};
use crate::run::plan::questions::Questions;
use crate::run::plan::sources::Sources;
use crate::run::session::Session;
use crate::seed::rng;
use crate::snapshot::SharedWeights;
use crate::train::Machine;

/// Pairs of each kind, as in the paper.
const PAIRS: usize = 500;
/// From how large a gap on a layer tells the two apart: the rule of a reproduction (github.com/silu101/safety-layers-repo).
const THRESHOLD: f64 = 0.05;

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

/// The probe, settled.
pub(super) struct Cosines<'a> {
    subject: &'a Subject,
    /// What the model is called.
    name: &'static str,
    weights: SharedWeights,
    malicious: Questions,
    normal: Questions,
}

impl<'a> Cosines<'a> {
    /// Settles which prompts are read: the first suite of harmful requests, and the first of any others.
    ///
    /// # Errors
    ///
    /// There are none, or too few prompts.
    pub(super) fn new(
        subject: &'a Subject,
        asked: &Asked,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let (name, own) = subject.one(asked.tuned).ok_or_else(|| no_tuned(asked))?;
        let suites = subject.suites(&asked.suites);
        let first = |harmful: bool, what, example| {
            let fits = |suite: &&Suite| {
                tasks::find(&suite.task).is_ok_and(|task| (task.kind == MetricKind::Safety) == harmful)
            };
            suites.iter().find(fits).cloned().ok_or(InspectError::NoSuite { what, example })
        };
        let both = vec![
            first(true, "harmful requests", "harmful=FILE,field=goal")?,
            first(false, "normal requests", "benign=FILE,field=prompt")?,
        ];
        let mut posed = {
            let asked = (&subject.model, &subject.opened.device);
            posed(&greedy(&subject.recipe.eval, both), asked, sources)?
        };
        if let Some(few) = posed.iter().find(|suite| suite.prompts.len() < 2) {
            let (suite, n) = (few.posed.suite.name.clone(), few.prompts.len());
            return Err(InspectError::FewPrompts { suite, n }.into());
        }
        let (normal, malicious) = (posed.pop().expect("the second"), posed.pop().expect("the first"));
        let weights: SharedWeights = std::sync::Arc::new(Rounded::new(own.weights, &subject.base.dtypes));
        Ok(Self { subject, name, weights, malicious, normal })
    }

    /// Reads the prompts and compares.
    ///
    /// # Errors
    ///
    /// A weight cannot be read, the disk refuses, or the wish to stop.
    pub(super) fn run(&self, session: &mut Session<'_>) -> Result<Outcome, Failure> {
        let Subject { model, machine, recipe, .. } = self.subject;
        let n_all = (self.malicious.prompts.len() + self.normal.prompts.len()) as u64;
        let [normal, malicious] = session.stage("read prompts", (n_all, None), |session| {
            let decoder = Decoder::load(&model.shape, &self.weights, &machine.device, machine.compute)?;
            let mut before = 0;
            let mut read = |suite: &Questions| {
                let found = states(&decoder, &suite.prompts, machine, |done| {
                    session.event(Event::Progress { done: (before + done) as u64, remaining: None })?;
                    Ok::<(), Failure>(session.go_on()?)
                });
                before += suite.prompts.len();
                found
            };
            Ok([read(&self.normal)?, read(&self.malicious)?])
        })?;
        let seed = recipe.eval.seed;
        let pairs = Pairs::drawn(self.normal.prompts.len(), self.malicious.prompts.len(), PAIRS, seed);
        let rows = cosines(&normal, &malicious, &pairs);
        let onset = onset(&rows, THRESHOLD);
        let range = onset.map(|onset| growth(&rows, onset));
        let suites = [&self.malicious, &self.normal].map(|suite| suite.posed.asked.clone()).to_vec();
        let found = Found::Cosines { onset, range, threshold: THRESHOLD, pairs: PAIRS, rows };
        Ok(Outcome { model: self.name, suites, judge: None, notes: notes(range, seed), found })
    }
}

/// What the numbers are, and where the gap opens.
fn notes(range: Option<[usize; 2]>, seed: u64) -> Vec<String> {
    let opens = match range {
        None => format!("No gap above {THRESHOLD} stays positive to the last layer."),
        Some([from, to]) => format!(
            "The gap opens at layer {from} (above {THRESHOLD}, and positive from there on) and grows to layer {to}. Prompts \
             of another topic open one too."
        ),
    };
    let what = format!(
        "Mean cosines of {PAIRS} pairs of each kind, drawn by seed {seed}; gap = normal − across. States are the blocks' \
         outputs, the last layer's too (before the final norm)."
    );
    vec![what, opens]
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
