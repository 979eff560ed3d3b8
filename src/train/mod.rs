//! Training: a loop that is a function of its recipe and its step, and can be killed at any time.
//!
//! Nothing that decides the result lives only in memory: the data order, the dropout and the
//! learning rate follow from the seed and the step; weights and optimizer are in the checkpoint.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device};

pub mod checkpoint;
pub mod eight_bit;
pub mod ema;
mod error;
pub mod extent;
pub mod frozen;
pub mod importance;
pub mod init;
mod marks;
pub mod objective;
pub mod once;
pub mod optimizer;
pub mod order;
pub mod penalty;
pub mod recompute;
pub mod reference;
pub mod remembered;
pub mod rewards;
pub mod schedule;
pub mod step;
mod trained;

pub use error::TrainError;
pub use marks::Marks;
pub use trained::{adapter_of, averaged_adapter, trained_adapter};

use checkpoint::{Checkpoints, State};
use ema::Ema;
use objective::Objective;
use once::Set;
use optimizer::Optimizer;
use order::Order;
use penalty::Penalties;
use reference::Reference;
use schedule::LearningRate;
use step::Trainee;

use crate::data::Sample;
use crate::device::kernels::Format;
use crate::event::{Event, Recorder, StepEvent};
use crate::model::{Cut, Decoder, DecoderShape, MicroBatch};
use crate::recipe::{self, Method, MethodKind, Quantization, Train};
use crate::snapshot::{SnapshotError, Weights};

/// Without `train.checkpoint_every`, this much time lies between two checkpoints.
const PACE: Duration = Duration::from_mins(5);

/// Raised whenever a default or an algorithm changes, so that what an earlier version trained is not taken for
/// what this one would.
pub const NUMERICS: u32 = 2;

/// Everything that a training is a function of.
#[derive(Clone)]
pub struct Task<'a> {
    pub shape: &'a DecoderShape,
    pub weights: &'a dyn Weights,
    pub method: &'a Method,
    pub train: &'a Train,
    pub objective: &'a recipe::Objective,
    pub penalties: penalty::Given<'a>,
    /// Whose scores say which tokens of pairs count, where the samples do not say it.
    pub rewards: Option<rewards::Rewards<'a>>,
    pub samples: &'a [Sample],
    pub validation: &'a [Sample],
    /// Tokens of a guard, whose rows are learned and whose labels count more.
    pub marks: Option<Marks>,
    /// The digest of all of these.
    pub key: &'a str,
}

impl Task<'_> {
    /// How many things there are to learn from: samples, or pairs of them.
    pub fn n_groups(&self) -> usize {
        self.samples.len() / self.objective.group()
    }
}

/// Where and in what portions it is computed; none of this changes the result beyond rounding.
#[derive(Debug, Clone)]
pub struct Machine {
    pub device: Device,
    /// The device's kind, recorded in checkpoints.
    pub device_name: String,
    /// The format that a training computes in.
    pub compute: DType,
    /// The format that answers are computed in: on the processor always f32.
    pub answers: DType,
    /// Positions per micro-batch.
    pub micro_tokens: usize,
    /// Widths are padded to a multiple of this.
    pub multiple: usize,
}

impl Machine {
    /// How groups of so many samples are cut into micro-batches.
    pub fn cut(&self, group: usize) -> Cut {
        Cut { group, micro_tokens: self.micro_tokens, multiple: self.multiple }
    }
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are made and saved.
    Finished { step: usize },
    /// Asked to stop; the work so far is in a checkpoint.
    Stopped { step: usize },
}

/// The number of steps of the whole schedule and the step after which training stops.
pub fn steps(train: &Train, n_samples: usize) -> (usize, usize) {
    let order = Order { seed: train.seed, n_samples, batch: train.batch };
    let total = match train.steps {
        0 => (train.epochs * order.steps_per_epoch() as f64).ceil() as usize,
        steps => steps,
    };
    let last = if train.stop_at == 0 { total } else { train.stop_at.min(total) };
    (total, last)
}

