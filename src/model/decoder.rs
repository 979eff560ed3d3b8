//! Embedding → blocks → norm → head, for every family.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use half::{bf16, f16};
use rayon::prelude::*;

use super::attention::{Attention, Reach, Sight};
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::rope::Rotation;
use super::rows::Rows;
use super::wanted::Wanted;
use super::{
    Cache, DecoderShape, Directions, Dropout, Head, Lora, Matrix, Param, Positions, Projection, Walk, Watch,
};
use crate::device::is_cpu;
use crate::device::kernels::{Inputs, attends};
use crate::dtype::Dtype;
use crate::snapshot::adapter::Adapter;
use crate::snapshot::{SnapshotError, WeightInfo, Weights};

/// A language model on a device.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub shape: DecoderShape,
    /// Without autodiff.
    pub device: Device,
    /// The format of activations: on the processor always f32.
    pub compute: DType,
    kept: Kept,
    embed_tokens: Matrix,
    layers: Vec<Block>,
    norm: RmsNorm,
    /// `None` when the head is the embedding.
    lm_head: Option<Matrix>,
    /// What the stream of rows that are pushed is steered by; nothing else looks at it.
    pub directions: Option<Directions>,
    /// What is learned for some rows of both.
    rows: Option<Rows>,
}

/// One block: attention and feed-forward, each on a normalised copy of the stream.
#[derive(Debug, Clone)]
struct Block {
    /// How many tokens its tokens see back; `None` sees all.
    window: Option<usize>,
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    /// `pre_` and `post_feedforward_layernorm`; with them the norm above is behind attention.
    feedforward_layernorms: Option<[RmsNorm; 2]>,
    mlp: Mlp,
}

impl Block {
    fn new(shape: &DecoderShape, layer: usize, inputs: Inputs, take: &mut impl FnMut(&str) -> Param) -> Self {
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
            window: shape.windows[layer],
            input_layernorm: norm("input_layernorm"),
            self_attn: Attention::new(shape, attention_maps, o_proj, head_norms),
            post_attention_layernorm: norm("post_attention_layernorm"),
            feedforward_layernorms: shape.post_norms.then(|| around.map(&mut norm)),
            mlp,
        }
    }

    /// Adds what attention and feed-forward find to the stream, `[b, t, m]`, or to its `wanted` tokens.
    fn forward(
        &self,
        x: Tensor<3>,
        reach: &Reach,
        wanted: Option<&Wanted>,
        cache: Option<(&mut Cache, usize)>,
        dropout: Option<&Dropout>,
    ) -> Tensor<3> {
        let normed = self.input_layernorm.forward(x.clone());
        let y = self.self_attn.forward(normed, reach, wanted, cache, dropout);
        let x = match wanted {
            Some(wanted) => wanted.of(x),
            None => x,
        };
        let Some([before, behind]) = &self.feedforward_layernorms else {
            let x = x + y;
            return x.clone() + self.mlp.forward(self.post_attention_layernorm.forward(x), dropout);
        };
        let x = x + self.post_attention_layernorm.forward(y);
        x.clone() + behind.forward(self.mlp.forward(before.forward(x), dropout))
    }

    fn projections_mut(&mut self) -> Vec<&mut Projection> {
        let mut projections: Vec<&mut Projection> = self.self_attn.inputs.iter_mut().collect();
        projections.push(&mut self.self_attn.o_proj);
        projections.extend(&mut self.mlp.inputs);
        projections.push(&mut self.mlp.down_proj);
        projections
    }

    fn params_mut(&mut self) -> Vec<&mut Param> {
        let mut params = vec![&mut self.input_layernorm.weight, &mut self.post_attention_layernorm.weight];
        let norms = self.feedforward_layernorms.iter_mut().chain(&mut self.self_attn.head_norms).flatten();
        params.extend(norms.map(|norm| &mut norm.weight));
        let inputs = self.self_attn.inputs.iter_mut().chain(&mut self.mlp.inputs);
        for linear in inputs.chain([&mut self.self_attn.o_proj, &mut self.mlp.down_proj]) {
            params.push(linear.weight.param_mut());
            params.extend(linear.bias.as_mut());
        }
        params
    }
}

