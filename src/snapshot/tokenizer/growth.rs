//! How many times longer a tokenizer can make a text, by what its file says.
//!
//! A normaliser that replaces `a` by `aa` a hundred times over would fill any memory from one letter, and a
//! decoder likewise. What they replace is written in the file, so it is found before a text meets it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Bytes that may come of one. `SentencePiece`'s marks take 3 for a blank, NFKC makes 11 of one in the worst case,
/// and published tokenizers do each once.
pub(super) const MOST: f64 = 1_000.0;

/// Bytes that can come of one in a normaliser or a decoder, as `tokenizer.json` writes it.
pub(super) fn growth(part: &Value) -> f64 {
    let length = |value: &Value| value.as_str().map_or(0, str::len) as f64;
    match part["type"].as_str() {
        Some("Sequence") => {
            let steps = ["normalizers", "decoders"].into_iter().filter_map(|key| part[key].as_array());
            steps.flatten().map(growth).product()
        }
        Some("Replace") => match &part["pattern"]["String"] {
            Value::String(pattern) => (length(&part["content"]) / pattern.len().max(1) as f64).max(1.0),
            // A regular expression may match nothing, before every byte.
            _ => 1.0 + length(&part["content"]),
        },
        Some("Prepend") => 1.0 + length(&part["prepend"]),
        Some("Metaspace") => length(&part["replacement"]).max(1.0),
        Some("Precompiled") => longest_entry(&part["precompiled_charsmap"]).unwrap_or(1.0),
        _ => 1.0,
    }
}

/// Bytes of the longest text that a compiled map puts in the place of a letter: a trie, its length before it, and
/// then the texts with a zero behind each (`SentencePiece`, `normalizer.cc`).
fn longest_entry(map: &Value) -> Option<f64> {
    let bytes = BASE64_STANDARD.decode(map.as_str()?).ok()?;
    let (length, rest) = bytes.split_first_chunk()?;
    let texts = rest.get(u32::from_le_bytes(*length) as usize..)?;
    let longest = texts.split(|byte| *byte == 0).map(<[u8]>::len).max()?;
    Some((longest as f64).max(1.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_replaces_multiplies_along_a_sequence() {
        let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let twenty = json!({"type": "Sequence", "normalizers": vec![double; 20]});
        assert_eq!(growth(&twenty), f64::from(1 << 20));
        let blank = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"}]});
        assert_eq!(growth(&blank), 1.0);
        let anywhere = json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x".repeat(5000)});
        assert_eq!(growth(&anywhere), 5001.0);
        assert_eq!(growth(&json!({"type": "Prepend", "prepend": "\u{2581}"})), 4.0);
    }

    #[test]
    fn a_compiled_map_grows_by_its_longest_text() {
        let map = [&4_u32.to_le_bytes()[..], b"trie", b"ab\0", &[b'x'; 3000], b"\0"].concat();
        let part = json!({"type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(map)});
        assert_eq!(growth(&part), 3000.0);
    }
}
