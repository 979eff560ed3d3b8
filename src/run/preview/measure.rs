//! How fast this machine trains and answers with this model: a few seconds of trying, remembered for the next plan. A
//! model that is not loaded in a moment is not tried: its figures follow from its size and from the device's products.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{around, order};
use crate::data::Sample;
use crate::folders::{SETTINGS_BYTES, own_cache, read_text};
use crate::generate::{Decoding, Generator, Query};
use crate::model::{Decoder, MicroBatch};
use crate::recipe::MethodKind;
use crate::run::failure::Failure;
use crate::run::manifest;
use crate::run::plan::Plan;
use crate::run::plan::questions::Questions;
use crate::snapshot::digest::of_json;
use crate::snapshot::writer::write_json;
use crate::train::optimizer::Optimizer;
use crate::train::penalty::Given;

/// What is tried may take so long, the loading of the model aside.
const BUDGET_S: f64 = 10.0;
/// A larger model is not loaded for a plan.
const MOST_BYTES: usize = 1 << 30;
/// The longest sample and prompt that is tried: seconds per position hardly depend on it.
const MOST_POSITIONS: usize = 128;

/// Seconds on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Of a training step, by position.
    pub train: f64,
    /// Of reading a prompt, by position.
    pub read: f64,
    /// Of one more token for every row of a batch.
    pub decode: f64,
    /// Of loading the model.
    pub load: f64,
    /// The model was tried, and not only reckoned with.
    pub tried: bool,
}

