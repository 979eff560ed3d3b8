//! One optimizer step: forward and backward of its micro-batches, clip, update.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, Tensor};

use super::objective::{Cost, Objective, Pairs};
use super::optimizer::Optimizer;
use super::penalty::Penalties;
use super::recompute::Segments;
use crate::model::loss::Gradients;
use crate::model::{Decoder, Dropout, Head, MicroBatch, Param};
use crate::recipe::MethodKind;

/// The gradients of a step, by weight name, `[rows, columns]` in f32.
type Sums = BTreeMap<String, Tensor<2>>;

/// A model being trained.
#[derive(Debug)]
pub struct Trainee {
    pub decoder: Decoder,
    kind: MethodKind,
    /// What stays as it is although `kind` would train it, by weight name.
    frozen: BTreeSet<String>,
    objective: Objective,
    penalties: Penalties,
    /// The share of an adapter's inputs that is dropped.
    dropout: f64,
    /// By which it is drawn what is dropped.
    seed: u64,
    /// Whether blocks are computed again on the way back.
    recompute: bool,
}

/// What a step found.
#[derive(Debug, Clone, Copy)]
pub struct StepResult {
    /// The objective's mean loss.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// What was added to that loss, if anything is.
    pub penalty: Option<f64>,
    /// What the model thought of the step's pairs, if it had any.
    pub pairs: Pairs,
}

impl Trainee {
    /// A model of which `kind` says what is trained, by `objective`, without dropout.
    pub fn new(decoder: Decoder, kind: MethodKind, objective: Objective) -> Self {
        let (frozen, penalties) = (BTreeSet::new(), Penalties::default());
        Self { decoder, kind, frozen, objective, penalties, dropout: 0.0, seed: 0, recompute: false }
    }

    /// Leaves these weights of full tuning as they are: no gradient is asked for them.
    pub fn without(self, frozen: BTreeSet<String>) -> Self {
        Self { frozen, ..self }
    }

    /// Drops this share of what adapters read in every step, by this seed.
    pub fn with_dropout(self, dropout: f64, seed: u64) -> Self {
        Self { dropout, seed, ..self }
    }

    /// Computes blocks again on the way back instead of keeping what their gradients need.
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// Adds these to the loss of every step.
    pub fn with_penalties(self, penalties: Penalties) -> Self {
        Self { penalties, ..self }
    }

    /// Every weight that is trained.
    pub fn trainable(&mut self) -> Vec<&mut Param> {
        match self.kind {
            MethodKind::Lora => self.decoder.factors_mut(),
            MethodKind::Full => {
                let mut params = self.decoder.params_mut();
                params.retain(|param| !self.frozen.contains(&param.name));
                params
            }
        }
    }

    /// Every weight that a checkpoint holds: of an adapter the factors, of a model all, frozen or not, so that it can be
    /// read alone.
    pub fn kept(&mut self) -> Vec<&mut Param> {
        match self.kind {
            MethodKind::Lora => self.decoder.factors_mut(),
            MethodKind::Full => self.decoder.params_mut(),
        }
    }

    /// Makes every trained weight a leaf whose gradient is asked for. A model that is trained has all its weights in f32,
    /// so that a checkpoint gives back what was computed with.
    pub fn track(&mut self) {
        for param in self.kept() {
            param.value = param.frozen().cast(DType::F32);
        }
        for param in self.trainable() {
            param.value = leaf(param.frozen());
        }
    }

    /// Forward, backward and update over the micro-batches of one step.
    ///
    /// The loss is averaged over all that the objective counts in the whole step, so how it is cut into
    /// micro-batches does not change it. `step` counts from 0; `clip` 0 does not clip.
    pub fn step(
        &mut self,
        batches: &[MicroBatch],
        optimizer: &mut Optimizer,
        step: usize,
        learning_rate: f64,
        clip: f64,
    ) -> StepResult {
        self.step_beside((batches, &[]), optimizer, step, learning_rate, clip)
    }

