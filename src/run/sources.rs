//! Where the files that a recipe names are: beside the user, beside the recipe, or in this program.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::snapshot::SnapshotError;
use crate::snapshot::files::hex;
use crate::snapshot::writer::folder_at_once;

/// Why a file that a recipe names cannot be had.
#[derive(Debug, Error, Diagnostic)]
pub enum SourceError {
    #[error("`{key}` names `{name}`, which is not there")]
    #[diagnostic(code(source::not_found), help("{help}"))]
    NotFound { key: String, name: String, help: String },
    #[error("`{key}` names `{name}` on a hub, and hub ids cannot be fetched")]
    #[diagnostic(code(source::hub), help("{help}"))]
    Hub { key: String, name: String, help: String },
    #[error("cannot unpack the shipped file `{name}`")]
    #[diagnostic(
        code(source::unpack),
        help("`XDG_CACHE_HOME` or `HOME` must name a folder that can be written")
    )]
    Unpack { name: String, source: SnapshotError },
}

/// The files that shipped recipes use, compiled in.
const SHIPPED: &[(&str, &[u8])] = &[
    ("data/tiny/model/config.json", include_bytes!("../../data/tiny/model/config.json")),
    (
        "data/tiny/model/generation_config.json",
        include_bytes!("../../data/tiny/model/generation_config.json"),
    ),
    ("data/tiny/model/tokenizer.json", include_bytes!("../../data/tiny/model/tokenizer.json")),
    ("data/tiny/model/tokenizer_config.json", include_bytes!("../../data/tiny/model/tokenizer_config.json")),
    ("data/tiny/model/chat_template.jinja", include_bytes!("../../data/tiny/model/chat_template.jinja")),
    ("data/tiny/model/model.safetensors", include_bytes!("../../data/tiny/model/model.safetensors")),
    ("data/tiny/math-train.jsonl", include_bytes!("../../data/tiny/math-train.jsonl")),
    ("data/tiny/math-valid.jsonl", include_bytes!("../../data/tiny/math-valid.jsonl")),
    ("data/tiny/math-test.jsonl", include_bytes!("../../data/tiny/math-test.jsonl")),
    ("data/tiny/harmful-test.csv", include_bytes!("../../data/tiny/harmful-test.csv")),
    ("data/tiny/benign-test.csv", include_bytes!("../../data/tiny/benign-test.csv")),
];

/// Finds what `key` of a recipe names: seen from the current folder, from the recipe's, or shipped.
///
/// # Errors
///
/// It is nowhere, or is a hub id.
pub fn find(key: &str, name: &str, recipe: &str) -> Result<PathBuf, SourceError> {
    let here = PathBuf::from(name);
    if here.exists() {
        return Ok(here);
    }
    if let Some(beside) =
        Path::new(recipe).parent().map(|folder| folder.join(name)).filter(|path| path.exists())
    {
        return Ok(beside);
    }
    if SHIPPED.iter().any(|(path, _)| *path == name || path.starts_with(&format!("{name}/"))) {
        return shipped(name);
    }
    let (key, name) = (key.to_owned(), name.to_owned());
    let is_data = [".json", ".csv", ".tsv", ".parquet", ".txt"].iter().any(|end| name.contains(end));
    let looks_like_hub = name.split('/').count() == 2 && !name.starts_with(['.', '/']) && !is_data;
    if looks_like_hub {
        let help = format!("fetch it by other means and add `--set {key}=PATH`");
        return Err(SourceError::Hub { key, name, help });
    }
    let help =
        format!("paths are seen from the current folder, then from the recipe's; or add `--set {key}=PATH`");
    Err(SourceError::NotFound { key, name, help })
}

/// The shipped file or folder, unpacked once into the user's cache.
fn shipped(name: &str) -> Result<PathBuf, SourceError> {
    let mut digest = Sha256::new();
    for (path, bytes) in SHIPPED {
        digest.update(path);
        digest.update(bytes);
    }
    let digest = hex(&digest.finalize());
    let folder = cache().join("finetune").join(format!("shipped-{}", &digest[..16]));
    if !folder.is_dir() {
        let unpacked = folder_at_once::<SnapshotError>(&folder, |folder| {
            for (path, bytes) in SHIPPED {
                let path = folder.join(path);
                let write = std::fs::create_dir_all(path.parent().unwrap_or(folder))
                    .and_then(|()| std::fs::write(&path, bytes));
                write.map_err(|source| SnapshotError::Unwritable { path, source })?;
            }
            Ok(())
        });
        // Another process may have been faster.
        if let (Err(source), false) = (unpacked, folder.is_dir()) {
            return Err(SourceError::Unpack { name: name.to_owned(), source });
        }
    }
    Ok(folder.join(name))
}

/// The user's cache folder, by the XDG rules.
fn cache() -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
}
