//! `--plan`: what a run would do, in numbers, without doing it.

use std::fmt::Write;
use std::time::Instant;

use burn::tensor::DType;

use super::cast::Candidate;
use super::failure::Failure;
use super::plan::questions::Questions;
use super::plan::{Model, Plan, room};
use crate::data;
use crate::device::{free_memory, is_cpu};
use crate::doing;
use crate::generate::{Decoding, Generator, Query};
use crate::model::{Decoder, MicroBatch, micro_batches};
use crate::recipe::{LossOn, Method, MethodKind, Variant};
use crate::snapshot::adapter::Pair;
use crate::train::order::Order;
use crate::train::{init, optimizer};

/// What a run will take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub train_s: f64,
    pub evaluate_s: f64,
    /// Bytes of the largest moment of training, by part.
    pub weights: u64,
    pub optimizer: u64,
    pub activations: u64,
    /// Bytes the run folder will hold.
    pub disk: u64,
}

impl Estimate {
    /// Bytes at the largest moment.
    pub fn memory(&self) -> u64 {
        self.weights + self.optimizer + self.activations
    }
}

/// Samples that are shown with what is trained on.
const SAMPLES: usize = 3;

/// The plan as text: recipe, counts, a few samples, estimates.
///
/// # Errors
///
/// The model cannot be loaded for the few seconds of measuring.
pub fn preview(plan: &Plan, colour: bool) -> Result<String, Failure> {
    let mut text = format!("# recipe {}, every default filled in\n{}\n", plan.origin, plan.recipe.to_toml());
    counts(&mut text, plan);
    let marks = if colour { "underlined" } else { "in [[…]]" };
    for sample in plan.training.samples(&plan.model)?.train.iter().take(SAMPLES) {
        writeln!(text, "\n# sample of line or record {}, what is trained on {marks}", sample.line)
            .expect(WRITES);
        text.push_str(&data::preview(sample, &plan.model.tokenizer, colour));
        text.push('\n');
    }
    if let Some(suite) = plan.evaluation.suites.first() {
        let (what, ids) = first_asked(suite);
        let (shown, name) = (plan.model.tokenizer.decode(ids, false), &suite.posed.suite.name);
        writeln!(text, "\n# first {what} of suite `{name}`\n{shown}").expect(WRITES);
    }
    let _doing = doing::now("measuring a step and some answers, for the estimates");
    estimates(&mut text, plan, &estimate(plan)?);
    Ok(text)
}

