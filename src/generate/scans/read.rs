//! Hidden states of prompts, behind every block.

use burn::tensor::{DType, Int, Tensor, TensorData};
use half::f16;

use super::{LastLayer, Precision};
use crate::data::Sample;
use crate::model::{Decoder, Positions, Walk, micro_batches};

/// A prompt with something behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub ids: Vec<u32>,
    /// The place of the prompt's last token among them.
    pub end: usize,
}

impl Probe {
    /// Where the prompt ends among the tokens of prompt and suffix; none where the suffix adds no token, or no prompt is
    /// before it. A token that the two share belongs to the suffix.
    pub fn new(prompt: &[u32], with_suffix: Vec<u32>) -> Option<Self> {
        let n = prompt.iter().zip(&with_suffix).take_while(|(a, b)| a == b).count();
        (n > 0 && n < with_suffix.len()).then(|| Self { end: n - 1, ids: with_suffix })
    }
}

/// The states of one prompt, by layer, `m` numbers each.
#[derive(Debug, Clone, PartialEq)]
pub struct States {
    /// At the prompt's last token.
    pub end: Vec<Vec<f32>>,
    /// At the last token of what stands behind it.
    pub last: Vec<Vec<f32>>,
}

/// What is read, and in what portions.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub last_layer: LastLayer,
    pub states: Precision,
    /// Positions that are computed at once, at most, or one prompt.
    pub micro_tokens: usize,
    /// Widths are multiples of this.
    pub multiple: usize,
}

/// Reads the states of every prompt; `tell` gets each with its place, in an order of its own.
///
/// # Errors
///
/// Whatever `tell` returns.
pub fn states<E>(
    decoder: &Decoder,
    probes: &[Probe],
    reading: Reading,
    mut tell: impl FnMut(usize, States) -> Result<(), E>,
) -> Result<(), E> {
    let sample = |probe: &Probe| Sample::new(probe.ids.clone(), vec![None; probe.ids.len()], 1.into());
    let samples: Vec<Sample> = probes.iter().map(sample).collect();
    let all: Vec<usize> = (0..samples.len()).collect();
    let device = &decoder.device;
    for batch in micro_batches(&samples, &all, reading.micro_tokens, reading.multiple) {
        // The ends of all rows, then their last tokens.
        let rows = batch.samples.iter().enumerate();
        let ends = rows.clone().map(|(row, nth)| row * batch.width + probes[*nth].end);
        let lasts = rows.map(|(row, nth)| row * batch.width + probes[*nth].ids.len() - 1);
        let at: Vec<i32> =
            ends.chain(lasts).map(|at| i32::try_from(at).expect("a micro-batch is small")).collect();
        let n = batch.samples.len();
        let at = Tensor::<1, Int>::from_data(TensorData::new(at, [2 * n]), device);
        let at = |x: &Tensor<3>| {
            let [b, t, m] = x.dims();
            let found = x.clone().reshape([b * t, m]).select(0, at.clone()).cast(DType::F32); // [2 n, m]
            let found = found.try_into_vec_as::<f32>().expect("a device that opened gives its results back");
            found.chunks(m).map(|state| rounded(state, reading.states)).collect::<Vec<_>>()
        };
        let mut layers = Vec::new();
        let mut watch = |_: usize, x: &Tensor<3>| layers.push(at(x));
        let walk = Walk { watch: Some(&mut watch), ..Walk::default() };
        let normed = decoder.walk(batch.ids(device), &Positions::causal(batch.width), walk);
        if let (LastLayer::Normed, Some(last)) = (reading.last_layer, layers.last_mut()) {
            *last = at(&normed);
        }
        for (row, nth) in batch.samples.iter().enumerate() {
            let of = |row: usize| layers.iter().map(|states| states[row].clone()).collect();
            tell(*nth, States { end: of(row), last: of(n + row) })?;
        }
    }
    Ok(())
}

fn rounded(state: &[f32], states: Precision) -> Vec<f32> {
    match states {
        Precision::F32 => state.to_vec(),
        Precision::F16 => state.iter().map(|x| f16::from_f32(*x).to_f32()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::Probe;

    #[test]
    fn a_prompt_ends_before_the_first_token_that_the_suffix_changes() {
        let end = |prompt: &[u32], with: &[u32]| Probe::new(prompt, with.to_vec()).map(|probe| probe.end);
        assert_eq!(end(&[1, 2, 3], &[1, 2, 3, 9]), Some(2));
        assert_eq!(end(&[1, 2, 3], &[1, 2, 8, 9]), Some(1));
        assert_eq!(end(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(end(&[], &[9]), None);
    }
}
