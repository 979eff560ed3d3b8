//! `finetune merge`: model folders to a model folder.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;

use super::{print, progress};
use crate::dtype::Dtype;
use crate::recipe::{RecipeError, Spec};
use crate::run::Failure;
use crate::run::merge::{Written, merge_config, merge_pair};

/// What is merged into what.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// mergekit's YAML; its paths are seen from the current folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pre", "post", "merge", "out_dtype"], required_unless_present = "pre")]
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
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// f32, f16 or bf16 [default: that of the model before tuning]
    #[arg(long, value_name = "DTYPE")]
    out_dtype: Option<String>,
    /// Draws the masks of random methods
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Merges and says what became of the update.
///
/// # Errors
///
/// Whatever is wrong with the models, the YAML or the target.
pub fn merge(args: &MergeArgs) -> Result<(), Failure> {
    let last = Mutex::new(Instant::now());
    let tell = |done: usize, total: usize| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= Duration::from_secs(2) {
            *last = Instant::now();
            progress::say(&format!("merge: {done} of {total} weights"));
        }
    };
    let written = match (&args.config, &args.pre, &args.post, &args.merge) {
        (Some(config), ..) => merge_config(config, Path::new(""), &args.out, args.seed, &tell)?,
        (None, Some(pre), Some(post), Some(spec)) => {
            let spec: Spec = spec.parse()?;
            let dtype = args.out_dtype.as_deref().map(|name| {
                Dtype::from_name(name).ok_or_else(|| RecipeError::BadValue {
                    key: "--out-dtype".to_owned(),
                    found: format!("`{name}`"),
                    expected: "f32, f16 or bf16".to_owned(),
                })
            });
            merge_pair(pre, post, &spec, &args.out, dtype.transpose()?, &tell)?
        }
        _ => unreachable!("clap requires `--config`, or `--pre` with `--post` and `--merge`"),
    };
    let Written { report, n_weights } = written;
    print(&format!(
        "{}: {} of {n_weights} weights differ by {:.2} %, at most {:.2}°; {:.3} of the update is left after rounding, \
         {:.1} % of the numbers are the base's{}",
        report.merge,
        report.touched,
        100.0 * report.relative_update,
        report.largest_angle_degrees,
        report.effective_lambda,
        100.0 * report.unchanged,
        match report.fell_back {
            0 => String::new(),
            n => format!("; {n} weights took a straight line"),
        },
    ));
    progress::say(&format!("wrote `{}`", args.out.display()));
    Ok(())
}
