//! `--plan`: what a run would do, in numbers, without doing it. Facts come first, then what had to be tried.

use std::fmt::Write;

use burn::tensor::DType;

mod around;
mod asking;
mod average;
mod beside;
mod json;
mod measure;
mod updates;

use super::cast::Candidate;
use super::failure::Failure;
use super::plan::questions::Questions;
use super::plan::{Model, Plan, Training};
use crate::data;
use crate::device::{free_memory, is_cpu};
use crate::doing;
use crate::eval::MetricKind;
use crate::model::Decoder;
use crate::recipe::{LossOn, MethodKind};
use crate::train;
use crate::train::extent::Extent;
use crate::train::order::Order;
use crate::train::recompute::{self, Kept};
pub use json::json;
use measure::Figures;

/// What a run will take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub train_s: f64,
    pub evaluate_s: f64,
    /// Bytes of the largest moment of training, by part.
    pub weights: u64,
    pub optimizer: u64,
    pub activations: u64,
    /// Of a moving average, where the device's memory is this machine's.
    pub average: u64,
    /// What penalties keep.
    pub penalties: u64,
    /// Of the moment before the training in which a reward model reads the pairs.
    pub rewards: u64,
    /// What the program and its data take.
    pub program: u64,
    /// Of files that candidates are computed from, which the system takes back where memory is short.
    pub mapped: u64,
    /// Bytes the run folder will hold.
    pub disk: u64,
}

impl Estimate {
    /// Bytes at the largest moment.
    pub fn memory(&self) -> u64 {
        self.memory_of_run() + self.program
    }

    /// The same but for the program and its data, of which no two processes hold the same.
    pub fn memory_of_run(&self) -> u64 {
        let training = self.weights + self.optimizer + self.activations + self.average + self.penalties;
        training.max(self.rewards) + self.mapped
    }
}

/// Samples that are shown with what is trained on.
const SAMPLES: usize = 3;

/// What is known without trying anything: counts, and a few samples.
///
/// # Errors
///
/// A sample cannot be encoded.
pub fn facts(plan: &Plan, colour: bool) -> Result<String, Failure> {
    let mut text = String::new();
    counts(&mut text, plan);
    let marks = if colour { "underlined" } else { "in [[…]]" };
    for sample in plan.training.samples(&plan.model)?.train.iter().take(SAMPLES) {
        writeln!(text, "\n# sample of line or record {}, what is trained on {marks}", sample.line)
            .expect(WRITES);
        text.push_str(&data::preview(sample, &plan.model.tokenizer, colour));
        text.push('\n');
    }
    plan.write_questions()?;
    if let Some(suite) = plan.evaluation.suites.first() {
        let (what, ids) = first_asked(suite);
        let (shown, name) = (plan.model.tokenizer.decode(ids, false), &suite.posed.suite.name);
        writeln!(text, "\n# first {what} of suite `{name}`\n{shown}").expect(WRITES);
    }
    Ok(text)
}

/// How long the run takes from its beginning, by what an earlier plan measured of this model on this machine.
pub fn expected(plan: &Plan) -> Option<String> {
    let Estimate { train_s, evaluate_s, .. } = estimate(plan, &Figures::remembered(plan)?).ok()?;
    Some(time(train_s, evaluate_s))
}

fn time(train_s: f64, evaluate_s: f64) -> String {
    let all = duration(train_s + evaluate_s);
    format!("{all}: training {}, evaluation {}", duration(train_s), duration(evaluate_s))
}

/// What the run will take; `tell` hears what is being done meanwhile.
///
/// # Errors
///
/// The model cannot be loaded for the few seconds of measuring.
pub fn estimates(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    let _doing = doing::now("measuring a step and some answers, for the estimates");
    let (figures, remembered) = Figures::of(plan, tell)?;
    let from = match (figures.tried, remembered) {
        (false, _) => "from the speed of this device and the size of the model, which was not loaded: rough",
        (true, true) => "from what an earlier plan measured of this model on this machine",
        (true, false) => "from a few seconds of measuring on this device",
    };
    let mut text = format!("# estimates, {from}\n");
    describe(&mut text, plan, &estimate(plan, &figures)?);
    Ok(text)
}

