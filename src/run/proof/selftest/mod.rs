//! Does a device compute what independent programs computed?
//!
//! Two sources of truth: folders of golden numbers made with transformers and PEFT, and, where none
//! are at hand, a small random model on the processor. A device is trusted after it agrees.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};
use serde::Serialize;

mod golden;
mod tensors;

use golden::Case;

use crate::data::Sample;
use crate::device;
use crate::device::kernels::Gate;
use crate::model::{Decoder, DecoderShape, MicroBatch, NormScale, Positions, Sizes, families};
use crate::recipe::{MethodKind, Train};
use crate::run::failure::SelftestError;
use crate::snapshot::{Snapshot, SnapshotError, Weights};
use crate::train::init;
use crate::train::objective::Objective;
use crate::train::optimizer::Optimizer;
use crate::train::step::Trainee;

/// How far a device may be from the reference.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Largest absolute difference of a logit.
    pub logits: f64,
    /// Absolute difference of a mean loss.
    pub loss: f64,
    /// Relative difference of a training loss, at every step.
    pub trace: f64,
    /// Relative difference, in norm, of a weight after training.
    pub weights: f64,
}

/// f32 on the processor against f32 in PyTorch: the golden folder's own tolerances.
pub const EXACT: Tolerance = Tolerance { logits: 2e-4, loss: 1e-5, trace: 1e-4, weights: 1e-4 };
/// A GPU sums in another order and may multiply in a shorter format.
pub const GPU: Tolerance = Tolerance { logits: 1e-3, loss: 1e-4, trace: 1e-3, weights: 1e-3 };

/// One comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub case: String,
    pub part: String,
    pub measured: f64,
    pub allowed: f64,
}

impl Check {
    /// A figure that is no number fails.
    pub fn passed(&self) -> bool {
        self.measured <= self.allowed
    }
}

/// What a self-test found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Selftest {
    pub checks: Vec<Check>,
    /// Cases of families or methods that this program does not have.
    pub unsupported: Vec<String>,
}

impl Selftest {
    /// The comparisons that went wrong.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.passed())
    }
}

/// Runs every golden case below `folder` (model folders with a `golden.safetensors`).
///
/// # Errors
///
/// There is no case, or a case cannot be read.
pub fn golden(folder: &Path, device: &Device, tolerance: Tolerance) -> Result<Selftest, SelftestError> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|_| SelftestError::NoCases { folder: folder.to_owned() })?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("golden.safetensors").is_file())
        .collect();
    cases.sort();
    if cases.is_empty() {
        return Err(SelftestError::NoCases { folder: folder.to_owned() });
    }
    let mut selftest = Selftest::default();
    for case in cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let snapshot = Snapshot::open(&case)?;
        let family = snapshot.config.model_type()?;
        if !families::FAMILIES.iter().any(|row| row.name == family) {
            selftest.unsupported.push(name);
            continue;
        }
        let shape = families::shape(&snapshot.config)?;
        Decoder::check(&shape, &snapshot.weights, &name)?;
        let case = Case { folder: case, name, snapshot, shape, device, tolerance };
        case.forward(&mut selftest)?;
        case.traces(&mut selftest)?;
    }
    Ok(selftest)
}

/// Compares a device with the processor on a small random model: logits and three training steps.
///
/// The model has the operations of `like`, or else every operation there is.
///
/// # Errors
///
/// The two disagree beyond [`GPU`].
pub fn compare_with_processor(
    name: &str,
    device: &Device,
    like: Option<&DecoderShape>,
) -> Result<Selftest, SelftestError> {
    let shape = small(like);
    let weights = init::RandomWeights::new(&shape, 0.08, crate::snapshot::Dtype::F32, 7);
    let (here, reference) = (figures(&shape, &weights, device)?, figures(&shape, &weights, &device::cpu())?);
    let check = |part: &str, measured: f64, allowed: f64| Check {
        case: "random model".to_owned(),
        part: part.to_owned(),
        measured,
        allowed,
    };
    let losses = here.losses.iter().zip(&reference.losses).map(|(a, b)| ((a - b) / b).abs());
    let checks = vec![
        check("logits", largest_difference(&here.logits, &reference.logits), GPU.logits),
        check("training losses", worst(losses), GPU.trace),
    ];
    let selftest = Selftest { checks, unsupported: Vec::new() };
    let figures: Vec<String> = selftest
        .failures()
        .map(|check| {
            format!("{} differ by {:.2e}, allowed {:.0e}", check.part, check.measured, check.allowed)
        })
        .collect();
    match figures.is_empty() {
        true => Ok(selftest),
        false => Err(SelftestError::WrongDevice { device: name.to_owned(), figures: figures.join("; ") }),
    }
}

