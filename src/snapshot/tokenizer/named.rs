//! What the files beside `tokenizer.json` say of tokens: which are special, with which flags, and which are new.
//!
//! As transformers 5.24 reads them (`tokenization_utils_base.py`, `_from_pretrained`; `tokenization_utils_tokenizers.py`,
//! `tokens_to_add`), so that a text has the same ids there and here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::error::TokenizerError;
use super::json::JsonFile;

/// The names of tokens that every tokenizer may have, in transformers' order.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Where tokens with flags stand by their ids.
const DECODER: &str = "added_tokens_decoder";
const EXTRA: &str = "extra_special_tokens";
/// The older name of it.
const ADDITIONAL: &str = "additional_special_tokens";

/// The files beside `tokenizer.json`.
pub(super) struct Beside {
    /// `tokenizer_config.json`.
    pub config: Option<JsonFile>,
    /// `special_tokens_map.json`.
    pub map: Option<JsonFile>,
    /// `added_tokens.json`.
    pub added: Option<JsonFile>,
}

/// What these files say together.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// By name, those of [`NAMES`] first; with the file that says so.
    tokens: Vec<(String, Flagged, PathBuf)>,
    extra: Vec<Flagged>,
    by_id: BTreeMap<u32, Flagged>,
    /// Special tokens that stand in a text are read as its letters.
    pub splits_specials: bool,
}

