//! The snapshot's tokenizer: text to ids and back, and which ids begin, end and pad.
//!
//! `tokenizer.json` does the work. The names of the special tokens come from `tokenizer_config.json`
//! or `special_tokens_map.json`, the ids at which the model stops from `generation_config.json`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde_json::Value;
use thiserror::Error;
use tokenizers::models::ModelWrapper;

/// The file that does the work.
pub const FILE: &str = "tokenizer.json";
/// No tokenizer file of a published model is near this size; 256,000 words make about 35 MB.
const MAX_BYTES: u64 = 512 << 20;

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

/// One token of a text and the bytes of the text it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub id: u32,
    pub start: usize,
    pub end: usize,
}

/// A tokenizer with the special tokens of its model.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<(u32, String)>,
    eos: Option<(u32, String)>,
    pad: Option<u32>,
    special: HashSet<u32>,
    stops: Vec<u32>,
    adds_bos: bool,
    /// Its file would have drawn other pieces of a text each time.
    drew_pieces: bool,
}

impl Tokenizer {
    /// Reads the tokenizer of a model folder. Only `tokenizer.json` is required.
    ///
    /// # Errors
    ///
    /// A file is missing, too large or malformed, or names a token that the vocabulary lacks.
    pub fn load(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join(FILE);
        let Some(bytes) = read(&path)? else { return Err(TokenizerError::Missing { path }) };
        let mut tokenizer = Self::new(parse(&path, &bytes)?);
        drop(bytes);
        let config = JsonFile::read(folder, "tokenizer_config.json")?;
        let map = JsonFile::read(folder, "special_tokens_map.json")?;
        let generation = JsonFile::read(folder, "generation_config.json")?;
        let model = JsonFile::read(folder, "config.json")?;
        tokenizer.name_specials(&[config, map])?;
        tokenizer.number_specials(&[generation, model])?;
        Ok(tokenizer)
    }

    /// The `tokenizer.json` of a model folder and where it lies.
    pub(super) fn file(folder: &Path) -> Result<(PathBuf, Value), TokenizerError> {
        let path = folder.join(FILE);
        match JsonFile::read(folder, FILE)? {
            Some(file) => Ok((path, file.value)),
            None => Err(TokenizerError::Missing { path }),
        }
    }

    /// The tokenizer in `bytes` with the special tokens of `other`, whose ids it must share.
    pub(super) fn with_specials_of(other: &Self, path: &Path, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let Self { inner, .. } = Self::new(parse(path, bytes)?);
        Ok(Self { inner, ..other.clone() })
    }

    /// A tokenizer without special tokens, as it is made in code.
    pub fn new(mut inner: tokenizers::Tokenizer) -> Self {
        // A length limit or padding stored in the file would cut or lengthen samples silently.
        inner.with_padding(None);
        inner.with_truncation(None).expect("taking a truncation away cannot fail");
        // Provilkov et al., "BPE-Dropout", 2020, arXiv 1910.13267: one recipe would make other samples each time.
        let drawing = match inner.get_model() {
            ModelWrapper::BPE(model) if model.dropout.is_some() => Some(model.clone()),
            _ => None,
        };
        let drew_pieces = drawing.is_some();
        if let Some(mut model) = drawing {
            model.dropout = None;
            inner.with_model(model);
        }
        let special = inner.get_added_tokens_decoder();
        let special = special.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        Self {
            inner,
            bos: None,
            eos: None,
            pad: None,
            special,
            stops: Vec::new(),
            adds_bos: false,
            drew_pieces,
        }
    }

    /// The same tokenizer with these tokens for beginning and end, where the vocabulary has them.
    #[must_use]
    pub fn with_specials(mut self, bos: Option<&str>, eos: Option<&str>) -> Self {
        self.bos = bos.and_then(|text| Some((self.id_of(text)?, text.to_owned())));
        self.eos = eos.and_then(|text| Some((self.id_of(text)?, text.to_owned())));
        self.stops = self.eos_id().into_iter().collect();
        self.adds_bos = self.puts_bos_first();
        self
    }

