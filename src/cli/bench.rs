//! `finetune bench`: times one training step or one generation, for the scripts in `benches/`.

use std::path::{Path, PathBuf};

use burn::tensor::DType;
use clap::{Args, Subcommand, ValueEnum};

use super::print;
use crate::recipe::MethodKind;
use crate::run::Failure;
use crate::run::proof::bench::{Bench, Sizes, Subject};
use crate::run::proof::bench_suite::SuiteBench;
use crate::snapshot::writer;

/// What is timed.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A training step: forward, backward, update
    Step {
        #[command(flatten)]
        common: Common,
        /// lora (rank 8, all linear maps) or full
        #[arg(long, default_value = "lora")]
        method: MethodName,
        /// Rows of `{"input_ids", "labels"}` instead of made-up ones, every token labelled
        #[arg(long)]
        rows: Option<PathBuf>,
        /// Positions per micro-batch
        #[arg(long, default_value_t = 1024)]
        micro_tokens: usize,
        /// Compute blocks again on the way back instead of keeping what it needs of them
        #[arg(long)]
        recompute: bool,
    },
    /// Greedy generation without a stop token
    Generate {
        #[command(flatten)]
        common: Common,
        /// Tokens of each prompt
        #[arg(long, default_value_t = 32)]
        prompt: usize,
    },
    /// The log-likelihood of rows, for `benches/gemma3.py`
    Likelihood {
        #[command(flatten)]
        common: Common,
        /// Rows of `{"input_ids", "labels"}`
        #[arg(long)]
        rows: PathBuf,
    },
    /// One model on one suite, beside `benches/eval_twin.py`
    Suite {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        suite: SuiteArgs,
    },
    /// The logits of made-up rows, for `tests/golden/check_exports.py`
    Logits {
        #[command(flatten)]
        common: Common,
        /// The safetensors file with `input_ids` [b, t] and `logits` [b, t, v]
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MethodName {
    Lora,
    Full,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    F32,
    Bf16,
}

/// Which suite, and how it is asked.
#[derive(Debug, Args)]
struct SuiteArgs {
    /// The task
    #[arg(long)]
    task: String,
    /// Its file
    #[arg(long)]
    source: PathBuf,
    /// Keys of the recipe's `[[eval.suites]]`, such as `shots=5`
    #[arg(long, value_name = "KEY=VALUE")]
    key: Vec<String>,
    /// Ask only the first so many items
    #[arg(long)]
    first: Option<usize>,
    /// Write prompts as lists of token ids
    #[arg(long)]
    prompts_out: Option<PathBuf>,
    /// Write what was found, a line for each item
    #[arg(long)]
    out: Option<PathBuf>,
    /// Positions computed at once
    #[arg(long, default_value_t = 1024)]
    micro_tokens: usize,
}

#[derive(Debug, Args)]
struct Common {
    /// smollm2-135m, qwen2.5-1.5b, llama-3-8b or toy, on random weights
    #[arg(long, required_unless_present = "model")]
    shape: Option<String>,
    /// A model folder instead
    #[arg(long)]
    model: Option<PathBuf>,
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Format,
    /// Rows
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Tokens of each row, or new tokens of each answer
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Timed repetitions, after one that is not
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Write the figures here as well
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Common {
    /// The model on its device.
    fn bench(&self) -> Result<Bench, Failure> {
        let subject = match (&self.model, &self.shape) {
            (Some(folder), _) => Subject::Folder(folder.clone()),
            (None, shape) => Subject::Shape(shape.clone().unwrap_or_default()),
        };
        let compute = match self.dtype {
            Format::F32 => DType::F32,
            Format::Bf16 => DType::BF16,
        };
        let sizes = Sizes { batch: self.batch, tokens: self.tokens, steps: self.steps };
        Bench::open(&subject, &self.device.parse()?, compute, sizes)
    }
}

/// Times what was asked for and prints the figures as JSON.
///
/// # Errors
///
/// The device or the model cannot be had.
pub fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let (common, figures) = match &args.what {
        What::Step { common, method, rows, micro_tokens, recompute } => {
            let kind = match method {
                MethodName::Lora => MethodKind::Lora,
                MethodName::Full => MethodKind::Full,
            };
            (common, common.bench()?.step((kind, *recompute), rows.as_deref(), *micro_tokens)?)
        }
        What::Generate { common, prompt } => (common, common.bench()?.generate(*prompt)?),
        What::Likelihood { common, rows } => (common, common.bench()?.likelihood(rows)?),
        What::Suite { common, suite } => {
            let folder = common.model.as_deref().unwrap_or(Path::new("."));
            let asked = SuiteBench {
                task: &suite.task,
                source: &suite.source,
                keys: &suite.key,
                first: suite.first,
                prompts_out: suite.prompts_out.as_deref(),
                out: suite.out.as_deref(),
                micro_tokens: suite.micro_tokens,
                rows: common.batch,
            };
            (common, asked.measure(folder, &common.bench()?.decoder()?)?)
        }
        What::Logits { common, out } => (common, common.bench()?.logits(out)?),
    };
    if let Some(path) = &common.json {
        writer::write_json(path, &figures)?;
    }
    print(&figures.to_string());
    Ok(())
}