/// A token with the flags that its file gives it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Flagged {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    /// If unsaid, what is not special is.
    #[serde(default)]
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Flagged {
    fn special(content: &str) -> Self {
        let content = content.to_owned();
        Self { content, single_word: false, lstrip: false, rstrip: false, normalized: None, special: true }
    }

    fn settled(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

impl From<AddedToken> for Flagged {
    fn from(token: AddedToken) -> Self {
        let AddedToken { content, single_word, lstrip, rstrip, normalized, special } = token;
        Self { content, single_word, lstrip, rstrip, normalized: Some(normalized), special }
    }
}

/// A token, which is a string or an object with `content`.
fn token(file: &JsonFile, key: &'static str, value: &Value) -> Result<Option<Flagged>, TokenizerError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Flagged::special(text))),
        Value::Object(map) if !map.contains_key("content") => Ok(None),
        other => match Flagged::deserialize(other) {
            Ok(token) => Ok(Some(token)),
            Err(_) => Err(file.bad(key, other, "a string or an object with `content` and flags")),
        },
    }
}

impl Named {
    /// Reads the files, where `own` are the tokens that `tokenizer.json` adds and `padding` is the one it pads with.
    ///
    /// # Errors
    ///
    /// A token is neither a text nor an object with one.
    pub fn read(
        beside: &Beside,
        own: &BTreeMap<u32, AddedToken>,
        padding: Option<&str>,
    ) -> Result<Self, TokenizerError> {
        let mut named = Self::default();
        let Beside { config, map, added } = beside;
        if let Some(file) = config {
            named.take(file, false)?;
            named.splits_specials = file.value["split_special_tokens"] == true;
        }
        let of_config = config.as_ref().and_then(|file| Some((file, file.value[DECODER].as_object()?)));
        // Tokens with flags in the one file leave the two older files without a say.
        if let Some((file, decoder)) = of_config {
            named.by_id = by_id(file, decoder)?;
        } else {
            if let Some(file) = map {
                named.take(file, true)?;
            }
            if let Some(file) = added {
                named.number(file)?;
            }
            named.by_id.extend(own.iter().map(|(id, token)| (*id, token.clone().into())));
        }
        let read = config.iter().chain(map.iter().filter(|_| of_config.is_none()));
        let says_padding = read.into_iter().any(|file| file.value.get("pad_token").is_some());
        if let (Some(padding), false) = (padding, says_padding) {
            named.set("pad_token", Some(Flagged::special(padding)), Path::new("tokenizer.json"));
        }
        // The flags that stand by the id are those that count.
        let flags: BTreeMap<&str, &Flagged> =
            named.by_id.values().map(|token| (token.content.as_str(), token)).collect();
        for (name, token, _) in &mut named.tokens {
            if let Some(flagged) =
                flags.get(token.content.as_str()).filter(|_| NAMES.contains(&name.as_str()))
            {
                *token = (*flagged).clone();
            }
        }
        named
            .tokens
            .sort_by_key(|(name, ..)| NAMES.iter().position(|known| known == name).unwrap_or(NAMES.len()));
        Ok(named)
    }

    /// The text of every token that has a name.
    pub(super) fn texts(&self) -> BTreeMap<String, String> {
        self.tokens.iter().map(|(name, token, _)| (name.clone(), token.content.clone())).collect()
    }

    /// Takes the names of a file over; `is_map` if all of its tokens are special.
    fn take(&mut self, file: &JsonFile, is_map: bool) -> Result<(), TokenizerError> {
        let special = |token: Flagged| Flagged { special: token.special || is_map, ..token };
        for name in NAMES {
            if let Some(value) = file.value.get(name) {
                self.set(name, token(file, name, value)?.map(special), &file.path);
            }
        }
        let empty = Map::new();
        let others = file.value.as_object().unwrap_or(&empty).iter();
        // Models name more, such as `image_token`; what is no text, such as `add_bos_token`, names none.
        for (name, value) in
            others.filter(|(name, _)| name.ends_with("_token") && !NAMES.contains(&name.as_str()))
        {
            let known = is_map && self.token(name).is_some();
            if let Some(text) = value.as_str().filter(|_| !known) {
                self.set(name, Some(Flagged::special(text)), &file.path);
            }
        }
        let said = |key: &str| file.value.get(key).filter(|value| !is_empty(value));
        let older = said(ADDITIONAL).filter(|_| !is_map || self.extra.is_empty());
        match said(EXTRA).or(older) {
            Some(Value::Object(tokens)) => {
                for (name, value) in tokens {
                    self.set(name, token(file, EXTRA, value)?.map(special), &file.path);
                }
            }
            Some(Value::Array(values)) => {
                let tokens = values.iter().map(|value| Ok(token(file, EXTRA, value)?.map(special)));
                let tokens: Vec<Option<Flagged>> = tokens.collect::<Result<_, TokenizerError>>()?;
                let mut contents: HashSet<String> =
                    self.extra.iter().map(|token| token.content.clone()).collect();
                for token in tokens.into_iter().flatten() {
                    if contents.insert(token.content.clone()) || !self.extra.contains(&token) {
                        self.extra.push(token);
                    }
                }
            }
            Some(other) => return Err(file.bad(EXTRA, other, "a list of tokens, or tokens by name")),
            None => {}
        }
        Ok(())
    }

    fn set(&mut self, name: &str, token: Option<Flagged>, path: &Path) {
        let new = token.map(|token| (name.to_owned(), token, path.to_owned()));
        match (self.tokens.iter().position(|(known, ..)| known == name), new) {
            (Some(at), Some(new)) => self.tokens[at] = new,
            (Some(at), None) => drop(self.tokens.remove(at)),
            (None, new) => self.tokens.extend(new),
        }
    }

    /// Takes over the ids of `added_tokens.json`, which knows no flags.
    fn number(&mut self, file: &JsonFile) -> Result<(), TokenizerError> {
        let Some(ids) = file.value.as_object() else {
            return Err(file.bad("added tokens", &file.value, "an object of tokens and their ids"));
        };
        let named = self.tokens.iter().map(|(_, token, _)| token).chain(&self.extra);
        let named: HashSet<String> = named.map(|token| token.content.clone()).collect();
        for (content, id) in ids {
            let Some(number) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
                return Err(file.bad("an added token", id, "an id"));
            };
            let special = named.contains(content);
            self.by_id.insert(number, Flagged { special, ..Flagged::special(content) });
        }
        Ok(())
    }

    /// The token of a name, and the file that names it.
    pub fn token(&self, name: &str) -> Option<(&str, &Path)> {
        let (_, token, path) = self.tokens.iter().find(|(known, ..)| known == name)?;
        Some((&token.content, path))
    }

    /// What is to be added to the tokens `own` of `tokenizer.json`, in this order: new tokens, and those that it has
    /// with other flags.
    pub fn additions(&self, own: &BTreeMap<u32, AddedToken>) -> Vec<AddedToken> {
        // A file may have a hundred thousand of them.
        let mut by_content: HashMap<&str, Vec<&AddedToken>> = HashMap::new();
        for known in own.values() {
            by_content.entry(&known.content).or_default().push(known);
        }
        let is_own = |token: &Flagged| {
            let known = by_content.get(token.content.as_str());
            known.is_some_and(|known| known.contains(&&token.settled()))
        };
        let mut new: Vec<&Flagged> = self.by_id.values().filter(|token| !is_own(token)).collect();
        let mut contents: HashSet<&str> = by_content.keys().copied().collect();
        contents.extend(new.iter().map(|token| token.content.as_str()));
        for token in self.tokens.iter().map(|(_, token, _)| token).chain(&self.extra) {
            if contents.insert(&token.content) {
                new.push(token);
            }
        }
        let named: HashSet<&str> = self.tokens.iter().map(|(_, named, _)| named.content.as_str()).collect();
        let is_named = |token: &Flagged| named.contains(token.content.as_str());
        let special =
            |token: &Flagged| Flagged { special: token.special || is_named(token), ..token.clone() };
        new.into_iter().map(|token| special(token).settled()).collect()
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

fn by_id(file: &JsonFile, decoder: &Map<String, Value>) -> Result<BTreeMap<u32, Flagged>, TokenizerError> {
    let entry = |(id, value): (&String, &Value)| match (id.parse(), Flagged::deserialize(value)) {
        (Ok(id), Ok(token)) => Ok((id, token)),
        _ => Err(file.bad(DECODER, value, "an id with an object with `content` and flags")),
    };
    decoder.iter().map(entry).collect()
}
