//! One block of a decoder.

use burn::tensor::Tensor;

use super::attention::{Attention, Reach};
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::wanted::Wanted;
use super::{Cache, DecoderShape, Dropout, Matrix, Param, Projection};
use crate::device::kernels::{Format, Inputs};

/// One block: attention and feed-forward, each on a normalised copy of the stream.
#[derive(Debug, Clone)]
pub(super) struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    /// `pre_` and `post_feedforward_layernorm`; with them the norm above is behind attention.
    feedforward_layernorms: Option<[RmsNorm; 2]>,
    mlp: Mlp,
}

impl Block {
    pub(super) fn new(
        shape: &DecoderShape,
        layer: usize,
        inputs: Inputs,
        take: &mut impl FnMut(&str) -> Param,
    ) -> Self {
        let mut take = |name: &str, kind: &str| take(&format!("model.layers.{layer}.{name}.{kind}"));
        let mut linear = |name: &str, bias: bool| Projection {
            weight: Matrix::new(take(name, "weight")).with_inputs(inputs),
            bias: bias.then(|| take(name, "bias")),
            adapter: None,
        };
        let attention_maps = shape.attention_maps().into_iter();
        let attention_maps = attention_maps.map(|(name, _)| linear(name, shape.qkv_bias)).collect();
        let o_proj = linear("self_attn.o_proj", shape.o_bias);
        let mlp_maps = shape.mlp_maps().into_iter();
        let mlp = Mlp {
            inputs: mlp_maps.map(|(name, _)| linear(name, shape.mlp_bias)).collect(),
            down_proj: linear("mlp.down_proj", shape.mlp_bias),
            gate: shape.gate,
            width: shape.intermediate_size,
        };
        let mut norm = |name: &str| norm(shape, take(name, "weight"));
        let head_norms = shape.head_norms.then(|| ["self_attn.q_norm", "self_attn.k_norm"].map(&mut norm));
        let around = ["pre_feedforward_layernorm", "post_feedforward_layernorm"];
        Self {
            input_layernorm: norm("input_layernorm"),
            self_attn: Attention::new(shape, attention_maps, o_proj, head_norms),
            post_attention_layernorm: norm("post_attention_layernorm"),
            feedforward_layernorms: shape.post_norms.then(|| around.map(&mut norm)),
            mlp,
        }
    }

    /// The same with its linear maps kept in fewer bits.
    pub(super) fn quantised(mut self, format: Format) -> Self {
        for projection in self.projections_mut() {
            projection.weight = projection.weight.clone().quantised(format);
        }
        self
    }

    /// Adds what attention and feed-forward find to the stream, `[b, t, m]`, or to its `wanted` tokens.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        reach: &Reach,
        wanted: Option<&Wanted>,
        cache: Option<(&mut Cache, usize)>,
        dropout: Option<&Dropout>,
    ) -> Tensor<3> {
        let normed = self.input_layernorm.input(x.clone());
        let y = self.self_attn.forward(normed, reach, wanted, cache, dropout);
        let x = match wanted {
            Some(wanted) => wanted.of(x),
            None => x,
        };
        let Some([before, behind]) = &self.feedforward_layernorms else {
            let x = x + y;
            return x.clone() + self.mlp.forward(self.post_attention_layernorm.input(x), dropout);
        };
        let x = x + self.post_attention_layernorm.forward(y);
        x.clone() + behind.forward(self.mlp.forward(before.input(x), dropout))
    }

    pub(super) fn projections_mut(&mut self) -> Vec<&mut Projection> {
        let mut projections: Vec<&mut Projection> = self.self_attn.inputs.iter_mut().collect();
        projections.push(&mut self.self_attn.o_proj);
        projections.extend(&mut self.mlp.inputs);
        projections.push(&mut self.mlp.down_proj);
        projections
    }

    pub(super) fn params_mut(&mut self) -> Vec<&mut Param> {
        let mut params = vec![&mut self.input_layernorm.weight, &mut self.post_attention_layernorm.weight];
        let norms = self.feedforward_layernorms.iter_mut().chain(&mut self.self_attn.head_norms).flatten();
        params.extend(norms.map(|norm| &mut norm.weight));
        let inputs = self.self_attn.inputs.iter_mut().chain(&mut self.mlp.inputs);
        for linear in inputs.chain([&mut self.self_attn.o_proj, &mut self.mlp.down_proj]) {
            params.extend(linear.weight.param_mut());
            params.extend(linear.bias.as_mut());
        }
        params
    }
}

pub(super) fn norm(shape: &DecoderShape, weight: Param) -> RmsNorm {
    RmsNorm { weight, epsilon: shape.norm_epsilon, scale: shape.norm_scale }
}
