//! How likely a model finds given answers.

use crate::data::Sample;
use crate::model::loss::{Gradients, Scale, cross_entropy};
use crate::model::{Decoder, Positions, Push, Steering, Walk, micro_batches};

/// The log-likelihood of a sample's trained tokens, in nats, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    pub sum: f64,
    pub n_tokens: usize,
}

/// The log-likelihood of every sample's trained tokens, given what comes before them.
///
/// At most `micro_tokens` positions are computed at once, and `go_on` is asked before each; logits never for more than a
/// chunk of rows.
///
/// # Errors
///
/// Whatever `go_on` returns.
pub fn likelihoods<E>(
    decoder: &Decoder,
    samples: &[Sample],
    micro_tokens: usize,
    go_on: impl Fn() -> Result<(), E>,
) -> Result<Vec<Likelihood>, E> {
    likelihoods_pushed(decoder, samples, &[], micro_tokens, go_on)
}

/// As [`likelihoods`], the states of each sample pushed along the decoder's directions as `pushes` say of it; where
/// there are fewer pushes than samples, the others are read as they are.
///
/// # Errors
///
/// As there.
pub fn likelihoods_pushed<E>(
    decoder: &Decoder,
    samples: &[Sample],
    pushes: &[Option<Push>],
    micro_tokens: usize,
    go_on: impl Fn() -> Result<(), E>,
) -> Result<Vec<Likelihood>, E> {
    let mut likelihoods = vec![Likelihood { sum: 0.0, n_tokens: 0 }; samples.len()];
    let all: Vec<usize> = (0..samples.len()).collect();
    for batch in micro_batches(samples, &all, micro_tokens, 1) {
        go_on()?;
        if batch.targets.is_empty() {
            continue;
        }
        let device = &decoder.device;
        let positions = Positions::causal(batch.width);
        let pushes: Vec<Option<Push>> =
            batch.samples.iter().map(|nth| pushes.get(*nth).copied().flatten()).collect();
        let steering = Steering::new(decoder.directions.as_ref(), &positions, &pushes);
        let walk = Walk { steering: steering.as_ref(), ..Walk::default() };
        let hidden = decoder.walk(batch.ids(device), &positions, walk);
        let [b, t, m] = hidden.dims();
        let rows = hidden.reshape([b * t, m]).select(0, batch.row_indices(device));
        let loss =
            cross_entropy(&rows, &decoder.frozen_head(), &batch.targets, Scale::All(1.0), Gradients::None);
        for (row, loss) in batch.rows.iter().zip(&loss.losses) {
            let likelihood = &mut likelihoods[batch.samples[*row as usize / batch.width]];
            likelihood.sum -= f64::from(*loss);
            likelihood.n_tokens += 1;
        }
    }
    Ok(likelihoods)
}
