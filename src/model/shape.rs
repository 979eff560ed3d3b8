//! What a decoder computes: sizes and the few switches in which families differ.

use std::collections::BTreeMap;

use super::norm::NormScale;
use super::rope::RopeShape;
use crate::device::kernels::Gate;

/// Everything that a family's configuration decides.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderShape {
    /// The family's name, for messages.
    pub family: &'static str,
    pub vocab_size: usize,
    /// Model width `m`.
    pub hidden_size: usize,
    /// Feed-forward width `f`.
    pub intermediate_size: usize,
    pub n_layers: usize,
    /// Query heads `h`.
    pub n_heads: usize,
    /// Key/value heads `g`; `h` is a multiple.
    pub n_kv_heads: usize,
    /// Head width `d`.
    pub head_dim: usize,
    /// The longest sequence that the model was made for.
    pub max_positions: usize,
    /// The head is the embedding.
    pub tied: bool,
    /// Embeddings are multiplied with this.
    pub embedding_scale: f64,
    /// Added under the root of every RMS norm.
    pub norm_epsilon: f64,
    pub norm_scale: NormScale,
    /// Norms behind attention and feed-forward as well as before: Gemma 2 and 3.
    pub post_norms: bool,
    /// Norms of each head's queries and keys.
    pub head_norms: bool,
    pub rope: RopeShape,
    /// That of the sliding layers.
    pub sliding_rope: RopeShape,
    /// By layer, how many tokens see back, themselves included; `None` sees all.
    pub windows: Vec<Option<usize>>,
    /// What queries are multiplied with.
    pub attention_scale: f64,
    /// Attention scores are kept between plus and minus this.
    pub attention_softcap: Option<f64>,
    /// Logits are kept between plus and minus this.
    pub logit_softcap: Option<f64>,
    pub gate: Gate,
    /// One matrix for queries, keys and values, and one for gate and up.
    pub fused: bool,
    /// Biases on `q_proj`, `k_proj`, `v_proj`.
    pub qkv_bias: bool,
    /// A bias on `o_proj`.
    pub o_bias: bool,
    /// Biases on the feed-forward maps.
    pub mlp_bias: bool,
}

/// The linear maps that read a block's stream, by the names they have in it, with their widths.
pub(super) type Maps = Vec<(&'static str, usize)>;

impl DecoderShape {
    /// A model without peculiarities, as the llama family is: what others differ from.
    pub fn plain(family: &'static str, sizes: Sizes) -> Self {
        let Sizes { vocab_size, hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, head_dim } =
            sizes;
        let rope = RopeShape { theta: 10_000.0, scaling: super::RopeScaling::None, dim: head_dim };
        Self {
            family,
            vocab_size,
            hidden_size,
            intermediate_size,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            max_positions: 2048,
            tied: false,
            embedding_scale: 1.0,
            norm_epsilon: 1e-6,
            norm_scale: NormScale::Weight,
            post_norms: false,
            head_norms: false,
            sliding_rope: rope.clone(),
            rope,
            windows: vec![None; n_layers],
            attention_scale: (head_dim as f64).powf(-0.5),
            attention_softcap: None,
            logit_softcap: None,
            gate: Gate::Silu,
            fused: false,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
        }
    }

    /// What attention reads the stream with.
    pub(super) fn attention_maps(&self) -> Maps {
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        match self.fused {
            true => vec![("self_attn.qkv_proj", q + 2 * kv)],
            false => vec![("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)],
        }
    }

    /// What the feed-forward part reads the stream with.
    pub(super) fn mlp_maps(&self) -> Maps {
        let f = self.intermediate_size;
        match self.fused {
            true => vec![("mlp.gate_up_proj", 2 * f)],
            false => vec![("mlp.gate_proj", f), ("mlp.up_proj", f)],
        }
    }

    /// The name and shape of every weight of such a model, by name.
    pub fn weights(&self) -> BTreeMap<String, Vec<usize>> {
        let (m, f) = (self.hidden_size, self.intermediate_size);
        let mut weights = BTreeMap::from([
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, m]),
            ("model.norm.weight".to_owned(), vec![m]),
        ]);
        if !self.tied {
            weights.insert("lm_head.weight".to_owned(), vec![self.vocab_size, m]);
        }
        for layer in 0..self.n_layers {
            let mut linear = |name: &str, n_out: usize, n_in: usize, bias: bool| {
                weights.insert(format!("model.layers.{layer}.{name}.weight"), vec![n_out, n_in]);
                if bias {
                    weights.insert(format!("model.layers.{layer}.{name}.bias"), vec![n_out]);
                }
            };
            self.attention_maps().iter().for_each(|(name, n_out)| linear(name, *n_out, m, self.qkv_bias));
            linear("self_attn.o_proj", m, self.n_heads * self.head_dim, self.o_bias);
            self.mlp_maps().iter().for_each(|(name, n_out)| linear(name, *n_out, m, self.mlp_bias));
            linear("mlp.down_proj", m, f, self.mlp_bias);
            let mut norms = vec![("input_layernorm", m), ("post_attention_layernorm", m)];
            if self.post_norms {
                norms.extend([("pre_feedforward_layernorm", m), ("post_feedforward_layernorm", m)]);
            }
            if self.head_norms {
                norms.extend([("self_attn.q_norm", self.head_dim), ("self_attn.k_norm", self.head_dim)]);
            }
            for (norm, width) in norms {
                weights.insert(format!("model.layers.{layer}.{norm}.weight"), vec![width]);
            }
        }
        weights
    }

    /// The linear maps inside the blocks, by module name with `[out, in]`: what `all-linear` means.
    pub fn linear_modules(&self) -> BTreeMap<String, [usize; 2]> {
        let matrix = |(name, shape): (String, Vec<usize>)| match shape.as_slice() {
            [n_out, n_in] if name.starts_with("model.layers.") => {
                Some((name.trim_end_matches(".weight").to_owned(), [*n_out, *n_in]))
            }
            _ => None,
        };
        self.weights().into_iter().filter_map(matrix).collect()
    }

    /// How many numbers the model holds.
    pub fn n_parameters(&self) -> usize {
        self.weights().values().map(|shape| shape.iter().product::<usize>()).sum()
    }
}

/// How large a decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
}