/// The tokens that a suite's first item is asked with, and what they are, by how its items are asked.
fn first_asked(suite: &Questions) -> (&'static str, &[u32]) {
    let written = suite.tokens();
    let choice = || written.choices.first().and_then(|question| question.choices.first());
    let window = || written.texts.iter().flatten().next();
    if let Some(ids) = written.prompts.first() {
        ("prompt", ids)
    } else if let Some(choice) = choice() {
        ("question, with its first option,", &choice.ids)
    } else {
        ("window of text", window().map_or(&[], |sample| &sample.ids))
    }
}

const WRITES: &str = "writing to a string cannot fail";

fn counts(text: &mut String, plan: &Plan) {
    let rows = rows(plan);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        let pad = width - name.chars().count();
        writeln!(text, "{name}{:pad$}  {value}", "").expect(WRITES);
    }
    for sentence in &plan.said {
        writeln!(text, "note: {sentence}").expect(WRITES);
    }
}

fn rows(plan: &Plan) -> Vec<(&'static str, String)> {
    let Plan { model, training, .. } = plan;
    let (pre, fitted, shape) = (&training.encoding.preflight, &training.encoding.fitted, &model.shape);
    let epochs = training.last_step as f64 / order(plan).steps_per_epoch() as f64;
    let mut rows = vec![
        ("run folder", plan.folder.display().to_string()),
        (
            "device",
            format!(
                "{} ({}), computing in {}",
                plan.opened.spec,
                plan.opened.name,
                format(plan.machine.compute)
            ),
        ),
        (
            "base",
            format!(
                "{}: {} with {:.1} M parameters, written as {}",
                model.folder.display(),
                shape.family,
                shape.n_parameters() as f64 / 1e6,
                plan.base.dtypes
            ),
        ),
        ("trainable", format!("{:.3} M parameters", training.extent.trained as f64 / 1e6)),
        ("samples", format!("{} to train on, {} held out", pre.n_samples, training.encoding.n_validation)),
        (
            "tokens",
            format!(
                "{}, {} of them trained on; the longest sample has {}",
                pre.n_tokens, pre.n_trained, pre.longest
            ),
        ),
        ("template", template(model)),
        ("answers end with", stops(model)),
        ("stop token", format!("trained in {} of {} samples", pre.n_stop_trained, pre.n_samples)),
        (
            "too long",
            format!(
                "{} samples ({} dropped, {} truncated, {} trained tokens lost)",
                fitted.n_over, fitted.n_dropped, fitted.n_truncated, fitted.lost_trained
            ),
        ),
        (
            "steps",
            format!("{} of a schedule of {} ({epochs:.2} epochs)", training.last_step, training.total_steps),
        ),
    ];
    rows.extend(
        plan.hardening
            .as_ref()
            .map(|hardening| ("hardened", format!("{} before the training", hardening.name()))),
    );
    rows.extend(updates::in_words(plan).map(|updates| ("optimizer", updates)));
    rows.extend(average::in_words(plan).map(|average| ("average", average)));
    rows.extend(beside::in_words(plan));
    if !training.train.freeze.is_empty() {
        // Below the row of what is trained.
        rows.insert(4, ("frozen", frozen(training)));
    }
    if !training.objective.is_default() {
        rows.push(("objective", training.objective.in_words()));
    }
    let names: Vec<String> = Candidate::of_plan(plan).into_iter().map(|one| one.name).collect();
    rows.push(("candidates", names.join(", ")));
    for Questions { posed, decoding, outline, .. } in &plan.evaluation.suites {
        let suite = &posed.suite;
        let judges: Vec<&str> = suite.judges.iter().map(|judge| judge.name).collect();
        let likely = if outline.texts.is_empty() { "" } else { ", log-likelihood of texts" };
        let value = format!(
            "{}: {} items, max_new_tokens {}, {} by {}{likely}",
            suite.name,
            posed.items.len(),
            decoding.max_new_tokens,
            if suite.task.kind == MetricKind::Task { "scored" } else { "judged" },
            judges.join(", ")
        );
        rows.push(("suite", value));
    }
    rows.extend(plan.evaluation.judges.rubrics.iter().map(|rubric| ("judge", rubric.in_words())));
    rows
}

