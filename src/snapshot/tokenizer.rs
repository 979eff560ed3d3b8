//! The snapshot's tokenizer: text to ids and back, and which ids begin, end and pad.
//!
//! `tokenizer.json` does the work; `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` name
//! special tokens, give them flags and may add some, as transformers reads them (`named`). The ids at which the
//! model stops come from `generation_config.json`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenizers::AddedToken;
use tokenizers::models::ModelWrapper;

mod error;
mod growth;
mod json;
mod named;
pub use error::TokenizerError;

use crate::doing;
use json::{JsonFile, caught, parse, read};
use named::{Beside, Named};

/// The file that does the work.
pub const FILE: &str = "tokenizer.json";
/// Every file that decides the ids of a text.
pub const FILES: [&str; 4] = [FILE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

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
    /// Texts of tokens by the names that the files beside give them, such as `pad_token`: what templates see besides.
    named: BTreeMap<String, String>,
    special: HashSet<u32>,
    stops: Vec<u32>,
    adds_bos: bool,
    /// What other files than `tokenizer.json` add to its tokens, or give other flags.
    amended: Vec<AddedToken>,
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
        let _doing = doing::now(format!("reading `{}`", path.display()));
        let Some(bytes) = read(&path)? else { return Err(TokenizerError::Missing { path }) };
        let inner = parse(&path, &bytes)?;
        drop(bytes);
        let padding = inner.get_padding().map(|padding| padding.pad_token.clone());
        let mut tokenizer = Self::new(inner);
        let [config, map, added] = [FILES[1], FILES[2], FILES[3]].map(|name| JsonFile::read(folder, name));
        let beside = Beside { config: config?, map: map?, added: added? };
        let generation = JsonFile::read(folder, "generation_config.json")?;
        let model = JsonFile::read(folder, "config.json")?;
        let named = Named::read(&beside, &tokenizer.added(), padding.as_deref())?;
        let n_known = tokenizer.vocab_size();
        tokenizer.amend(&named, &path)?;
        let rows = model.as_ref().and_then(|model| n_rows(&model.value));
        tokenizer.name_specials(&named, rows.unwrap_or(n_known))?;
        tokenizer.number_specials(&[generation, model])?;
        Ok(tokenizer)
    }

    /// The `tokenizer.json` of this tokenizer's folder with every token that other files add, and where it lies.
    ///
    /// # Errors
    ///
    /// The file is gone or malformed.
    pub fn file(&self, folder: &Path) -> Result<(PathBuf, Value), TokenizerError> {
        let path = folder.join(FILE);
        let Some(mut file) = JsonFile::read(folder, FILE)? else {
            return Err(TokenizerError::Missing { path });
        };
        if !self.amended.is_empty() {
            file.value["added_tokens"] = self.added_json();
        }
        Ok((path, file.value))
    }

    /// Every token that stands beside the vocabulary proper, by its id, in the form of `tokenizer.json`.
    pub fn added_json(&self) -> Value {
        self.added().into_iter().map(|(id, token)| added_entry(id as usize, &token)).collect()
    }

    /// The tokens that stand beside the vocabulary proper, with the flags that they have in their files.
    pub fn added(&self) -> BTreeMap<u32, AddedToken> {
        self.inner.get_added_tokens_decoder().into_iter().collect()
    }

    /// Adds what other files than `tokenizer.json` say of tokens.
    fn amend(&mut self, named: &Named, path: &Path) -> Result<(), TokenizerError> {
        self.amended = named.additions(&self.added());
        self.inner
            .add_tokens(self.amended.iter().cloned())
            .map_err(|source| TokenizerError::BadTokenizer { path: path.to_owned(), source })?;
        self.inner.set_encode_special_tokens(named.splits_specials);
        self.special = specials(&self.inner);
        Ok(())
    }

    /// What other files than `tokenizer.json` add to its tokens, or give other flags: for keys.
    pub fn amended(&self) -> &[AddedToken] {
        &self.amended
    }

    /// A sentence about the tokenizer of `folder`, if other files add tokens or give them other flags.
    pub fn said(&self, folder: &Path) -> Option<String> {
        const SHOWN: usize = 5;
        let n = self.amended.len();
        let shown = self.amended.iter().take(SHOWN).map(|token| format!("`{}`", token.content));
        let more = if n > SHOWN { ", …" } else { "" };
        (n > 0).then(|| {
            format!(
                "other files of `{}` than `{FILE}` add tokens or give them other flags, {n} in all, and are followed as \
                transformers does: {}{more}",
                folder.display(),
                shown.collect::<Vec<_>>().join(", ")
            )
        })
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
        let special = specials(&inner);
        Self {
            inner,
            bos: None,
            eos: None,
            pad: None,
            named: BTreeMap::new(),
            special,
            stops: Vec::new(),
            adds_bos: false,
            amended: Vec::new(),
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

    /// Bos, eos and pad by their text. One that no file had an id for has the next, which is none of a model of
    /// `rows` rows.
    fn name_specials(&mut self, named: &Named, rows: usize) -> Result<(), TokenizerError> {
        let find = |key: &'static str| -> Result<Option<(u32, String)>, TokenizerError> {
            let Some((token, path)) = named.token(key) else { return Ok(None) };
            match self.id_of(token) {
                Some(id) if (id as usize) < rows => Ok(Some((id, token.to_owned()))),
                _ => {
                    let (path, token) = (path.to_owned(), token.to_owned());
                    Err(TokenizerError::UnknownToken { path, key, token })
                }
            }
        };
        let (bos, eos) = (find("bos_token")?, find("eos_token")?);
        // Rows are never padded with it, so one that the model lacks does no harm.
        let pad = named.token("pad_token").and_then(|(token, _)| self.id_of(token));
        (self.bos, self.eos, self.pad) = (bos, eos, pad);
        self.named = named.texts();
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
        caught(|| self.inner.encode_fast("a", true))
            .is_ok_and(|encoding| encoding.get_ids().first() == Some(&bos))
    }

    /// The ids of a text. Nothing is added; special tokens written out in the text are recognised.
    ///
    /// # Errors
    ///
    /// The vocabulary has no way to write the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = caught(|| self.inner.encode_fast(text, false));
        let encoding = encoding.map_err(|source| TokenizerError::Encode { bytes: text.len(), source })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The two tokens that the tokenizer itself puts around a text, as those of encoders do.
    ///
    /// # Errors
    ///
    /// It puts more or fewer there.
    pub fn ends(&self) -> Result<[u32; 2], TokenizerError> {
        let encoding = caught(|| self.inner.encode_fast("", true));
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
        let encoding = caught(|| self.inner.encode(text, false));
        let encoding = encoding.map_err(|source| TokenizerError::Encode { bytes: text.len(), source })?;
        let pairs = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(pairs.map(|(&id, &(start, end))| Piece { id, start, end }).collect())
    }

    /// The text of `ids`, with or without the special tokens among them.
    pub fn decode(&self, ids: &[u32], skip_specials: bool) -> String {
        caught(|| self.inner.decode(ids, skip_specials)).unwrap_or_else(|_| {
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

    /// The texts of all tokens that have a name, such as `pad_token`; transformers hands them to templates.
    pub fn named(&self) -> &BTreeMap<String, String> {
        &self.named
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

/// A token beside the vocabulary proper in the form of `tokenizer.json`.
pub fn added_entry(id: usize, token: &AddedToken) -> Value {
    let mut entry = json!(token);
    entry["id"] = json!(id);
    entry
}

/// The rows of the embedding, as `config.json` tells them.
fn n_rows(config: &Value) -> Option<usize> {
    let rows = [&config["vocab_size"], &config["text_config"]["vocab_size"]];
    rows.into_iter().find_map(Value::as_u64).and_then(|rows| usize::try_from(rows).ok())
}

fn specials(inner: &tokenizers::Tokenizer) -> HashSet<u32> {
    let added = inner.get_added_tokens_decoder();
    added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect()
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
            "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 6,
                "pad_type_id": 0, "pad_token": "</s>"},
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

    #[test]
    fn a_template_that_names_a_token_it_does_not_describe_is_refused() {
        let mut json = tokenizer_json();
        json["post_processor"]["single"][0]["SpecialToken"]["id"] = json!("<i>");
        let error = load(&[("tokenizer.json", json)]).unwrap_err();
        assert!(matches!(error, TokenizerError::BadTokenizer { .. }), "{error}");
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
