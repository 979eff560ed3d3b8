//! What goes over the wire, both ways.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One conversation to be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRequest {
    pub messages: Vec<Message>,
    /// Room for the answer.
    pub max_tokens: usize,
    /// Room for thinking on top, where the endpoint's limit counts it.
    pub thinking_tokens: usize,
}

/// A turn of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    pub role: &'static str,
    pub content: String,
}

impl From<(&'static str, String)> for Message {
    fn from((role, content): (&'static str, String)) -> Self {
        Self { role, content }
    }
}

/// What the endpoint said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Empty if it said nothing.
    pub text: String,
    pub ended: FinishReason,
    /// The model as the endpoint names it: often with a date that the name asked for lacks.
    pub model: Option<String>,
    /// Tokens read and written, where they are told.
    pub n_prompt_tokens: Option<u64>,
    pub n_tokens: Option<u64>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// By itself, or the endpoint does not tell.
    Stop,
    /// At the limit of new tokens.
    Length,
    /// The endpoint's own filter took the question or the answer.
    Filtered,
    /// The question is longer than the model reads.
    TooLong,
}

/// What one request is sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// `max_completion_tokens`, which counts the thinking too, in the place of `max_tokens`.
    pub completion_tokens: bool,
    /// Greedy; without it, the model draws as it does by itself.
    pub temperature: bool,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: &'a [Message],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<usize>,
    stream: bool,
}

/// The body of a request: greedy, as every judge is published, unless the endpoint does not take a temperature.
pub(super) fn body(model: &str, ask: &ChatRequest, form: Form) -> String {
    let request = Request {
        model,
        messages: &ask.messages,
        temperature: form.temperature.then_some(0),
        max_tokens: (!form.completion_tokens).then_some(ask.max_tokens),
        max_completion_tokens: form.completion_tokens.then_some(ask.max_tokens + ask.thinking_tokens),
        stream: false,
    };
    serde_json::to_string(&request).expect("texts and numbers are JSON")
}

#[derive(Deserialize)]
struct Completion {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    /// A text, parts of one, or null where all was thinking.
    #[serde(default)]
    content: Value,
    /// Some models put their refusal here, and nothing there.
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// The answer in the body of a success, or what is wrong with it.
pub(super) fn answer(body: &[u8]) -> Result<Answer, String> {
    let Completion { model, choices, usage } =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let Some(Choice { message, finish_reason }) = choices.into_iter().next() else {
        return Err("`choices` is empty".to_owned());
    };
    let ended = match finish_reason.as_deref() {
        Some("length") => FinishReason::Length,
        Some("content_filter") => FinishReason::Filtered,
        _ => FinishReason::Stop,
    };
    let usage = usage.as_ref();
    let text = text_of(message.content)?.or(message.refusal).unwrap_or_default();
    Ok(Answer {
        text,
        ended,
        model,
        n_prompt_tokens: usage.and_then(|usage| usage.prompt_tokens),
        n_tokens: usage.and_then(|usage| usage.completion_tokens),
    })
}

/// What a message says; none where it says nothing. Parts are joined, and those of thinking are no part of it.
fn text_of(content: Value) -> Result<Option<String>, String> {
    let part = |part: &Value| match (part, part["type"].as_str()) {
        (Value::String(text), _) => Some(text.clone()),
        (_, None | Some("text" | "output_text")) => part["text"].as_str().map(str::to_owned),
        _ => None,
    };
    match content {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Array(parts) => Ok(Some(parts.iter().filter_map(part).collect())),
        _ => Err("`content` is neither a text nor a list of parts".to_owned()),
    }
}

/// An endpoint's own words on a failure.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    /// For programs; often empty.
    pub code: String,
    /// The setting that it is about, where that is told.
    pub param: String,
    pub said: String,
}

/// Characters of a complaint that are shown.
const SHOWN: usize = 300;