    /// The same; at the labels of `beside` the penalty on the distance from the base is taken.
    pub fn step_beside(
        &mut self,
        (batches, beside): (&[MicroBatch], &[MicroBatch]),
        optimizer: &mut Optimizer,
        step: usize,
        learning_rate: f64,
        clip: f64,
    ) -> StepResult {
        let n: usize = batches.iter().map(|batch| self.objective.count(batch)).sum();
        // A step of samples without any label changes nothing.
        let scale = 1.0 / n.max(1) as f64;
        let mut sums = Sums::new();
        let (mut loss, mut pairs) = (0.0, Pairs::default());
        for batch in batches {
            let (sum, own) = self.accumulate(batch, step, scale, &mut sums);
            loss += sum;
            pairs = pairs.and(own);
        }
        let penalty = (!self.penalties.is_empty()).then(|| self.penalise(beside, &mut sums));
        let gradient_norm = norm(&sums);
        let result = StepResult { loss: loss * scale, gradient_norm, penalty, pairs };
        if !((result.loss + penalty.unwrap_or(0.0)).is_finite() && gradient_norm.is_finite()) {
            return result; // The caller stops; the weights stay as they were.
        }
        // As PyTorch's clip_grad_norm_ does, with its 1e-6.
        let shrink = if clip > 0.0 { (clip / (gradient_norm + 1e-6)).min(1.0) } else { 1.0 };
        optimizer.advance();
        for param in self.trainable() {
            let Some(gradient) = sums.remove(&param.name) else { continue };
            let gradient = if shrink < 1.0 { gradient * shrink } else { gradient };
            param.value = leaf(optimizer.update(param, gradient, learning_rate));
        }
        result
    }

    /// The gradients of the sum of one micro-batch's losses, by weight name, in f32.
    pub fn gradients(&mut self, batch: &MicroBatch) -> BTreeMap<String, Tensor<2>> {
        let mut sums = Sums::new();
        self.accumulate(batch, 0, 1.0, &mut sums);
        sums
    }

    /// Sum of the losses of one micro-batch, and what was thought of its pairs; its gradients are added to `sums`.
    fn accumulate(&mut self, batch: &MicroBatch, step: usize, scale: f64, sums: &mut Sums) -> (f64, Pairs) {
        if self.objective.count(batch) == 0 {
            return (0.0, Pairs::default());
        }
        let dropout = (self.dropout > 0.0).then(|| Dropout {
            share: self.dropout,
            seed: self.seed,
            step,
            samples: batch.samples.iter().copied().zip(batch.spans()).collect(),
        });
        let objective = self.objective.clone();
        let cost = self.backward(batch, dropout.as_ref(), sums, |_, stream, head, wanted| {
            objective.cost(stream, head, batch, scale, wanted)
        });
        (cost.sum, cost.pairs)
    }

    /// What the penalties add to the loss; their gradients are added to `sums`.
    fn penalise(&mut self, beside: &[MicroBatch], sums: &mut Sums) -> f64 {
        let n = beside.iter().map(|batch| batch.targets.len()).sum::<usize>().max(1);
        let mut sum = 0.0;
        for batch in beside.iter().filter(|batch| !batch.targets.is_empty()) {
            let cost = self.backward(batch, None, sums, |penalties, stream, head, wanted| {
                penalties.divergence(stream, head, batch, n, wanted)
            });
            sum += cost.sum;
        }
        let (of_adapter, gradients) = self.penalties.of_adapter(&mut self.decoder);
        for (name, gradient) in gradients {
            add(sums, &name, gradient);
        }
        sum + of_adapter
    }

