//! `finetune bench suite`: one model on one suite, timed and written out, beside other harnesses.

use std::convert::Infallible;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::device;
use crate::eval::Form;
use crate::generate::{self, Ask, Generator, likelihoods};
use crate::model::Decoder;
use crate::recipe::Recipe;
use crate::run::Failure;
use crate::run::questions::{self, PlannedSuite};
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;
use crate::snapshot::writer::file_at_once;

/// Which suite, and how it is asked.
#[derive(Debug, Args)]
pub struct SuiteArgs {
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

/// Asks everything once; seconds are without loading, but with the first step's set-up.
///
/// # Errors
///
/// The suite or the model's tokenizer is wrong, or a file cannot be written.
pub fn measure(args: &SuiteArgs, folder: &Path, decoder: &Decoder, rows: usize) -> Result<Value, Failure> {
    let tokenizer = Tokenizer::load(folder)?;
    let template = ChatTemplate::load(folder, &tokenizer, None).ok();
    let (task, source) = (json!(args.task), json!(args.source.display().to_string()));
    let keys = args.key.join("\n");
    let text = format!(
        "schema = 1\nname = \"bench\"\n[model]\nsource = \"none\"\n[data]\nsource = \"none\"\n[[eval.suites]]\ntask = {task}\nsource = {source}\n{keys}\n"
    );
    let recipe = Recipe::parse(&text, "bench", &[])?;
    let mut suites = questions::alone(&recipe, &tokenizer, template.as_ref(), decoder.shape.max_positions)?;
    let mut suite = suites.pop().expect("the recipe has one suite");
    if let Some(n) = args.first {
        suite.items.truncate(n);
        suite.prompts.truncate(n);
        suite.questions.truncate(n);
        suite.texts.truncate(n);
    }
    if let Some(path) = &args.prompts_out {
        let lines: String = suite.prompts.iter().map(|ids| format!("{}\n", json!(ids))).collect();
        file_at_once(path, lines.as_bytes())?;
    }
    let started = Instant::now();
    let mut found = vec![Value::Null; suite.items.len()];
    let n_tokens = match suite.suite.task.form {
        Form::Answer => answers(&suite, decoder, &tokenizer, rows, &mut found),
        Form::Choose => choices(&suite, decoder, args.micro_tokens, &mut found),
        Form::Read => texts(&suite, decoder, args.micro_tokens, &mut found),
    };
    let seconds = started.elapsed().as_secs_f64();
    if let Some(path) = &args.out {
        let mut lines = String::new();
        for (item, found) in suite.items.iter().zip(&found) {
            let _ = writeln!(lines, "{}", json!({ "id": item.id, "found": found }));
        }
        file_at_once(path, lines.as_bytes())?;
    }
    Ok(json!({
        "program": format!("finetune {}", env!("CARGO_PKG_VERSION")),
        "task": args.task,
        "items": suite.items.len(),
        "rows": rows,
        "seconds": seconds,
        "tokens": n_tokens,
        "peak_rss_bytes": device::peak_memory(),
    }))
}

fn answers(
    suite: &PlannedSuite,
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    rows: usize,
    found: &mut [Value],
) -> usize {
    let asks: Vec<Ask<'_>> = suite.prompts.iter().map(|ids| Ask::once(ids)).collect();
    let decode = |ids: &[u32]| tokenizer.decode(ids, true);
    let generator = Generator { decoder, decode: &decode, rows };
    let mut n_tokens = 0;
    let Ok(()) = generator.complete::<Infallible>(&asks, &suite.decoding, |batch| {
        for (i, said) in batch {
            n_tokens += said.ids.len();
            found[i] = json!({ "ids": said.ids, "text": said.text, "ended": said.finish });
        }
        Ok(())
    });
    n_tokens
}

fn choices(suite: &PlannedSuite, decoder: &Decoder, micro_tokens: usize, found: &mut [Value]) -> usize {
    let mut n_tokens = 0;
    let Ok(()) = generate::choices::<Infallible>(decoder, &suite.questions, micro_tokens, |batch| {
        for (i, options) in batch {
            n_tokens += options.iter().map(|option| option.n_tokens).sum::<usize>();
            found[i] = json!(options.iter().map(|option| option.sum).collect::<Vec<f64>>());
        }
        Ok(())
    });
    n_tokens
}

fn texts(suite: &PlannedSuite, decoder: &Decoder, micro_tokens: usize, found: &mut [Value]) -> usize {
    let mut n_tokens = 0;
    for (found, windows) in found.iter_mut().zip(&suite.texts) {
        let likely = likelihoods(decoder, windows, micro_tokens);
        n_tokens += likely.iter().map(|window| window.n_tokens).sum::<usize>();
        *found = json!(likely.iter().map(|window| window.sum).sum::<f64>());
    }
    n_tokens
}
