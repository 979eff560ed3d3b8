//! `finetune merge`: model folders to a model folder.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::{print, progress};
use crate::dtype::Dtype;
use crate::hub::{Hub, Wanted};
use crate::merge::{MergeReport, Unmatched};
use crate::recipe::Helper;
use crate::run::Failure;
use crate::run::export::located;
use crate::run::export::{Models, Options, Outline, PairRequest, Request, outline, verify, write};
use crate::snapshot::writer;

/// The three things it does.
pub const USAGE: &str = "finetune merge --pre DIR|ID --post DIR|ID --merge SPEC --out DIR\n       \
     finetune merge --config FILE --out DIR\n       finetune merge --verify DIR";

/// What is merged into what.
#[derive(Debug, Args)]
#[group(skip)]
pub struct MergeArgs {
    /// mergekit's YAML; its paths are relative to the current folder, and ids of a hub are fetched as in recipes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pre", "post", "merge", "out_dtype"], required_unless_present_any = ["pre", "verify"])]
    config: Option<PathBuf>,
    /// The model before tuning: a folder, or a hub's org/name
    #[arg(long, value_name = "DIR|ID", requires = "merge")]
    pre: Option<PathBuf>,
    /// What was tuned from it: a model folder, an adapter, a checkpoint or a run folder of this program;
    /// may be repeated for methods that compare several
    #[arg(long, value_name = "DIR|ID", requires = "pre")]
    post: Vec<PathBuf>,
    /// What some methods look at besides: unaligned, `safety`, `patch_safety`, `patch_helpful` (models or adapters),
    /// `score_safety`, `score_helpful`, mask, `mask_safety`, `mask_helpful` (safetensors files); may be repeated
    #[arg(long, value_name = "PART=PATH", requires = "pre", value_parser = helper)]
    model: Vec<(Helper, PathBuf)>,
    /// How: METHOD:λ[,key=value]…, such as slerp:0.5; slerp:0.5,attn=0.3,layers.0-3=0 has other λ in some
    /// places (embed, attn, mlp, norm, head, a module's name, a pattern over names, layers), linear:0.2~0.8
    /// over the depth, linear:0.5,of=ema takes the average of a run's weights
    #[arg(long, value_name = "SPEC", requires = "pre")]
    merge: Option<String>,
    /// The merged model's folder; it must not be there
    #[arg(long, value_name = "DIR", required_unless_present_any = ["dry_run", "verify"])]
    out: Option<PathBuf>,
    /// f32, f16 or bf16 [default: that of the model before tuning]
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    out_dtype: Option<Dtype>,
    /// How merged numbers become those of the output's format
    #[arg(long, value_enum, default_value_t = Rounding::Nearest)]
    rounding: Rounding,
    /// Draws the masks of random methods and stochastic rounding
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Write the adapter with its update scaled, without reading the base's weights: for linear,
    /// extrapolate and `task_arithmetic`
    #[arg(long, requires = "pre", conflicts_with_all = ["unmatched", "pre_fisher", "post_fisher"])]
    adapter_only: bool,
    /// What becomes of weights that one of the models has alone
    #[arg(long, value_enum, default_value_t = Alone::Refuse, requires = "pre")]
    unmatched: Alone,
    /// How much each number matters to the model before tuning, for fisher: a file that a run made, or a
    /// checkpoint of full tuning
    #[arg(long, value_name = "PATH", requires_all = ["pre", "post_fisher"])]
    pre_fisher: Option<PathBuf>,
    /// The same for the tuned model
    #[arg(long, value_name = "PATH", requires_all = ["pre", "pre_fisher"])]
    post_fisher: Option<PathBuf>,
    /// Merge numbers that are NaN or infinite as arithmetic does and go on; they are counted in weights
    /// that differ
    #[arg(long)]
    allow_not_finite: bool,
    /// The most gigabytes that one file of weights has
    #[arg(long, value_name = "GB", default_value_t = 5.0, value_parser = gigabytes)]
    shard_size: f64,
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
enum Alone {
    /// There must be none
    Refuse,
    /// Those of the model before tuning are taken over, others left out
    Pre,
    /// Those of the tuned model are taken over, others left out
    Post,
    /// All are taken over
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rounding {
    /// To the nearest, ties to even
    Nearest,
    /// Up or down by chance, so that the mean is right
    Stochastic,
}

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
    let stop = super::stop_on_signals();
    let request = request(args)?;
    let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) else {
        list(&outline(&request)?, args.out.as_deref());
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
    let options = Options {
        statistics: !args.no_statistics,
        digests: !args.no_digests,
        tell: &tell,
        say: &progress::say,
        stop: &stop,
    };
    let written = write(&request, out, options)?;
    match &written.report {
        Some(report) => say(report, written.n_weights),
        None => print(&format!("{} tensors", written.n_weights)),
    }
    progress::say(&format!("wrote `{}`", out.display()));
    Ok(())
}

/// Lists what would be written, and whether there is room for it.
fn list(outline: &Outline, out: Option<&Path>) {
    outline.said.iter().for_each(|sentence| progress::say(sentence));
    for (name, shape, dtype) in &outline.weights {
        print(&format!("{name} {shape:?} {dtype}"));
    }
    let (n, n_shards) = (outline.weights.len(), outline.n_shards);
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let free = writer::free_bytes(out.unwrap_or(Path::new(".")));
    let free = free.map_or_else(String::new, |free| format!(", {:.3} GB are free", gigabytes(free)));
    let bytes = gigabytes(outline.bytes);
    print(&format!("{}: {n} tensors in {n_shards} files, {bytes:.3} GB on disk{free}", outline.title));
}

/// A part and its path.
fn helper(text: &str) -> Result<(Helper, PathBuf), String> {
    let (part, path) = text.split_once('=').ok_or("expected PART=PATH, such as unaligned=models/base")?;
    let found = Helper::ALL.into_iter().find(|helper| helper.name() == part);
    let names = Helper::ALL.map(Helper::name);
    let found = found.ok_or_else(|| format!("no part `{part}`; there are {}", names.join(", ")))?;
    Ok((found, PathBuf::from(path)))
}

fn dtype(name: &str) -> Result<Dtype, &'static str> {
    Dtype::from_name(name).ok_or("expected f32, f16 or bf16")
}