    /// The cost of one micro-batch; its gradients are added to `sums`.
    fn backward(
        &mut self,
        batch: &MicroBatch,
        dropout: Option<&Dropout>,
        sums: &mut Sums,
        cost: impl FnOnce(&Penalties, &Tensor<2>, &Head, Gradients) -> Cost,
    ) -> Cost {
        let (ids, positions) = (batch.ids(&self.decoder.device), batch.positions());
        let (segments, hidden) = match self.recompute {
            true => {
                let (segments, hidden) = Segments::forward(&self.decoder, ids, &positions, dropout);
                (Some(segments), hidden)
            }
            false => (None, self.decoder.hidden_with_dropout(ids, &positions, dropout)),
        };
        let [b, t, m] = hidden.dims();
        let stream = hidden.reshape([b * t, m]);
        let head = self.decoder.frozen_head();
        let is_head_trained = self.kind == MethodKind::Full && !self.frozen.contains(head.weight.name());
        let wanted = match is_head_trained || self.decoder.rows().is_some() {
            true => Gradients::RowsAndHead,
            false => Gradients::Rows,
        };
        let mut cost = cost(&self.penalties, &stream.clone().inner(), &head, wanted);
        match (cost.head.take(), self.decoder.rows()) {
            (Some(gradient), Some(rows)) => {
                let (name, gradient) = rows.gradient(gradient);
                add(sums, name, gradient);
            }
            (Some(gradient), None) => add(sums, head.weight.name(), gradient),
            (None, _) => {}
        }
        if segments.is_none() && !stream.is_autodiff() {
            return cost; // All that the stream goes through is frozen.
        }
        let seed = cost.stream.take().expect("the gradient of the stream was asked for"); // [b*t, m]
        let Some(mut segments) = segments else {
            self.back(stream, seed, sums);
            return cost;
        };
        let mut seed = seed.reshape([b, t, m]);
        for stage in 0..segments.n_stages() {
            let (x, y) = segments.stage(&self.decoder, stage, dropout);
            if !y.is_autodiff() {
                break;
            }
            let mut gradients = self.back(y, seed, sums);
            // Nothing before it is trained, or this is the embedding.
            let Some(before) = x.and_then(|x| x.grad_remove(&mut gradients)) else { break };
            seed = before.cast(DType::F32);
        }
        cost
    }

    /// Goes back from `y`, whose gradient is `seed`: gradients of what is trained are added to `sums`, the others are
    /// returned.
    fn back<const D: usize>(
        &mut self,
        y: Tensor<D>,
        seed: Tensor<D>,
        sums: &mut Sums,
    ) -> burn::tensor::Gradients {
        // The gradient of this sum with respect to `y` is `seed`: the chain rule's next link.
        let mut gradients = (y.cast(DType::F32) * seed).sum().backward();
        for param in self.trainable() {
            if let Some(gradient) = param.value.grad_remove(&mut gradients) {
                add(sums, &param.name, gradient.cast(DType::F32));
            }
        }
        gradients
    }

    /// Mean loss of micro-batches without any gradient, and of how many it is the mean.
    ///
    /// # Errors
    ///
    /// Whatever `tick` returns, which is told how many are done.
    pub fn validate<E>(
        &self,
        batches: &[MicroBatch],
        mut tick: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(f64, usize), E> {
        let decoder = self.decoder.untracked();
        let (mut sum, mut n) = (0.0, 0);
        for (i, batch) in batches.iter().enumerate() {
            let count = self.objective.count(batch);
            if count > 0 {
                let hidden = decoder.hidden(batch.ids(&decoder.device), &batch.positions(), None);
                let [b, t, m] = hidden.dims();
                let stream = hidden.reshape([b * t, m]);
                sum += self.objective.cost(&stream, &decoder.frozen_head(), batch, 1.0, Gradients::None).sum;
                n += count;
            }
            tick(i + 1)?;
        }
        Ok((sum / n.max(1) as f64, n))
    }
}

fn leaf(value: Tensor<2>) -> Tensor<2> {
    value.autodiff().require_grad()
}

fn add(sums: &mut Sums, name: &str, gradient: Tensor<2>) {
    let sum = match sums.remove(name) {
        Some(sum) => sum + gradient,
        None => gradient,
    };
    sums.insert(name.to_owned(), sum);
}

/// The norm of all gradients together, summed in f64 in the order of names.
fn norm(sums: &Sums) -> f64 {
    let squares: Vec<Tensor<1>> = sums.values().map(|gradient| gradient.clone().square().sum()).collect();
    if squares.is_empty() {
        return 0.0;
    }
    let squares = Tensor::cat(squares, 0).try_into_vec_as::<f32>();
    let squares = squares.expect("a device that opened gives its results back");
    squares.iter().map(|square| f64::from(*square)).sum::<f64>().sqrt()
}
