//! Tokenizers and templates small enough for tests.

use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::{Conversation, Message, Role};
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;

pub const SPECIALS: [&str; 9] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
];

pub const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
pub const LLAMA3: &str = "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
pub const MISTRAL: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% elif m.role == 'assistant' %} {{ m.content | trim }}{{ eos_token }}{% else %}{{ raise_exception('no ' + m.role) }}{% endif %}{% endfor %}";
pub const GEMMA: &str = "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}";

fn bpe(words: Vec<String>, merges: &[(&str, &str)], rest: &Value) -> Value {
    let joined = merges.iter().map(|(a, b)| format!("{a}{b}"));
    let words: Vec<String> = words.into_iter().chain(joined).collect();
    let n = words.len();
    let vocab: Map<String, Value> = words.into_iter().zip((0..).map(Value::from)).collect();
    let added: Vec<Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(i, text)| {
            json!({"id": n + i, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let merges: Vec<String> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
    let mut json = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges}});
    for (key, value) in rest.as_object().unwrap() {
        json[key] = value.clone();
    }
    json
}

/// `tokenizer.json` with all bytes, a few merges and [`SPECIALS`], in the manner of GPT-2.
pub fn byte_level() -> Value {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let merges = [("h", "e"), ("l", "l"), ("Ġ", "b"), ("Ċ", "Ċ"), ("a", "b")];
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let words = alphabet.iter().map(ToString::to_string).collect();
    bpe(words, &merges, &json!({"pre_tokenizer": level, "decoder": level}))
}

/// `tokenizer.json` that puts a blank before a text, in the manner of Llama 2.
pub fn metaspace() -> Value {
    let words = (' '..='~').map(|c| c.to_string()).chain(["▁".to_owned(), "\n".to_owned()]).collect();
    let merges = [("▁", "b"), ("a", "b")];
    let space = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    bpe(words, &merges, &json!({"pre_tokenizer": space, "decoder": space}))
}

pub fn tokenizer(json: &Value, eos: &str) -> Tokenizer {
    let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    Tokenizer::new(inner).with_specials(Some("<s>"), Some(eos))
}

pub fn template(source: &str, eos: &str) -> ChatTemplate {
    ChatTemplate::new("tiny", source.to_owned(), Some("<s>".into()), Some(eos.into()), None).unwrap()
}

/// Turns written `user: …`, `assistant: …`, `system: …`.
pub fn conversation(turns: &[&str]) -> Conversation {
    let message = |turn: &&str| {
        let (role, content) = turn.split_once(": ").unwrap();
        let role = match role {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        };
        Message::new(role, content)
    };
    Conversation::new(turns.iter().map(message).collect::<Vec<_>>(), 7)
}