/// Trains, going on from the newest checkpoint in `folder`, until done or `stop` is set.
///
/// # Errors
///
/// The loss diverges, a checkpoint is broken, or the disk refuses.
pub fn train(
    task: &Task<'_>,
    machine: &Machine,
    folder: &Path,
    allow_device_change: bool,
    stop: &AtomicBool,
    recorder: &mut Recorder<'_>,
) -> Result<Outcome, TrainError> {
    let counted = match task.rewards {
        None => None,
        Some(rewards) => match rewards::settle(task, rewards, machine, folder, stop, recorder)? {
            None => return Ok(Outcome::Stopped { step: 0 }),
            settled => settled,
        },
    };
    let task = &match &counted {
        None => task.clone(),
        Some(counted) => Task { samples: &counted.train, validation: &counted.validation, ..task.clone() },
    };
    let checkpoints = Checkpoints::of(folder, task.train);
    let mut optimizer = Optimizer::new(task.train);
    let reference = match task.objective.preference() {
        None => None,
        Some(_) => match reference::settle(task, machine, folder, stop, recorder)? {
            None => return Ok(Outcome::Stopped { step: 0 }),
            settled => settled,
        },
    };
    let mut trainee = trainee(task, machine)?;
    let (total, _) = steps(task.train, task.n_groups());
    let mut ema = Ema::new(task, total, &mut trainee)?;
    let mut done = 0;
    let newest = checkpoints.newest(|text| Ok(recorder(Event::Note { text })?))?;
    if let Some(state) = newest {
        checkpoints.restore(&state, task.key, &mut trainee.kept(), &mut optimizer, &machine.device)?;
        if state.device != machine.device_name && !allow_device_change {
            let (made_on, device) = (state.device, machine.device_name.clone());
            return Err(TrainError::DeviceChange { made_on, device });
        }
        if let Some(ema) = &mut ema {
            let path = checkpoints.path(state.step);
            let kept = checkpoints.average(state.step)?;
            ema.restore(&kept).map_err(|why| TrainError::BadCheckpoint { path, why })?;
        }
        done = state.step;
        recorder(Event::Resumed { step: done })?;
    }
    trainee.track();
    let mut run = Loop { task, machine, checkpoints, reference, optimizer, trainee, ema, done, recorder };
    run.go(stop)
}

/// The format a training computes in: full tuning keeps its weights in f32 whatever else is asked for.
fn compute(task: &Task<'_>, machine: &Machine) -> DType {
    if task.method.kind == MethodKind::Full { DType::F32 } else { machine.compute }
}

/// The model that is trained, as it is before.
fn base(task: &Task<'_>, machine: &Machine) -> Result<Decoder, SnapshotError> {
    let Task { shape, weights, method, .. } = task;
    let format = format(method.quantization);
    Decoder::load_quantised(shape, *weights, &machine.device, compute(task, machine), format)
}

/// In which form of fewer bits matrices are kept, if in any.
pub fn format(quantization: Quantization) -> Option<Format> {
    match quantization {
        Quantization::None => None,
        Quantization::Nf4 => Some(Format::Nf4),
        Quantization::Int8 => Some(Format::Int8),
    }
}

pub(crate) fn trainee(task: &Task<'_>, machine: &Machine) -> Result<Trainee, TrainError> {
    let mut decoder = base(task, machine)?;
    if task.method.kind == MethodKind::Lora {
        decoder.attach(&init::adapter(task.shape, task.method, task.train)?)?;
    }
    let objective = match &task.marks {
        Some(Marks { rows, labels, weight }) => {
            // Full tuning learns them with all others.
            if task.method.kind == MethodKind::Lora {
                decoder.learn_rows(rows);
            }
            Objective::Labelled { labels: *labels, weight: *weight }
        }
        None => Objective::of(task.objective),
    };
    let penalties = Penalties::new(task.penalties, &decoder)?;
    let trainee = Trainee::new(decoder, task.method.kind, objective);
    let longest = task.samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(1);
    let positions = (machine.micro_tokens.max(longest), longest);
    let recompute = recompute::is_on(task.train.recompute, task.method.kind, task.shape, positions, machine);
    let trainee = trainee.with_penalties(penalties).recomputing(recompute);
    Ok(match task.method.kind {
        MethodKind::Lora => trainee.with_dropout(task.method.dropout, task.train.seed),
        MethodKind::Full => trainee.without(frozen::weights(task.shape, task.train)?),
    })
}

/// The state of a running training.
struct Loop<'a, 'l> {
    task: &'a Task<'a>,
    machine: &'a Machine,
    checkpoints: Checkpoints,
    /// What the base says of the samples, if the objective asks.
    reference: Option<Reference>,
    optimizer: Optimizer,
    trainee: Trainee,
    ema: Option<Ema<'a>>,
    /// Steps made.
    done: usize,
    recorder: &'a mut Recorder<'l>,
}

