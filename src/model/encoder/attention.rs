//! Attention among all tokens of a text; in DeBERTa also by their distance.
//!
//! He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", 2020, arXiv 2006.03654, section 3.1.

use burn::tensor::{Int, Tensor, TensorData};

use super::{EncoderShape, Reader, Relative};
use crate::device::kernels::masked_softmax;
use crate::model::{Param, Projection};
use crate::snapshot::SnapshotError;

#[derive(Debug, Clone)]
pub(super) struct Attention {
    inputs: Inputs,
    n_heads: usize,
    head_dim: usize,
}

#[derive(Debug, Clone)]
enum Inputs {
    /// `query`, `key` and `value`.
    Apart(Box<[Projection; 3]>),
    Disentangled(Box<Disentangled>),
}

#[derive(Debug, Clone)]
struct Disentangled {
    /// Query, key and value of the first head, then those of the second, …
    in_proj: Projection,
    q_bias: Param,
    v_bias: Param,
    /// Keys of distances, which content looks for.
    pos_proj: Option<Projection>,
    /// Queries of distances, which look for content.
    pos_q_proj: Option<Projection>,
}

/// What texts of one length need to know of distances.
pub(super) struct Distances {
    /// Of the distances that occur, `[1, 2 span, m]`.
    embeddings: Tensor<3>,
    /// Which of them lies between a query and a key, `[1, 1, t, t]`: Eq. 3 of the paper.
    index: Tensor<4, Int>,
}

impl Distances {
    /// `table` is `[2 span, m]` with the widest span, `t` the length of the texts.
    pub fn new(table: &Tensor<2>, t: usize) -> Self {
        let widest = table.dims()[0] / 2;
        let span = widest.min(t);
        let embeddings = table.clone().narrow(0, widest - span, 2 * span).unsqueeze::<3>();
        let place = |i: usize, j: usize| (i + span).saturating_sub(j).min(2 * span - 1) as i64;
        let index: Vec<i64> = (0..t).flat_map(|i| (0..t).map(move |j| place(i, j))).collect();
        let index = Tensor::from_data(TensorData::new(index, [1, 1, t, t]), &table.device());
        Self { embeddings, index }
    }
}

impl Attention {
    pub fn load(shape: &EncoderShape, name: &str, reader: &Reader<'_>) -> Result<Self, SnapshotError> {
        let m = shape.hidden_size;
        let linear =
            |part: &str, n_out: usize, bias: bool| reader.linear(&format!("{name}.{part}"), [n_out, m], bias);
        let inputs = match shape.relative {
            None => Inputs::Apart(Box::new([
                linear("query", m, true)?,
                linear("key", m, true)?,
                linear("value", m, true)?,
            ])),
            Some(Relative { c2p, p2c, .. }) => Inputs::Disentangled(Box::new(Disentangled {
                in_proj: linear("in_proj", 3 * m, false)?,
                q_bias: reader.take(&format!("{name}.q_bias"), &[m])?,
                v_bias: reader.take(&format!("{name}.v_bias"), &[m])?,
                pos_proj: c2p.then(|| linear("pos_proj", m, false)).transpose()?,
                pos_q_proj: p2c.then(|| linear("pos_q_proj", m, true)).transpose()?,
            })),
        };
        Ok(Self { inputs, n_heads: shape.n_heads, head_dim: m / shape.n_heads })
    }

    /// # Shapes
    ///
    /// - `x`: `[b, t, m]`; the result has the same.
    pub fn forward(&self, x: Tensor<3>, distances: Option<&Distances>) -> Tensor<3> {
        let [b, t, m] = x.dims();
        let (scores, v) = match &self.inputs {
            Inputs::Apart(maps) => {
                let [q, k, v] = maps.each_ref().map(|map| self.heads(map.forward(x.clone(), None)));
                ((q * (self.head_dim as f64).powf(-0.5)).matmul(k.swap_dims(2, 3)), v)
            }
            Inputs::Disentangled(maps) => {
                self.disentangled(maps, x, distances.expect("the model has a table of distances"))
            }
        }; // [b, h, t, t] and [b, h, t, d]
        let mixed = masked_softmax(scores, None).matmul(v); // [b, h, t, d]
        mixed.swap_dims(1, 2).reshape([b, t, m])
    }

    /// The scores of Eq. 4 and the values.
    fn disentangled(
        &self,
        maps: &Disentangled,
        x: Tensor<3>,
        distances: &Distances,
    ) -> (Tensor<4>, Tensor<4>) {
        let [b, t, _] = x.dims();
        let (h, d) = (self.n_heads, self.head_dim);
        let all = maps.in_proj.forward(x, None).reshape([b, t, h, 3 * d]).swap_dims(1, 2); // [b, h, t, 3d]
        let part = |nth: usize| all.clone().narrow(3, nth * d, d);
        let bias = |bias: &Param| bias.value.clone().reshape([1, h, 1, d]);
        let n_terms = 1 + usize::from(maps.pos_proj.is_some()) + usize::from(maps.pos_q_proj.is_some());
        let scale = ((d * n_terms) as f64).powf(-0.5);
        let q = (part(0) + bias(&maps.q_bias)) * scale;
        let (k, v) = (part(1), part(2) + bias(&maps.v_bias));
        let mut scores = q.clone().matmul(k.clone().swap_dims(2, 3));
        let of_distances = |map: &Projection| self.heads(map.forward(distances.embeddings.clone(), None));
        let pick = |scores: Tensor<4>, index: Tensor<4, Int>| scores.gather(3, index.repeat(&[b, h, 1, 1]));
        // The table's rows for all texts: [1, h, 2 span, d] to [b, h, d, 2 span].
        let wide = |y: Tensor<4>| y.repeat(&[b, 1, 1, 1]).swap_dims(2, 3);
        if let Some(map) = &maps.pos_proj {
            scores = scores + pick(q.matmul(wide(of_distances(map))), distances.index.clone());
        }
        if let Some(map) = &maps.pos_q_proj {
            // The published models take the distance from query to key here too; Eq. 4 turns it round.
            let scores_of_keys = k.matmul(wide(of_distances(map) * scale)); // [b, h, t, 2 span]
            scores = scores + pick(scores_of_keys, distances.index.clone().swap_dims(2, 3)).swap_dims(2, 3);
        }
        (scores, v)
    }

    /// `[b, t, m]` to `[b, h, t, d]`.
    fn heads(&self, y: Tensor<3>) -> Tensor<4> {
        let [b, t, _] = y.dims();
        y.reshape([b, t, self.n_heads, self.head_dim]).swap_dims(1, 2)
    }
}
