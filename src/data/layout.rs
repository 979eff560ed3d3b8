//! A conversation as text, and where in it the answers are that the loss covers.
//!
//! The text up to an answer, with the generation prompt, must begin the text that has the answer; what
//! follows is the answer, and it must hold all that the data say: a template that strips the thinking from
//! past answers would else teach their rest.

use std::ops::Range;

use serde_json::{Map, Value};

use super::calls;
use super::conversation::{Message, Role};
use super::cut::CutError;
use super::turn::REASONING;
use crate::recipe::LossOn;
use crate::snapshot::template::{ChatTemplate, TemplateError};
use crate::snapshot::tokenizer::TokenizerError;

/// The text of a conversation and byte ranges in it.
pub(super) struct Layout {
    pub text: String,
    /// Of the answers that are learned.
    pub answers: Vec<Range<usize>>,
    /// Which messages those are.
    pub of: Vec<usize>,
    /// Of the turns that are not, where all else is.
    pub muted: Vec<Range<usize>>,
}

impl Layout {
    /// Takes the beginning of the last answer out of what is learned, up to the end of `given`.
    pub(super) fn give(&mut self, given: &str) -> Result<(), Failure> {
        let Some(answer) = self.answers.last_mut() else { return Ok(()) };
        let learned = &self.text[answer.clone()];
        match learned.find(given) {
            Some(at) => {
                answer.start += at + given.len();
                Ok(())
            }
            None => Err(Failure::NotWhole {
                field: "content".to_owned(),
                expected: shown(given),
                found: shown(learned),
            }),
        }
    }
}

/// A place within a line that went wrong before its number was known.
pub(super) enum Failure {
    Template(TemplateError),
    Tokenizer(TokenizerError),
    NotPrefixStable { expected: String, found: String },
    NotWhole { field: String, expected: String, found: String },
    NotWritten { what: String },
    NotSplittable,
    NeedsTemplate { found: usize },
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::Template(error)
    }
}

impl From<TokenizerError> for Failure {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}

impl From<CutError> for Failure {
    fn from(error: CutError) -> Self {
        match error {
            CutError::Tokenizer(error) => Self::Tokenizer(error),
            CutError::NotSplittable => Self::NotSplittable,
        }
    }
}

/// What of a record's gifts to the template changes a conversation's meaning; the rest are switches.
const TELLING: [&str; 2] = ["tools", "documents"];

/// Lays a conversation out with a template.
pub(super) fn with_template(
    template: &ChatTemplate,
    messages: &[Message],
    given: &Map<String, Value>,
    loss_on: LossOn,
    refusal: Option<&str>,
) -> Result<Layout, Failure> {
    let text = template.render_with(messages, given, false)?;
    reaches(template, messages, given, &text)?;
    let last = messages.iter().rposition(|message| message.role == Role::Assistant);
    let is_refusal = |message: &Message| refusal.is_some_and(|text| is_reply(message, text));
    let (mut answers, mut of, mut muted) = (Vec::new(), Vec::new(), Vec::new());
    for (i, message) in messages.iter().enumerate() {
        let is_wanted = match loss_on {
            LossOn::Completion => Some(i) == last,
            // All is learned, and the ends of refusals are still to be found.
            LossOn::All => Some(i) == last || is_refusal(message),
            LossOn::Assistant => message.role == Role::Assistant,
        };
        if !(is_wanted || message.muted && loss_on == LossOn::All) {
            continue;
        }
        let before = template.render_with(&messages[..i], given, message.role == Role::Assistant)?;
        stable(&before, &text)?;
        let end = if i + 1 == messages.len() {
            text.len()
        } else {
            let through = template.render_with(&messages[..=i], given, false)?;
            let through = without_end_of_all(&through, &text, template.eos_text());
            stable(through, &text)?;
            through.len()
        };
        if end < before.len() {
            return Err(Failure::NotPrefixStable { expected: excerpt(&before, end), found: String::new() });
        }
        if message.muted {
            muted.push(before.len()..end);
        } else {
            whole(message, &text[before.len()..end])?;
            answers.push(before.len()..end);
            of.push(i);
        }
    }
    Ok(Layout { text, answers, of, muted })
}

/// Whether a message is the model's and says this, blanks around it aside.
pub(super) fn is_reply(message: &Message, text: &str) -> bool {
    message.role == Role::Assistant && message.content.trim() == text.trim()
}

