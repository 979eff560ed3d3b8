//! Everything needed to go on: trained weights, optimizer, step. The data position and the random
//! streams are functions of the step and the seed, so the step is all there is to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::TrainError;
use super::optimizer::{self, Optimizer};
use super::remembered::{self, Remembered};
use crate::folders::{self, SETTINGS_BYTES};
use crate::model::Param;
use crate::recipe::Train;
use crate::snapshot::digest::{self, Algorithm};
use crate::snapshot::files::WeightFiles;
use crate::snapshot::writer::{folder_at_once, write_file, write_json};
use crate::snapshot::{Dtype, SnapshotError, Weight, WeightInfo, Weights};

/// A checkpoint's trained weights, in f32.
pub const WEIGHTS: &str = "weights.safetensors";
/// What its optimizer remembers, by names of its own.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The moving average beside the training, if the recipe asks for one: see [`super::ema`].
pub const AVERAGE: &str = "ema.safetensors";
/// What it says of itself.
pub const STATE: &str = "state.json";

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Steps made.
    pub step: usize,
    /// The digest of everything that decides the training; another one is another run.
    pub key: String,
    /// The kind of device that made it.
    pub device: String,
    /// The BLAKE3 of its files, by name; those of earlier builds have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blake3: BTreeMap<String, String>,
}

impl State {
    /// After `step` steps of the training `key`, made on a kind of device.
    pub fn new(step: usize, key: &str, device: &str) -> Self {
        Self { step, key: key.to_owned(), device: device.to_owned(), blake3: BTreeMap::new() }
    }
}

/// The checkpoints of one training, oldest first.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    /// Steps between checkpoints; 0 where the clock decides.
    every: usize,
}

/// How a file's digest is had.
type Digest = fn(&Path, Algorithm) -> Result<String, SnapshotError>;

