//! One turn of a record: who speaks, what is said, and all else that a chat template may write.

use serde_json::Value;

use super::calls;
use super::conversation::{Message, Role};
use super::error::DataError;
use super::table::{Place, Record, kind, names};

/// Fields that keep an answer out of the loss or in it: OpenAI's `weight`, Axolotl's `train` and
/// `training`, ms-swift's `loss` and `loss_scale`, and their like.
const MARKS: [&str; 7] = ["weight", "train", "training", "trainable", "loss", "loss_scale", "loss_weight"];

/// Pictures and sounds, which no text can stand for.
pub(super) const MEDIA: [&str; 6] = ["image", "images", "video", "videos", "audio", "audios"];

/// What goes to a chat template beside the turns.
pub(super) const GIVEN: [&str; 4] = ["tools", "functions", "documents", "chat_template_kwargs"];

/// Turns before a question, as pairs of a question and its answer: LLaMA-Factory's and ms-swift's.
pub(super) const HISTORY: &str = "history";

/// What else changes a turn's meaning and can neither be written nor obeyed: OpenAI's refusals, Axolotl's ranges of
/// characters.
const BEYOND_TEXT: [&str; 2] = ["refusal", "train_detail"];

/// One turn on its way to a message.
pub(super) struct Turn<'a> {
    pub record: Record,
    /// As errors call it: `messages[2]`.
    pub name: String,
    pub place: &'a Place,
}