fn template(model: &Model) -> String {
    let Some(template) = &model.template else {
        return "none: prompt and answer are joined as they are, in training and evaluation".to_owned();
    };
    let digest = &template.digest()[..12];
    format!("{} (sha256 {digest}), the same in training and evaluation", template.name())
}

fn stops(model: &Model) -> String {
    let token = |id: &u32| model.tokenizer.token_of(*id).unwrap_or_else(|| id.to_string());
    stop_ids(model).iter().map(token).collect::<Vec<_>>().join(", ")
}

/// The tokens that end an answer.
fn stop_ids(model: &Model) -> Vec<u32> {
    let encoder = data::Encoder::new(&model.tokenizer, model.template.as_ref(), "", LossOn::Completion);
    encoder.map(|encoder| encoder.stop_ids().to_vec()).unwrap_or_default()
}

fn order(plan: &Plan) -> Order {
    let (train, n_groups) = (&plan.training.train, plan.training.n_groups());
    Order { seed: train.seed, n_samples: n_groups, batch: train.batch }
}

fn format(dtype: DType) -> String {
    format!("{dtype:?}").to_lowercase()
}

fn frozen(training: &Training) -> String {
    let how = match training.method.kind {
        MethodKind::Full => "",
        MethodKind::Lora => " in linear maps that get no adapter",
    };
    let (n, places) = (training.extent.frozen as f64 / 1e6, training.train.freeze.join(", "));
    format!("{n:.3} M parameters{how}: {places}")
}

fn describe(text: &mut String, plan: &Plan, estimate: &Estimate) {
    let Estimate { train_s, evaluate_s, weights, optimizer, activations, disk, .. } = *estimate;
    let mega = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    let free =
        free_memory(&plan.machine.device).map_or(String::new(), |free| format!(" ({} are free)", mega(free)));
    let parts = [
        ("average", estimate.average),
        ("penalties", estimate.penalties),
        ("program and data", estimate.program),
        ("mapped files", estimate.mapped),
    ];
    let parts = parts.into_iter().filter(|(_, bytes)| *bytes > 0);
    let parts: String = parts.map(|(what, bytes)| format!(", {what} {}", mega(bytes))).collect();
    writeln!(
        text,
        "memory   {}: weights {}, optimizer {}, activations and logits {}{parts}{free}",
        mega(estimate.memory()),
        mega(weights),
        mega(optimizer),
        mega(activations)
    )
    .expect(WRITES);
    writeln!(text, "disk     {}", mega(disk)).expect(WRITES);
    writeln!(text, "time     {}", time(train_s, evaluate_s)).expect(WRITES);
    text.push_str("\nNothing was started. The same command without `--plan` starts the run.\n");
}

