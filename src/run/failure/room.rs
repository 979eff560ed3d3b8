//! What finds no room, in a model or in memory.

use miette::Diagnostic;
use thiserror::Error;

/// Why prompts or samples cannot be computed.
#[derive(Debug, Error, Diagnostic)]
pub enum RoomError {
    #[error(
        "{n} of {of} prompts of suite `{suite}` are longer than the model's {window} positions (max_position_embeddings): the longest, item `{item}`, has {longest} tokens"
    )]
    #[diagnostic(
        code(run::prompt_too_long),
        help(
            "take the items out of the file, ask with fewer worked examples (`shots`), or a model with a longer window"
        )
    )]
    Window { suite: String, n: usize, of: usize, item: String, longest: usize, window: usize },
    #[error(
        "{:.3} billion parameters take at least {} of memory, and {} are free",
        *parameters as f64 / 1e9,
        gigabytes(*needed),
        gigabytes(*free)
    )]
    #[diagnostic(
        code(run::model_too_large),
        help(
            "take a smaller model or a device with more memory; LoRA needs a fraction of what full tuning does"
        )
    )]
    Weights { parameters: u64, needed: u64, free: u64 },
    #[error(
        "attention over {tokens} tokens, {whose}, takes at least {} of memory, and {} are free",
        gigabytes(*needed),
        gigabytes(*free)
    )]
    #[diagnostic(code(run::no_memory), help("{cure}"))]
    Memory { whose: String, tokens: usize, needed: u64, free: u64, cure: &'static str },
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
