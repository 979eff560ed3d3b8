//! Embedding → blocks → norm → head, for every family.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::attention::Attention;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::projection::linear;
use super::rope::Rotation;
use super::{Cache, DecoderShape, Lora, Param, Projection};
use crate::snapshot::adapter::{Adapter, Pair};
use crate::snapshot::{SnapshotError, Weights};

/// What a key that must not be seen adds to its score: enough to vanish, finite in every format.
const UNSEEN: f32 = -1e30;

/// A language model on a device.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub shape: DecoderShape,
    /// Without autodiff.
    pub device: Device,
    /// The format activations are computed in.
    pub compute: DType,
    embed_tokens: Param,
    layers: Vec<Block>,
    norm: RmsNorm,
    /// `None` when the head is the embedding.
    lm_head: Option<Param>,
}

/// One block: attention and feed-forward, each on a normalised copy of the stream.
#[derive(Debug, Clone)]
struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

/// The rows of a batch and where they sit.
#[derive(Debug)]
pub struct Positions {
    /// `[b, t]`: the position of every token, or one row for all.
    pub positions: Vec<Vec<usize>>,
    /// `[b or 1, 1, t, s]`: see [`Positions::causal`].
    pub mask: Option<Tensor<4>>,
}

impl Positions {
    /// Right-padded rows from position 0: every token sees itself and what lies before it.
    /// Padding comes after every real token, so no padding mask is needed.
    pub fn causal(t: usize, device: &Device) -> Self {
        let mask = (0..t * t).map(|i| if i % t > i / t { UNSEEN } else { 0.0 }).collect();
        let mask = Tensor::from_data(TensorData::new::<f32, _>(mask, [1, 1, t, t]), device);
        Self { positions: vec![(0..t).collect()], mask: Some(mask) }
    }

    /// Left-padded rows of a batch that generates: `t` new tokens after `seen` old ones.
    ///
    /// `padding[row]` is the number of padding tokens at the row's start.
    pub fn left_padded(padding: &[usize], seen: usize, t: usize, device: &Device) -> Self {
        let positions = padding.iter().map(|pad| (seen..seen + t).map(|i| i.saturating_sub(*pad)).collect());
        let s = seen + t;
        let mut mask = vec![0.0f32; padding.len() * t * s];
        for (row, pad) in padding.iter().enumerate() {
            for i in 0..t {
                let line = &mut mask[(row * t + i) * s..(row * t + i + 1) * s];
                // A padding token sees itself, or its row of shares would be of nothing at all.
                for (j, value) in line.iter_mut().enumerate() {
                    if (j < *pad && j != seen + i) || j > seen + i {
                        *value = UNSEEN;
                    }
                }
            }
        }
        let b = padding.len();
        let mask = Tensor::from_data(TensorData::new(mask, [b, 1, t, s]), device);
        Self { positions: positions.collect(), mask: Some(mask) }
    }
}

impl Decoder {
    /// Checks that `weights` are exactly those of a model of this shape.
    ///
    /// # Errors
    ///
    /// A weight is missing, has another shape, or is not part of such a model.
    pub fn check(shape: &DecoderShape, weights: &dyn Weights, place: &str) -> Result<(), SnapshotError> {
        let expected = shape.weights();
        for (name, expected) in &expected {
            let Some(info) = weights.infos().get(name) else {
                let help = format!("`config.json` describes a `{}` model that has it", shape.family);
                return Err(SnapshotError::MissingWeight {
                    name: name.clone(),
                    place: place.to_owned(),
                    help,
                });
            };
            if info.shape != *expected {
                return Err(SnapshotError::BadShape {
                    name: name.clone(),
                    place: place.to_owned(),
                    found: info.shape.clone(),
                    expected: expected.clone(),
                });
            }
        }
        let extra = weights.infos().keys().find(|name| !expected.contains_key(*name) && !derived(name));
        match extra {
            None => Ok(()),
            Some(name) if shape.tied && name == "lm_head.weight" && head_is_embedding(weights)? => Ok(()),
            Some(name) => Err(SnapshotError::UnexpectedWeight {
                name: name.clone(),
                place: place.to_owned(),
                family: shape.family.to_owned(),
            }),
        }
    }

