//! A tokenizer for texts that hold what somebody else wrote: no value can become a special token.
//!
//! A judge reads an answer between marks of its own, such as `[/INST]` or `<end_of_turn>`. An answer that holds
//! those words must not close them. So special tokens go by names of their own here, characters that no text
//! has, and only the judge's own text is given them. Without such words in a value the ids are the tokenizer's own.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::tokenizer::{Tokenizer, TokenizerError};

/// The first of the private characters that special tokens are called by in here: those of plane 15.
const NAMES: u32 = 0xF_0000;
/// The first of those that stand for their words in values until the text is whole: those of plane 16.
const WORDS: u32 = 0x10_0000;
/// How many private characters a plane has.
const MOST_WORDS: usize = 0xFFFE;

/// A tokenizer whose special tokens can be told from their words.
#[derive(Debug, Clone)]
pub struct GuardedTokenizer {
    inner: Tokenizer,
    /// The words of the special tokens, the longest first.
    words: Vec<String>,
}

impl GuardedTokenizer {
    /// Reads the tokenizer of a model folder.
    ///
    /// # Errors
    ///
    /// The file is missing or malformed.
    pub fn load(folder: &Path) -> Result<Self, TokenizerError> {
        let plain = Tokenizer::load(folder)?;
        let (path, mut file) = plain.file(folder)?;
        let mut words: Vec<String> = file["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|token| {
                let word = token["content"].as_str()?;
                let is_mark = word.starts_with("<|") && word.ends_with("|>");
                (token["special"] == true || is_mark).then(|| word.to_owned())
            })
            .collect();
        words.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        words.dedup();
        if words.len() > MOST_WORDS {
            return Err(TokenizerError::ManySpecials { path, found: words.len(), most: MOST_WORDS });
        }
        let places: HashMap<&str, usize> =
            words.iter().enumerate().map(|(nth, word)| (word.as_str(), nth)).collect();
        let name = |word: &str| places.get(word).map(|nth| private(NAMES, *nth));
        for token in file["added_tokens"].as_array_mut().into_iter().flatten() {
            if let Some(name) = token["content"].as_str().and_then(name) {
                token["content"] = name.to_string().into();
            }
        }
        rename(&mut file["model"]["vocab"], &name);
        let bytes = serde_json::to_vec(&file).expect("what was JSON is JSON");
        let inner = Tokenizer::with_specials_of(&plain, &path, &bytes)?;
        Ok(Self { inner, words })
    }

    /// A value as it may stand in a text for [`Self::encode`].
    #[must_use]
    pub fn value(&self, text: &str) -> String {
        let is_private = |c: char| (NAMES..=0x10_FFFF).contains(&u32::from(c));
        let text = text.replace(is_private, "\u{FFFD}");
        self.swap(&text, |nth, word| (word.to_owned(), private(WORDS, nth).to_string()))
    }

    /// The ids of a text whose values went through [`Self::value`].
    ///
    /// # Errors
    ///
    /// The vocabulary has no way to write the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let named = self.swap(text, |nth, word| (word.to_owned(), private(NAMES, nth).to_string()));
        let whole = self.swap(&named, |nth, word| (private(WORDS, nth).to_string(), word.to_owned()));
        let mut ids: Vec<u32> = self.inner.bos_id().filter(|_| self.inner.adds_bos()).into_iter().collect();
        let encoded = self.inner.encode(&whole)?;
        if encoded.first() == ids.first() {
            ids.clear();
        }
        ids.extend(encoded);
        Ok(ids)
    }

    fn swap(&self, text: &str, pair: impl Fn(usize, &str) -> (String, String)) -> String {
        let pairs = self.words.iter().enumerate().map(|(nth, word)| pair(nth, word));
        pairs.fold(text.to_owned(), |text, (from, to)| text.replace(&from, &to))
    }
}

fn private(block: u32, nth: usize) -> char {
    let nth = u32::try_from(nth).expect("there are fewer words than a plane has characters");
    char::from_u32(block + nth).expect("the private planes have no holes")
}

/// A vocabulary is an object by word or a list of pairs of word and score.
fn rename(vocabulary: &mut Value, name: &impl Fn(&str) -> Option<char>) {
    match vocabulary {
        Value::Object(words) => {
            let renamed: Vec<(String, String)> =
                words.keys().filter_map(|word| Some((word.clone(), name(word)?.to_string()))).collect();
            for (word, name) in renamed {
                if let Some(id) = words.remove(&word) {
                    words.insert(name, id);
                }
            }
        }
        Value::Array(pairs) => {
            for pair in pairs {
                if let Some(name) = pair[0].as_str().and_then(name) {
                    pair[0] = name.to_string().into();
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A tokenizer with so many special tokens.
    fn with_specials(n: usize) -> Result<GuardedTokenizer, TokenizerError> {
        let folder = tempfile::tempdir().unwrap();
        let added: Vec<Value> = (0..n)
            .map(|i| {
                json!({"id": i + 3, "content": format!("<|s{i}|>"), "special": true, "normalized": false,
                    "lstrip": false, "rstrip": false, "single_word": false})
            })
            .collect();
        let file = json!({"version": "1.0", "added_tokens": added, "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "decoder": null, "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}});
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        GuardedTokenizer::load(folder.path())
    }

    #[test]
    fn values_and_marks_stay_apart_for_as_many_special_tokens_as_there_are_private_characters() {
        // Above 2^15 the two ranges would have met, had they shared a plane.
        let guarded = with_specials(40_000).unwrap();
        let text = format!("<|s39999|>a{}", guarded.value("b<|s0|>"));
        let ids = guarded.encode(&text).unwrap();
        // What a value writes is no mark: its letters that the vocabulary lacks are left out.
        assert_eq!(ids, [40_002, 0, 1]);
        let error = with_specials(MOST_WORDS + 1).unwrap_err();
        let found = format!("has {} special tokens, at most {MOST_WORDS}", MOST_WORDS + 1);
        assert!(error.to_string().contains(&found), "{error}");
    }
}
