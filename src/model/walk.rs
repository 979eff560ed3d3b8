//! What else is done on a walk over the blocks.

use burn::tensor::Tensor;

use super::{Cache, Dropout, Steering};

/// Is shown the stream behind a block, and which block that is.
pub type Watch<'a> = &'a mut dyn FnMut(usize, &Tensor<3>);

/// What a walk over the blocks does besides computing them; what is absent costs nothing.
#[derive(Default)]
pub struct Walk<'a> {
    /// Keys and values of the tokens before.
    pub cache: Option<&'a mut Cache>,
    /// The tokens of each row that are wanted: the last block computes no others.
    pub at: Option<&'a [Vec<usize>]>,
    /// What adapters read of their inputs while they are trained.
    pub dropout: Option<&'a Dropout>,
    /// Is shown the stream behind every block, after it was steered.
    pub watch: Option<Watch<'a>>,
    /// What is added to the stream behind blocks.
    pub steering: Option<&'a Steering<'a>>,
}