    /// Puts the weights on a device in the format `compute`. Check them first.
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
        // Merging as it loads is arithmetic worth both cores; the device takes them one by one.
        let names: Vec<String> = shape.weights().into_keys().collect();
        let read = |name: &String| Ok((name.clone(), param(name, weights, device, compute)?));
        let mut params: BTreeMap<String, Param> = names.par_iter().map(read).collect::<Result<_, _>>()?;
        let mut take = |name: &str| params.remove(name).expect("the shape lists every weight it uses");
        let embed_tokens = take("model.embed_tokens.weight");
        let lm_head = (!shape.tied).then(|| take("lm_head.weight"));
        let epsilon = shape.norm_epsilon;
        let norm = RmsNorm { weight: take("model.norm.weight"), epsilon };
        let layers = (0..shape.n_layers)
            .map(|layer| {
                let mut linear = |name: &str, bias: bool| Projection {
                    weight: take(&format!("model.layers.{layer}.{name}.weight")),
                    bias: bias.then(|| take(&format!("model.layers.{layer}.{name}.bias"))),
                    adapter: None,
                };
                let self_attn = [
                    linear("self_attn.q_proj", shape.qkv_bias),
                    linear("self_attn.k_proj", shape.qkv_bias),
                    linear("self_attn.v_proj", shape.qkv_bias),
                    linear("self_attn.o_proj", shape.o_bias),
                ];
                let mlp = Mlp {
                    gate_proj: linear("mlp.gate_proj", shape.mlp_bias),
                    up_proj: linear("mlp.up_proj", shape.mlp_bias),
                    down_proj: linear("mlp.down_proj", shape.mlp_bias),
                };
                let mut norm = |name: &str| RmsNorm {
                    weight: take(&format!("model.layers.{layer}.{name}.weight")),
                    epsilon,
                };
                Block {
                    input_layernorm: norm("input_layernorm"),
                    self_attn: Attention::new(shape, self_attn),
                    post_attention_layernorm: norm("post_attention_layernorm"),
                    mlp,
                }
            })
            .collect();
        Ok(Self {
            shape: shape.clone(),
            device: device.clone(),
            compute,
            embed_tokens,
            layers,
            norm,
            lm_head,
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
        let (device, compute) = (self.device.clone(), self.compute);
        let mut old: Vec<&mut Param> =
            self.params_mut().into_iter().filter(|param| changed(&param.name)).collect();
        // A few at a time: old and new ones stand side by side on the device.
        for old in old.chunks_mut(rayon::current_num_threads()) {
            let names: Vec<String> = old.iter().map(|param| param.name.clone()).collect();
            let new = names.par_iter().map(|name| param(name, weights, &device, compute));
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
    pub fn hidden(
        &self,
        ids: Tensor<2, Int>,
        positions: &Positions,
        mut cache: Option<&mut Cache>,
    ) -> Tensor<3> {
        let [_, t] = ids.dims();
        let DecoderShape { rope_scaling, rope_theta, head_dim, .. } = self.shape;
        let rotation = Rotation::new(rope_scaling, rope_theta, head_dim, &positions.positions, &self.device);
        let mut x = burn::tensor::module::embedding(self.embed_tokens.value.clone(), ids); // [b, t, m]
        for (i, block) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, i));
            let normed = block.input_layernorm.forward(x.clone());
            x = x + block.self_attn.forward(normed, &rotation, positions.mask.as_ref(), cache);
            x = x.clone() + block.mlp.forward(block.post_attention_layernorm.forward(x));
        }
        if let Some(cache) = cache {
            cache.advance(t);
        }
        self.norm.forward(x)
    }

    /// The head's weight, `[v, m]`.
    pub fn head(&self) -> &Param {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// # Shapes
    ///
    /// - `hidden`: `[n, m]`
    /// - result: `[n, v]` in f32
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        linear(&hidden, &self.head().value).cast(DType::F32)
    }

    /// Every projection inside the blocks.
    pub fn projections_mut(&mut self) -> impl Iterator<Item = &mut Projection> {
        self.layers.iter_mut().flat_map(|block| {
            let Attention { q_proj, k_proj, v_proj, o_proj, .. } = &mut block.self_attn;
            let Mlp { gate_proj, up_proj, down_proj } = &mut block.mlp;
            [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]
        })
    }

    /// Every weight of the model itself; adapters are not among them.
    pub fn params_mut(&mut self) -> Vec<&mut Param> {
        let mut params = vec![&mut self.embed_tokens, &mut self.norm.weight];
        params.extend(self.lm_head.as_mut());
        for block in &mut self.layers {
            params.push(&mut block.input_layernorm.weight);
            params.push(&mut block.post_attention_layernorm.weight);
            let Attention { q_proj, k_proj, v_proj, o_proj, .. } = &mut block.self_attn;
            let Mlp { gate_proj, up_proj, down_proj } = &mut block.mlp;
            for linear in [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj] {
                params.push(&mut linear.weight);
                params.extend(linear.bias.as_mut());
            }
        }
        params
    }

    /// Both factors of every adapter.
    pub fn factors_mut(&mut self) -> Vec<&mut Param> {
        let adapters = self.projections_mut().filter_map(|projection| projection.adapter.as_mut());
        adapters.flat_map(|lora| [&mut lora.a, &mut lora.b]).collect()
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
            if let Some(Pair { a, b, n_in, n_out }) = adapter.pairs.get(projection.module()) {
                let factor = |which: &str, values: &Vec<f32>, shape: [usize; 2]| Param {
                    name: format!("{}.lora_{which}.weight", projection.module()),
                    shape: shape.to_vec(),
                    value: Tensor::from_data(TensorData::new(values.clone(), shape), (&device, DType::F32)),
                };
                let a = factor("A", a, [adapter.rank, *n_in]);
                let b = factor("B", b, [*n_out, adapter.rank]);
                projection.adapter = Some(Lora { a, b, scale: adapter.scale(), mask: None });
            }
        }
        Ok(())
    }
}

/// One weight on the device, vectors as rows.
fn param(name: &str, weights: &dyn Weights, device: &Device, compute: DType) -> Result<Param, SnapshotError> {
    let weight = weights.weight(name)?;
    let shape = weight.info.shape.clone();
    let rows = if shape.len() == 1 { 1 } else { shape[0] };
    let columns = shape[shape.len() - 1];
    let data = TensorData::new(weight.to_f32(), [rows, columns]);
    Ok(Param { name: name.to_owned(), shape, value: Tensor::from_data(data, (device, compute)) })
}

/// Old checkpoints carry tables that follow from the configuration.
fn derived(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// A tied checkpoint may store its head as well, if it is the embedding.
fn head_is_embedding(weights: &dyn Weights) -> Result<bool, SnapshotError> {
    let (head, embedding) = (weights.weight("lm_head.weight")?, weights.weight("model.embed_tokens.weight")?);
    Ok(head.info == embedding.info && head.bytes == embedding.bytes)
}
