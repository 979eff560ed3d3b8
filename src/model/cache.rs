//! The key/value cache of one batch while it generates.

use burn::tensor::{DType, Device, Tensor};

use super::DecoderShape;

/// Keys and values of every layer for the positions seen so far, allocated once for the longest.
#[derive(Debug, Default)]
pub struct Cache {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
    /// Positions filled so far.
    len: usize,
}

impl Cache {
    /// An empty cache for `n_rows` rows of at most `max_len` positions.
    pub fn new(shape: &DecoderShape, n_rows: usize, max_len: usize, dtype: DType, device: &Device) -> Self {
        let dims = [n_rows, shape.n_kv_heads, max_len, shape.head_dim];
        let zeros = || Tensor::zeros(dims, (device, dtype));
        Self { layers: (0..shape.n_layers).map(|_| (zeros(), zeros())).collect(), len: 0 }
    }

    /// Positions filled so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the new keys and values of one layer and returns all of them.
    ///
    /// # Shapes
    ///
    /// - `k`, `v`: `[b, g, t, d]`
    /// - result: `[b, g, s, d]`, `s` the positions filled with these
    pub(super) fn extend(&mut self, layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let [b, g, t, d] = k.dims();
        let (start, end) = (self.len, self.len + t);
        let put = |all: &mut Tensor<4>, new: Tensor<4>| {
            all.inplace(|all| all.slice_assign([0..b, 0..g, start..end, 0..d], new));
            all.clone().narrow(2, 0, end)
        };
        let (keys, values) = &mut self.layers[layer];
        (put(keys, k), put(values, v))
    }

    /// Counts the positions that every layer has just appended.
    pub(super) fn advance(&mut self, t: usize) {
        self.len += t;
    }

    /// Keeps only these rows, in this order.
    pub fn keep_rows(&mut self, rows: Tensor<1, burn::tensor::Int>) {
        for (keys, values) in &mut self.layers {
            keys.inplace(|keys| keys.select(0, rows.clone()));
            values.inplace(|values| values.select(0, rows.clone()));
        }
    }

    /// `n_rows` rows of at most `max_len` positions that all start with what this cache's only row holds.
    #[must_use]
    pub fn spread(&self, n_rows: usize, max_len: usize) -> Self {
        let spread = |one: &Tensor<4>| {
            let [_, g, _, d] = one.dims();
            let mut all = Tensor::zeros([n_rows, g, max_len, d], (&one.device(), one.dtype()));
            let seen = one.clone().narrow(2, 0, self.len).repeat_dim(0, n_rows);
            all.inplace(|all: Tensor<4>| all.slice_assign([0..n_rows, 0..g, 0..self.len, 0..d], seen));
            all
        };
        let layers = self.layers.iter().map(|(keys, values)| (spread(keys), spread(values))).collect();
        Self { layers, len: self.len }
    }

    /// Puts what row `from_row` of another cache holds from position `prefix` on in the place of the last
    /// positions of row `row`. Both caches start with the same `prefix` positions.
    pub fn put_row(&mut self, row: usize, from: &Self, from_row: usize, prefix: usize) {
        let (n, end) = (from.len - prefix, self.len);
        for ((keys, values), (new_keys, new_values)) in self.layers.iter_mut().zip(&from.layers) {
            for (all, new) in [(keys, new_keys), (values, new_values)] {
                let [_, g, _, d] = all.dims();
                let new = new.clone().slice([from_row..from_row + 1, 0..g, prefix..from.len, 0..d]);
                all.inplace(|all| all.slice_assign([row..row + 1, 0..g, end - n..end, 0..d], new));
            }
        }
    }

    /// Forgets every position but the first `prefix` and the last `n`, which move up to them.
    pub fn keep_last(&mut self, prefix: usize, n: usize) {
        let len = self.len;
        for (keys, values) in &mut self.layers {
            for all in [keys, values] {
                let [b, g, _, d] = all.dims();
                let last = all.clone().slice([0..b, 0..g, len - n..len, 0..d]);
                all.inplace(|all| all.slice_assign([0..b, 0..g, prefix..prefix + n, 0..d], last));
            }
        }
        self.len = prefix + n;
    }

    /// Lets the first positions of empty rows be padding, so that shorter rows can be put behind it.
    pub fn pad_to(&mut self, len: usize) {
        self.len = self.len.max(len);
    }

    /// The most positions that a row can hold.
    pub fn capacity(&self) -> usize {
        self.layers.first().map_or(0, |(keys, _)| keys.dims()[2])
    }

    /// Bytes of one position of one row.
    pub fn bytes_per_position(shape: &DecoderShape, dtype: DType) -> usize {
        2 * shape.n_layers * shape.n_kv_heads * shape.head_dim * dtype.size()
    }
}