impl Figures {
    /// Those that an earlier plan measured.
    pub fn remembered(plan: &Plan) -> Option<Self> {
        let text = read_text(&file(plan)?, SETTINGS_BYTES).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Those remembered, else measured now; `tell` hears what is being done.
    ///
    /// # Errors
    ///
    /// The model cannot be loaded.
    pub fn of(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<(Self, bool), Failure> {
        if let Some(known) = Self::remembered(plan) {
            return Ok((known, true));
        }
        let bytes = plan.model.shape.n_parameters() * plan.machine.compute.size();
        let figures = if bytes > MOST_BYTES {
            by_size(plan)
        } else {
            // Asked before the model is there.
            around::program(plan);
            tell("loading the model, to measure a step and some answers for the estimates");
            let train = training(plan)?;
            let (read, decode, load) =
                if plan.evaluation.suites.is_empty() { (0.0, 0.0, 0.0) } else { answering(plan)? };
            Self { train, read, decode, load, tried: true }
        };
        if let Some(path) = file(plan) {
            // Without it the next plan measures again.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = write_json(&path, &json!(figures));
        }
        Ok((figures, false))
    }
}

/// The figures of a model of this size, by the products and the memory of the device: a forward pass is two operations
/// a parameter and position, the way back as many for the activations and, of full tuning, as many for the weights.
fn by_size(plan: &Plan) -> Figures {
    let Plan { model, machine, training, evaluation, .. } = plan;
    let shape = &model.shape;
    // Rows of the embedding are looked up, not multiplied with; as a head they are.
    let looked_up = if shape.tied { 0 } else { shape.vocab_size * shape.hidden_size };
    let n = (shape.n_parameters() - looked_up) as f64;
    let device = (&machine.device, machine.answers);
    let second = |rows: usize, width: usize| {
        let of = |rows: usize| Tensor::<2>::ones([rows, width], device);
        let (x, weights) = (of(rows), of(width));
        let product = || x.clone().matmul(weights.clone()).sum().into_data();
        product();
        let started = Instant::now();
        product();
        started.elapsed().as_secs_f64()
    };
    // Two operations for each number of a product.
    let per_operation = second(512, 2048) / (2.0 * 512.0 * 2048.0 * 2048.0);
    let per_weight = second(1, 4096) / (4096.0 * 4096.0);
    let passes = if training.method.kind == MethodKind::Full { 6.0 } else { 4.0 };
    let rows = evaluation.suites.iter().map(Questions::n_answers).max().unwrap_or(1);
    let rows = rows.clamp(1, evaluation.rows) as f64;
    Figures {
        train: passes * n * per_operation,
        read: 2.0 * n * per_operation,
        decode: (2.0 * n * rows * per_operation).max(n * per_weight),
        load: n * per_weight,
        tried: false,
    }
}

/// Where the figures of this machine, this program, this model and this way to train it are remembered.
fn file(plan: &Plan) -> Option<PathBuf> {
    let Plan { opened, machine, model, training, evaluation, .. } = plan;
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let parts = json!([
        env!("CARGO_PKG_VERSION"),
        manifest::commit(),
        opened.name,
        threads,
        format!("{:?}", machine.compute),
        machine.micro_tokens,
        evaluation.rows,
        evaluation.suites.is_empty(),
        format!("{:?}", model.shape),
        training.method,
        training.train.freeze,
    ]);
    Some(own_cache()?.join("speed").join(format!("{}.json", &of_json(&parts)[..32])))
}

/// The end of a sample, which is where what is learned stands.
fn end_of(sample: &Sample) -> Sample {
    let from = sample.ids.len().saturating_sub(MOST_POSITIONS);
    Sample::new(sample.ids[from..].to_vec(), sample.labels[from..].to_vec(), sample.line)
}

/// Seconds of a training step by position.
fn training(plan: &Plan) -> Result<f64, Failure> {
    let task = plan.training.task(&plan.model, &plan.base, &plan.key)?;
    // Other objectives take as long, but for the head.
    let task = crate::train::Task {
        objective: &crate::recipe::Objective::default(),
        penalties: Given::default(),
        ..task
    };
    let mut trainee = crate::train::trainee(&task, &plan.machine)?;
    trainee.track();
    let mut optimizer = Optimizer::new(&plan.training.train);
    let samples = &plan.training.samples(&plan.model)?.train;
    let first = order(plan).samples(0);
    let own: Vec<Sample> = first.iter().map(|nth| end_of(&samples[*nth])).collect();
    let fits = (plan.machine.micro_tokens / MOST_POSITIONS).clamp(1, own.len());
    let mut step = |n: usize, at: usize| {
        let places: Vec<usize> = (0..n).collect();
        let batch = [MicroBatch::new(&own, &places, plan.machine.multiple)];
        let started = Instant::now();
        trainee.step(&batch, &mut optimizer, at, 0.0, 1.0);
        (started.elapsed().as_secs_f64(), batch[0].n_positions() as f64)
    };
    // One sample to warm up, then as many as are a matter of seconds, at most those of a micro-batch.
    let mut n = 1;
    let (mut seconds, mut positions) = step(n, 0);
    for at in 1..=ROUNDS {
        if seconds > BUDGET_S / 2.0 {
            break;
        }
        n = affordable(n, seconds, fits);
        (seconds, positions) = step(n, at);
    }
    Ok(seconds / positions)
}

/// How often it is tried again, with as many at once as seconds allow: they take less time each.
const ROUNDS: usize = 2;

/// How many of what took so long `n` at a time can be tried, at most `most`.
fn affordable(n: usize, seconds: f64, most: usize) -> usize {
    let fit = BUDGET_S / 2.0 / (seconds / n as f64).max(1e-9);
    (fit as usize).clamp(n, most.max(n))
}

/// Seconds of reading a position, of one more token for all rows, and of loading.
fn answering(plan: &Plan) -> Result<(f64, f64, f64), Failure> {
    plan.write_questions()?;
    let started = Instant::now();
    let Plan { model, base, machine, evaluation, .. } = plan;
    let decoder = Decoder::load(&model.shape, base.weights.as_ref(), &machine.device, machine.answers)?;
    let load = started.elapsed().as_secs_f64();
    let Some(probe) = evaluation.suites.iter().find(|suite| !suite.outline.prompts.is_empty()) else {
        return Ok((0.0, 0.0, load));
    };
    let generator =
        Generator { decoder: &decoder, decode: &|_| String::new(), rows: evaluation.rows, stop: None };
    let longest = probe.tokens().prompts.iter().map(Vec::len).max().unwrap_or(0);
    let rows = generator.rows_of(longest + probe.decoding.max_new_tokens).min(probe.n_answers());
    let prompts: Vec<&[u32]> = probe
        .tokens()
        .prompts
        .iter()
        .map(|ids| &ids[ids.len().saturating_sub(MOST_POSITIONS / 4)..])
        .collect();
    let prompts: Vec<Query<'_>> = prompts.into_iter().cycle().take(rows).map(Query::once).collect();
    let time = |n_rows: usize, max_new_tokens: usize| {
        let started = Instant::now();
        let decoding = Decoding::greedy(max_new_tokens);
        let Ok(()) =
            generator.complete(&prompts[..n_rows], &decoding, |_| Ok::<(), std::convert::Infallible>(()));
        started.elapsed().as_secs_f64()
    };
    time(1, 1);
    let mut n = 1;
    let (mut reading, mut both) = (time(n, 1), time(n, 4));
    for _ in 0..ROUNDS {
        if reading + both > BUDGET_S / 2.0 {
            break;
        }
        n = affordable(n, reading + both, rows);
        (reading, both) = (time(n, 1), time(n, 4));
    }
    let positions: usize = prompts[..n].iter().map(|query| query.ids.len().max(1)).sum();
    let read = reading / positions as f64;
    // Rows that were not tried cost what a position costs that is read: both are bound by products, not by memory.
    let decode = ((both - reading) / 3.0).max(1e-6) + read * (rows - n) as f64;
    Ok((read, decode, load))
}

#[cfg(test)]
mod tests {
    use super::affordable;

    #[test]
    fn as_many_are_tried_as_take_seconds() {
        assert_eq!(affordable(1, 0.5, 96), 10);
        assert_eq!(affordable(10, 1.0, 96), 50);
        assert_eq!(affordable(1, 0.001, 96), 96);
        // Never fewer than before, nor more than there are.
        assert_eq!(affordable(4, 60.0, 96), 4);
        assert_eq!(affordable(1, 0.001, 1), 1);
    }
}