    /// Bos, eos and pad by their text: the first file that has a word for it wins.
    fn name_specials(&mut self, files: &[Option<JsonFile>]) -> Result<(), TokenizerError> {
        let find = |key: &'static str, needed: bool| -> Result<Option<(u32, String)>, TokenizerError> {
            for file in files.iter().flatten() {
                let Some(text) = file.token(key)? else { continue };
                match self.id_of(&text) {
                    Some(id) => return Ok(Some((id, text))),
                    None if needed => {
                        return Err(TokenizerError::UnknownToken {
                            path: file.path.clone(),
                            key,
                            token: text,
                        });
                    }
                    None => {}
                }
            }
            Ok(None)
        };
        let (bos, eos) = (find("bos_token", true)?, find("eos_token", true)?);
        let pad = find("pad_token", false)?;
        (self.bos, self.eos, self.pad) = (bos, eos, pad.map(|(id, _)| id));
        Ok(())
    }

    /// What the tokenizer's own files leave open comes from the ids in the model's files.
    fn number_specials(&mut self, files: &[Option<JsonFile>]) -> Result<(), TokenizerError> {
        let first = |key: &'static str| -> Result<Vec<u32>, TokenizerError> {
            for file in files.iter().flatten() {
                let ids = file.ids(key)?;
                if !ids.is_empty() {
                    return Ok(ids);
                }
            }
            Ok(Vec::new())
        };
        let (bos, eos, pad) = (first("bos_token_id")?, first("eos_token_id")?, first("pad_token_id")?);
        let named = |ids: &[u32]| ids.iter().find_map(|&id| Some((id, self.token_of(id)?)));
        let (bos, first_eos) = (named(&bos), named(&eos));
        self.bos = self.bos.take().or(bos);
        self.eos = self.eos.take().or(first_eos);
        self.pad = self.pad.or(pad.first().copied());
        let stops: BTreeSet<u32> = eos.into_iter().chain(self.eos_id()).collect();
        self.stops = stops.into_iter().collect();
        self.adds_bos = self.puts_bos_first();
        Ok(())
    }

    fn puts_bos_first(&self) -> bool {
        let Some(bos) = self.bos_id() else { return false };
        self.inner.encode_fast("a", true).is_ok_and(|encoding| encoding.get_ids().first() == Some(&bos))
    }

    /// The ids of a text. Nothing is added; special tokens written out in the text are recognised.
    ///
    /// # Errors
    ///
    /// The vocabulary has no way to write the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|source| TokenizerError::Encode { bytes: text.len(), source })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The two tokens that the tokenizer itself puts around a text, as those of encoders do.
    ///
    /// # Errors
    ///
    /// It puts more or fewer there.
    pub fn ends(&self) -> Result<[u32; 2], TokenizerError> {
        let encoding = self.inner.encode_fast("", true);
        let encoding = encoding.map_err(|source| TokenizerError::Encode { bytes: 0, source })?;
        let found = encoding.get_ids();
        found.try_into().map_err(|_| TokenizerError::Ends { found: found.len() })
    }

    /// As [`Tokenizer::encode`], with the byte range of the text that each token stands for.
    ///
    /// # Errors
    ///
    /// The vocabulary has no way to write the text.
    pub fn encode_pieces(&self, text: &str) -> Result<Vec<Piece>, TokenizerError> {
        let encoding = self.inner.encode(text, false);
        let encoding = encoding.map_err(|source| TokenizerError::Encode { bytes: text.len(), source })?;
        let pairs = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(pairs.map(|(&id, &(start, end))| Piece { id, start, end }).collect())
    }

    /// The text of `ids`, with or without the special tokens among them.
    pub fn decode(&self, ids: &[u32], skip_specials: bool) -> String {
        self.inner.decode(ids, skip_specials).unwrap_or_else(|_| {
            // Only a decoder with a broken pattern fails; the bare tokens are then the best there is.
            ids.iter().filter_map(|&id| self.inner.id_to_token(id)).collect()
        })
    }

    /// The text of `ids` without the special tokens among them, but for `kept`.
    pub fn decode_with(&self, ids: &[u32], kept: &[u32]) -> String {
        if !kept.iter().any(|id| self.is_special(*id)) {
            return self.decode(ids, true);
        }
        let shown: Vec<u32> =
            ids.iter().copied().filter(|id| !self.is_special(*id) || kept.contains(id)).collect();
        self.decode(&shown, false)
    }

    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    pub fn token_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of every token by its text, added ones included.
    pub fn vocabulary(&self) -> BTreeMap<String, usize> {
        self.inner.get_vocab(true).into_iter().map(|(token, id)| (token, id as usize)).collect()
    }

    /// How many tokens there are, added ones included. Ids may have gaps and so be larger.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    pub fn bos_id(&self) -> Option<u32> {
        self.bos.as_ref().map(|(id, _)| *id)
    }

    pub fn eos_id(&self) -> Option<u32> {
        self.eos.as_ref().map(|(id, _)| *id)
    }

    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// The text of the first token, empty if there is none: what a template sees as `bos_token`.
    pub fn bos_text(&self) -> &str {
        self.bos.as_ref().map_or("", |(_, text)| text)
    }

    /// The text of the last token, empty if there is none: what a template sees as `eos_token`.
    pub fn eos_text(&self) -> &str {
        self.eos.as_ref().map_or("", |(_, text)| text)
    }

    /// The ids at which generation stops: those of `generation_config.json` and the tokenizer's eos.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stops
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Whether its file asks for BPE dropout, which is left out.
    pub fn drew_pieces(&self) -> bool {
        self.drew_pieces
    }

    /// Whether the tokenizer by itself puts bos before a text that has no template.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer, TokenizerError> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
        .map_err(|source| TokenizerError::BadJson { path: path.to_owned(), source })?;
    // The library unwraps in a few places where a file's parts do not fit together.
    let parsed = std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes));
    let parsed = parsed.unwrap_or_else(|_| Err("the tokenizers library panicked on it".into()));
    parsed.map_err(|source| TokenizerError::BadTokenizer { path: path.to_owned(), source })
}

