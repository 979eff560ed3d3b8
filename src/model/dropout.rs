//! Dropout on the inputs of adapters, by names and nothing else.
//!
//! Srivastava et al., "Dropout", 2014. Whether an input is dropped is a function of the seed, the
//! step, the projection, the sample and the position: cutting a step otherwise changes nothing.

use crate::device::kernels::Mask;
use crate::seed::rng;

/// What a forward pass drops of what adapters read.
#[derive(Debug, Clone)]
pub struct Dropout {
    /// The share of the inputs, at least 0 and below 1.
    pub share: f64,
    pub seed: u64,
    /// The step, counted from 0.
    pub step: usize,
    /// The samples of the stream, and how many positions each has.
    pub samples: Vec<(usize, usize)>,
}

impl Dropout {
    /// What is dropped of the inputs of `module`.
    pub(super) fn mask(&self, module: &str) -> Mask {
        let Self { share, seed, step, samples } = self;
        let stream =
            |(sample, n): &(usize, usize)| (rng(*seed, &format!("dropout {module} {step} {sample}")), *n);
        Mask::new(*share, samples.iter().map(stream).collect())
    }
}