fn gigabytes(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|x| *x > 0.0 && *x < 1e6);
    number.ok_or("expected gigabytes, above 0")
}

fn request(args: &MergeArgs) -> Result<Request, Failure> {
    let models = match (&args.config, &args.pre, &args.merge) {
        (Some(config), ..) => {
            let models = Models::of_file(config, Path::new(""))?;
            for name in models.names()? {
                fetched(&name)?;
            }
            models
        }
        (None, Some(pre), Some(merge)) => {
            let folder =
                |path: &PathBuf| Ok(fetched(&path.display().to_string())?.unwrap_or_else(|| path.clone()));
            let importance = args.pre_fisher.clone().zip(args.post_fisher.clone());
            Models::Pair(PairRequest {
                pre: folder(pre)?,
                post: args.post.iter().map(folder).collect::<Result<_, Failure>>()?,
                merge: merge.clone(),
                dtype: args.out_dtype,
                unmatched: match args.unmatched {
                    Alone::Refuse => Unmatched::Refuse,
                    Alone::Pre => Unmatched::OfBase,
                    Alone::Post => Unmatched::OfTuned,
                    Alone::Both => Unmatched::Both,
                },
                helpers: args
                    .model
                    .iter()
                    .map(|(part, path)| {
                        Ok((*part, if part.is_file() { path.clone() } else { folder(path)? }))
                    })
                    .collect::<Result<_, Failure>>()?,
                importance: importance.map(|(of_pre, of_post)| [of_pre, of_post]),
                adapter_only: args.adapter_only,
            })
        }
        _ => unreachable!("clap requires `--config`, or `--pre` with `--post` and `--merge`"),
    };
    Ok(Request {
        seed: args.seed,
        stochastic: args.rounding == Rounding::Stochastic,
        lenient: args.allow_not_finite,
        shard_bytes: (args.shard_size * 1e9) as u64,
        ..Request::new(models)
    })
}

/// The folder of a hub's model, brought if the cache lacks it; none of what is a path here.
fn fetched(name: &str) -> Result<Option<PathBuf>, Failure> {
    let Some(asked) = located::of_hub(Path::new(""), name) else { return Ok(None) };
    let hub = Hub::from_env()?;
    let found = match hub.cached(&asked, Wanted::Model) {
        Some(found) => found,
        None => {
            let mut transfers = progress::Transfers::default();
            hub.fetch(&asked, Wanted::Model, &mut |transfer| transfers.show(transfer))?
        }
    };
    progress::say(&format!("{asked} is at commit {}", found.commit));
    Ok(Some(found.folder))
}

fn say(report: &MergeReport, n_weights: usize) {
    print(&format!(
        "{}: {} of {n_weights} tensors changed, by {:.2} %, at most {:.2}°; {}; {:.1} % of the parameters are unchanged{}",
        report.merge,
        report.touched,
        100.0 * report.relative_update,
        report.largest_angle_degrees,
        report.effective_lambda.map_or_else(
            || format!("{:.1} % of the update kept after rounding", 100.0 * report.survived),
            |lambda| format!("effective λ after rounding {lambda:.3}"),
        ),
        100.0 * report.unchanged,
        match report.fell_back {
            0 => String::new(),
            n => format!("; {n} tensors fell back to LERP"),
        },
    ));
    if let Some(choice) = &report.choice {
        print(&format!(
            "{} of {} matrices chosen; ρ {:.3} in the mean, {:.3} by chance; ‖CΔ‖/‖Δ‖ {:.3}; Pdst {:.3}{}",
            choice.chosen,
            choice.matrices,
            choice.rho,
            choice.baseline,
            choice.contraction,
            choice.pdst,
            choice.pdst_of_b.map_or_else(String::new, |of_b| format!(" (of B {of_b:.3})")),
        ));
    }
    if report.not_finite > 0 {
        progress::say(&format!("warning: {} numbers of the inputs are NaN or infinite", report.not_finite));
    }
    if report.is_mostly_lost() {
        progress::say(&format!(
            "warning: nearly the base, for rounding kept {:.0} % of the update; `--out-dtype f32` keeps all of it, `--rounding stochastic` its mean, \
             and an adapter scaled by `--adapter-only` is not rounded to the model's format",
            100.0 * report.survived
        ));
    }
}