/// What the body of a failure says, in any of the shapes in use.
pub(super) fn complaint(body: &[u8]) -> Complaint {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return Complaint { said: shown(&String::from_utf8_lossy(body)), ..Complaint::default() };
    };
    let error = json.get("error").unwrap_or(&json);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let said =
        text(error).or_else(|| ["message", "detail", "error"].iter().find_map(|key| text(&error[*key])));
    let code = ["code", "type"].iter().find_map(|key| text(&error[*key])).unwrap_or_default();
    let param = text(&error["param"]).unwrap_or_default();
    Complaint { code, param, said: shown(&said.unwrap_or_else(|| json.to_string())) }
}

impl Complaint {
    /// Whether it is about this one question: why it has no answer, though others may.
    pub(super) fn of_the_question(&self) -> Option<FinishReason> {
        let says = |words: &[&str]| {
            let said = self.said.to_lowercase();
            words.iter().any(|word| self.code.contains(word) || said.contains(word))
        };
        if says(&["context_length_exceeded", "context length", "context window"]) {
            return Some(FinishReason::TooLong);
        }
        says(&["content_filter", "content_policy_violation"]).then_some(FinishReason::Filtered)
    }
}

/// One line, not too long.
pub(super) fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None if line.is_empty() => "nothing".to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whatever_else_there_is() {
        let body = r#"{"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": null,
            "refusal": "No."}, "finish_reason": "length"}], "usage": {"prompt_tokens": 3, "total_tokens": 4}}"#;
        let answer = answer(body.as_bytes()).unwrap();
        assert_eq!((answer.text.as_str(), answer.ended), ("No.", FinishReason::Length));
        assert_eq!((answer.n_prompt_tokens, answer.n_tokens, answer.model), (Some(3), None, None));
    }

    #[test]
    fn a_message_is_a_text_or_parts_of_one_or_nothing() {
        for (content, text) in [
            (r#""safe""#, "safe"),
            ("null", ""),
            ("[]", ""),
            (r##"[{"type": "text", "text": "#thescore:"}, {"type": "text", "text": " 1"}]"##, "#thescore: 1"),
            (
                r#"[{"type": "thinking", "thinking": [{"type": "text", "text": "unsafe?"}]}, {"type": "text", "text": "safe"}]"#,
                "safe",
            ),
            (r#"["sa", {"text": "fe"}]"#, "safe"),
        ] {
            let body = format!(
                r#"{{"choices": [{{"message": {{"content": {content}, "reasoning_content": "unsafe?"}}}}]}}"#
            );
            assert_eq!(answer(body.as_bytes()).unwrap().text, text, "{content}");
        }
        assert_eq!(answer(br#"{"choices": [{"message": {"reasoning_content": "hm"}}]}"#).unwrap().text, "");
        let wrong = answer(br#"{"choices": [{"message": {"content": 5}}]}"#).unwrap_err();
        assert!(wrong.contains("neither a text nor a list"), "{wrong}");
    }

    #[test]
    fn a_complaint_is_found_in_every_shape() {
        for body in [
            r#"{"error": {"message": "too fast", "code": 429}}"#,
            r#"{"error": "too fast"}"#,
            r#"{"object": "error", "message": "too fast"}"#,
            r#"{"detail": "too fast"}"#,
            "too\n fast",
        ] {
            assert_eq!(complaint(body.as_bytes()).said, "too fast", "{body}");
        }
        assert_eq!(complaint(b"").said, "nothing");
        assert_eq!(complaint("é".repeat(1000).as_bytes()).said.chars().count(), SHOWN + 1);
    }

    #[test]
    fn a_question_that_is_too_long_is_its_own_fault() {
        let openai = r#"{"error": {"message": "…", "code": "context_length_exceeded"}}"#;
        let vllm = r#"{"message": "This model's maximum context length is 8192 tokens.", "code": 400}"#;
        let other = r#"{"error": {"message": "unknown field `seed`", "code": "invalid"}}"#;
        let of_the_question = |body: &str| complaint(body.as_bytes()).of_the_question();
        assert_eq!(of_the_question(openai), Some(FinishReason::TooLong));
        assert_eq!(of_the_question(vllm), Some(FinishReason::TooLong));
        assert_eq!(of_the_question(other), None);
    }
}
