//! Attention with grouped key/value heads.
//!
//! Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762; Ainslie et al., "GQA",
//! 2023, arXiv 2305.13245. Norms of queries and keys: Dehghani et al., 2023, arXiv 2302.05442. Soft
//! caps: Gemma team, "Gemma 2", 2024, arXiv 2408.00118.

use burn::tensor::{DType, Tensor};

use super::norm::RmsNorm;
use super::projection::forward_all;
use super::rope::Rotation;
use super::wanted::Wanted;
use super::{Cache, DecoderShape, Dropout, Projection};
use crate::device::kernels::{HeadShape, Input, Spans, attend, cached, masked_softmax, matmul, soft_cap};

/// Self-attention of one block.
#[derive(Debug, Clone)]
pub struct Attention {
    /// `q_proj`, `k_proj` and `v_proj`, or `qkv_proj`, which is all three.
    pub inputs: Vec<Projection>,
    pub o_proj: Projection,
    /// `q_norm` and `k_norm`, over each head.
    pub head_norms: Option<[RmsNorm; 2]>,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    /// What queries are multiplied with.
    pub scale: f64,
    /// Scores are kept between plus and minus this.
    pub softcap: Option<f64>,
}

/// What the tokens of a batch see in one kind of layer.
pub(super) struct Reach {
    pub rotation: Rotation,
    pub sight: Sight,
}

/// Which keys are seen.
pub(super) enum Sight {
    /// Those of a whole sequence, from a first one on.
    Spans(Spans),
    /// `[b or 1, 1, t, s]`, 0 where a key may be seen and very negative elsewhere; all without one.
    Mask(Option<Box<Tensor<4>>>),
}

impl Attention {
    pub(super) fn new(
        shape: &DecoderShape,
        inputs: Vec<Projection>,
        o_proj: Projection,
        head_norms: Option<[RmsNorm; 2]>,
    ) -> Self {
        let DecoderShape { n_heads, n_kv_heads, head_dim, attention_scale: scale, .. } = *shape;
        let softcap = shape.attention_softcap;
        Self { inputs, o_proj, head_norms, n_heads, n_kv_heads, head_dim, scale, softcap }
    }

    /// # Shapes
    ///
    /// - `x`: `[b, t, m]`
    /// - result: `[b, t, m]`, or of the `wanted` tokens only
    pub(super) fn forward(
        &self,
        x: Input,
        reach: &Reach,
        wanted: Option<&Wanted>,
        cache: Option<(&mut Cache, usize)>,
        dropout: Option<&Dropout>,
    ) -> Tensor<3> {
        let [b, t, _] = x.value.dims();
        let (h, g, d) = (self.n_heads, self.n_kv_heads, self.head_dim);
        let [q, k, v] = forward_all(&self.inputs, x, [h * d, g * d, g * d], dropout);
        let (q, k) = match &self.head_norms {
            Some([q_norm, k_norm]) => (per_head(q, q_norm, d), per_head(k, k_norm, d)),
            None => (q, k),
        };
        let mask = match &reach.sight {
            Sight::Mask(mask) => mask.as_deref().cloned(),
            Sight::Spans(spans) => {
                let heads = HeadShape {
                    n_heads: h,
                    n_kv_heads: g,
                    width: d,
                    scale: self.scale as f32,
                    cap: self.softcap.map(|cap| cap as f32),
                };
                let mixed = attend([q, k, v], reach.rotation.angles(), spans, heads); // [b, t, h*d]
                return self.o_proj.forward(mixed, dropout);
            }
        };
        let heads = |y: Tensor<3>, n: usize| {
            let t = y.dims()[1];
            y.reshape([b, t, n, d]).swap_dims(1, 2)
        };
        let q = reach.rotation.apply(heads(q, h)); // [b, h, t, d]
        let k = reach.rotation.apply(heads(k, g)); // [b, g, t, d]
        let v = heads(v, g); // [b, g, t, d]
        let (k, v) = match cache {
            Some((cache, layer)) => cache.extend(layer, k, v), // [b, g, s, d]
            None => (k, v),
        };
        let s = k.dims()[2];
        let dtype = q.dtype();
        let (q, mask) = match wanted {
            Some(wanted) => {
                let q = wanted.of(q.swap_dims(1, 2).reshape([b, t, h * d]));
                let mask = mask.map(|mask| wanted.of(mask.squeeze_dim(1)).unsqueeze_dim(1));
                (heads(q, h), mask) // [b, h, w, d], [b, 1, w, s]
            }
            None => (q, mask),
        };
        let t = q.dims()[2];
        // The queries that share a key head lie together, so keys are never copied.
        let q = (q * self.scale).reshape([b, g, h / g * t, d]);
        let scores = cached::scores(&q, &k).unwrap_or_else(|| matmul(q, k.swap_dims(2, 3)));
        let scores = scores.reshape([b, h, t, s]).cast(DType::F32);
        let shares = masked_softmax(soft_cap(scores, self.softcap), mask.as_ref()).cast(dtype);
        let shares = shares.reshape([b, g, h / g * t, s]);
        let mixed = cached::mixed(&shares, &v).unwrap_or_else(|| matmul(shares, v)).reshape([b, h, t, d]);
        self.o_proj.forward(mixed.swap_dims(1, 2).reshape([b, t, h * d]), dropout)
    }
}

/// The norm of every head on its own.
fn per_head(x: Tensor<3>, norm: &RmsNorm, d: usize) -> Tensor<3> {
    let [b, t, width] = x.dims();
    norm.forward(x.reshape([b, t * width / d, d])).reshape([b, t, width])
}
