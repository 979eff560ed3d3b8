//! What is wrong with steering.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// Vectors cannot be fitted, or cannot be used where they are asked for.
#[derive(Debug, Error, Diagnostic)]
pub enum SteerError {
    #[error("cannot read the vectors in `{}`", path.display())]
    #[diagnostic(
        code(steer::unreadable),
        help("name the folder or the file that `finetune steer fit` wrote")
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` holds no vectors to steer by: {why}", path.display())]
    #[diagnostic(
        code(steer::no_vectors),
        help("name the folder or the file that `finetune steer fit` wrote")
    )]
    NoVectors { path: PathBuf, why: String },
    #[error(
        "the vectors in `{}` are of {} layers with {} numbers each, and `{model}` has {} with {}",
        path.display(), found[0], found[1], expected[0], expected[1]
    )]
    #[diagnostic(
        code(steer::other_model),
        help(
            "vectors serve the model that they were fitted on and those tuned or merged from it: `finetune steer fit --model {model}`"
        )
    )]
    OtherModel { path: PathBuf, found: [usize; 2], model: String, expected: [usize; 2] },
    #[error(
        "{n} of {of} prompts of suite `{suite}` are anchors of the vectors in `{vectors}`, the first is `{first}`"
    )]
    #[diagnostic(
        code(steer::leak),
        help("a test set must have no anchor in it: fit on other files, or ask other prompts")
    )]
    Leak { suite: String, vectors: String, n: usize, of: usize, first: String },
    #[error("`{file}` has {n} {kind} anchors, and at least {least} are needed")]
    #[diagnostic(
        code(steer::few_anchors),
        help(
            "anchors that say the same count once; take a longer file, or fewer with `--anchors` and `--held-out`"
        )
    )]
    FewAnchors { file: String, kind: &'static str, n: usize, least: usize },
    #[error("{n} anchors stand in two of the files, the first is `{first}`")]
    #[diagnostic(
        code(steer::shared_anchors),
        help(
            "what directions are fitted on must not set the threshold, and no anchor is both harmful and harmless"
        )
    )]
    SharedAnchors { n: usize, first: String },
    #[error("`{suffix}` adds no token of its own behind the prompt `{prompt}`")]
    #[diagnostic(code(steer::no_suffix), help("name another with `--suffix`, such as ` Sure`"))]
    NoSuffix { suffix: String, prompt: String },
    #[error("none of the words of refusals is one token of `{model}`, so no layers can be chosen by them")]
    #[diagnostic(
        code(steer::no_words),
        help("name words of its refusals with `--word`, or the layers with `--layers 10-19`")
    )]
    NoWords { model: String },
    #[error("{n} layers have no thirds to choose from")]
    #[diagnostic(code(steer::no_thirds), help("name the layers with `--layers 0-1`"))]
    NoThirds { n: usize },
    #[error("behind layer {layer} harmful and harmless anchors have the same states")]
    #[diagnostic(code(steer::no_direction), help("name other layers with `--layers`, or other anchors"))]
    NoDirection { layer: usize },
}

impl SteerError {
    /// Whether another command line or recipe is the cure, and not another file or disk.
    pub(super) fn is_request(&self) -> bool {
        !matches!(self, Self::Unreadable { .. } | Self::NoVectors { .. })
    }
}