/// Without a template: the prompt and the completion as they are, or plain text.
pub(super) fn joined(messages: &[Message], given: &Map<String, Value>) -> Result<Layout, Failure> {
    if let Some(field) = TELLING.into_iter().find(|field| given.contains_key(*field)) {
        return Err(Failure::NotWritten { what: format!("`{field}`") });
    }
    for message in messages {
        let telling = REASONING.into_iter().chain([calls::FIELD]);
        if let Some(field) = telling.into_iter().find(|field| message.more.contains_key(*field)) {
            return Err(Failure::NotWritten { what: format!("`{field}`") });
        }
    }
    let (text, start, answer) = match messages {
        [text] if text.role == Role::Assistant => (text.content.clone(), 0, text),
        [user, answer] if user.role == Role::User && answer.role == Role::Assistant => {
            (format!("{}{}", user.content, answer.content), user.content.len(), answer)
        }
        _ => return Err(Failure::NeedsTemplate { found: messages.len() }),
    };
    let range = start..text.len();
    let (answers, muted) = if answer.muted { (vec![], vec![range]) } else { (vec![range], vec![]) };
    let of = answers.iter().map(|_| messages.len() - 1).collect();
    Ok(Layout { text, answers, of, muted })
}

/// `before` must begin `text`.
fn stable(before: &str, text: &str) -> Result<(), Failure> {
    if text.starts_with(before) {
        return Ok(());
    }
    let same = before.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    Err(Failure::NotPrefixStable { expected: excerpt(before, same), found: excerpt(text, same) })
}

/// A beginning of the conversation without the end of text that some templates, Phi-3's and OLMo's among them,
/// write behind the last turn alone.
fn without_end_of_all<'t>(through: &'t str, text: &str, eos: &str) -> &'t str {
    let cut = Some(through).filter(|through| !text.starts_with(*through) && !eos.is_empty());
    cut.and_then(|through| through.trim_end().strip_suffix(eos)).unwrap_or(through)
}

/// A few characters of `text` from around byte `at`, on one line.
fn excerpt(text: &str, at: usize) -> String {
    let from = (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[from..].chars().take(30).flat_map(char::escape_debug).collect()
}

/// What is learned of an answer must hold all of it, white space aside.
fn whole(message: &Message, learned: &str) -> Result<(), Failure> {
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    let all = std::cell::OnceCell::new();
    let holds = |part: &str| {
        learned.contains(part) || all.get_or_init(|| squeezed(learned)).contains(&squeezed(part))
    };
    let not_whole = |field: &str, part: &str| Failure::NotWhole {
        field: field.to_owned(),
        expected: shown(part),
        found: shown(learned),
    };
    if !holds(&message.content) {
        return Err(not_whole("content", &message.content));
    }
    for field in REASONING {
        if let Some(text) = message.more.get(field).and_then(Value::as_str).filter(|text| !holds(text)) {
            return Err(not_whole(field, text));
        }
    }
    for call in message.more.get(calls::FIELD).and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = call["function"]["name"].as_str().filter(|name| !learned.contains(name)) {
            return Err(not_whole(calls::FIELD, name));
        }
    }
    Ok(())
}

/// The beginning and the end of a text, on one line.
fn shown(text: &str) -> String {
    const MOST: usize = 160;
    let n = text.chars().count();
    let escaped = |part: &str| part.chars().flat_map(char::escape_debug).collect::<String>();
    if n <= MOST {
        return escaped(text);
    }
    let at = |nth| text.char_indices().nth(nth).map_or(text.len(), |(at, _)| at);
    format!("{} … {}", escaped(&text[..at(MOST / 2)]), escaped(&text[at(n - MOST / 2)..]))
}

/// What changes a conversation's meaning must reach the model: a template that knows no tools would drop
/// them without a word. What an answer was thought of is looked for where it is learned.
fn reaches(
    template: &ChatTemplate,
    messages: &[Message],
    given: &Map<String, Value>,
    text: &str,
) -> Result<(), Failure> {
    let is_lost = |messages: &[Message], given: &Map<String, Value>| {
        template.render_with(messages, given, false).is_ok_and(|without| without == text)
    };
    for field in TELLING.into_iter().filter(|field| given.contains_key(*field)) {
        let without = given.iter().filter(|(name, _)| name.as_str() != field);
        if is_lost(messages, &without.map(|(name, value)| (name.clone(), value.clone())).collect()) {
            return Err(Failure::NotWritten { what: format!("`{field}`") });
        }
    }
    for (i, message) in messages.iter().enumerate() {
        let is_call = message.more.contains_key(calls::FIELD);
        if !is_call && (message.role != Role::Tool || message.content.trim().is_empty()) {
            continue;
        }
        let mut without = messages.to_vec();
        let field = if is_call {
            without[i].more.shift_remove(calls::FIELD);
            calls::FIELD
        } else {
            without[i].content.clear();
            "content"
        };
        let not_written = |field: &str| Failure::NotWritten {
            what: format!("{field} of the turns of the {}", message.role),
        };
        if is_lost(&without, given) {
            return Err(not_written(&format!("`{field}`")));
        }
        let bare = message.more.get(calls::FIELD).map(calls::bare);
        if let Some(bare) = bare.filter(|bare| Some(bare) != message.more.get(calls::FIELD)) {
            without[i].more.insert(calls::FIELD.to_owned(), bare);
            if is_lost(&without, given) {
                return Err(not_written("the arguments in `tool_calls`"));
            }
        }
    }
    Ok(())
}