struct JsonFile {
    path: PathBuf,
    value: Value,
}

impl JsonFile {
    fn read(folder: &Path, name: &str) -> Result<Option<Self>, TokenizerError> {
        let path = folder.join(name);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes)
            .map_err(|source| TokenizerError::BadJson { path: path.clone(), source })?;
        Ok(Some(Self { path, value }))
    }

    /// A token's text, which is a string or an object with `content`.
    fn token(&self, key: &'static str) -> Result<Option<String>, TokenizerError> {
        let value = match &self.value[key] {
            Value::Object(token) => token.get("content").unwrap_or(&Value::Null),
            value => value,
        };
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            other => Err(self.bad(key, other, "a string or an object with `content`")),
        }
    }

    /// Ids, which are one number or a list of numbers.
    fn ids(&self, key: &'static str) -> Result<Vec<u32>, TokenizerError> {
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

    fn bad(&self, key: &'static str, value: &Value, expected: &'static str) -> TokenizerError {
        let mut found: String = value.to_string().chars().take(60).collect();
        if found.len() < value.to_string().len() {
            found.push('…');
        }
        TokenizerError::BadValue { path: self.path.clone(), key, found, expected }
    }
}

/// The bytes of a file, or nothing if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let unreadable = |source| TokenizerError::Unreadable { path: path.to_owned(), source };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if size > MAX_BYTES {
        return Err(TokenizerError::TooLarge { path: path.to_owned(), found: size });
    }
    std::fs::read(path).map(Some).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The letters `a` to `e`, and three special tokens.
    fn tokenizer_json() -> Value {
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        };
        json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "a"},
            "added_tokens": [special(5, "<s>"), special(6, "</s>"), special(7, "<end>")],
            "normalizer": null, "pre_tokenizer": null, "decoder": {"type": "Fuse"},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "ab": 4}, "merges": ["a b"]}
        })
    }

    #[test]
    fn pieces_that_a_file_would_have_drawn_are_the_same_each_time() {
        let mut json = tokenizer_json();
        assert!(!Tokenizer::new(json.to_string().parse().unwrap()).drew_pieces());
        json["model"]["dropout"] = json!(0.5);
        let tokenizer = Tokenizer::new(json.to_string().parse().unwrap());
        assert!(tokenizer.drew_pieces());
        // With it one of a thousand would be in two pieces each time but once in 2^1000.
        assert_eq!(tokenizer.encode(&"ab".repeat(1000)).unwrap(), vec![4; 1000]);
    }

    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer_json().to_string()).unwrap();
        for (name, json) in files {
            std::fs::write(folder.path().join(name), json.to_string()).unwrap();
        }
        folder
    }

    fn load(files: &[(&str, Value)]) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::load(folder(files).path())
    }

    #[test]
    fn a_text_comes_back_and_nothing_is_added_cut_or_padded() {
        let tokenizer = load(&[]).unwrap();
        assert_eq!(tokenizer.encode("abcd</s>ab").unwrap(), [4, 2, 3, 6, 4]);
        assert_eq!(tokenizer.decode(&[4, 2, 3, 6, 4], false), "abcd</s>ab");
        assert_eq!(tokenizer.decode(&[4, 2, 3, 6, 4, 999], true), "abcdab");
        let pieces = tokenizer.encode_pieces("cab").unwrap();
        assert_eq!(pieces, [Piece { id: 2, start: 0, end: 1 }, Piece { id: 4, start: 1, end: 3 }]);
        assert_eq!(
            (tokenizer.vocab_size(), tokenizer.id_of("<end>"), tokenizer.token_of(4)),
            (8, Some(7), Some("ab".into()))
        );
        assert!(tokenizer.is_special(6) && !tokenizer.is_special(4));
        assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.stop_ids().len()), (None, None, 0));
    }

    #[test]
    fn special_tokens_are_strings_or_objects_and_stops_are_gathered() {
        let config =
            json!({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null});
        let generation = json!({"eos_token_id": [7, 6], "pad_token_id": 3});
        let tokenizer =
            load(&[("tokenizer_config.json", config), ("generation_config.json", generation)]).unwrap();
        assert_eq!((tokenizer.bos_id(), tokenizer.bos_text()), (Some(5), "<s>"));
        assert_eq!(
            (tokenizer.eos_id(), tokenizer.eos_text(), tokenizer.pad_id()),
            (Some(6), "</s>", Some(3))
        );
        assert_eq!(tokenizer.stop_ids(), [6, 7]);
        assert!(tokenizer.adds_bos());
    }

    #[test]
    fn what_the_tokenizer_leaves_open_comes_from_the_model() {
        let map = json!({"eos_token": {"content": "<end>"}});
        let model = json!({"bos_token_id": 5, "eos_token_id": 6});
        let tokenizer = load(&[("special_tokens_map.json", map), ("config.json", model.clone())]).unwrap();
        assert_eq!(
            (tokenizer.bos_text(), tokenizer.eos_text(), tokenizer.stop_ids()),
            ("<s>", "<end>", &[6, 7][..])
        );
        let tokenizer = load(&[("config.json", model)]).unwrap();
        assert_eq!((tokenizer.eos_text(), tokenizer.stop_ids()), ("</s>", &[6][..]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(Tokenizer::load(empty.path()), Err(TokenizerError::Missing { .. })));
        let eos = |value: Value| load(&[("tokenizer_config.json", json!({"eos_token": value}))]);
        assert!(matches!(eos(json!("nope")), Err(TokenizerError::UnknownToken { key: "eos_token", .. })));
        assert!(matches!(eos(json!(3)), Err(TokenizerError::BadValue { key: "eos_token", .. })));
        let ids = load(&[("generation_config.json", json!({"eos_token_id": [1, "x"]}))]);
        assert!(matches!(ids, Err(TokenizerError::BadValue { key: "eos_token_id", .. })));
        let folder = folder(&[]);
        std::fs::write(folder.path().join("tokenizer_config.json"), "{").unwrap();
        assert!(matches!(Tokenizer::load(folder.path()), Err(TokenizerError::BadJson { .. })));
        std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        assert!(matches!(Tokenizer::load(folder.path()), Err(TokenizerError::BadTokenizer { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_mutated_file_is_loaded_or_refused(
            edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"0129-\"{}[],:aet".to_vec())), 1..6),
        ) {
            let mut bytes = tokenizer_json().to_string().into_bytes();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("tokenizer.json"), bytes).unwrap();
            if let Ok(tokenizer) = Tokenizer::load(folder.path()) {
                let _ = tokenizer.encode("abcd").map(|ids| tokenizer.decode(&ids, false));
            }
        }
    }
}
