//! One training step or one generation timed, for the scripts in `benches/`.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::DType;
use serde_json::{Value, json};

use crate::data::Sample;
use crate::device::{self, DeviceSpec};
use crate::generate::{Decoding, Generator, Query, likelihoods};
use crate::model::{
    self, Cut, Decoder, DecoderShape, MicroBatch, Positions, RopeScaling, RopeShape, families,
};
use crate::recipe::{Method, MethodKind, Train};
use crate::run::failure::Failure;
use crate::snapshot::{Dtype, SharedWeights, Snapshot};
use crate::train::checkpoint::HostWeights;
use crate::train::init::{self, RandomWeights};
use crate::train::objective::Objective;
use crate::train::optimizer::Optimizer;
use crate::train::step::Trainee;

/// What is timed.
pub enum Subject {
    /// A model folder.
    Folder(PathBuf),
    /// A shape by its name, on random weights.
    Shape(String),
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Rows.
    pub batch: usize,
    /// Tokens of each row, or new tokens of each answer.
    pub tokens: usize,
    /// Timed repetitions, after one that is not.
    pub steps: usize,
}

/// A model on its device, ready to be timed.
pub struct Bench {
    sizes: Sizes,
    opened: device::Opened,
    shape: DecoderShape,
    weights: SharedWeights,
    compute: DType,
}

impl Bench {
    /// Opens the model and its device.
    ///
    /// # Errors
    ///
    /// The device or the model cannot be had.
    pub fn open(
        subject: &Subject,
        device: &DeviceSpec,
        compute: DType,
        sizes: Sizes,
    ) -> Result<Self, Failure> {
        let opened = device::open(device)?;
        let (shape, weights): (DecoderShape, SharedWeights) = match subject {
            Subject::Folder(folder) => {
                let snapshot = Snapshot::open(folder)?;
                (families::shape(&snapshot.config)?, snapshot.weights)
            }
            Subject::Shape(name) => {
                let shape = named_shape(name)?;
                let weights = RandomWeights::new(&shape, 0.02, Dtype::F32, 1);
                (shape, Arc::new(weights))
            }
        };
        Ok(Self { sizes, opened, shape, weights, compute })
    }

    /// A training step: forward, backward, update, with blocks computed again or not; on made-up rows, or on those of a
    /// file.
    ///
    /// # Errors
    ///
    /// The model cannot be loaded, or a file cannot be read or written.
    pub fn step(
        &self,
        (kind, recompute): (MethodKind, bool),
        rows: Option<&Path>,
        micro_tokens: usize,
    ) -> Result<Value, Failure> {
        let samples = match rows {
            Some(path) => read_rows(path)?.into_iter().take(self.sizes.batch).collect(),
            None => (0..self.sizes.batch).map(|row| self.row(row, self.sizes.tokens)).collect::<Vec<_>>(),
        };
        let compute = if kind == MethodKind::Full { DType::F32 } else { self.compute };
        let mut decoder = Decoder::load(&self.shape, self.weights.as_ref(), &self.opened.device, compute)?;
        if kind == MethodKind::Lora {
            let adapter =
                init::adapter(&self.shape, &Method::default(), &Train { seed: 1, ..Train::default() });
            decoder.attach(&adapter.expect("every model has linear maps"))?;
        }
        let mut trainee = Trainee::new(decoder, kind, Objective::Sft).recomputing(recompute);
        trainee.track();
        let train = Train { weight_decay: 0.01, ..Train::default() };
        let mut optimizer = Optimizer::new(&train);
        let indices: Vec<usize> = (0..samples.len()).collect();
        let (mut times, mut losses) = (Vec::new(), Vec::new());
        for step in 0..=self.sizes.steps {
            let started = Instant::now();
            let batches = Cut { group: 1, micro_tokens, multiple: 1 }.packed(&samples, &indices);
            losses.push(trainee.step(&batches, &mut optimizer, step, 1e-4, 1.0).loss);
            self.opened.device.sync().ok();
            times.push(started.elapsed().as_secs_f64());
        }
        let tokens: usize = samples.iter().map(|sample| sample.ids.len()).sum();
        let mut figures = self.figures(&times[1..], tokens);
        figures["losses"] = json!(losses);
        Ok(figures)
    }

    /// Greedy generation without a stop token.
    ///
    /// # Errors
    ///
    /// The model cannot be loaded, or a file cannot be read or written.
    pub fn generate(&self, n_prompt: usize) -> Result<Value, Failure> {
        let decoder = self.decoder()?;
        let prompts: Vec<Vec<u32>> = (0..self.sizes.batch).map(|row| self.row(row, n_prompt).ids).collect();
        let queries: Vec<Query<'_>> = prompts.iter().map(|ids| Query::once(ids)).collect();
        let decoding = Decoding::greedy(self.sizes.tokens);
        let generator =
            Generator { decoder: &decoder, decode: &|_| String::new(), rows: self.sizes.batch, stop: None };
        let (mut times, mut generated) = (Vec::new(), Vec::new());
        for _ in 0..=self.sizes.steps {
            let started = Instant::now();
            generated = vec![Vec::new(); prompts.len()];
            let Ok(()) = generator.complete::<Infallible>(&queries, &decoding, |news| {
                for (i, completion) in news.ended {
                    generated[i] = completion.ids;
                }
                Ok(())
            });
            times.push(started.elapsed().as_secs_f64());
        }
        let mut figures = self.figures(&times[1..], self.sizes.batch * self.sizes.tokens);
        figures["generated"] = json!(generated);
        Ok(figures)
    }

