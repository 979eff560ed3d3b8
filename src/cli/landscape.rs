//! `finetune landscape`: safety and task along base → tuned and around models.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::{eval, print, progress, stop_on_signals, trust};
use crate::device::DeviceSpec;
use crate::hub::Transfer;
use crate::recipe::{self, Recipe};
use crate::report::landscape::terminal;
use crate::run::landscape::{Request, Subject, landscape as scan, recipe_of};
use crate::run::plan::sources::Sources;
use crate::run::{Failure, Options, pages};

/// What it is given.
pub const USAGE: &str = "finetune landscape RUN [--directions N] [--around MODEL] [--plane] [--across]\n       \
     finetune landscape --pre DIR|ID --post DIR|ID --suite TASK=FILE\n       \
     finetune landscape --pre DIR|ID --post DIR|ID --recipe RECIPE";

/// Which models are asked what, where.
#[derive(Debug, Args)]
pub struct LandscapeArgs {
    /// The folder of a finished run; its suites are asked
    #[arg(value_name = "RUN", required_unless_present = "pre", conflicts_with_all = ["pre", "post", "suite", "recipe"])]
    run: Option<PathBuf>,
    /// In place of a run, the model before tuning: a folder or a hub's id
    #[arg(long, value_name = "DIR|ID", requires = "post")]
    pre: Option<String>,
    /// What was tuned from it: a model folder, an adapter, a run folder or a hub's id
    #[arg(long, value_name = "DIR|ID", requires = "pre")]
    post: Option<String>,
    /// What is asked: a task and its file, as `finetune eval` takes them; may be repeated
    #[arg(long, value_name = "TASK=FILE", requires = "pre", conflicts_with = "recipe")]
    suite: Vec<String>,
    /// A recipe whose `[eval]` is asked
    #[arg(long, value_name = "RECIPE", requires = "pre")]
    recipe: Option<String>,
    /// Points from λ = −0.5 to 1.5, and of each direction from α = −0.5 to 0.5
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = RangedU64ValueParser::<usize>::new().range(3..=1001))]
    points: usize,
    /// Random directions around each model, for VISAGE
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = RangedU64ValueParser::<usize>::new().range(0..=1000))]
    directions: usize,
    /// The model in their middle: base, tuned or a merge such as slerp:0.5; may be repeated [default: base]
    #[arg(long, value_name = "MODEL")]
    around: Vec<String>,
    /// Also ask a plane of two random directions, with N points on each side
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "11", value_parser = RangedU64ValueParser::<usize>::new().range(3..=101))]
    plane: Option<usize>,
    /// Also ask the plane of base → tuned and one random direction, with N points on each side
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "11", value_parser = RangedU64ValueParser::<usize>::new().range(3..=101))]
    across: Option<usize>,
    /// Attack success, in percent, up to which a model counts as safe in half-widths; may be repeated
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_values_t = [50.0, 10.0])]
    rate: Vec<f64>,
    /// Draws the directions
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Ask at most N items of each suite
    #[arg(long, value_name = "N", value_parser = super::at_least_one())]
    limit: Option<usize>,
    /// Set a key of the recipe, such as `eval.log_likelihood=true`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Rows that generate together; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = super::at_least_one())]
    eval_rows: Option<usize>,
    /// The folder of answers, numbers and pictures [default: RUN/landscape, runs/landscape-<post>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Send the key in this environment variable to the endpoint of this rubric; may be repeated
    #[arg(long, value_name = "RUBRIC=VARIABLE")]
    key: Vec<String>,
    /// Print landscape.json
    #[arg(long)]
    json: bool,
}

/// Asks every point, prints the numbers and writes them with their pictures.
///
/// # Errors
///
/// Whatever is wrong with the run, the models, the suites or the device.
pub fn landscape(args: &LandscapeArgs) -> Result<(), Failure> {
    let request = Request {
        points: args.points,
        directions: args.directions,
        around: args.around.clone(),
        plane: args.plane,
        across: args.across,
        rates: args.rate.clone(),
        seed: args.seed,
        limit: args.limit,
    };
    request.check()?;
    let options = Options { eval_rows: args.eval_rows, ..Options::on(args.device.parse::<DeviceSpec>()?) };
    let stop = stop_on_signals();
    let (mut progress, mut transfers) = (progress::Progress::new(), progress::Transfers::default());
    let mut watch = |event| progress.show(&event);
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    let (subject, folder) = match (&args.run, &args.pre, &args.post) {
        (Some(run), ..) => {
            let heard = (&*stop, &mut watch as &mut crate::event::Listener<'_>);
            let (mut recipe, origin) = recipe_of(run, &args.set)?;
            trust::settle(&mut recipe.eval, &args.key, &args.set)?;
            let subject = Subject::of_run(run, (recipe, origin), &request, options, heard, &mut tell)?;
            (subject, run.join("landscape"))
        }
        (None, Some(pre), Some(post)) => {
            let (text, origin) = match &args.recipe {
                Some(name) => recipe::find(name)?,
                None => (eval::recipe_of(&args.suite)?, "--suite".to_owned()),
            };
            let mut recipe = Recipe::parse(&text, &origin, &args.set)?;
            trust::settle(&mut recipe.eval, &args.key, &args.set)?;
            let sources = Sources::new(&origin, args.out.as_deref(), &mut tell);
            let subject = Subject::of_pair((pre, post), recipe, &request, &origin, &options, sources)?;
            let name = Path::new(post).file_name().unwrap_or_default().to_string_lossy();
            (subject, Path::new("runs").join(format!("landscape-{name}")))
        }
        _ => unreachable!("clap requires a run, or `--pre` with `--post`"),
    };
    let folder = args.out.clone().unwrap_or(folder);
    progress::say(&format!("folder {}", folder.display()));
    let mut watch = |event| progress.show(&event);
    let found = scan(subject, &request, &folder, &stop, &mut watch)?;
    args.run.as_deref().map(pages::redraw).transpose()?;
    print(&match args.json {
        true => serde_json::to_string_pretty(&found).expect("a landscape is plain data"),
        false => terminal(&found, progress::width()),
    });
    progress::say(&format!("page {}", folder.join("landscape.md").display()));
    Ok(())
}
