//! Which tokens a pass is asked about: the last block need not compute the others.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// As many tokens of every row.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Row after row, the wanted among the tokens of all rows, `[b * w]`.
    flat: Tensor<1, Int>,
    width: usize,
}

impl Wanted {
    /// The tokens `at` of rows of `t` tokens; a row that wants fewer than others also gets its first one.
    ///
    /// `None` if there is but one.
    pub(super) fn new(at: &[Vec<usize>], t: usize, device: &Device) -> Option<Self> {
        if t == 1 {
            return None;
        }
        let width = at.iter().map(Vec::len).max().unwrap_or(0);
        let row = |(i, at): (usize, &Vec<usize>)| {
            let mut at = at.clone();
            at.resize(width, 0);
            at.into_iter().map(move |at| i32::try_from(i * t + at).expect("fewer than 2^31 positions"))
        };
        let flat: Vec<i32> = at.iter().enumerate().flat_map(row).collect();
        let n = flat.len();
        Some(Self { flat: Tensor::from_data(TensorData::new(flat, [n]), device), width })
    }

    /// # Shapes
    ///
    /// - `x`: `[b or 1, t, n]`
    /// - result: `[b, w, n]`
    pub(super) fn of(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, n] = x.dims();
        let n_rows = self.flat.dims()[0] / self.width;
        let x = if b < n_rows { x.repeat_dim(0, n_rows) } else { x };
        x.reshape([n_rows * t, n]).select(0, self.flat.clone()).reshape([n_rows, self.width, n])
    }
}
