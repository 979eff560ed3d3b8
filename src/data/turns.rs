//! One record to the turns of a conversation, and what is wrong with one.

use serde_json::Value;

use super::conversation::{Message, Role};
use super::error::DataError;
use super::format::Format;
use super::table::{Place, Record, kind, names};
use crate::recipe::{Field, Form};

/// One record on its way to a conversation, and where it stands.
pub(super) struct Turns {
    pub record: Record,
    pub place: Place,
}

impl Turns {
    /// The turns, and whether a system message stood beside them.
    pub(super) fn messages(mut self, format: &Format) -> Result<(Vec<Message>, bool), DataError> {
        let name = |field| format.name(field);
        let pair =
            |user, assistant| vec![Message::new(Role::User, user), Message::new(Role::Assistant, assistant)];
        let mut messages = match format.form {
            Form::Auto => unreachable!("the form was recognised before the first record was read"),
            Form::Messages => {
                self.turns(&name(Field::Messages), &name(Field::Role), &name(Field::Content))?
            }
            Form::Sharegpt => {
                self.turns(&name(Field::Conversations), &name(Field::From), &name(Field::Value))?
            }
            Form::PromptCompletion => {
                let user = self.text(&name(Field::Prompt))?;
                // A file of requests has no answers: a transform gives them, or there is nothing to learn.
                let completion = Some(name(Field::Completion)).filter(|name| !name.is_empty());
                pair(user, completion.map_or(Ok(String::new()), |name| self.text(&name))?)
            }
            Form::Alpaca => {
                let mut user = self.text(&name(Field::Instruction))?;
                if let Some(input) = self.optional(&name(Field::Input))? {
                    user = format!("{user}\n\n{input}");
                }
                pair(user, self.text(&name(Field::Output))?)
            }
            Form::Text => {
                return Ok((vec![Message::new(Role::Assistant, self.text(&name(Field::Text))?)], false));
            }
        };
        let system = self.optional(&name(Field::System))?;
        if let Some(system) = &system {
            if messages.first().is_some_and(|first| first.role == Role::System) {
                return Err(DataError::LateSystem { place: self.place });
            }
            messages.insert(0, Message::new(Role::System, system.as_str()));
        }
        Ok((messages, system.is_some()))
    }

    /// A field that must hold a text with something in it.
    fn text(&mut self, field: &str) -> Result<String, DataError> {
        match self.record.get_mut(field).map(Value::take) {
            None => {
                let (field, found) = (field.to_owned(), names(&self.record));
                Err(DataError::MissingField { place: self.place.clone(), field, found })
            }
            Some(Value::String(text)) if text.trim().is_empty() => {
                Err(DataError::EmptyText { place: self.place.clone(), field: field.to_owned() })
            }
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong_type(field, &other, "a string")),
        }
    }

    /// A field that may be empty or missing.
    fn optional(&self, field: &str) -> Result<Option<String>, DataError> {
        match self.record.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.trim().is_empty())),
            Some(other) => Err(self.wrong_type(field, other, "a string")),
        }
    }

    fn wrong_type(&self, field: &str, value: &Value, expected: &'static str) -> DataError {
        let (place, field) = (self.place.clone(), field.to_owned());
        DataError::WrongType { place, field, found: kind(value).to_owned(), expected }
    }

    fn turns(&mut self, list: &str, role: &str, content: &str) -> Result<Vec<Message>, DataError> {
        let turns = match self.record.get_mut(list).map(Value::take) {
            Some(Value::Array(turns)) => turns,
            // A cell of a table can only hold the list as text.
            Some(Value::String(text)) if text.trim_start().starts_with('[') => serde_json::from_str(&text)
                .map_err(|_| self.wrong_type(list, &Value::String(text), "a list of messages in JSON"))?,
            Some(other) => return Err(self.wrong_type(list, &other, "a list of messages")),
            None => {
                let (field, found) = (list.to_owned(), names(&self.record));
                return Err(DataError::MissingField { place: self.place.clone(), field, found });
            }
        };
        let mut messages = Vec::with_capacity(turns.len());
        for (i, turn) in turns.into_iter().enumerate() {
            let message = self.turn(&format!("{list}[{i}]"), turn, role, content)?;
            if message.role == Role::System && i > 0 {
                return Err(DataError::LateSystem { place: self.place.clone() });
            }
            messages.push(message);
        }
        match messages.last().map(|message| message.role) {
            Some(Role::Assistant) => Ok(messages),
            Some(role) => Err(DataError::NoAnswer { place: self.place.clone(), found: role.to_string() }),
            None => Err(DataError::EmptyText { place: self.place.clone(), field: list.to_owned() }),
        }
    }

    fn turn(&self, name: &str, turn: Value, role: &str, content: &str) -> Result<Message, DataError> {
        let Value::Object(record) = turn else {
            return Err(self.wrong_type(name, &turn, "an object such as `{\"role\": …, \"content\": …}`"));
        };
        let mut turn = Self { record, place: self.place.clone() };
        let named = |error| match error {
            DataError::MissingField { place, field, found } => {
                DataError::MissingField { place, field: format!("{name}.{field}"), found }
            }
            DataError::WrongType { place, field, found, expected } => {
                DataError::WrongType { place, field: format!("{name}.{field}"), found, expected }
            }
            DataError::EmptyText { place, field } => {
                DataError::EmptyText { place, field: format!("{name}.{field}") }
            }
            other => other,
        };
        let role = match turn.text(role).map_err(named)?.as_str() {
            "system" => Role::System,
            "user" | "human" => Role::User,
            "assistant" | "gpt" => Role::Assistant,
            role => {
                return Err(DataError::UnknownRole { place: self.place.clone(), role: role.to_owned() });
            }
        };
        Ok(Message { role, content: turn.text(content).map_err(named)? })
    }
}