/// The tokens that a suite's first item is asked with, and what they are, by how its items are asked.
fn first_asked(suite: &Questions) -> (&'static str, &[u32]) {
    let choice = || suite.choices.first().and_then(|question| question.choices.first());
    let window = || suite.texts.iter().flatten().next();
    if let Some(ids) = suite.prompts.first() {
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
                model.dtype
            ),
        ),
        ("trainable", format!("{:.3} M parameters", n_trainable(plan) as f64 / 1e6)),
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
    let names: Vec<String> = Candidate::of(&plan.merging.merges).into_iter().map(|one| one.name).collect();
    rows.push(("candidates", names.join(", ")));
    for Questions { posed, decoding, texts, .. } in &plan.evaluation.suites {
        let suite = &posed.suite;
        let judges: Vec<&str> = suite.judges.iter().map(|judge| judge.name).collect();
        let likely = if texts.is_empty() { "" } else { ", log-likelihood of texts" };
        let value = format!(
            "{}: {} items, at most {} new tokens, judged by {}{likely}",
            suite.name,
            posed.items.len(),
            decoding.max_new_tokens,
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
    let (train, n_samples) = (&plan.training.train, plan.training.encoding.preflight.n_samples);
    Order { seed: train.seed, n_samples, batch: train.batch }
}

fn format(dtype: DType) -> String {
    format!("{dtype:?}").to_lowercase()
}

fn n_trainable(plan: &Plan) -> usize {
    match plan.training.method.kind {
        MethodKind::Full => plan.model.shape.n_parameters(),
        MethodKind::Lora => {
            let adapter = init::adapter(&plan.model.shape, &plan.training.method, plan.training.train.seed);
            adapter.map_or(0, |adapter| {
                let lengths = |pair: &Pair| if adapter.dora { pair.n_out } else { 0 };
                adapter.pairs.values().map(|pair| pair.a.len() + pair.b.len() + lengths(pair)).sum()
            })
        }
    }
}

fn estimates(text: &mut String, plan: &Plan, estimate: &Estimate) {
    let Estimate { train_s, evaluate_s, weights, optimizer, activations, disk } = *estimate;
    writeln!(text, "\n# estimates, from a few seconds of measuring on this device").expect(WRITES);
    let mega = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    let free =
        free_memory(&plan.machine.device).map_or(String::new(), |free| format!(" ({} are free)", mega(free)));
    writeln!(
        text,
        "memory   {}: weights {}, optimizer {}, activations and logits {}{free}",
        mega(estimate.memory()),
        mega(weights),
        mega(optimizer),
        mega(activations)
    )
    .expect(WRITES);
    writeln!(text, "disk     {}", mega(disk)).expect(WRITES);
    writeln!(
        text,
        "time     {}: training {}, evaluation {}",
        duration(train_s + evaluate_s),
        duration(train_s),
        duration(evaluate_s)
    )
    .expect(WRITES);
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

/// Measures a small piece of training and of generation and scales it to the whole run.
///
/// # Errors
///
/// The model cannot be loaded.
pub fn estimate(plan: &Plan) -> Result<Estimate, Failure> {
    let (step_s, micro_positions) = training_step(plan)?;
    let evaluate_s = if plan.evaluation.suites.is_empty() { 0.0 } else { evaluation(plan)? };
    let full = plan.training.method.kind == MethodKind::Full;
    let (n, n_trainable) = (plan.model.shape.n_parameters() as u64, n_trainable(plan) as u64);
    let compute = if full { 4 } else { plan.machine.compute.size() as u64 };
    let shape = &plan.model.shape;
    let width = micro_positions.min(plan.training.encoding.preflight.longest);
    let activations = room::activations(shape, micro_positions, width);
    let checkpoints =
        if plan.training.train.keep_checkpoints == 0 { 1 } else { plan.training.train.keep_checkpoints };
    let merges = if plan.options.keep_merged { plan.merging.merges.len() as u64 } else { 0 };
    let merged = merges * n * plan.model.dtype.size() as u64;
    Ok(Estimate {
        train_s: step_s * plan.training.last_step as f64,
        evaluate_s,
        weights: n * compute + if full { 0 } else { 4 * n_trainable },
        optimizer: (optimizer::BYTES + 4) * n_trainable,
        activations: activations + 3 * (64 << 20) + dropout(plan, micro_positions)?,
        disk: n_trainable * (optimizer::BYTES + 4) * (checkpoints as u64 + 1)
            + if full { n * 2 } else { 4 * n_trainable }
            + merged,
    })
}

/// Bytes that dropout keeps for the way back: of LoRA in f32 on the processor nothing, for masks are drawn
/// again; of `DoRA` there the inputs that are left; elsewhere a mask and those.
fn dropout(plan: &Plan, micro_positions: usize) -> Result<u64, Failure> {
    let Method { kind, dropout, variant, .. } = &plan.training.method;
    if *kind == MethodKind::Full || *dropout == 0.0 {
        return Ok(0);
    }
    let in_place = is_cpu(&plan.machine.device) && plan.machine.compute == DType::F32;
    let bytes = match (in_place, *variant == Variant::Dora) {
        (true, false) => 0,
        (true, true) => 4,
        (false, _) => 1 + plan.machine.compute.size(),
    };
    let targets = init::targets(&plan.model.shape, &plan.training.method)?;
    let inputs: usize = targets.values().map(|[_, n_in]| n_in).sum();
    Ok((micro_positions * inputs * bytes) as u64)
}

/// Seconds of a typical step, and positions of its largest micro-batch.
fn training_step(plan: &Plan) -> Result<(f64, usize), Failure> {
    let mut trainee =
        crate::train::trainee(&plan.training.task(&plan.model, &plan.base, &plan.key)?, &plan.machine)?;
    trainee.track();
    let mut optimizer = crate::train::optimizer::Optimizer::new(&plan.training.train);
    let (order, samples) = (order(plan), &plan.training.samples(&plan.model)?.train);
    let cut = |step: usize| {
        micro_batches(samples, &order.samples(step), plan.machine.micro_tokens, plan.machine.multiple)
    };
    let first = cut(0);
    let largest = first.iter().map(MicroBatch::n_positions).max().unwrap_or(1);
    // One small micro-batch to warm up, then one that is like the run's.
    let warm = [MicroBatch::new(samples, &first[0].samples[..1], plan.machine.multiple)];
    trainee.step(&warm, &mut optimizer, 0, 0.0, 1.0);
    let probe = first.into_iter().take(1).collect::<Vec<_>>();
    let started = Instant::now();
    trainee.step(&probe, &mut optimizer, 1, 0.0, 1.0);
    let per_position = started.elapsed().as_secs_f64() / probe[0].n_positions() as f64;
    let steps = plan.training.last_step.min(20);
    let positions: usize = (0..steps).flat_map(cut).map(|batch| batch.n_positions()).sum();
    Ok((per_position * positions as f64 / steps.max(1) as f64, largest))
}

/// Seconds of asking every candidate everything.
fn evaluation(plan: &Plan) -> Result<f64, Failure> {
    let started = Instant::now();
    let decoder = Decoder::load(
        &plan.model.shape,
        plan.base.weights.as_ref(),
        &plan.machine.device,
        plan.machine.compute,
    )?;
    let load_s = started.elapsed().as_secs_f64();
    let Some(probe) = plan.evaluation.suites.iter().find(|suite| !suite.prompts.is_empty()) else {
        return Ok(load_s);
    };
    let generator =
        Generator { decoder: &decoder, decode: &|_| String::new(), rows: plan.evaluation.rows, stop: None };
    let rows = |suite: &Questions| {
        let longest = suite.prompts.iter().map(Vec::len).max().unwrap_or(0);
        generator.rows_of(longest + suite.decoding.max_new_tokens)
    };
    let n = probe.prompts.len().min(rows(probe));
    let prompts: Vec<Query<'_>> = probe.prompts[..n].iter().map(|ids| Query::once(ids)).collect();
    let width = prompts.iter().map(|query| query.ids.len()).max().unwrap_or(1);
    let time = |max_new_tokens: usize| {
        let decoding = Decoding::greedy(max_new_tokens);
        let started = Instant::now();
        let _ = generator.complete(&prompts, &decoding, |_| Ok::<(), std::convert::Infallible>(()));
        started.elapsed().as_secs_f64()
    };
    time(1);
    let (one, nine) = (time(1), time(9));
    let per_step = ((nine - one) / 8.0).max(1e-6);
    let per_position = one / (n * width) as f64;
    let mut seconds = load_s;
    for suite in &plan.evaluation.suites {
        let batches = suite.n_answers().div_ceil(rows(suite)) as f64;
        let prompt_tokens: usize = suite.prompts.iter().map(Vec::len).sum();
        seconds += per_position * prompt_tokens as f64 + per_step * batches * new_tokens(plan, suite);
        let choices = suite.choices.iter().flat_map(|question| &question.choices);
        let texts = suite.texts.iter().flatten().map(|sample| sample.ids.len());
        let tokens: usize = choices.map(|choice| choice.ids.len()).chain(texts).sum();
        seconds += per_position * tokens as f64;
    }
    Ok(seconds * Candidate::of(&plan.merging.merges).len() as f64)
}

/// How many tokens the longest answer of a batch will have: twice the mean reference, or half of
/// what is allowed.
fn new_tokens(plan: &Plan, suite: &Questions) -> f64 {
    let allowed = suite.decoding.max_new_tokens as f64;
    let references = suite.posed.items.iter().filter_map(|item| item.reference.as_ref());
    let lengths: Vec<usize> = references
        .take(50)
        .filter_map(|text| plan.model.tokenizer.encode(text).ok())
        .map(|ids| ids.len())
        .collect();
    match lengths.len() {
        0 => allowed / 2.0,
        n => (2.0 * lengths.iter().sum::<usize>() as f64 / n as f64).min(allowed),
    }
}
