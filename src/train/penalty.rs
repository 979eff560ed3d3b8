//! What is added to the loss of every step, whatever the objective: the distance from the base on given prompts, and
//! AsFT's on the adapter itself.

use std::collections::BTreeMap;

use burn::tensor::{DType, IndexingUpdateOp, Tensor, TensorData};

use super::objective::asft::{self, Part};
use super::objective::kl::{self, Comparison, Side};
use super::objective::{Cost, Pairs};
use crate::data::Sample;
use crate::model::loss::Gradients;
use crate::model::{Decoder, Head, MicroBatch};
use crate::recipe::{Asft, Kl, Measure};
use crate::seed;
use crate::snapshot::{SnapshotError, Weights};

/// What a training's penalties are made of.
#[derive(Clone, Copy, Default)]
pub struct Given<'a> {
    /// Whose labels say where the model is compared with its base.
    pub kl: Option<(&'a Kl, &'a [Sample])>,
    /// With the model that the base was aligned from.
    pub asft: Option<(&'a Asft, &'a dyn Weights)>,
}

/// The penalties of a model that is trained.
#[derive(Debug, Default)]
pub struct Penalties {
    kl: Option<(Kl, Box<Decoder>)>,
    asft: Option<(Asft, BTreeMap<String, Tensor<2>>)>,
}

impl Penalties {
    /// Those of a model that is its base still, but for an adapter's start.
    ///
    /// # Errors
    ///
    /// A weight of the unaligned model cannot be read.
    pub fn new(given: Given<'_>, decoder: &Decoder) -> Result<Self, SnapshotError> {
        let kl = given.kl.map(|(kl, _)| {
            let mut base = decoder.clone();
            base.projections_mut().for_each(|projection| projection.adapter = None);
            (kl.clone(), Box::new(base))
        });
        let mut all = BTreeMap::new();
        if let Some((settings, unaligned)) = given.asft {
            for projection in
                decoder.clone().projections_mut().filter(|projection| projection.adapter.is_some())
            {
                let weight = projection.weight.to_f32();
                let values = unaligned.weight(projection.weight.name())?.to_f32();
                let device = (&decoder.device, DType::F32);
                let other = Tensor::from_data(TensorData::new(values, weight.dims()), device);
                all.insert(projection.module().to_owned(), asft::outside(weight, other, settings.projection));
            }
        }
        Ok(Self { kl, asft: given.asft.map(|(asft, _)| (asft.clone(), all)) })
    }

    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.kl.is_none() && self.asft.is_none()
    }

    /// The divergence from the base at a micro-batch's labels: its weighted sum over `n` positions of a step.
    ///
    /// # Shapes
    ///
    /// - `stream`: `[b·t, m]`, plain, in the compute format
    pub fn divergence(
        &self,
        stream: &Tensor<2>,
        head: &Head,
        batch: &MicroBatch,
        n: usize,
        wanted: Gradients,
    ) -> Cost {
        let (kl, base) = self.kl.as_ref().expect("only a penalty on the distance from the base has batches");
        let hidden = base.hidden(batch.ids(&base.device), &batch.positions(), None);
        let [b, t, m] = hidden.dims();
        let indices = batch.row_indices(&stream.device());
        let of_base = hidden.reshape([b * t, m]).select(0, indices.clone()); // [n, m]
        let rows = stream.clone().select(0, indices.clone()); // [n, m]
        let comparison = Comparison { direction: kl.direction, temperature: kl.temperature };
        let base_head = base.frozen_head();
        let (model, base) = (Side { rows: &rows, head }, Side { rows: &of_base, head: &base_head });
        let scale = kl.weight / n as f64;
        let found = kl::divergence(model, base, comparison, scale, wanted);
        let of_stream = |rows: Tensor<2>| {
            let zeros = Tensor::zeros(stream.dims(), (&stream.device(), DType::F32));
            zeros.select_assign(0, indices, rows, IndexingUpdateOp::Add) // [b*t, m]
        };
        let stream = found.rows.map(of_stream);
        Cost { sum: found.sum * scale, pairs: Pairs::default(), stream, head: found.head }
    }

    /// AsFT's penalty of the adapter as it is, with its gradients by the factors' names.
    pub fn of_adapter(&self, decoder: &mut Decoder) -> (f64, BTreeMap<String, Tensor<2>>) {
        let Some((asft, outside)) = &self.asft else { return (0.0, BTreeMap::new()) };
        let by = match asft.measure {
            Measure::Sum | Measure::Norm => asft.weight,
            Measure::Mean | Measure::Relative => asft.weight / outside.len().max(1) as f64,
        };
        let (mut sum, mut gradients) = (0.0, BTreeMap::new());
        for projection in decoder.projections_mut() {
            let Some(outside) = outside.get(projection.module()) else { continue };
            let Some(lora) = &projection.adapter else { continue };
            let scale = if asft.scaled { lora.scale } else { 1.0 };
            let Part { value, a, b } =
                asft::part(outside, &lora.a.frozen(), &lora.b.frozen(), asft.measure, scale);
            sum += value * by;
            gradients.insert(lora.a.name.clone(), a * by);
            gradients.insert(lora.b.name.clone(), b * by);
        }
        (sum, gradients)
    }
}

/// The samples that a step compares with the base: `batch` of `n`, every one once before any comes again.
pub fn places(seed: u64, step: usize, batch: usize, n: usize) -> Vec<usize> {
    let batch = batch.min(n);
    let first = step * batch;
    let of = |nth: usize| seed::shuffled(n, seed, &format!("kl/{}", nth / n))[nth % n];
    (first..first + batch).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn every_prompt_is_asked_once_before_any_is_asked_again() {
        let mut seen: Vec<usize> = (0..5).flat_map(|step| places(1, step, 4, 10)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).map(|i| i / 2).collect::<Vec<_>>());
        assert_eq!(places(1, 3, 4, 10), places(1, 3, 4, 10));
        assert_ne!(places(1, 0, 4, 10), places(2, 0, 4, 10));
        assert_eq!(places(1, 0, 99, 3).len(), 3);
    }
}
