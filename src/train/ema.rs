//! An exponential moving average of the weights beside their training: `θ̄ ← η θ̄ + (1 − η) θ` after each step, from
//! the weights before the first one on.
//!
//! Kim et al., "Rethinking Safety in LLM Fine-tuning: An Optimization Perspective", 2025, arXiv 2508.12531. Nothing of
//! it goes back into the training, which is the same with it and without.
//!
//! What is kept is the average of the update `θ − θ₀`, in f32 and in this machine's memory: the base does not change, so
//! that the base and the average update are the average weights, and no digits go to what every step has in common. Of
//! an adapter that is its update of whole maps, `s · B A`: the product of the average factors is something else, with the
//! cross terms of every step's `A` with every other's `B`. Only where the recipe asks for it the factors are averaged.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::checkpoint::{AVERAGE, HostWeights};
use super::step::Trainee;
use super::{Task, TrainError, adapter_of, init};
use crate::model::Param;
use crate::recipe::{MethodKind, OfAdapter};
use crate::snapshot::adapter::Adapter;
use crate::snapshot::{
    Dtype, Numbers, SharedWeights, SnapshotError, Weight, WeightFiles, WeightInfo, Weights,
};

/// The average of one training.
pub struct Ema<'a> {
    /// 1 − η.
    share: f32,
    mean: HostWeights,
    of: Of<'a>,
}

/// What is averaged.
enum Of<'a> {
    /// Every weight that is trained, less that of this base.
    Weights(&'a dyn Weights),
    /// Every map that has an adapter like this one, with it and less that of this base.
    Maps(&'a dyn Weights, Adapter),
    /// An adapter's factors.
    Factors,
}

impl<'a> Ema<'a> {
    /// The average that the recipe asks for, before the first of `steps` steps.
    ///
    /// # Errors
    ///
    /// The recipe's targets mean nothing.
    pub fn new(task: &Task<'a>, steps: usize, trainee: &mut Trainee) -> Result<Option<Self>, TrainError> {
        let Some(settings) = &task.train.ema else { return Ok(None) };
        let params = trainee.trainable().into_iter();
        let (of, mean) = match (task.method.kind, settings.lora) {
            (MethodKind::Full, _) => {
                let shapes = params.map(|param| (param.name.clone(), param.shape.clone()));
                (Of::Weights(task.weights), HostWeights::zeros(shapes))
            }
            (MethodKind::Lora, OfAdapter::Exact) => {
                let like = init::adapter(task.shape, task.method, task.train)?;
                let maps = like.pairs.iter();
                let shapes = maps.map(|(module, pair)| (weight_of(module), vec![pair.n_out, pair.n_in]));
                let mean = HostWeights::zeros(shapes);
                (Of::Maps(task.weights, like), mean)
            }
            (MethodKind::Lora, OfAdapter::Factors) => {
                let start = params.map(|param| (param.name.clone(), param.shape.clone(), param.frozen()));
                (Of::Factors, HostWeights::read(start))
            }
        };
        Ok(Some(Self { share: settings.share(steps) as f32, mean, of }))
    }

    /// What a checkpoint keeps of it.
    pub fn mean(&self) -> &HostWeights {
        &self.mean
    }

    /// Goes on from what a checkpoint kept.
    ///
    /// # Errors
    ///
    /// That is of another training; the error says why.
    pub fn restore(&mut self, kept: &WeightFiles) -> Result<(), String> {
        if kept.infos() != self.mean.infos() {
            return Err(format!("`{AVERAGE}` is of other weights"));
        }
        for name in kept.infos().keys() {
            let weight = kept.weight(name).map_err(|error| error.to_string())?;
            place(&mut self.mean, name).copy_from_slice(&weight.to_f32());
        }
        Ok(())
    }

    /// Takes in the weights after a step.
    ///
    /// # Errors
    ///
    /// A weight of the base cannot be read.
    pub fn step(&mut self, trainee: &mut Trainee) -> Result<(), SnapshotError> {
        let Self { share, mean, of } = self;
        match of {
            Of::Weights(base) => {
                for param in trainee.trainable() {
                    let (mut update, start) = (numbers(param), base.weight(&param.name)?.to_f32());
                    update.par_iter_mut().zip(&start).for_each(|(now, start)| *now -= start);
                    follow(place(mean, &param.name), &update, *share);
                }
            }
            Of::Maps(base, like) => {
                let adapter = adapter_of(&mut trainee.decoder, like);
                for module in adapter.pairs.keys() {
                    maps(&adapter, module, *base, place(mean, &weight_of(module)), *share)?;
                }
            }
            Of::Factors => {
                for param in trainee.trainable() {
                    follow(place(mean, &param.name), &numbers(param), *share);
                }
            }
        }
        Ok(())
    }
}

/// Lets the average of one map follow what `adapter` makes of it, row by row.
fn maps(
    adapter: &Adapter,
    module: &str,
    base: &dyn Weights,
    mean: &mut [f32],
    share: f32,
) -> Result<(), SnapshotError> {
    let pair = &adapter.pairs[module];
    // Only DoRA turns the base's rows.
    let start = if adapter.dora { base.weight(&weight_of(module))?.to_f32() } else { Vec::new() };
    let rows = mean.par_chunks_mut(pair.n_in).enumerate();
    rows.for_each_init(
        || vec![0.0; pair.n_in],
        |update, (row, mean)| {
            let start = start.get(row * pair.n_in..(row + 1) * pair.n_in).unwrap_or_default();
            adapter.update_of_row(pair, row, start, update);
            mean.iter_mut().zip(update).for_each(|(mean, now)| *mean += share * (*now - *mean));
        },
    );
    Ok(())
}

fn follow(mean: &mut [f32], now: &[f32], share: f32) {
    mean.par_iter_mut().zip(now).for_each(|(mean, now)| *mean += share * (now - *mean));
}

fn place<'m>(mean: &'m mut HostWeights, name: &str) -> &'m mut [f32] {
    mean.get_mut(name).expect("an average has a place for whatever is trained")
}