impl Decoder {
    /// Puts the weights on a device. Check them first.
    ///
    /// A GPU keeps and multiplies them in the format `compute`. The processor keeps matrices in the format that they have;
    /// if `compute` is bf16 it keeps them in that, and rounds to it what they are multiplied with.
    ///
    /// # Errors
    ///
    /// A weight cannot be read or computed.
    pub fn load(
        shape: &DecoderShape,
        weights: &dyn Weights,
        device: &Device,
        compute: DType,
    ) -> Result<Self, SnapshotError> {
        let kept = Kept::of(device, compute);
        // Merging as it loads is arithmetic worth both cores; the device takes them one by one.
        let names: Vec<String> = shape.weights().into_keys().collect();
        let read = |name: &String| Ok((name.clone(), param(name, weights, device, kept)?));
        let mut params: BTreeMap<String, Param> = names.par_iter().map(read).collect::<Result<_, _>>()?;
        let mut take = |name: &str| params.remove(name).expect("the shape lists every weight it uses");
        let inputs = kept.inputs();
        let embed_tokens = Matrix::new(take("model.embed_tokens.weight")).with_inputs(inputs);
        let lm_head = (!shape.tied).then(|| Matrix::new(take("lm_head.weight")).with_inputs(inputs));
        let norm = norm(shape, take("model.norm.weight"));
        let layers = (0..shape.n_layers).map(|layer| Block::new(shape, layer, inputs, &mut take)).collect();
        Ok(Self {
            shape: shape.clone(),
            device: device.clone(),
            compute: kept.activations(),
            kept,
            embed_tokens,
            layers,
            norm,
            lm_head,
            directions: None,
            rows: None,
        })
    }

    /// Puts other weights in the place of those that `changed` names; the rest stays on the device as
    /// it is.
    ///
    /// # Errors
    ///
    /// A weight cannot be read or computed.
    pub fn reload(
        &mut self,
        weights: &dyn Weights,
        changed: impl Fn(&str) -> bool,
    ) -> Result<(), SnapshotError> {
        let (device, kept) = (self.device.clone(), self.kept);
        let mut old: Vec<&mut Param> =
            self.params_mut().into_iter().filter(|param| changed(&param.name)).collect();
        // A few at a time: old and new ones stand side by side on the device.
        for old in old.chunks_mut(rayon::current_num_threads()) {
            let names: Vec<String> = old.iter().map(|param| param.name.clone()).collect();
            let new = names.par_iter().map(|name| param(name, weights, &device, kept));
            let new: Vec<Param> = new.collect::<Result<_, _>>()?;
            old.iter_mut().zip(new).for_each(|(old, new)| **old = new);
        }
        Ok(())
    }

    /// The stream after the last norm: what the head turns into logits.
    ///
    /// # Shapes
    ///
    /// - `ids`: `[b, t]`
    /// - result: `[b, t, m]` in the compute format
    pub fn hidden(&self, ids: Tensor<2, Int>, positions: &Positions, cache: Option<&mut Cache>) -> Tensor<3> {
        self.walk(ids, positions, Walk { cache, ..Walk::default() })
    }

    /// The stream after the last norm where adapters read only what `dropout` leaves.
    ///
    /// # Shapes
    ///
    /// As [`Decoder::hidden`].
    pub fn hidden_with_dropout(
        &self,
        ids: Tensor<2, Int>,
        positions: &Positions,
        dropout: Option<&Dropout>,
    ) -> Tensor<3> {
        self.walk(ids, positions, Walk { dropout, ..Walk::default() })
    }

    /// The stream at the tokens `at` of each row, which the last block computes alone.
    ///
    /// # Shapes
    ///
    /// - `ids`: `[b, t]`
    /// - result: `[b, w, m]` in the compute format, `w` as many as the row has that wants most
    pub fn hidden_at(
        &self,
        ids: Tensor<2, Int>,
        positions: &Positions,
        cache: Option<&mut Cache>,
        at: &[Vec<usize>],
    ) -> Tensor<3> {
        self.walk(ids, positions, Walk { cache, at: Some(at), ..Walk::default() })
    }