impl Checkpoints {
    /// Checkpoints in `folder`, the last `keep` of them kept (0 keeps all).
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self { folder: folder.to_owned(), keep, every: 0 }
    }

    /// Those of a training, which keeps what an uninterrupted one would keep.
    pub fn of(folder: &Path, train: &Train) -> Self {
        Self { keep: train.keep_checkpoints, every: train.checkpoint_every, ..Self::new(folder, 0) }
    }

    /// The folder of the checkpoint after `step` steps.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("checkpoint-{step:06}"))
    }

    /// The steps for which there is a checkpoint, rising.
    pub fn steps(&self) -> Vec<usize> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let step = |name: String| name.strip_prefix("checkpoint-")?.parse().ok();
        let mut steps: Vec<usize> =
            entries.filter_map(|entry| step(entry.file_name().to_string_lossy().into_owned())).collect();
        steps.sort_unstable();
        steps
    }

    /// The steps whose checkpoints are there at the end of a training of `last` steps, rising; empty
    /// where the clock and not a step decides.
    pub fn at_the_end(train: &Train, last: usize) -> Vec<usize> {
        let every = train.checkpoint_every;
        if every == 0 {
            return Vec::new();
        }
        let before = (every..last).step_by(every);
        let kept = if train.keep_checkpoints == 0 { usize::MAX } else { train.keep_checkpoints };
        let surplus = (before.len() + 1).saturating_sub(kept);
        before.chain([last]).skip(surplus).collect()
    }

    /// Writes a checkpoint whole, then removes those beyond the number kept; also those that a kill kept it from
    /// removing when it had been written.
    ///
    /// # Errors
    ///
    /// A weight is not finite, or the disk refuses.
    pub fn save(
        &self,
        state: &State,
        params: &[&mut Param],
        optimizer: &Optimizer,
        average: Option<&HostWeights>,
    ) -> Result<(), TrainError> {
        if !self.path(state.step).is_dir() {
            self.write(state, params, optimizer, average)?;
        }
        let mut steps = self.steps();
        // A checkpoint between two steps of the schedule is of a stop, which the newest makes good.
        let of_stop = |step: &usize| self.every > 0 && !step.is_multiple_of(self.every) && *step < state.step;
        for step in steps.extract_if(.., |step| of_stop(step)) {
            self.remove(step)?;
        }
        let surplus = if self.keep == 0 { 0 } else { steps.len().saturating_sub(self.keep) };
        steps[..surplus].iter().try_for_each(|step| self.remove(*step))
    }

    fn write(
        &self,
        state: &State,
        params: &[&mut Param],
        optimizer: &Optimizer,
        average: Option<&HostWeights>,
    ) -> Result<(), TrainError> {
        let values = params.iter().map(|param| (param.name.clone(), param.shape.clone(), param.frozen()));
        let weights = HostWeights::read(values);
        if let Some(name) = weights.not_finite().or_else(|| average?.not_finite()) {
            return Err(TrainError::NotFinite { name: name.to_owned(), step: state.step });
        }
        let remembered: BTreeMap<String, Remembered> = optimizer.state().collect();
        folder_at_once::<TrainError>(&self.path(state.step), |folder| {
            weights.write(&folder.join(WEIGHTS))?;
            remembered::write(&folder.join(OPTIMIZER), &remembered)?;
            average.map_or(Ok(()), |average| average.write(&folder.join(AVERAGE)))?;
            let digest =
                |name: &str| Ok((name.to_owned(), digest::fresh(&folder.join(name), Algorithm::Blake3)?));
            let files = [WEIGHTS, OPTIMIZER].into_iter().chain(average.map(|_| AVERAGE));
            let blake3 = files.map(digest).collect::<Result<_, SnapshotError>>()?;
            write_json(&folder.join(STATE), &json!(State { blake3, ..state.clone() }))?;
            Ok(())
        })
    }

    fn remove(&self, step: usize) -> Result<(), TrainError> {
        let path = self.path(step);
        Ok(std::fs::remove_dir_all(&path).map_err(|source| SnapshotError::Unwritable { path, source })?)
    }

    /// The newest checkpoint that is whole. Those after it, which the disk lost parts of, are put aside as
    /// `checkpoint-000200.damaged`, and `aside` is told why.
    ///
    /// # Errors
    ///
    /// The disk refuses, or `aside` does.
    pub fn newest(
        &self,
        mut aside: impl FnMut(String) -> Result<(), TrainError>,
    ) -> Result<Option<State>, TrainError> {
        for step in self.steps().into_iter().rev() {
            let why = match self.look(step, digest::fresh) {
                Ok(state) => return Ok(Some(state)),
                Err(why) => why,
            };
            let path = self.path(step);
            let damaged = path.with_extension("damaged");
            let moved = match damaged.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::rename(&path, &damaged),
            };
            moved.map_err(|source| SnapshotError::Unwritable { path: path.clone(), source })?;
            aside(format!("checkpoint `{}` is damaged ({why}) and put aside", path.display()))?;
        }
        Ok(None)
    }

    /// What a checkpoint says of itself, if its files are what was written.
    fn look(&self, step: usize, digest: Digest) -> Result<State, String> {
        let path = self.path(step);
        let text = folders::read(&path.join(STATE), SETTINGS_BYTES)
            .map_err(|error| format!("`{STATE}`: {error}"))?;
        let state: State = serde_json::from_slice(&text).map_err(|error| format!("`{STATE}`: {error}"))?;
        let average = state.blake3.contains_key(AVERAGE).then_some(AVERAGE);
        for name in [WEIGHTS, OPTIMIZER].into_iter().chain(average) {
            let file = path.join(name);
            let open = if name == OPTIMIZER { remembered::open } else { WeightFiles::open_file };
            open(&file).map_err(|error| error.to_string())?;
            let found = digest(&file, Algorithm::Blake3).map_err(|error| error.to_string())?;
            if state.blake3.get(name).is_some_and(|written| *written != found) {
                return Err(format!("`{name}` is not what was written"));
            }
        }
        Ok(state)
    }

    /// Puts the checkpoint after `step` steps back into the weights and the optimizer.
    ///
    /// # Errors
    ///
    /// It belongs to another run.
    pub fn restore(
        &self,
        state: &State,
        key: &str,
        params: &mut [&mut Param],
        optimizer: &mut Optimizer,
        device: &Device,
    ) -> Result<(), TrainError> {
        let (step, path) = (state.step, self.path(state.step));
        let broken = |why: String| TrainError::BadCheckpoint { path: path.clone(), why };
        if state.key != key {
            return Err(broken("it was made with other settings".to_owned()));
        }
        let weights = WeightFiles::open_file(&path.join(WEIGHTS))?;
        for param in params.iter_mut() {
            let [rows, columns] = param.value.dims();
            let weight = weights.weight(&param.name)?;
            if weight.info.n_elements() != rows * columns {
                return Err(broken(format!("`{}` has another size", param.name)));
            }
            param.value = tensor(&weight, [rows, columns], device);
        }
        let remembered = remembered::read(&remembered::open(&path.join(OPTIMIZER))?, device);
        let remembered = remembered.map_err(&broken)?;
        optimizer.restore(step, params, remembered).map_err(broken)
    }

    /// The trained weights of the checkpoint after `step` steps, in f32.
    ///
    /// # Errors
    ///
    /// A file is missing or not what was written.
    pub fn weights(&self, step: usize) -> Result<WeightFiles, TrainError> {
        self.file(step, WEIGHTS)
    }

    /// The moving average in the checkpoint after `step` steps, in f32; [`super::ema`] says of what.
    ///
    /// # Errors
    ///
    /// A file is missing or not what was written.
    pub fn average(&self, step: usize) -> Result<WeightFiles, TrainError> {
        self.file(step, AVERAGE)
    }

    fn file(&self, step: usize, name: &str) -> Result<WeightFiles, TrainError> {
        let path = self.path(step);
        self.look(step, digest::known)
            .map_err(|why| TrainError::BadCheckpoint { path: path.clone(), why })?;
        Ok(WeightFiles::open_file(&path.join(name))?)
    }
}