impl Loop<'_, '_> {
    fn go(&mut self, stop: &AtomicBool) -> Result<Outcome, TrainError> {
        let train = self.task.train;
        let n_samples = self.task.n_groups();
        let order = Order { seed: train.seed, n_samples, batch: train.batch };
        let (total, last) = steps(train, n_samples);
        let rate = LearningRate::new(train, total);
        let started = Instant::now();
        let mut saved = Instant::now();
        while self.done < last {
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                return Ok(Outcome::Stopped { step: self.done });
            }
            self.step(&order, &rate, last, started)?;
            let validate = train.validate_every;
            if validate > 0 && self.done.is_multiple_of(validate) && self.done < last {
                self.validate()?;
            }
            let due = match train.checkpoint_every {
                0 => saved.elapsed() >= PACE,
                every => self.done.is_multiple_of(every),
            };
            if due && self.done < last {
                self.save()?;
                saved = Instant::now();
            }
        }
        self.save()?;
        self.validate()?;
        self.look_back(&order, rate.at(last.saturating_sub(1)))?;
        Ok(Outcome::Finished { step: self.done })
    }

    fn step(
        &mut self,
        order: &Order,
        rate: &LearningRate,
        last: usize,
        started: Instant,
    ) -> Result<(), TrainError> {
        let batches = self.batches(Set::Train, &order.samples(self.done));
        let learning_rate = rate.at(self.done);
        let clip = self.task.train.clip;
        let beside = self.beside();
        let together = (&batches[..], &beside[..]);
        let result = self.trainee.step_beside(together, &mut self.optimizer, self.done, learning_rate, clip);
        let what = match (
            (result.loss + result.penalty.unwrap_or(0.0)).is_finite(),
            result.gradient_norm.is_finite(),
        ) {
            (true, true) => None,
            (false, _) => Some(format!("the loss became {}", result.loss)),
            (true, false) => Some(format!(
                "the norm of the gradients became {} under a loss of {:.3}",
                result.gradient_norm, result.loss
            )),
        };
        if let Some(what) = what {
            return Err(TrainError::Diverged { step: self.done + 1, what, learning_rate });
        }
        if let Some(ema) = &mut self.ema {
            ema.step(&mut self.trainee)?;
        }
        self.done += 1;
        let count = |of: fn(&MicroBatch) -> usize| batches.iter().map(of).sum::<usize>();
        let (tokens, positions) = (count(|batch| batch.n_tokens), count(MicroBatch::n_positions));
        (self.recorder)(Event::Step(StepEvent {
            step: self.done,
            last_step: last,
            epoch: self.done as f64 / order.steps_per_epoch() as f64,
            loss: result.loss,
            gradient_norm: result.gradient_norm,
            learning_rate,
            trained_tokens: count(|batch| batch.targets.len()),
            tokens,
            padding: 1.0 - tokens as f64 / positions as f64,
            elapsed_s: started.elapsed().as_secs_f64(),
            pairs: result.pairs.figures(),
            penalty: result.penalty,
        }))?;
        Ok(())
    }

    /// The micro-batches at whose labels this step compares the model with its base.
    fn beside(&self) -> Vec<MicroBatch> {
        let Some((kl, samples)) = self.task.penalties.kl else { return Vec::new() };
        let places = penalty::places(self.task.train.seed, self.done, kl.batch, samples.len());
        self.machine.cut(1).packed(samples, &places)
    }

    /// The micro-batches of some samples, or of some pairs of them.
    fn batches(&self, set: Set, groups: &[usize]) -> Vec<MicroBatch> {
        let samples = if set == Set::Train { self.task.samples } else { self.task.validation };
        let mut batches = self.machine.cut(self.task.objective.group()).packed(samples, groups);
        if let Some(reference) = &self.reference {
            for batch in &mut batches {
                reference.tell(set, batch);
            }
        }
        batches
    }

    fn validate(&mut self) -> Result<(), TrainError> {
        let samples = self.task.validation;
        if samples.is_empty() {
            return Ok(());
        }
        let all: Vec<usize> = (0..samples.len() / self.task.objective.group()).collect();
        let batches = self.batches(Set::Validation, &all);
        let total = batches.len();
        let tick = |done| (self.recorder)(Event::Validating { done, total });
        let (loss, tokens) = self.trainee.validate(&batches, tick)?;
        Ok((self.recorder)(Event::Validation { step: self.done, loss, tokens })?)
    }

    /// The loss after the last step, which no further step looks at: on some of that step's samples again.
    fn look_back(&self, order: &Order, learning_rate: f64) -> Result<(), TrainError> {
        let Some(step) = self.done.checked_sub(1) else { return Ok(()) };
        let batches = self.batches(Set::Train, &order.samples(step));
        let some = &batches[..batches.len().min(1)];
        let (loss, _) = self.trainee.validate(some, |_| Ok::<(), TrainError>(()))?;
        if loss.is_finite() {
            return Ok(());
        }
        Err(TrainError::Diverged { step: self.done, what: format!("the loss became {loss}"), learning_rate })
    }

    fn save(&mut self) -> Result<(), TrainError> {
        let started = Instant::now();
        let state = State::new(self.done, self.task.key, &self.machine.device_name);
        let average = self.ema.as_ref().map(Ema::mean);
        self.checkpoints.save(&state, &self.trainee.kept(), &self.optimizer, average)?;
        let elapsed_s = started.elapsed().as_secs_f64();
        Ok((self.recorder)(Event::Checkpoint { step: self.done, elapsed_s })?)
    }
}