    /// As [`Decoder::hidden`]; `watch` is shown the stream behind every block, that behind the last one before the last
    /// norm. Looking changes nothing.
    ///
    /// # Shapes
    ///
    /// As [`Decoder::hidden`]; what is shown is `[b, t, m]`.
    pub fn hidden_watched(&self, ids: Tensor<2, Int>, positions: &Positions, watch: Watch<'_>) -> Tensor<3> {
        self.walk(ids, positions, Walk { watch: Some(watch), ..Walk::default() })
    }

    /// The stream after the last norm, with whatever else the walk over the blocks is to do.
    ///
    /// # Shapes
    ///
    /// As [`Decoder::hidden`], or as [`Decoder::hidden_at`] where the walk says which tokens.
    pub fn walk(&self, ids: Tensor<2, Int>, positions: &Positions, walk: Walk<'_>) -> Tensor<3> {
        let Walk { mut cache, at, dropout, mut watch, steering } = walk;
        let [_, t] = ids.dims();
        let wanted = at.and_then(|at| Wanted::new(at, t, &self.device));
        let (shape, device) = (&self.shape, &self.device);
        let is_whole = cache.is_none() && attends(device, self.compute);
        let reach = |window: Option<usize>, is_whole: bool| Reach {
            rotation: Rotation::new(
                if window.is_some() { &shape.sliding_rope } else { &shape.rope },
                &positions.of_tokens(),
                device,
            ),
            sight: match positions.spans(window).filter(|_| is_whole) {
                Some(spans) => Sight::Spans(spans),
                None => Sight::Mask(positions.mask(window, device).map(Box::new)),
            },
        };
        let full = reach(None, is_whole);
        let sliding = shape.windows.iter().flatten().next();
        let sliding = sliding.map(|window| reach(Some(*window), is_whole));
        // The last block computes the wanted tokens alone, which are no whole sequence.
        let last =
            wanted.as_ref().filter(|_| is_whole).map(|_| reach(shape.windows[shape.n_layers - 1], false));
        let more = self.rows.as_ref().map(|rows| rows.added(&ids, self.compute));
        let mut x = self.embed_tokens.rows(ids); // [b, t, m]
        if let Some(more) = more {
            x = x + more;
        }
        if shape.embedding_scale != 1.0 {
            x = x * rounded(shape.embedding_scale, self.compute);
        }
        for (i, block) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, i));
            let is_last = i + 1 == self.layers.len();
            let wanted = wanted.as_ref().filter(|_| is_last);
            let reach = match (&sliding, &last) {
                (_, Some(last)) if is_last => last,
                (Some(sliding), _) if block.window.is_some() => sliding,
                _ => &full,
            };
            x = block.forward(x, reach, wanted, cache, dropout);
            if let Some(steering) = steering {
                x = steering.added(i, x, wanted);
            }
            if let Some(watch) = &mut watch {
                watch(i, &x);
            }
        }
        if let Some(cache) = cache {
            cache.advance(t);
        }
        self.norm.forward(x)
    }

    /// The head's weight, `[v, m]`.
    pub fn head(&self) -> &Matrix {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// What turns the stream into logits, outside any gradient.
    pub fn frozen_head(&self) -> Head {
        let weight = match &self.rows {
            Some(rows) => rows.on_head(self.head()),
            None => self.head().frozen(),
        };
        Head { weight, softcap: self.shape.logit_softcap }
    }

    /// Learns the rows of these tokens beside whatever else is learned.
    pub fn learn_rows(&mut self, ids: &[u32]) {
        self.rows = Some(Rows::zeros(&self.shape, ids, &self.device));
    }

    /// What is learned of rows, if they are.
    pub fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref()
    }

    /// Every projection inside the blocks.
    pub fn projections_mut(&mut self) -> impl Iterator<Item = &mut Projection> {
        self.layers.iter_mut().flat_map(Block::projections_mut)
    }

    /// Every weight of the model itself; adapters are not among them.
    pub fn params_mut(&mut self) -> Vec<&mut Param> {
        let mut params = vec![self.embed_tokens.param_mut(), &mut self.norm.weight];
        params.extend(self.lm_head.as_mut().map(Matrix::param_mut));
        params.extend(self.layers.iter_mut().flat_map(Block::params_mut));
        params
    }

    /// What is trained of every adapter, and of rows where some are.
    pub fn factors_mut(&mut self) -> Vec<&mut Param> {
        let rows = self.rows.as_mut().into_iter().flat_map(Rows::params_mut);
        let projections = self.layers.iter_mut().flat_map(Block::projections_mut);
        let adapters = projections.filter_map(|projection| projection.adapter.as_mut());
        adapters.flat_map(Lora::params_mut).chain(rows).collect()
    }

    /// Puts an adapter's factors beside the projections they act on.
    ///
    /// # Errors
    ///
    /// The adapter acts on a module that the model lacks or that has another shape.
    pub fn attach(&mut self, adapter: &Adapter) -> Result<(), SnapshotError> {
        let modules = self.shape.linear_modules();
        for (module, pair) in &adapter.pairs {
            let missing = || SnapshotError::MissingWeight {
                name: format!("{module}.weight"),
                place: "the model".to_owned(),
                help: "the adapter was trained on another model".to_owned(),
            };
            let expected = modules.get(module).ok_or_else(missing)?;
            if *expected != [pair.n_out, pair.n_in] {
                return Err(SnapshotError::BadShape {
                    name: module.clone(),
                    place: "the adapter".to_owned(),
                    found: vec![pair.n_out, pair.n_in],
                    expected: expected.to_vec(),
                });
            }
        }
        let device = self.device.clone();
        for projection in self.projections_mut() {
            if let Some(pair) = adapter.pairs.get(projection.module()) {
                projection.adapter = Some(Lora::new(projection, adapter, pair, &device));
            }
        }
        Ok(())
    }
}

