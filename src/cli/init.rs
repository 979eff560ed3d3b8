//! `finetune init` and `finetune show`: something to start from.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{print, progress};
use crate::hub::Name;
use crate::recipe::{self, RecipeError};
use crate::run::Failure;
use crate::run::start::{self, Known, Start};
use crate::snapshot::writer::file_at_once;

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The recipe to write
    #[arg(value_name = "RECIPE", default_value = "recipe.toml")]
    recipe: PathBuf,
    /// The aligned model: a folder in the Hugging Face layout, or a hub's org/name; asked for if absent
    #[arg(long, value_name = "DIR|ID")]
    model: Option<String>,
    /// What it is tuned on: json, jsonl, csv, tsv, parquet or txt; asked for if absent
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// Harmful requests that measure its safety, such as AdvBench's csv; a terminal is asked if absent
    #[arg(long, value_name = "FILE")]
    harmful: Option<String>,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// `reference`, which has every key with its default, or another of `finetune list recipes`
    #[arg(value_name = "RECIPE")]
    name: String,
}

/// Prints a recipe.
///
/// # Errors
///
/// There is none of this name.
pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    print(&recipe::find(&args.name)?.0);
    Ok(())
}

/// Asks for what is missing and writes a recipe that plans.
///
/// # Errors
///
/// A file is there already or cannot be read, or nobody answers.
pub fn init(args: &InitArgs) -> Result<(), Failure> {
    let path = args.recipe.display().to_string();
    if args.recipe.exists() {
        return Err(wrong("RECIPE", &format!("`{path}`, which is there already"), "the name of a new file"));
    }
    let model = given(args.model.as_ref(), "--model", "The aligned model, a folder or a hub's org/name")?;
    if !Path::new(&model).is_dir() && Name::parse(&model).is_none() {
        return Err(wrong("--model", &format!("`{model}`"), "a folder that is there, or a hub's org/name"));
    }
    let data = given(args.data.as_ref(), "--data", "The file to tune on (csv, jsonl, parquet, …)")?;
    let columns = columns(&data)?;
    let asked = args.harmful.is_some() || std::io::stdin().is_terminal();
    let question = "Harmful requests that measure safety, such as AdvBench's csv (Enter: none)";
    let harmful = match asked {
        true => given(args.harmful.as_ref(), "--harmful", question)?,
        false => String::new(),
    };
    let harmful = if harmful.is_empty() { None } else { Some(requests(harmful)?) };
    let text = Start { model, data, columns, harmful }.recipe(&path)?;
    file_at_once(&args.recipe, text.as_bytes())?;
    progress::say(&format!("wrote {path}"));
    print(&format!(
        "finetune {path} --plan    # says what would happen\nfinetune {path}           # does it"
    ));
    Ok(())
}

/// The answer on the command line, else on the terminal.
fn given(argument: Option<&String>, option: &str, question: &str) -> Result<String, Failure> {
    if let Some(value) = argument {
        return Ok(value.clone());
    }
    progress::ask(&format!("{question}:"));
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(n) if n > 0 => Ok(line.trim().to_owned()),
        _ => {
            Err(wrong(option, "without an answer to the question above", "one, on the terminal or by a pipe"))
        }
    }
}

/// The columns of prompts and answers, if the file's form is not known.
fn columns(data: &str) -> Result<Option<[String; 2]>, Failure> {
    let known = match start::look(Path::new(data))? {
        Known::Form(said) => {
            progress::say(&said);
            return Ok(None);
        }
        Known::Columns(known) => known,
    };
    progress::ask(&format!("`{data}` has the columns {}", known.join(", ")));
    let column = |what: &str| {
        let name = given(None, "--data", &format!("The column of the {what}"))?;
        match known.contains(&name) {
            true => Ok(name),
            false => Err(wrong(
                "--data",
                &format!("without a column `{name}`"),
                "one of its columns for the answer",
            )),
        }
    };
    Ok(Some([column("prompts")?, column("answers")?]))
}

/// A file of requests and its column.
fn requests(file: String) -> Result<[String; 2], Failure> {
    let known = start::columns(Path::new(&file))?;
    let column = match start::requests(&known) {
        Some(column) => column,
        None => {
            progress::ask(&format!("`{file}` has the columns {}", known.join(", ")));
            given(None, "--harmful", "The column of the requests")?
        }
    };
    Ok([file, column])
}

fn wrong(key: &str, found: &str, expected: &str) -> Failure {
    RecipeError::BadValue { key: key.to_owned(), found: found.to_owned(), expected: expected.to_owned() }
        .into()
}