/// Two layers of width 64, the first sliding where any layer does.
fn small(like: Option<&DecoderShape>) -> DecoderShape {
    let sizes = Sizes {
        vocab_size: 96,
        hidden_size: 64,
        intermediate_size: 96,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 16,
    };
    let plain = DecoderShape { max_positions: 64, tied: true, ..DecoderShape::plain("small", sizes) };
    let Some(like) = like else {
        return DecoderShape {
            embedding_scale: 8.0,
            norm_scale: NormScale::OnePlusWeight,
            post_norms: true,
            head_norms: true,
            windows: vec![Some(5), None],
            attention_softcap: Some(2.0),
            logit_softcap: Some(3.0),
            gate: Gate::GeluTanh,
            qkv_bias: true,
            ..plain
        };
    };
    let slides = like.windows.iter().any(Option::is_some);
    DecoderShape {
        tied: like.tied,
        embedding_scale: if like.embedding_scale == 1.0 { 1.0 } else { 8.0 },
        norm_scale: like.norm_scale,
        post_norms: like.post_norms,
        head_norms: like.head_norms,
        windows: vec![slides.then_some(5), None],
        attention_softcap: like.attention_softcap,
        logit_softcap: like.logit_softcap,
        gate: like.gate,
        fused: like.fused,
        qkv_bias: like.qkv_bias,
        o_bias: like.o_bias,
        mlp_bias: like.mlp_bias,
        ..plain
    }
}

struct Figures {
    logits: Vec<f32>,
    losses: Vec<f64>,
}

fn figures(shape: &DecoderShape, weights: &dyn Weights, device: &Device) -> Result<Figures, SnapshotError> {
    let mut samples = Vec::new();
    for row in 0..4u32 {
        let ids: Vec<u32> = (0..24).map(|i| (row * 31 + i * 17 + i * i) % 96).collect();
        samples.push(Sample::of_trained(ids, [true; 24], (row as usize + 1).into()));
    }
    let batch = MicroBatch::new(&samples, &[0, 1, 2, 3], 1);
    let decoder = Decoder::load(shape, weights, device, DType::F32)?;
    let hidden = decoder.hidden(batch.ids(device), &Positions::causal(batch.width), None);
    let [b, t, m] = hidden.dims();
    let logits = read(decoder.frozen_head().logits(hidden.reshape([b * t, m])));
    let train = Train { learning_rate: 1e-2, warmup: 0.0, steps: 3, ..Train::default() };
    let mut trainee = Trainee::new(decoder, MethodKind::Full, Objective::Sft);
    trainee.track();
    let mut optimizer = Optimizer::new(&train);
    let losses = (0..3).map(|step| {
        trainee.step(&[MicroBatch::new(&samples, &[0, 1, 2, 3], 1)], &mut optimizer, step, 1e-2, 1.0).loss
    });
    Ok(Figures { logits, losses: losses.collect() })
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("a device that opened gives its results back")
}

fn relative(found: f64, expected: f64) -> f64 {
    ((found - expected) / expected).abs()
}

/// ‖found − expected‖ / ‖expected‖; of different lengths, infinite.
fn relative_norm(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let square = |x: f64| x * x;
    let difference: f64 =
        found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let norm: f64 = expected.iter().map(|x| square(f64::from(*x))).sum();
    (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f64 {
    worst(found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())))
}

/// The largest of some figures; NaN if one of them is.
fn worst(figures: impl Iterator<Item = f64>) -> f64 {
    figures.fold(0.0, |worst, figure| if figure.is_nan() || figure > worst { figure } else { worst })
}