    /// The log-likelihood of a file's rows.
    ///
    /// # Errors
    ///
    /// The model cannot be loaded, or a file cannot be read or written.
    pub fn likelihood(&self, rows: &Path) -> Result<Value, Failure> {
        let (decoder, samples) = (self.decoder()?, read_rows(rows)?);
        let started = Instant::now();
        let Ok(found) = likelihoods(&decoder, &samples, 1024, || Ok::<(), Infallible>(()));
        let tokens = found.iter().map(|likelihood| likelihood.n_tokens).sum();
        let mut figures = self.figures(&[started.elapsed().as_secs_f64()], tokens);
        figures["log_likelihoods"] = json!(found.iter().map(|likelihood| likelihood.sum).collect::<Vec<_>>());
        Ok(figures)
    }

    /// The logits of made-up rows, written to a file.
    ///
    /// # Errors
    ///
    /// The model cannot be loaded, or a file cannot be read or written.
    pub fn logits(&self, out: &Path) -> Result<Value, Failure> {
        let (decoder, t) = (self.decoder()?, self.sizes.tokens);
        let samples: Vec<Sample> = (0..self.sizes.batch).map(|row| self.row(row, t)).collect();
        let batch = MicroBatch::new(&samples, &(0..samples.len()).collect::<Vec<_>>(), 1);
        let ids = batch.ids(&decoder.device);
        let hidden = decoder.hidden(ids.clone(), &Positions::causal(t), None);
        let [b, t, m] = hidden.dims();
        let logits = decoder.frozen_head().logits(hidden.reshape([b * t, m])); // [b*t, v]
        let v = self.shape.vocab_size;
        let both =
            [("input_ids".to_owned(), vec![b, t], ids.float()), ("logits".to_owned(), vec![b, t, v], logits)];
        HostWeights::read(both.into_iter()).write(out)?;
        Ok(json!({ "logits": out, "rows": b, "tokens": t }))
    }

    /// The model, loaded.
    ///
    /// # Errors
    ///
    /// A weight cannot be read.
    pub fn decoder(&self) -> Result<Decoder, Failure> {
        Ok(Decoder::load(&self.shape, self.weights.as_ref(), &self.opened.device, self.compute)?)
    }

    /// A row that the twin in Python makes by the same formula.
    fn row(&self, row: usize, n_tokens: usize) -> Sample {
        // Special tokens lie at either end of a vocabulary of any size.
        let spared = if self.shape.vocab_size > 2000 { 500 } else { 0 };
        let n = self.shape.vocab_size - 2 * spared;
        let id = |pos: usize| (row * 7919 + pos * 104_729 + 17) % n + spared;
        let ids: Vec<u32> = (0..n_tokens).map(|pos| u32::try_from(id(pos)).expect("a token id")).collect();
        Sample::of_trained(ids, std::iter::repeat_n(true, n_tokens), (row + 1).into())
    }

    fn figures(&self, times: &[f64], tokens: usize) -> Value {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let total: f64 = times.iter().sum();
        json!({
            "program": format!("finetune {}", env!("CARGO_PKG_VERSION")),
            "device": self.opened.spec,
            "device_name": self.opened.name,
            "compute": format!("{:?}", self.compute).to_lowercase(),
            "threads": rayon::current_num_threads(),
            "median_s": sorted.get(sorted.len() / 2),
            "min_s": sorted.first(),
            "times_s": times,
            "tokens_per_s": (tokens * times.len()) as f64 / total,
            "peak_rss_bytes": device::peak_memory(),
        })
    }
}

fn read_rows(path: &Path) -> Result<Vec<Sample>, Failure> {
    let broken = |source| crate::snapshot::SnapshotError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(broken)?;
    let row = |(i, line): (usize, &str)| {
        let value: Value = serde_json::from_str(line).ok()?;
        let ids = value["input_ids"].as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok());
        let labels = value["labels"].as_array()?.iter();
        let labels = labels.map(|label| Some(u32::try_from(label.as_i64()?).ok()));
        let (ids, labels) = (ids.collect::<Option<Vec<_>>>()?, labels.collect::<Option<Vec<_>>>()?);
        (ids.len() == labels.len()).then(|| Sample::new(ids, labels, (i + 1).into()))
    };
    let rows = text.lines().enumerate().map(row).collect::<Option<Vec<_>>>();
    rows.ok_or_else(|| {
        broken(std::io::Error::other("a line is not `{\"input_ids\": […], \"labels\": […]}`")).into()
    })
}

fn named_shape(name: &str) -> Result<DecoderShape, Failure> {
    let shape = |vocab_size, hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, head_dim| {
        let sizes = model::Sizes {
            vocab_size,
            hidden_size,
            intermediate_size,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
        };
        let rope = RopeShape { theta: 1e5, scaling: RopeScaling::None, dim: head_dim };
        DecoderShape {
            norm_epsilon: 1e-5,
            rope,
            max_positions: 8192,
            tied: true,
            ..DecoderShape::plain("llama", sizes)
        }
    };
    match name {
        "toy" => Ok(shape(2048, 64, 128, 2, 4, 2, 16)),
        "smollm2-135m" => Ok(shape(49_152, 576, 1536, 30, 9, 3, 64)),
        "qwen2.5-1.5b" => Ok(DecoderShape { qkv_bias: true, ..shape(151_936, 1536, 8960, 28, 12, 2, 128) }),
        "llama-3-8b" => Ok(DecoderShape { tied: false, ..shape(128_256, 4096, 14_336, 32, 32, 8, 128) }),
        _ => Err(crate::recipe::RecipeError::NotFound {
            name: name.to_owned(),
            help: "shapes are `toy`, `smollm2-135m`, `qwen2.5-1.5b` and `llama-3-8b`".to_owned(),
        }
        .into()),
    }
}
