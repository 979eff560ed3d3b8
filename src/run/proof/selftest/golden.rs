//! One golden folder: forward, greedy continuation, training traces.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde_json::Value;

use super::tensors::Tensors;
use super::{Check, Selftest, Tolerance, largest_difference, read, relative, relative_norm, worst};
use crate::data::Sample;
use crate::generate::{Decoding, Generator, Query};
use crate::model::loss::{Gradients, Scale, cross_entropy};
use crate::model::{Cache, Decoder, DecoderShape, MicroBatch, Positions};
use crate::recipe::{MethodKind, Schedule, Train};
use crate::run::failure::SelftestError;
use crate::snapshot::adapter::{Adapter, Folded};
use crate::snapshot::{Snapshot, SnapshotError, Weights};
use crate::train::adapter_of;
use crate::train::objective::Objective;
use crate::train::optimizer::Optimizer;
use crate::train::schedule::LearningRate;
use crate::train::step::Trainee;

/// One golden folder.
pub(super) struct Case<'a> {
    pub folder: PathBuf,
    pub name: String,
    pub snapshot: Snapshot,
    pub shape: DecoderShape,
    pub device: &'a Device,
    pub tolerance: Tolerance,
}

impl Case<'_> {
    fn check(&self, selftest: &mut Selftest, part: &str, measured: f64, allowed: f64) {
        selftest.checks.push(Check { case: self.name.clone(), part: part.to_owned(), measured, allowed });
    }

    fn load(&self) -> Result<Decoder, SnapshotError> {
        Decoder::load(&self.shape, &self.snapshot.weights, self.device, DType::F32)
    }

    /// Logits, loss and greedy continuation.
    pub(super) fn forward(&self, selftest: &mut Selftest) -> Result<(), SelftestError> {
        let golden = Tensors::open(&self.folder.join("golden.safetensors"))?;
        let (ids, [b, t]) = golden.ints("input_ids")?;
        let (mask, _) = golden.ints::<2>("attention_mask")?;
        let (labels, _) = golden.ints::<2>("labels")?;
        let expected = golden.floats("logits")?;
        let decoder = self.load()?;
        let batch: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        let batch = Tensor::<2, Int>::from_data(TensorData::new(batch, [b, t]), self.device);
        let hidden = decoder.hidden(batch.clone(), &Positions::causal(t), None);
        let m = hidden.dims()[2];
        let hidden = hidden.reshape([b * t, m]);
        let v = self.shape.vocab_size;
        let off = |logits: &[f32], i: usize, at: usize| {
            largest_difference(&logits[i * v..(i + 1) * v], &expected[at * v..(at + 1) * v])
        };
        let logits = read(decoder.frozen_head().logits(hidden.clone()));
        let real = (0..b * t).filter(|i| mask[*i] != 0);
        self.check(selftest, "logits", worst(real.map(|i| off(&logits, i, i))), self.tolerance.logits);

        // Every third token of the first row, the last of the others.
        let mut at = vec![vec![t - 1]; b];
        at[0] = (0..t).step_by(3).collect();
        let w = at[0].len();
        let few = decoder.hidden_at(batch.clone(), &Positions::causal(t), None, &at);
        let logits = read(decoder.frozen_head().logits(few.reshape([b * w, m])));
        let places = at
            .iter()
            .enumerate()
            .flat_map(|(row, at)| at.iter().enumerate().map(move |(nth, at)| (row * w + nth, row * t + at)));
        let real = places.filter(|(_, at)| mask[*at] != 0);
        let few = worst(real.map(|(i, at)| off(&logits, i, at)));
        self.check(selftest, "logits of a few tokens", few, self.tolerance.logits);

        let mut cache = Cache::new(&self.shape, b, t, DType::F32, self.device);
        let mut cached = Vec::new();
        // Where the angles change on the way, the generator starts anew, which greedy tokens show.
        let turns_anew = self.shape.rope.n_short().is_some_and(|n| n < t);
        while cache.len() < t && !turns_anew {
            // Half of the tokens at once, the others one by one.
            let (from, n) = (cache.len(), if cache.is_empty() { t / 2 } else { 1 });
            let ids = batch.clone().narrow(1, from, n);
            let hidden =
                decoder.hidden(ids, &Positions::left_padded(0, &vec![0; b], from, n), Some(&mut cache));
            let logits = read(decoder.frozen_head().logits(hidden.reshape([b * n, m])));
            let real = (0..b * n).map(|i| (i, i / n * t + from + i % n)).filter(|(_, at)| mask[*at] != 0);
            cached.extend(real.map(|(i, at)| off(&logits, i, at)));
        }
        self.check(selftest, "cached logits", worst(cached.into_iter()), self.tolerance.logits);

        let (rows, targets): (Vec<i32>, Vec<u32>) = (0..b * t)
            .filter(|i| i % t != 0 && labels[*i] >= 0)
            .map(|i| ((i - 1) as i32, labels[i] as u32))
            .unzip();
        let n = rows.len();
        let rows = hidden.select(0, Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), self.device));
        let sum =
            cross_entropy(&rows, &decoder.frozen_head(), &targets, Scale::All(1.0), Gradients::None).sum();
        let loss = f64::from(golden.floats("loss")?[0]);
        self.check(selftest, "loss", (sum / n as f64 - loss).abs(), self.tolerance.loss);

        let (prompt, [_, n_prompt]) = golden.ints("greedy_prompt")?;
        let (whole, [_, n_whole]) = golden.ints("greedy")?;
        let decoding = Decoding::greedy(n_whole - n_prompt);
        // A second, longer row: the answer must not depend on its neighbour's padding.
        let prompt: Vec<u32> = prompt.iter().map(|id| *id as u32).collect();
        let neighbour = [prompt.as_slice(), &prompt].concat();
        let generator = Generator { decoder: &decoder, decode: &|_| String::new(), rows: 2, stop: None };
        let mut new_ids = Vec::new();
        generator
            .complete(&[Query::once(&prompt), Query::once(&neighbour)], &decoding, |news| {
                let first = news.ended.into_iter().find(|(i, _)| *i == 0);
                new_ids = first.map_or(std::mem::take(&mut new_ids), |(_, said)| said.ids);
                Ok::<(), std::convert::Infallible>(())
            })
            .expect("nothing to fail");
        let expected = whole[n_prompt..].iter().map(|id| *id as u32);
        let wrong = expected.zip(&new_ids).filter(|(expected, found)| expected != *found).count();
        self.check(selftest, "greedy tokens that differ", wrong as f64, 0.0);
        Ok(())
    }

    pub(super) fn traces(&self, selftest: &mut Selftest) -> Result<(), SelftestError> {
        let text = std::fs::read(self.folder.join("case.json")).unwrap_or_default();
        let case: Value = serde_json::from_slice(&text).unwrap_or_default();
        for name in ["full", "lora", "rslora", "dora", "dropout", "dora-dropout"] {
            if let Some(settings) = case.get(name) {
                self.trace(name, settings, selftest)?;
            }
        }
        Ok(())
    }

    /// A training of a few steps from the same start on the same batches.
    fn trace(&self, name: &str, settings: &Value, selftest: &mut Selftest) -> Result<(), SelftestError> {
        let path = self.folder.join(format!("{name}.safetensors"));
        let golden = Tensors::open(&path)?;
        let number = |key: &str| {
            settings[key]
                .as_f64()
                .ok_or(SelftestError::Broken { path: path.clone(), why: format!("no `{key}`") })
        };
        let (steps, accumulation) = (number("steps")? as usize, number("accum")? as usize);
        let full = name == "full";
        let train = Train {
            learning_rate: number("lr")?,
            weight_decay: number("wd")?,
            warmup: number("warmup")?,
            schedule: Schedule::Cosine,
            ..Train::default()
        };
        let clip = settings["clip"].as_f64().unwrap_or(1.0);
        let mut decoder = self.load()?;
        let start = (!full).then(|| Adapter::read(&self.folder.join(format!("{name}-init")))).transpose()?;
        if let Some(adapter) = &start {
            decoder.attach(adapter)?;
        }
        let kind = if full { MethodKind::Full } else { MethodKind::Lora };
        let dropout = settings["dropout"].as_f64().unwrap_or(0.0);
        let mut trainee = Trainee::new(decoder, kind, Objective::Sft)
            .with_dropout(dropout, settings["seed"].as_u64().unwrap_or(0));
        trainee.track();
        let mut optimizer = Optimizer::new(&train);
        let rate = LearningRate { total_steps: steps, ..LearningRate::new(&train, steps) };
        let batches = golden_batches(&golden)?;
        let (losses, norms) = (golden.floats("losses")?, golden.floats("grad_norms")?);
        let (mut loss, mut norm) = (Vec::new(), Vec::new());
        for (step, micro) in batches.chunks(accumulation).enumerate() {
            let result = trainee.step(micro, &mut optimizer, step, rate.at(step), clip);
            loss.push(relative(result.loss, f64::from(losses[step])));
            norm.push(relative(result.gradient_norm, f64::from(norms[step])));
        }
        self.check(selftest, &format!("{name} losses"), worst(loss.into_iter()), self.tolerance.trace);
        // The reference's norms carry the rounding of as many f32 sums.
        self.check(
            selftest,
            &format!("{name} gradient norms"),
            worst(norm.into_iter()),
            10.0 * self.tolerance.trace,
        );
        match start {
            Some(start) => self.compare_adapter(name, &start, &mut trainee, &golden, selftest),
            None => {
                let params = trainee.decoder.params_mut().into_iter();
                let values =
                    params.map(|param| (param.name.clone(), read(param.frozen()))).collect::<Vec<_>>();
                self.compare_weights(name, "final.", &golden, selftest, |wanted| {
                    Ok(values.iter().find(|(name, _)| name == wanted).map(|(_, values)| values.clone()))
                })
            }
        }
    }

    fn compare_adapter(
        &self,
        name: &str,
        start: &Adapter,
        trainee: &mut Trainee,
        golden: &Tensors,
        selftest: &mut Selftest,
    ) -> Result<(), SelftestError> {
        let trained = adapter_of(&mut trainee.decoder, start);
        let expected = Adapter::read(&self.folder.join(format!("{name}-final")))?;
        let pairs = trained.pairs.iter().flat_map(|(module, pair)| {
            let expected = &expected.pairs[module];
            [(&pair.a, &expected.a), (&pair.b, &expected.b), (&pair.magnitude, &expected.magnitude)]
                .map(|(found, expected)| relative_norm(found, expected))
        });
        let allowed = self.tolerance.weights;
        self.check(selftest, &format!("{name} adapter"), worst(pairs), allowed);
        let folded = Folded::new(self.snapshot.weights.clone(), Arc::new(trained))?;
        self.compare_weights(name, "merged.", golden, selftest, |wanted| {
            Ok(Some(folded.weight(wanted)?.to_f32()))
        })
    }

    fn compare_weights(
        &self,
        name: &str,
        prefix: &str,
        golden: &Tensors,
        selftest: &mut Selftest,
        weight: impl Fn(&str) -> Result<Option<Vec<f32>>, SelftestError>,
    ) -> Result<(), SelftestError> {
        let mut differences = Vec::new();
        for key in golden.names().iter().filter(|key| key.starts_with(prefix)) {
            let found = weight(&key[prefix.len()..])?.unwrap_or_default();
            differences.push(relative_norm(&found, &golden.floats(key)?));
        }
        let part = format!("{name} {}weights", prefix.replace('.', " "));
        self.check(selftest, &part, worst(differences.into_iter()), self.tolerance.weights);
        Ok(())
    }
}

fn golden_batches(golden: &Tensors) -> Result<Vec<MicroBatch>, SelftestError> {
    let (ids, [n, b, t]) = golden.ints("batch_ids")?;
    let (labels, _) = golden.ints::<3>("batch_labels")?;
    let (mask, _) = golden.ints::<3>("batch_mask")?;
    let row = |row: usize| {
        let len = mask[row * t..(row + 1) * t].iter().filter(|mask| **mask != 0).count();
        let at = row * t..row * t + len;
        let labels = labels[at.clone()].iter().map(|label| u32::try_from(*label).ok()).collect();
        Sample::new(ids[at].iter().map(|id| *id as u32).collect(), labels, 1.into())
    };
    // Every row is a sample of its own: what is dropped depends on its number.
    let samples: Vec<Sample> = (0..n * b).map(row).collect();
    let batch =
        |batch: usize| MicroBatch::new(&samples, &(batch * b..(batch + 1) * b).collect::<Vec<_>>(), 1);
    Ok((0..n).map(batch).collect())
}