/// The running mean of each number's squared gradient, as the optimizer of a checkpoint remembers it, under the
/// names of the weights.
///
/// # Errors
///
/// A file is missing or broken.
pub fn squared_gradients(checkpoint: &Path) -> Result<impl Weights + use<>, SnapshotError> {
    let state = remembered::open(&checkpoint.join(OPTIMIZER))?;
    let weights = WeightFiles::open_file(&checkpoint.join(WEIGHTS))?;
    Ok(optimizer::squared_gradients(state, weights.infos()))
}

fn tensor(weight: &Weight<'_>, dims: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(weight.to_f32(), dims), (device, DType::F32))
}

/// Tensors read back into this machine's memory, in f32.
pub struct HostWeights {
    values: BTreeMap<String, Vec<f32>>,
    infos: BTreeMap<String, WeightInfo>,
}

impl HostWeights {
    /// Reads named tensors back from their device; each has its shape on disk beside it.
    pub fn read(tensors: impl Iterator<Item = (String, Vec<usize>, Tensor<2>)>) -> Self {
        let (mut values, mut infos) = (BTreeMap::new(), BTreeMap::new());
        for (name, shape, tensor) in tensors {
            infos.insert(name.clone(), WeightInfo { shape, dtype: Dtype::F32 });
            let read = tensor.try_into_vec_as::<f32>();
            values.insert(name, read.expect("a device that opened gives its results back"));
        }
        Self { values, infos }
    }

    /// Zeros under these names, in these shapes.
    pub fn zeros(shapes: impl Iterator<Item = (String, Vec<usize>)>) -> Self {
        let infos = shapes.map(|(name, shape)| (name, WeightInfo { shape, dtype: Dtype::F32 }));
        let infos: BTreeMap<String, WeightInfo> = infos.collect();
        let values = infos.iter().map(|(name, info)| (name.clone(), vec![0.0; info.n_elements()])).collect();
        Self { values, infos }
    }

    /// The numbers of one tensor, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        self.values.get_mut(name).map(Vec::as_mut_slice)
    }

    /// The first tensor with a number that is none.
    fn not_finite(&self) -> Option<&str> {
        let wrong = self.values.iter().find(|(_, values)| values.iter().any(|value| !value.is_finite()));
        wrong.map(|(name, _)| name.as_str())
    }

    /// The numbers of one tensor.
    pub fn take(&mut self, name: &str) -> Option<Vec<f32>> {
        self.values.remove(name)
    }

    /// Writes them to one safetensors file.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), SnapshotError> {
        let names: Vec<&str> = self.infos.keys().map(String::as_str).collect();
        write_file(path, self, &names, None)
    }
}

impl Weights for HostWeights {
    fn infos(&self) -> &BTreeMap<String, WeightInfo> {
        &self.infos
    }

