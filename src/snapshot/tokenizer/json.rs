//! The JSON files of a tokenizer, read within bounds.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::files::without_mark;
use super::error::{MAX_BYTES, TokenizerError};
use super::growth::{MOST, growth};
use crate::folders;

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let bytes = without_mark(bytes);
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
        .map_err(|source| TokenizerError::BadJson { path: path.to_owned(), source })?;
    let parsed = caught(|| {
        let parsed = tokenizers::Tokenizer::from_bytes(bytes)?;
        // What it puts around a text is only looked for when there is one.
        parsed.encode_fast("", true).map(|_| parsed)
    });
    let parsed = parsed.map_err(|source| TokenizerError::BadTokenizer { path: path.to_owned(), source })?;
    let parts = [("normalizer", json!(parsed.get_normalizer())), ("decoder", json!(parsed.get_decoder()))];
    for (part, written) in parts {
        let times = growth(&written);
        if times > MOST {
            return Err(TokenizerError::Grows { path: path.to_owned(), part, times });
        }
    }
    Ok(parsed)
}

/// The library unwraps in a few places where a file's parts do not fit together: a template that names a token it does
/// not describe, for one.
pub(super) fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    caught.unwrap_or_else(|_| Err("the tokenizers library panicked on it".into()))
}

/// A file and where it lies.
pub(super) struct JsonFile {
    pub path: PathBuf,
    pub value: Value,
}

impl JsonFile {
    pub fn read(folder: &Path, name: &str) -> Result<Option<Self>, TokenizerError> {
        let path = folder.join(name);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let value = serde_json::from_slice(without_mark(&bytes))
            .map_err(|source| TokenizerError::BadJson { path: path.clone(), source })?;
        Ok(Some(Self { path, value }))
    }

    /// Ids, which are one number or a list of numbers.
    pub fn ids(&self, key: &'static str) -> Result<Vec<u32>, TokenizerError> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let expected = "an id or a list of ids";
        match &self.value[key] {
            Value::Null => Ok(Vec::new()),
            Value::Array(values) => {
                let ids = values.iter().map(|value| id(value).ok_or_else(|| self.bad(key, value, expected)));
                ids.collect()
            }
            // A few published files write -1 for "none".
            value if value.as_i64() == Some(-1) => Ok(Vec::new()),
            value => Ok(vec![id(value).ok_or_else(|| self.bad(key, value, expected))?]),
        }
    }

    pub fn bad(&self, key: &'static str, value: &Value, expected: &'static str) -> TokenizerError {
        let mut found: String = value.to_string().chars().take(60).collect();
        if found.len() < value.to_string().len() {
            found.push('…');
        }
        TokenizerError::BadValue { path: self.path.clone(), key, found, expected }
    }
}

/// The bytes of a file, or nothing if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let unreadable = |source| TokenizerError::Unreadable { path: path.to_owned(), source };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if size > MAX_BYTES {
        return Err(TokenizerError::TooLarge { path: path.to_owned(), found: size });
    }
    folders::read(path, MAX_BYTES).map(Some).map_err(unreadable)
}