/// Seconds as a person says them.
pub fn duration(seconds: f64) -> String {
    let total = seconds.round() as u64;
    match (total / 3600, total % 3600 / 60, total % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// What a run will take, by the mean length of its samples, none of which is encoded for it; and the part of the
/// evaluation that is the base's.
///
/// # Errors
///
/// The model cannot be loaded for the few seconds of measuring.
pub fn rough(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<(Estimate, f64), Failure> {
    let (figures, _) = Figures::of(plan, tell)?;
    let pre = &plan.training.encoding.preflight;
    let mean = pre.n_tokens as f64 / pre.n_samples.max(1) as f64;
    let micro = plan.machine.micro_tokens.max(pre.longest);
    let rows = plan.training.train.batch * plan.training.objective.group();
    let estimate = scaled(plan, &figures, (mean * rows as f64, micro))?;
    let n_candidates = Candidate::of_plan(plan).len() as f64;
    Ok((estimate, estimate.evaluate_s / n_candidates))
}

/// Scales what was measured to the whole run.
fn estimate(plan: &Plan, figures: &Figures) -> Result<Estimate, Failure> {
    scaled(plan, figures, positions(plan)?)
}

/// The same, for so many positions in a step and in its largest micro-batch.
fn scaled(
    plan: &Plan,
    figures: &Figures,
    (step_positions, micro_positions): (f64, usize),
) -> Result<Estimate, Failure> {
    let step_s = figures.train * step_positions;
    let evaluate_s = if plan.evaluation.suites.is_empty() { 0.0 } else { asking::evaluation(plan, figures) };
    let kind = plan.training.method.kind;
    let full = kind == MethodKind::Full;
    let Extent { trained, remembered, .. } = plan.training.extent;
    let (n, n_trainable) = (plan.model.shape.n_parameters() as u64, trained as u64);
    let weights = match full {
        true => 4 * n,
        false => {
            let format = train::format(plan.training.method.quantization);
            Decoder::bytes(plan.base.weights.infos(), &plan.machine.device, plan.machine.compute, format)
        }
    };
    let shape = &plan.model.shape;
    let width = micro_positions.min(plan.training.encoding.preflight.longest);
    let (kept, sizes) = (Kept::of(kind, &plan.machine.device), (micro_positions, width));
    let activations = match recompute::is_on(plan.training.train.recompute, kind, shape, sizes, &plan.machine)
    {
        true => kept.recomputed_bytes(shape, micro_positions, width),
        false => kept.bytes(shape, micro_positions, width),
    };
    let checkpoints =
        if plan.training.train.keep_checkpoints == 0 { 1 } else { plan.training.train.keep_checkpoints };
    let merges = if plan.options.keep_merged { plan.merging.merges.len() as u64 } else { 0 };
    let merged = merges
        * plan
            .base
            .weights
            .infos()
            .iter()
            .map(|(name, info)| info.n_elements() as u64 * plan.base.dtypes.get(name).size() as u64)
            .sum::<u64>();
    Ok(Estimate {
        train_s: step_s * plan.training.last_step as f64 + beside::seconds(plan, figures),
        evaluate_s,
        weights: weights + if full { 0 } else { 4 * n_trainable },
        optimizer: 4 * n_trainable + remembered,
        activations: activations
            + beside::logits(plan, micro_positions)
            + beside::dropout(plan, micro_positions)?,
        average: if is_cpu(&plan.machine.device) { average::bytes(plan) } else { 0 },
        penalties: beside::kept(plan).bytes(),
        rewards: beside::rewards(plan),
        program: around::program(plan),
        mapped: around::mapped(plan),
        disk: beside::disk(plan)
            + (4 * n_trainable + remembered + average::bytes(plan)) * (checkpoints as u64 + 1)
            + if full { n * 2 } else { 4 * n_trainable }
            + merged,
    })
}

/// Mean positions of a step, and those of its largest micro-batch.
fn positions(plan: &Plan) -> Result<(f64, usize), Failure> {
    let (order, samples) = (order(plan), &plan.training.samples(&plan.model)?.train);
    let group = plan.training.objective.group();
    let cut = |step: usize| plan.machine.cut(group).packed(samples, &order.samples(step));
    let steps = plan.training.last_step.clamp(1, 20);
    let all: Vec<usize> = (0..steps).flat_map(cut).map(|batch| batch.n_positions()).collect();
    let largest = all.iter().copied().max().unwrap_or(1);
    Ok((all.iter().sum::<usize>() as f64 / steps as f64, largest))
}