    fn weight(&self, name: &str) -> Result<Weight<'_>, SnapshotError> {
        Ok(Weight::from_f32(self.infos[name].shape.clone(), &self.values[name]))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        AVERAGE, BTreeMap, Checkpoints, HostWeights, OPTIMIZER, Optimizer, STATE, State, Train, WEIGHTS,
    };

    #[test]
    fn a_stop_leaves_the_checkpoints_of_an_unbroken_training() {
        for (every, keep, stops) in
            [(10, 2, vec![17]), (5, 3, vec![3, 17]), (10, 1, vec![9, 19]), (4, 0, vec![6])]
        {
            let train = Train { checkpoint_every: every, keep_checkpoints: keep, ..Train::default() };
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::of(folder.path(), &train);
            for step in (1..=20).filter(|step| step % every == 0 || *step == 20 || stops.contains(step)) {
                let state = State::new(step, "", "cpu");
                checkpoints.save(&state, &[], &Optimizer::new(&train), None).unwrap();
            }
            assert_eq!(checkpoints.steps(), Checkpoints::at_the_end(&train, 20), "{every} {keep}");
        }
    }

    #[test]
    fn a_kill_between_writing_and_removing_leaves_no_checkpoint_too_many() {
        let train = Train { checkpoint_every: 10, keep_checkpoints: 2, ..Train::default() };
        let folder = tempfile::tempdir().unwrap();
        let save = |checkpoints: &Checkpoints, step| {
            checkpoints.save(&State::new(step, "", "cpu"), &[], &Optimizer::new(&train), None).unwrap();
        };
        // One that keeps all removes nothing, as if it were killed then.
        for step in [5, 10, 20, 30] {
            save(&Checkpoints::new(folder.path(), 0), step);
        }
        let checkpoints = Checkpoints::of(folder.path(), &train);
        // Of another, the kill left a part.
        std::fs::remove_file(checkpoints.path(10).join(STATE)).unwrap();
        save(&checkpoints, 30);
        assert_eq!(checkpoints.steps(), [20, 30]);
    }

    #[test]
    fn a_number_that_is_none_is_found() {
        let of = |values: [f32; 2]| HostWeights {
            values: BTreeMap::from([("a".to_owned(), vec![0.0]), ("b".to_owned(), values.to_vec())]),
            infos: BTreeMap::new(),
        };
        assert_eq!(of([1.0, f32::MAX]).not_finite(), None);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(of([1.0, wrong]).not_finite(), Some("b"));
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_put_aside_and_the_one_before_it_used() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path(), 0);
        let average = HostWeights::zeros(std::iter::once(("w".to_owned(), vec![2])));
        let save = |step| {
            let (state, optimizer) = (State::new(step, "key", "cpu"), Optimizer::new(&Train::default()));
            checkpoints.save(&state, &[], &optimizer, Some(&average))
        };
        let newest = || {
            let mut said = Vec::new();
            let found = checkpoints.newest(|why| {
                said.push(why);
                Ok(())
            });
            (found.unwrap().map(|state| state.step), said.join("; "))
        };
        assert_eq!(newest(), (None, String::new()));
        for damage in 0..6 {
            save(10).unwrap();
            save(20).unwrap();
            assert_eq!(newest(), (Some(20), String::new()));
            let file = |name: &str| checkpoints.path(20).join(name);
            match damage {
                0 => std::fs::write(file(WEIGHTS), "not weights").unwrap(),
                1 => std::fs::remove_file(file(OPTIMIZER)).unwrap(),
                2 => std::fs::write(file(STATE), "{").unwrap(),
                4 => std::fs::remove_file(file(AVERAGE)).unwrap(),
                // Whole safetensors files, but not those that were written.
                3 => std::fs::write(file(OPTIMIZER), b"\x08\0\0\0\0\0\0\0{}      ").unwrap(),
                _ => {
                    let mut bytes = std::fs::read(file(WEIGHTS)).unwrap();
                    *bytes.last_mut().unwrap() = b'\t';
                    std::fs::write(file(WEIGHTS), bytes).unwrap();
                }
            }
            assert!(checkpoints.weights(20).is_err(), "damage {damage}");
            let (step, said) = newest();
            assert_eq!(step, Some(10), "damage {damage}: {said}");
            assert!(said.contains("checkpoint-000020` is damaged ("), "{said}");
            assert_eq!(checkpoints.steps(), [10]);
        }
    }
}
