//! `finetune merge`: model folders to a model folder.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::{print, progress};
use crate::dtype::Dtype;
use crate::merge::MergeReport;
use crate::recipe::RecipeError;
use crate::run::Failure;
use crate::run::merge::{Models, Options, Request, outline, verify, write};

/// What is merged into what.
#[derive(Debug, Args)]
#[group(skip)]
pub struct MergeArgs {
    /// mergekit's YAML; its paths are seen from the current folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pre", "post", "merge", "out_dtype"], required_unless_present_any = ["pre", "verify"])]
    config: Option<PathBuf>,
    /// The model before tuning
    #[arg(long, value_name = "DIR", requires_all = ["post", "merge"])]
    pre: Option<PathBuf>,
    /// The model after tuning, or an adapter on the model before
    #[arg(long, value_name = "DIR", requires = "pre")]
    post: Option<PathBuf>,
    /// How: METHOD:λ[,key=value]…, such as slerp:0.5
    #[arg(long, value_name = "SPEC", requires = "pre")]
    merge: Option<String>,
    /// The merged model's folder; it must not be there
    #[arg(long, value_name = "DIR", required_unless_present_any = ["dry_run", "verify"])]
    out: Option<PathBuf>,
    /// f32, f16 or bf16 [default: that of the model before tuning]
    #[arg(long, value_name = "DTYPE")]
    out_dtype: Option<String>,
    /// How merged numbers become those of the output's format
    #[arg(long, value_enum, default_value_t = Rounding::Nearest)]
    rounding: Rounding,
    /// Draws the masks of random methods and stochastic rounding
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// List names, shapes, formats and bytes of what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Check a merged folder: every digest, and a sample of weights computed again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "pre", "out", "dry_run"])]
    verify: Option<PathBuf>,
    /// Weights that `--verify` computes again, drawn by --seed
    #[arg(long, value_name = "N", default_value_t = 16)]
    sample: usize,
    /// Leave out what the merge did to each weight
    #[arg(long)]
    no_statistics: bool,
    /// Leave out the digests of inputs and shards
    #[arg(long)]
    no_digests: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rounding {
    /// To the nearest, ties to even
    Nearest,
    /// Up or down by chance, so that the mean is right
    Stochastic,
}

/// Less of the merge's own change than this left after rounding is worth a warning.
const MOSTLY_LOST: f64 = 0.8;

/// Merges and says what became of the update, or checks or lists without merging.
///
/// # Errors
///
/// Whatever is wrong with the models, the YAML or the target.
pub fn merge(args: &MergeArgs) -> Result<(), Failure> {
    if let Some(folder) = &args.verify {
        let verified = verify(folder, args.sample, args.seed)?;
        print(&format!(
            "{}: {} files have the recorded digests, {} weights computed again are the same bit for bit",
            folder.display(),
            verified.n_files,
            verified.weights.len()
        ));
        return Ok(());
    }
    let request = request(args)?;
    let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) else {
        let outline = outline(&request)?;
        for (name, shape, dtype) in &outline.weights {
            print(&format!("{name} {shape:?} {dtype}"));
        }
        let (n, bytes) = (outline.weights.len(), outline.bytes as f64 / 1e9);
        print(&format!("{}: {n} weights, {bytes:.3} GB on disk", outline.title));
        return Ok(());
    };
    let last = Mutex::new(Instant::now());
    let tell = |done: usize, total: usize| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= Duration::from_secs(2) {
            *last = Instant::now();
            progress::say(&format!("merge: {done} of {total} weights"));
        }
    };
    let options = Options { statistics: !args.no_statistics, digests: !args.no_digests, tell: &tell };
    let written = write(&request, out, options)?;
    if let Some(report) = &written.report {
        say(report, written.n_weights);
    }
    progress::say(&format!("wrote `{}`", out.display()));
    Ok(())
}

fn request(args: &MergeArgs) -> Result<Request, Failure> {
    let models = match (&args.config, &args.pre, &args.post, &args.merge) {
        (Some(config), ..) => Models::of_file(config, Path::new(""))?,
        (None, Some(pre), Some(post), Some(merge)) => {
            let dtype = args.out_dtype.as_deref().map(|name| {
                Dtype::from_name(name).ok_or_else(|| RecipeError::BadValue {
                    key: "--out-dtype".to_owned(),
                    found: format!("`{name}`"),
                    expected: "f32, f16 or bf16".to_owned(),
                })
            });
            let (pre, post, merge) = (pre.clone(), post.clone(), merge.clone());
            Models::Pair { pre, post, merge, dtype: dtype.transpose()? }
        }
        _ => unreachable!("clap requires `--config`, or `--pre` with `--post` and `--merge`"),
    };
    Ok(Request { models, seed: args.seed, stochastic: args.rounding == Rounding::Stochastic })
}

fn say(report: &MergeReport, n_weights: usize) {
    print(&format!(
        "{}: {} of {n_weights} weights differ by {:.2} %, at most {:.2}°; {:.3} of the change is left after rounding, \
         which makes λ {:.3}; {:.1} % of the numbers are the base's{}",
        report.merge,
        report.touched,
        100.0 * report.relative_update,
        report.largest_angle_degrees,
        report.survived,
        report.effective_lambda,
        100.0 * report.unchanged,
        match report.fell_back {
            0 => String::new(),
            n => format!("; {n} weights took a straight line"),
        },
    ));
    if report.touched > 0 && report.survived < MOSTLY_LOST {
        progress::say(&format!(
            "warning: rounding left {:.0} % of the change; `--out-dtype f32` keeps all of it, `--rounding stochastic` its mean",
            100.0 * report.survived
        ));
    }
}
