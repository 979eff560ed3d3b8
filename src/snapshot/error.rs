//! Every way a model folder can be wrong.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::dtype::Dtype;

/// Why a model folder, one of its files or one of its weights cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum SnapshotError {
    #[error("there is no model folder `{}`", folder.display())]
    #[diagnostic(code(snapshot::no_folder), help("give a folder with `config.json` and `model.safetensors`"))]
    NoFolder { folder: PathBuf },
    #[error("`{}` is missing", path.display())]
    #[diagnostic(code(snapshot::missing_file), help("{help}"))]
    MissingFile { path: PathBuf, help: &'static str },
    #[error("cannot read `{}`", path.display())]
    #[diagnostic(code(snapshot::unreadable), help("check that the file is there and may be read"))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` is a link to `{}`, outside of its folder, and would be copied into what is written", path.display(), target.display())]
    #[diagnostic(
        code(snapshot::astray),
        help("if that file is meant, put a copy in the link's place: `cp --remove-destination TARGET LINK`")
    )]
    Astray { path: PathBuf, target: PathBuf },
    #[error("cannot write `{}`", path.display())]
    #[diagnostic(code(snapshot::unwritable), help("check the folder's rights and the space on its disk"))]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("`{}` needs {needed} MB on a disk that has {free} MB left", path.display())]
    #[diagnostic(
        code(snapshot::no_space),
        help("make room or name a folder on another disk; nothing was written")
    )]
    NoSpace { path: PathBuf, needed: u64, free: u64 },
    #[error("`{}` is not valid JSON", path.display())]
    #[diagnostic(code(snapshot::bad_json), help("fetch the file again; it may have been cut off"))]
    BadJson { path: PathBuf, source: serde_json::Error },
    #[error("`{key}` in `{}` is {found}, expected {expected}", path.display())]
    #[diagnostic(code(snapshot::bad_config), help("{help}"))]
    BadConfig { path: PathBuf, key: String, found: String, expected: String, help: String },
    #[error("`{}` is not a whole safetensors file: {why}", path.display())]
    #[diagnostic(code(snapshot::bad_safetensors), help("fetch the file again; it may have been cut off"))]
    BadSafetensors { path: PathBuf, why: String },
    #[error("shard `{shard}` of `{}` is not a file name in the same folder", path.display())]
    #[diagnostic(code(snapshot::bad_shard_name), help("an index may only name files that lie beside it"))]
    BadShardName { path: PathBuf, shard: String },
    #[error("weight `{name}` is listed for `{listed}` in the index but {found}")]
    #[diagnostic(
        code(snapshot::index_mismatch),
        help("fetch `model.safetensors.index.json` and the shards again, together")
    )]
    IndexMismatch { name: String, listed: String, found: String },
    #[error("weight `{name}` is stored as {found}, expected F32, F16 or BF16")]
    #[diagnostic(code(snapshot::bad_dtype), help("{}", readable(name, found)))]
    BadDtype { name: String, found: String },
    #[error("weight `{name}` of {place} has {n} numbers that are NaN or infinite")]
    #[diagnostic(
        code(snapshot::not_finite),
        help("a model that diverged cannot be merged; take an earlier checkpoint")
    )]
    NotFinite { name: String, place: String, n: usize },
    #[error("weight `{name}` has numbers that {dtype} cannot hold")]
    #[diagnostic(code(snapshot::too_large), help("write it as bf16 or f32, with `{option}`"))]
    TooLarge { name: String, dtype: Dtype, option: &'static str },
    #[error(
        "the adapter changes `{module}`, which this base shares with its embedding (`tie_word_embeddings`)"
    )]
    #[diagnostic(
        code(snapshot::tied_head),
        help(
            "give the base a head of its own first (`tie_word_embeddings: false` and a copy of the embedding as `lm_head.weight`), or train without `lm_head` among the targets"
        )
    )]
    TiedHead { module: String },
    #[error("weight `{name}` is missing from `{place}`")]
    #[diagnostic(code(snapshot::missing_weight), help("{help}"))]
    MissingWeight { name: String, place: String, help: String },
    #[error("weight `{name}` in `{place}` is not part of a `{family}` model of this configuration")]
    #[diagnostic(code(snapshot::unexpected_weight), help("{help}"))]
    UnexpectedWeight { name: String, place: String, family: String, help: &'static str },
    #[error("weight `{name}` in `{place}` has shape {found:?}, expected {expected:?}")]
    #[diagnostic(code(snapshot::bad_shape), help("does `config.json` belong to these weights?"))]
    BadShape { name: String, place: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("weight `{name}` has shape {found:?} in {place} but {expected:?} in {base}")]
    #[diagnostic(
        code(snapshot::other_shape),
        help("merge models of one family and size; does one have added tokens?")
    )]
    OtherShape { name: String, place: String, found: Vec<usize>, expected: Vec<usize>, base: String },
    #[error("stopped on request")]
    #[diagnostic(code(snapshot::stopped), help("the same command goes on from there"))]
    Stopped,
    #[error("the adapter changes weight `{name}` as {found:?}, and in the base it is {expected:?}")]
    #[diagnostic(code(snapshot::adapter_shape), help("the adapter was trained on another model"))]
    AdapterShape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("the tokenizer of {place} names token {token}, and `{name}` has {n_rows} rows there")]
    #[diagnostic(
        code(snapshot::token_without_row),
        help("give the model the `tokenizer.json` that it was saved with")
    )]
    TokenWithoutRow { name: String, place: String, token: usize, n_rows: usize },
    #[error(
        "the tokenizer of `{}` names token {token} (`{text}`), and the result has {n_rows} rows in its embedding",
        folder.display()
    )]
    #[diagnostic(
        code(snapshot::token_past_the_rows),
        help(
            "give the base that was resized for this tokenizer; or take its files out of the folder, and the result \
            gets the base's"
        )
    )]
    TokenPastTheRows { folder: PathBuf, token: usize, text: String, n_rows: usize },
    #[error("adapter `{}` cannot be used: {why}", path.display())]
    #[diagnostic(code(snapshot::bad_adapter), help("{help}"))]
    BadAdapter { path: PathBuf, why: String, help: String },
    #[error("`{}` is there already and not empty", path.display())]
    #[diagnostic(code(snapshot::target_exists), help("name a new folder; nothing was overwritten"))]
    TargetExists { path: PathBuf },
    #[error("cannot compute weight `{name}`: {why}")]
    #[diagnostic(code(snapshot::bad_weight), help("{help}"))]
    BadWeight { name: String, why: String, help: String },
}

/// How a weight of another dtype becomes one that is read.
fn readable(name: &str, found: &str) -> &'static str {
    match found {
        _ if name.ends_with("position_ids") => {
            "a table of positions that old versions of transformers saved: load the model with a current one and \
             `save_pretrained` it, which leaves it out"
        }
        "F64" => {
            "load it with transformers as `dtype=torch.float32` and `save_pretrained` it: double precision is not read"
        }
        _ if found.starts_with(['I', 'U']) || found == "BOOL" => {
            "whole numbers are those of a quantised checkpoint, which cannot be tuned or merged here; use the original one"
        }
        _ => "quantised checkpoints cannot be tuned or merged here; use the original one",
    }
}