fn weight_of(module: &str) -> String {
    format!("{module}.weight")
}

fn numbers(param: &Param) -> Vec<f32> {
    let read = param.frozen().try_into_vec_as::<f32>();
    read.expect("a device that opened gives its results back")
}

/// A base whose weights are moved by an update, in f32; those without one are the base's own.
pub struct Moved {
    base: SharedWeights,
    update: SharedWeights,
    infos: BTreeMap<String, WeightInfo>,
}

impl Moved {
    /// `base` with the average update that a checkpoint kept.
    ///
    /// # Errors
    ///
    /// The base lacks one of the weights, or has it in another shape.
    pub fn new(base: SharedWeights, update: SharedWeights) -> Result<Self, SnapshotError> {
        let mut infos = base.infos().clone();
        for (name, WeightInfo { shape, .. }) in update.infos() {
            let info = infos.get_mut(name).ok_or_else(|| SnapshotError::MissingWeight {
                name: name.clone(),
                place: "the base".to_owned(),
                help: "the average is of a training of another model".to_owned(),
            })?;
            if info.shape != *shape {
                return Err(SnapshotError::OtherShape {
                    name: name.clone(),
                    place: "the average".to_owned(),
                    found: shape.clone(),
                    expected: info.shape.clone(),
                    base: "the base".to_owned(),
                });
            }
            info.dtype = Dtype::F32;
        }
        Ok(Self { base, update, infos })
    }
}

impl Weights for Moved {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        let base = self.base.weight(name)?;
        if !self.update.infos().contains_key(name) {
            return Ok(base);
        }
        let mut values = base.to_f32();
        values.iter_mut().zip(self.update.weight(name)?.to_f32()).for_each(|(x, update)| *x += update);
        Ok(Weight::from_f32(base.info.shape, &values))
    }

    fn numbers(&self, name: &str) -> Result<Numbers<'_>, SnapshotError> {
        let base = self.base.numbers(name)?;
        if !self.update.infos().contains_key(name) {
            return Ok(base);
        }
        let update = self.update.numbers(name)?;
        Ok(Numbers::Made(Box::new(move |start, out| {
            let mut moved = vec![0.0; out.len()];
            base.read(start, out);
            update.read(start, &mut moved);
            out.iter_mut().zip(moved).for_each(|(x, update)| *x += update);
        })))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Rising(BTreeMap<String, WeightInfo>, f32);

    impl Rising {
        /// A weight for each name, `[2, 3]`, with rising numbers from `start`.
        fn of(names: &[&str], dtype: Dtype, start: f32) -> Arc<Self> {
            let info = WeightInfo { shape: vec![2, 3], dtype };
            Arc::new(Self(names.iter().map(|name| ((*name).to_owned(), info.clone())).collect(), start))
        }
    }

    impl Weights for Rising {
        fn infos(&self) -> &BTreeMap<String, WeightInfo> {
            &self.0
        }

        fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
            let values: Vec<f32> = (0..6).map(|i| self.1 + i as f32).collect();
            Ok(Weight::rounded(vec![2, 3], &values, self.0[name].dtype))
        }
    }

    #[test]
    fn a_base_is_moved_where_there_is_an_update() {
        let moved =
            Moved::new(Rising::of(&["a", "b"], Dtype::Bf16, 8.0), Rising::of(&["b"], Dtype::F32, 0.5));
        let moved = moved.unwrap();
        assert_eq!(moved.weight("a").unwrap().to_f32(), [8.0, 9.0, 10.0, 11.0, 12.0, 13.0]);
        let expected = [8.5, 10.5, 12.5, 14.5, 16.5, 18.5];
        assert_eq!(moved.weight("b").unwrap().to_f32(), expected);
        assert_eq!((moved.infos()["a"].dtype, moved.infos()["b"].dtype), (Dtype::Bf16, Dtype::F32));
        let mut part = [0.0; 3];
        moved.numbers("b").unwrap().read(2, &mut part);
        assert_eq!(part, expected[2..5]);
        let stranger = Moved::new(Rising::of(&["a"], Dtype::F32, 8.0), Rising::of(&["b"], Dtype::F32, 0.5));
        assert!(matches!(stranger, Err(SnapshotError::MissingWeight { .. })));
    }

    #[test]
    fn an_average_follows_by_its_share_and_goes_on_from_what_was_kept() {
        let mut mean = [0.0, 4.0];
        for now in [[1.0, 4.0], [2.0, 0.0]] {
            follow(&mut mean, &now, 0.25);
        }
        // 0.25 · 1 and then 0.75 of it and 0.25 · 2; 4 and then 0.75 · 4.
        assert_eq!(mean, [0.6875, 3.0]);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(AVERAGE);
        let shapes = |shape: &[usize]| std::iter::once(("w".to_owned(), shape.to_vec()));
        let of =
            |shape: &[usize]| Ema { share: 0.5, mean: HostWeights::zeros(shapes(shape)), of: Of::Factors };
        let mut ema = of(&[2]);
        place(&mut ema.mean, "w").copy_from_slice(&mean);
        ema.mean().write(&path).unwrap();
        let kept = WeightFiles::open_file(&path).unwrap();
        let mut other = of(&[2]);
        other.restore(&kept).unwrap();
        assert_eq!(other.mean().weight("w").unwrap().to_f32(), mean);
        assert_eq!(of(&[1, 2]).restore(&kept).unwrap_err(), "`ema.safetensors` is of other weights");
    }
}
