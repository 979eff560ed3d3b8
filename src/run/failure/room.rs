//! What finds no room, in a model or in memory.

use miette::Diagnostic;
use thiserror::Error;

/// Why prompts or samples cannot be computed.
#[derive(Debug, Error, Diagnostic)]
pub enum RoomError {
    #[error(
        "{whose} is longer than {stretch} times the model's {window} positions (max_position_embeddings): it has {tokens} tokens"
    )]
    #[diagnostic(code(run::beyond_the_window), help("{cure}, or take a model with a longer window"))]
    Window { whose: String, tokens: usize, window: usize, stretch: usize, cure: &'static str },
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
        "the weights and what penalties keep beside them take at least {} of memory, and {} are free",
        gigabytes(*needed),
        gigabytes(*free)
    )]
    #[diagnostic(
        code(run::penalties_too_large),
        help(
            "{} are the penalties': adapt fewer matrices (`method.targets`) under `objective.asft`, or tune by LoRA under \
             `objective.kl`",
            gigabytes(*penalties)
        )
    )]
    Penalties { penalties: u64, needed: u64, free: u64 },
    #[error(
        "attention over {tokens} tokens, {whose}, takes at least {} of memory, and {} are free",
        gigabytes(*needed),
        gigabytes(*free)
    )]
    #[diagnostic(code(run::no_memory), help("{cure}, or take a smaller model"))]
    Memory { whose: String, tokens: usize, needed: u64, free: u64, cure: &'static str },
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
