//! The command line as it was meant: what clap refuses gets the words that would have done it.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, Error};
use clap::{CommandFactory, FromArgMatches};

use super::{Cli, manners};
use crate::recipe::slips;

/// Words that other programs begin a training with.
const STARTS: [&str; 6] = ["run", "train", "sft", "start", "finetune", "study"];

/// Options of other programs that are ours by another name.
const OPTIONS: [(&[&str], &str); 5] = [
    (&["config", "cfg", "file", "yaml"], "the recipe stands without an option: `finetune RECIPE`"),
    (&["output", "output-dir", "out-dir", "save-dir"], "`--out DIR` is the run folder"),
    (&["dry-run", "check"], "`--plan` says what would happen, and starts nothing"),
    (&["gpu", "cuda", "cpu"], "`--device cpu`, `--device cuda:0` and `--device webgpu` choose the device"),
    (
        &["resume", "resume-from-checkpoint", "continue"],
        "the same command again goes on where it was stopped",
    ),
];

/// Parses what was typed; ends the process with help or an explanation otherwise.
pub fn parse() -> Cli {
    let typed = manners::behind_the_command(std::env::args_os().collect());
    let command = Cli::command().color(manners::of_help(&typed));
    let found = command.try_get_matches_from(&typed).and_then(|found| Cli::from_arg_matches(&found));
    match found {
        Ok(cli) => cli,
        Err(mut error) => {
            if let Some(hint) = hint(&error, &typed) {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
            }
            error.exit()
        }
    }
}

/// What was meant by the argument that clap does not know.
fn hint(error: &Error, typed: &[OsString]) -> Option<String> {
    let first = typed.get(1)?.to_str()?;
    if STARTS.contains(&first) {
        return Some(format!(
            "there is no `{first}`: the command is `finetune RECIPE`, such as `finetune r.toml`"
        ));
    }
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else { return None };
    let word = wrong.strip_prefix("--")?.split('=').next()?;
    let known = OPTIONS.iter().find(|(names, _)| names.contains(&word));
    known.map(|(_, ours)| (*ours).to_owned()).or_else(|| {
        let key = slips::key(&word.replace('-', "_"))?;
        Some(format!("`--set {key}=VALUE` sets it, as in the recipe"))
    })
}

/// What is meant by a recipe's name that is none.
pub fn start_hint(name: &str) -> Option<String> {
    STARTS.contains(&name).then(|| "the command is `finetune RECIPE`, such as `finetune r.toml`".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn hint_of(line: &str) -> Option<String> {
        let typed: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Cli::try_parse_from(&typed).expect_err(line);
        hint(&error, &typed)
    }

    #[test]
    fn what_other_programs_call_it_is_told_by_our_name() {
        for (line, part) in [
            ("finetune r.toml --lr 1e-4", "`--set train.learning_rate=VALUE`"),
            ("finetune r.toml --seed 7", "`--set train.seed=VALUE`"),
            ("finetune r.toml --model m", "`--set model.source=VALUE`"),
            ("finetune r.toml --data d", "`--set data.source=VALUE`"),
            ("finetune r.toml --lora-rank 8", "`--set method.rank=VALUE`"),
            ("finetune r.toml --num_train_epochs=3", "`--set train.epochs=VALUE`"),
            ("finetune r.toml --output-dir x", "`--out DIR`"),
            ("finetune --config r.toml", "`finetune RECIPE`"),
            ("finetune run r.toml", "there is no `run`"),
            ("finetune train --recipe r.toml", "there is no `train`"),
        ] {
            let hint = hint_of(line).unwrap_or_default();
            assert!(hint.contains(part), "{line}: {hint}");
        }
        assert_eq!(hint_of("finetune r.toml --nonsense"), None);
    }
}