impl Turn<'_> {
    /// The message, and whether its content was a list of parts.
    pub(super) fn message(mut self, role: &str, content: &str) -> Result<(Message, bool), DataError> {
        let speaker = self.text(role)?;
        let mut calls = self.calls()?;
        let role = match speaker.as_str() {
            // The templates of the families here have no other name for it.
            "system" | "developer" => Role::System,
            "user" | "human" => Role::User,
            "assistant" | "gpt" => Role::Assistant,
            "tool" | "observation" | "ipython" | "function" => Role::Tool,
            // LLaMA-Factory's ShareGPT has a call as a turn of its own.
            "function_call" => {
                let written = self.take(content).unwrap_or(Value::Null);
                calls = Some(self.checked(content, calls::listed(written))?);
                Role::Assistant
            }
            _ => return Err(DataError::UnknownRole { place: self.place.clone(), role: speaker }),
        };
        let muted = self.muted(role)?;
        let mut beyond = MEDIA.into_iter().chain(BEYOND_TEXT);
        if let Some(field) = beyond.find(|field| holds_something(self.record.get(*field))) {
            return Err(DataError::BeyondText { place: self.place.clone(), field: self.field(field) });
        }
        let said = self.take(content);
        // What is null or empty says nothing, and tables have it in every turn.
        let more = self.record.iter().filter(|(_, value)| says_something(Some(value)));
        let mut more: Record = more.map(|(field, value)| (field.clone(), value.clone())).collect();
        let reasons = REASONING.iter().any(|field| more.contains_key(*field));
        let (text, is_list) = match said {
            Some(Value::Array(parts)) => (self.joined(content, parts)?, true),
            Some(Value::String(text)) => (text, false),
            None | Some(Value::Null) if calls.is_some() || reasons => {
                more.insert("content".to_owned(), Value::Null);
                (String::new(), false)
            }
            None => return Err(self.missing(content)),
            Some(other) => return Err(self.wrong_type(content, &other, "a string")),
        };
        let may_be_silent = calls.is_some() || reasons || matches!(role, Role::System | Role::Tool);
        if text.trim().is_empty() && !may_be_silent {
            return Err(DataError::EmptyText { place: self.place.clone(), field: self.field(content) });
        }
        more.extend(calls.map(|calls| (calls::FIELD.to_owned(), calls)));
        Ok((Message { role, content: text, more, muted }, is_list))
    }

    /// The calls of tools in the form that chat templates read, whichever of the two forms of OpenAI the turn has.
    fn calls(&mut self) -> Result<Option<Value>, DataError> {
        for field in [calls::FIELD, "function_call"] {
            let Some(value) = self.take(field).filter(|value| says_something(Some(value))) else {
                continue;
            };
            return self.checked(field, calls::listed(value)).map(Some);
        }
        Ok(None)
    }

    fn checked(&self, field: &str, calls: Result<Value, &'static str>) -> Result<Value, DataError> {
        calls.map_err(|found| DataError::WrongType {
            place: self.place.clone(),
            field: self.field(field),
            found: found.to_owned(),
            expected: "a list of calls such as `{\"function\": {\"name\": …, \"arguments\": {…}}}`",
        })
    }

    /// Whether a mark keeps the turn out of the loss.
    fn muted(&mut self, role: Role) -> Result<bool, DataError> {
        let mut muted = false;
        for mark in MARKS {
            let learned = match self.take(mark) {
                None | Some(Value::Null) => continue,
                Some(Value::Bool(learned)) => learned,
                Some(value) => match value.as_f64() {
                    Some(0.0) => false,
                    Some(1.0) => true,
                    _ => return Err(self.bad_mark(mark, value.to_string(), "0 or 1")),
                },
            };
            if learned && role != Role::Assistant {
                return Err(self.bad_mark(
                    mark,
                    format!("set for a turn of the {role}"),
                    "it at answers only",
                ));
            }
            muted |= !learned;
        }
        Ok(muted)
    }

    fn bad_mark(&self, mark: &str, found: String, expected: &'static str) -> DataError {
        DataError::WrongType { place: self.place.clone(), field: self.field(mark), found, expected }
    }

    /// The text of a list of parts, one after the other, as templates that take such lists write them.
    fn joined(&self, content: &str, parts: Vec<Value>) -> Result<String, DataError> {
        let text = |part: Value| match part {
            Value::String(text) => Ok(text),
            Value::Object(mut part) => match (part.remove("type"), part.remove("text")) {
                (None | Some(Value::Null), Some(Value::String(text))) => Ok(text),
                (Some(Value::String(kind)), Some(Value::String(text))) if kind == "text" => Ok(text),
                (Some(Value::String(kind)), _) => Err(format!("a list with a part of type `{kind}`")),
                _ => Err("a list with a part that has no text".to_owned()),
            },
            other => Err(format!("a list with {}", kind(&other))),
        };
        let texts: Result<Vec<String>, String> = parts.into_iter().map(text).collect();
        texts.map(|texts| texts.concat()).map_err(|found| DataError::WrongType {
            place: self.place.clone(),
            field: self.field(content),
            found,
            expected: "a string or a list of texts",
        })
    }

    fn text(&mut self, field: &str) -> Result<String, DataError> {
        match self.take(field) {
            None => Err(self.missing(field)),
            Some(Value::String(text)) if text.trim().is_empty() => {
                Err(DataError::EmptyText { place: self.place.clone(), field: self.field(field) })
            }
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong_type(field, &other, "a string")),
        }
    }

    fn field(&self, field: &str) -> String {
        format!("{}.{field}", self.name)
    }

    /// A field's value, which leaves null behind.
    fn take(&mut self, field: &str) -> Option<Value> {
        self.record.get_mut(field).map(Value::take)
    }

    fn missing(&self, field: &str) -> DataError {
        let found = names(&self.record);
        DataError::MissingField { place: self.place.clone(), field: self.field(field), found }
    }

    fn wrong_type(&self, field: &str, value: &Value, expected: &'static str) -> DataError {
        let (place, field) = (self.place.clone(), self.field(field));
        DataError::WrongType { place, field, found: kind(value).to_owned(), expected }
    }
}

/// Fields that hold what an answer was thought of, by the names that templates give them: Qwen's and
/// DeepSeek's, OpenRouter's, gpt-oss's.
pub(super) const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// Whether a field holds a text, a list or an object with anything in it; a flag or a number is about it only.
pub(super) fn holds_something(value: Option<&Value>) -> bool {
    says_something(value) && !matches!(value, Some(Value::Bool(_) | Value::Number(_)))
}

/// Whether a field has anything in it.
pub(super) fn says_something(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(_) => true,
    }
}
