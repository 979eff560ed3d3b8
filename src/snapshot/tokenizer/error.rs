//! Every way a tokenizer's files can be wrong.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// No tokenizer file of a published model is near this size; 256,000 words make about 35 MB.
pub(super) const MAX_BYTES: u64 = 512 << 20;

/// Why a tokenizer cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum TokenizerError {
    #[error("`{}` is missing", path.display())]
    #[diagnostic(
        code(tokenizer::missing),
        help(
            "a model folder needs `tokenizer.json`; save the tokenizer with transformers' `save_pretrained` to make one"
        )
    )]
    Missing { path: PathBuf },
    #[error("cannot read `{}`", path.display())]
    #[diagnostic(code(tokenizer::unreadable), help("check that the file is there and may be read"))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` is {found} bytes long, expected at most {MAX_BYTES}", path.display())]
    #[diagnostic(code(tokenizer::too_large), help("is this a tokenizer file? Fetch it again"))]
    TooLarge { path: PathBuf, found: u64 },
    #[error("the {part} of `{}` can make a text {times:e} times as long, expected at most {} times", path.display(), super::growth::MOST)]
    #[diagnostic(code(tokenizer::grows), help("compare the file with the one the model was published with"))]
    Grows { path: PathBuf, part: &'static str, times: f64 },
    #[error("`{}` is not valid JSON", path.display())]
    #[diagnostic(code(tokenizer::bad_json), help("fetch the file again; it may have been cut off"))]
    BadJson { path: PathBuf, source: serde_json::Error },
    #[error("`{}` does not describe a tokenizer", path.display())]
    #[diagnostic(
        code(tokenizer::bad_tokenizer),
        help("fetch the file again; it may have been cut off or made by a newer program")
    )]
    BadTokenizer { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{key}` in `{}` is {found}, expected {expected}", path.display())]
    #[diagnostic(
        code(tokenizer::bad_value),
        help("compare the file with the one the model was published with")
    )]
    BadValue { path: PathBuf, key: &'static str, found: String, expected: &'static str },
    #[error("`{key}` in `{}` is `{token}`, which the vocabulary does not have", path.display())]
    #[diagnostic(
        code(tokenizer::unknown_token),
        help("do both files belong to this model? Fetch `tokenizer.json` again")
    )]
    UnknownToken { path: PathBuf, key: &'static str, token: String },
    #[error("`{}` has {found} special tokens, at most {most} can be kept apart from what others write", path.display())]
    #[diagnostic(
        code(tokenizer::many_specials),
        help("is this the tokenizer that the judge was published with?")
    )]
    ManySpecials { path: PathBuf, found: usize, most: usize },
    #[error("`{}` gives the added token `{token}` another id than it is written with", path.display())]
    #[diagnostic(
        code(tokenizer::not_grown),
        help("the ids of its tokens have gaps that it does not keep: take a base whose tokenizer has none")
    )]
    NotGrown { path: PathBuf, token: String },
    #[error("the tokenizer puts {found} tokens around a text, expected 2")]
    #[diagnostic(code(tokenizer::ends), help("is this the tokenizer of an encoder, such as RoBERTa?"))]
    Ends { found: usize },
    #[error("the tokenizer cannot encode a text of {bytes} bytes")]
    #[diagnostic(
        code(tokenizer::encode),
        help("does the vocabulary have an unknown token, or all 256 bytes?")
    )]
    Encode { bytes: usize, source: Box<dyn std::error::Error + Send + Sync> },
}
