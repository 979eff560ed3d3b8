//! A weight that training changes, or that is read number by number.

use burn::tensor::Tensor;

/// A weight on the device. Vectors are rows, `[1, n]`, so that every weight has one rank.
#[derive(Debug, Clone)]
pub struct Param {
    /// The weight's name on disk.
    pub name: String,
    /// The weight's shape on disk.
    pub shape: Vec<usize>,
    /// `[rows, columns]`.
    pub value: Tensor<2>,
}

impl Param {
    /// The value as constant: outside any gradient.
    pub fn frozen(&self) -> Tensor<2> {
        self.value.clone().inner()
    }

    /// What was a leaf is none any more.
    pub(super) fn forget(&mut self) {
        if self.value.is_autodiff() {
            self.value = self.frozen().autodiff();
        }
    }
}