fn norm(shape: &DecoderShape, weight: Param) -> RmsNorm {
    RmsNorm { weight, epsilon: shape.norm_epsilon, scale: shape.norm_scale }
}

/// A constant as the format of the activations holds it.
fn rounded(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => bf16::from_f64(x).to_f64(),
        DType::F16 => f16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    }
}

/// The formats that a model's weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// All in this one, which is computed in.
    All(DType),
    /// On the processor: matrices as they are stored, the rest in f32.
    Stored,
    /// On the processor: matrices and what they are multiplied with in bf16, the rest in f32.
    Bf16,
}

impl Kept {
    fn of(device: &Device, compute: DType) -> Self {
        match (is_cpu(device), compute) {
            (false, _) => Self::All(compute),
            (true, DType::BF16) => Self::Bf16,
            (true, _) => Self::Stored,
        }
    }

    fn inputs(self) -> Inputs {
        if self == Self::Bf16 { Inputs::Bf16 } else { Inputs::Exact }
    }

    fn activations(self) -> DType {
        match self {
            Self::All(dtype) => dtype,
            Self::Stored | Self::Bf16 => DType::F32,
        }
    }

    /// Of a weight.
    fn dtype(self, info: &WeightInfo) -> DType {
        match (self, info.shape.len(), info.dtype) {
            (Self::All(dtype), ..) => dtype,
            (Self::Bf16, 2, _) | (Self::Stored, 2, Dtype::Bf16) => DType::BF16,
            (Self::Stored, 2, Dtype::F16) => DType::F16,
            _ => DType::F32,
        }
    }
}

/// One weight on the device, vectors as rows.
pub(super) fn param(
    name: &str,
    weights: &dyn Weights,
    device: &Device,
    kept: Kept,
) -> Result<Param, SnapshotError> {
    let weight = weights.weight(name)?;
    let shape = weight.info.shape.clone();
    let rows = if shape.len() == 1 { 1 } else { shape[0] };
    let dims = [rows, shape[shape.len() - 1]];
    let dtype = kept.dtype(&weight.info);
    let pairs = weight.bytes.as_chunks::<2>().0.iter();
    let data = match (weight.info.dtype, dtype) {
        (Dtype::Bf16, DType::BF16) => {
            TensorData::new(pairs.map(|bytes| bf16::from_le_bytes(*bytes)).collect(), dims)
        }
        (Dtype::F16, DType::F16) => {
            TensorData::new(pairs.map(|bytes| f16::from_le_bytes(*bytes)).collect(), dims)
        }
        _ => TensorData::new(weight.to_f32(), dims),
    };
    Ok(Param { name: name.to_owned(), shape, value: Tensor::from_data(data, (device, dtype)) })
}
