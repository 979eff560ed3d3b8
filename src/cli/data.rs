//! `finetune data`: files of data looked at and made.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{at_least_one, print, progress, stop_on_signals};
use crate::data::{Mixed, mix_file};
use crate::device::DeviceSpec;
use crate::hub::Transfer;
use crate::recipe::{EndRule, Fields, Form, REFUSAL, RefusalMix, Refused, RubricJudge, Turn};
use crate::run::audit::{self, Asked};
use crate::run::plan::sources::Sources;
use crate::run::{Failure, Options};
use crate::snapshot::writer::file_at_once;

/// What is done with data.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Write a file with a few refused benign requests mixed in, for training elsewhere; images stay as they are
    Mix(MixArgs),
    /// Label the requests of a file by where their harm lies (EHD, IHD, MHD, NONE), and count them
    #[command(
        override_usage = "finetune data audit FILE --classify --judge DIR|ID\n       finetune data audit FILE --classify --judge NAME --endpoint URL"
    )]
    Audit(AuditArgs),
}

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The file: conversations in any form that recipes read, or with `--field` a table of requests
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Ask a judge about every request: explicit harm (EHD), harm in the intent (IHD), both (MHD) or NONE
    #[arg(long, required = true)]
    classify: bool,
    /// Who labels: a model folder or hub id, or with `--endpoint` the model's name there
    #[arg(long, value_name = "MODEL")]
    judge: String,
    /// The base URL of an OpenAI-compatible chat endpoint
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The environment variable that holds the endpoint's key
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    key_variable: Option<String>,
    /// The most tokens of a reply, thinking included [default: 32, and room for thinking at an endpoint]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<std::num::NonZeroUsize>,
    /// The endpoint's model thinks before it answers: send `max_completion_tokens` and no temperature
    #[arg(long, requires = "endpoint")]
    reasoning: bool,
    /// The field with the request, of a table of requests
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Ask about at most so many requests, drawn by the seed
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    limit: Option<usize>,
    /// Draws them
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many records of general data the file is for [default: its requests labelled NONE]
    #[arg(long, value_name = "N")]
    general: Option<usize>,
    /// The folder of labels and counts [default: runs/audit-<file>-<digest>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// auto, cpu, cuda[:i] or webgpu[:i]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Rows that generate together; changes speed and memory, not the result
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    eval_rows: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct MixArgs {
    /// The training data: a JSON array or JSON lines, in LLaVA's form or any other that recipes read
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Benign requests of another domain, some of which are refused; may be repeated, and should be
    #[arg(long, value_name = "FILE", required = true)]
    refuse: Vec<String>,
    /// Refusals for each record of the training data, drawn evenly from the files [default: 0.03]
    #[arg(long, value_name = "X", conflicts_with = "count")]
    ratio: Option<f64>,
    /// How many requests are refused: once for each `--refuse`, in their order
    #[arg(long, value_name = "N")]
    count: Vec<usize>,
    /// Keep only so many records of the training data, drawn by the seed
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The reply, to the letter
    #[arg(long, value_name = "TEXT", default_value = REFUSAL)]
    reply: String,
    /// Which reply of a conversation becomes the refusal; what follows it is left out
    #[arg(long, value_enum, default_value_t = Turn::Last)]
    turn: Turn,
    /// Draws records, turns and their order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Does it.
///
/// # Errors
///
/// Whatever is wrong with the files or the numbers.
pub fn data(what: &What) -> Result<(), Failure> {
    match what {
        What::Mix(args) => mix(args),
        What::Audit(args) => audit(args),
    }
}

fn mix(args: &MixArgs) -> Result<(), Failure> {
    if !args.count.is_empty() && args.count.len() != args.refuse.len() {
        return Err(crate::recipe::RecipeError::BadValue {
            key: "--count".to_owned(),
            found: format!("given {} times", args.count.len()),
            expected: format!("once for each `--refuse`, {} in all", args.refuse.len()),
        }
        .into());
    }
    let source = |(i, source): (usize, &String)| Refused {
        source: source.clone(),
        format: Form::Auto,
        fields: Fields::new(),
        count: args.count.get(i).copied(),
    };
    let mix = RefusalMix {
        sources: args.refuse.iter().enumerate().map(source).collect(),
        ratio: args.ratio,
        reply: args.reply.clone(),
        turn: args.turn,
        mask_eos: true,
        rule: EndRule::Chat,
        seed: None,
    };
    mix.check("--")?;
    let Mixed { text, n_plain, n_refused, said } = mix_file(&args.file, args.limit, &mix, args.seed)?;
    file_at_once(&args.out, text.as_bytes())?;
    for sentence in &said {
        progress::say(sentence);
    }
    progress::say(
        "the end of the refusal is the training's to keep out of the loss: the authors' code has it in LLaVA",
    );
    progress::say(
        "measure over-refusal afterwards: refusals spread within the domain that they are taken from",
    );
    print(&format!("{} of {} records are refused: {}", n_refused, n_plain + n_refused, args.out.display()));
    Ok(())
}

fn audit(args: &AuditArgs) -> Result<(), Failure> {
    let asked = Asked {
        file: args.file.clone(),
        field: args.field.clone(),
        limit: args.limit,
        seed: args.seed,
        general: args.general,
        judge: RubricJudge {
            rubric: String::new(),
            model: args.judge.clone(),
            endpoint: args.endpoint.clone(),
            key_variable: args.key_variable.clone(),
            max_new_tokens: args.max_new_tokens.map(Into::into),
            reasoning: args.reasoning,
        },
    };
    let options = Options {
        out: args.out.clone(),
        eval_rows: args.eval_rows,
        ..Options::on(args.device.parse::<DeviceSpec>()?)
    };
    let stop = stop_on_signals();
    let (mut progress, mut transfers) = (progress::Progress::new(), progress::Transfers::default());
    let mut watch = |event| progress.show(&event);
    let mut tell = |transfer: Transfer<'_>| transfers.show(transfer);
    let sources = Sources::new("--judge", None, &mut tell);
    let (found, folder) = audit::audit(&asked, &options, &stop, &mut watch, sources)?;
    print(&match args.json {
        true => serde_json::to_string_pretty(&found).expect("an audit is plain data"),
        false => found.terminal(progress::width()),
    });
    progress::say(&format!("labels {}", folder.join("labels.jsonl").display()));
    Ok(())
}
