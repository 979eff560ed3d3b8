//! Embedding → blocks → norm → head, for every family.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, Tensor};
use half::{bf16, f16};

use super::block::{Block, norm};
use super::course::Course;
use super::kept::{Kept, params};
use super::norm::RmsNorm;
use super::rows::Rows;
use super::wanted::Wanted;
use super::{
    Cache, DecoderShape, Directions, Dropout, Head, Lora, Matrix, Param, Positions, Projection, Walk, Watch,
};
use crate::device::kernels::{Format, Quantised};
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
        Self::load_quantised(shape, weights, device, compute, None)
    }

    /// The same with the linear maps of every block kept in fewer bits, if in any: a frozen base for adapters. Embeddings, head
    /// and norms stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Decoder::load`].
    pub fn load_quantised(
        shape: &DecoderShape,
        weights: &dyn Weights,
        device: &Device,
        compute: DType,
        format: Option<Format>,
    ) -> Result<Self, SnapshotError> {
        let kept = Kept::of(device, compute);
        let (of_layers, others): (Vec<String>, Vec<String>) =
            shape.weights().into_keys().partition(|name| name.starts_with("model.layers."));
        let read = |names: &[String]| {
            let read = params(names, weights, device, kept)?;
            let named = read.into_iter().map(|param| (param.name.clone(), param));
            Ok::<BTreeMap<String, Param>, SnapshotError>(named.collect())
        };
        let whole = "the shape lists every weight it uses";
        let inputs = kept.inputs();
        let mut params = read(&others)?;
        let mut take = |name: &str| params.remove(name).expect(whole);
        let embed_tokens = Matrix::new(take("model.embed_tokens.weight")).with_inputs(inputs);
        let lm_head = (!shape.tied).then(|| Matrix::new(take("lm_head.weight")).with_inputs(inputs));
        let norm = norm(shape, take("model.norm.weight"));
        // One block after the other: what is to be kept in fewer bits never lies there whole.
        let layer = |layer: usize| {
            let prefix = format!("model.layers.{layer}.");
            let names = of_layers.iter().filter(|name| name.starts_with(&prefix)).cloned();
            let mut params = read(&names.collect::<Vec<_>>())?;
            let block = Block::new(shape, layer, inputs, &mut |name| params.remove(name).expect(whole));
            Ok::<Block, SnapshotError>(match format {
                Some(format) => block.quantised(format),
                None => block,
            })
        };
        let layers = (0..shape.n_layers).map(layer).collect::<Result<_, _>>()?;
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

    /// Bytes that weights take on a device, loaded as [`Decoder::load_quantised`] does.
    pub fn bytes(
        infos: &BTreeMap<String, WeightInfo>,
        device: &Device,
        compute: DType,
        format: Option<Format>,
    ) -> u64 {
        let kept = Kept::of(device, compute);
        let bytes = |(name, info): (&String, &WeightInfo)| match (format, info.shape.as_slice()) {
            (Some(format), [rows, columns]) if name.starts_with("model.layers.") => {
                Quantised::bytes(format, [*rows, *columns])
            }
            _ => info.n_elements() * kept.dtype(info).size(),
        };
        infos.iter().map(|one| bytes(one) as u64).sum()
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
            let new = params(&names, weights, &device, kept)?;
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
        let on = (&self.device, self.compute);
        let course = Course::new(&self.shape, on, positions, cache.is_some(), wanted.is_some());
        let mut x = self.embedded(ids);
        for (i, block) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, i));
            let wanted = wanted.as_ref().filter(|_| i + 1 == self.layers.len());
            x = block.forward(x, course.reach(i), wanted, cache, dropout);
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
        self.normed(x)
    }

    /// The stream before the first block, of the tokens `ids`.
    ///
    /// # Shapes
    ///
    /// - `ids`: `[b, t]`
    /// - result: `[b, t, m]` in the compute format
    pub fn embedded(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let more = self.rows.as_ref().map(|rows| rows.added(&ids, self.compute));
        let mut x = self.embed_tokens.rows(ids); // [b, t, m]
        if let Some(more) = more {
            x = x + more;
        }
        if self.shape.embedding_scale != 1.0 {
            x = x * rounded(self.shape.embedding_scale, self.compute);
        }
        x
    }

    /// What the tokens of whole sequences see in every block, for [`Decoder::block`].
    pub fn course(&self, positions: &Positions) -> Course {
        Course::new(&self.shape, (&self.device, self.compute), positions, false, false)
    }

    /// The stream behind the block `i`, from that before it; adapters read only what `dropout` leaves.
    ///
    /// # Shapes
    ///
    /// - `x`: `[b, t, m]`; the result has the same.
    pub fn block(&self, i: usize, x: Tensor<3>, course: &Course, dropout: Option<&Dropout>) -> Tensor<3> {
        self.layers[i].forward(x, course.reach(i), None, None, dropout)
    }

    /// The last norm of the stream behind the last block.
    ///
    /// # Shapes
    ///
    /// As [`Decoder::block`].
    pub fn normed(&self, x: Tensor<3>) -> Tensor<3> {
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
        let mut params: Vec<&mut Param> = self.embed_tokens.param_mut().into_iter().collect();
        params.push(&mut self.norm.weight);
        params.extend(self.lm_head.as_mut().and_then(Matrix::param_mut));
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

    /// A copy outside any gradient; values are shared.
    pub fn untracked(&self) -> Self {
        let mut copy = self.clone();
        for param in copy.params_mut() {
            param.value = param.frozen();
        }
        for param in copy.factors_mut() {
            param.value = param.frozen();
        }
        copy
    }

    /// A copy of which nothing is recorded, computed by the same operations as if it were; values are shared.
    pub fn unrecorded(&self) -> Self {
        let mut copy = self.clone();
        for param in copy.params_mut() {
            param.forget();
        }
        for param in copy.factors_mut() {
            param.forget();
        }
        copy
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

/// A constant as the format of the activations holds it.
fn rounded(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => bf16::from_f64(x).to_f64(),
        DType::F16 => f16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    }
}
