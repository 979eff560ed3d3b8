//! What holds for every command: how much is said, and whether in colours.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::{Args, ColorChoice, ValueEnum};

/// Options of every command.
#[derive(Debug, Clone, Copy, Args)]
pub struct Manners {
    /// Say nothing but errors and the final result
    #[arg(long, global = true, help_heading = "Every command")]
    pub quiet: bool,
    /// Colours: on a terminal unless `NO_COLOR` is set, always, or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Every command")]
    pub color: Colour,
}

/// When colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    Auto,
    Always,
    Never,
}

static QUIET: AtomicBool = AtomicBool::new(false);
static COLOUR: Mutex<Colour> = Mutex::new(Colour::Auto);

impl Manners {
    /// Makes them hold from here on.
    pub fn hold(self) {
        QUIET.store(self.quiet, Ordering::Relaxed);
        hold_colour(self.color);
    }
}

/// Whether only errors and the final result are said.
pub fn quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Whether what goes to stdout has colours.
pub fn colours() -> bool {
    let asked = *COLOUR.lock().unwrap_or_else(PoisonError::into_inner);
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    has_colours(asked, unwanted, std::io::stdout().is_terminal())
}

fn has_colours(asked: Colour, unwanted: bool, is_terminal: bool) -> bool {
    match asked {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => is_terminal && !unwanted,
    }
}

/// Says when colours are written, to the parts that write errors too.
fn hold_colour(colour: Colour) {
    *COLOUR.lock().unwrap_or_else(PoisonError::into_inner) = colour;
    let coloured = match colour {
        // miette looks at the terminal and at NO_COLOR itself.
        Colour::Auto => return,
        Colour::Always => true,
        Colour::Never => false,
    };
    // A hook that is set already stays: the option is read once.
    let _ = miette::set_hook(Box::new(move |_| {
        Box::new(miette::MietteHandlerOpts::new().color(coloured).build())
    }));
}

/// What `--color` says, before anything was parsed: help and slips are coloured as well.
pub fn of_help(typed: &[OsString]) -> ColorChoice {
    let words: Vec<&str> =
        typed.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str()).collect();
    let joined = words.iter().find_map(|word| word.strip_prefix("--color="));
    let apart = words.iter().position(|word| *word == "--color").and_then(|at| words.get(at + 1).copied());
    match joined.or(apart) {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Options of every command that stand before the command are put behind it, where they are read.
pub fn behind_the_command(mut typed: Vec<OsString>) -> Vec<OsString> {
    let mut n = 0;
    while let Some(word) = typed.get(1 + n).and_then(|word| word.to_str()) {
        n += match word {
            "--quiet" => 1,
            "--color" => 2,
            _ if word.starts_with("--color=") => 1,
            _ => break,
        };
    }
    // Where an option follows, no command does.
    let is_command = typed.get(1 + n).is_some_and(|word| !word.to_string_lossy().starts_with('-'));
    if n > 0 && is_command {
        typed[1..=1 + n].rotate_left(n);
    }
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn options_of_every_command_may_stand_before_it() {
        for (line, expected) in [
            ("finetune --quiet report run", "finetune report --quiet run"),
            ("finetune --color never --quiet diff a b", "finetune diff --color never --quiet a b"),
            ("finetune --color=always r.toml --plan", "finetune r.toml --color=always --plan"),
            ("finetune r.toml --quiet", "finetune r.toml --quiet"),
            ("finetune --quiet", "finetune --quiet"),
            ("finetune --quiet --recipe r.toml", "finetune --quiet --recipe r.toml"),
        ] {
            assert_eq!(behind_the_command(typed(line)), typed(expected), "{line}");
        }
    }

    #[test]
    fn colours_are_a_terminal_s_unless_somebody_says_otherwise() {
        assert!(has_colours(Colour::Auto, false, true));
        assert!(!has_colours(Colour::Auto, true, true) && !has_colours(Colour::Auto, false, false));
        assert!(has_colours(Colour::Always, true, false) && !has_colours(Colour::Never, false, true));
        assert_eq!(of_help(&typed("finetune --color never --help")), ColorChoice::Never);
        assert_eq!(of_help(&typed("finetune list --color=always x")), ColorChoice::Always);
        assert_eq!(of_help(&typed("finetune slurm r -- --color never")), ColorChoice::Auto);
    }
}
