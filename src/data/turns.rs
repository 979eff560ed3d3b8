//! One record to the turns of a conversation, and what is wrong with one.

use serde_json::{Map, Value};

use super::calls;
use super::conversation::{Conversation, Message, Other, Role};
use super::error::DataError;
use super::format::Format;
use super::guard;
use super::table::{Place, Record, kind, names};
use super::turn::{GIVEN, HISTORY, MEDIA, Turn, holds_something, says_something};
use crate::recipe::{Field, Form};

/// One record on its way to a conversation, and where it stands.
pub(super) struct Turns {
    pub record: Record,
    pub place: Place,
}

/// What a record held.
pub(super) struct Read {
    pub conversation: Conversation,
    /// Whether a system message stood beside the turns.
    pub has_system: bool,
    /// How many turns had a list of parts for their content.
    pub n_lists: usize,
    /// Fields with something in them that nobody reads.
    pub unread: Vec<String>,
}

impl Turns {
    pub(super) fn read(mut self, format: &Format) -> Result<Read, DataError> {
        let name = |field| format.name(field);
        // Columns of other tables are no part of a conversation, whatever they are called.
        let is_chat = match format.form {
            Form::Messages | Form::Sharegpt => true,
            Form::PromptCompletion | Form::SafeHarmful => self.is_list(&name(Field::Prompt)),
            Form::Preference => {
                [Field::Prompt, Field::Chosen].map(name).iter().any(|field| self.is_list(field))
            }
            Form::Auto | Form::Alpaca | Form::Text | Form::Guard => false,
        };
        let mut n_lists = 0;
        let mut other = None;
        let mut messages = match format.form {
            Form::Auto => unreachable!("the form was recognised before the first record was read"),
            Form::Messages => {
                let names = [Field::Messages, Field::Role, Field::Content].map(name);
                self.conversation(&names, &mut n_lists)?
            }
            Form::Sharegpt => {
                let names = [Field::Conversations, Field::From, Field::Value].map(name);
                self.conversation(&names, &mut n_lists)?
            }
            Form::PromptCompletion => self.prompt_and_completion(format, &mut n_lists)?,
            Form::Alpaca => {
                let mut user = self.text(&name(Field::Instruction))?;
                if let Some(input) = self.optional(&name(Field::Input))? {
                    user = format!("{user}\n\n{input}");
                }
                let answer = self.text(&name(Field::Output))?;
                self.behind_history(pair(user, answer))?
            }
            Form::Text => vec![Message::new(Role::Assistant, self.text(&name(Field::Text))?)],
            Form::Preference | Form::SafeHarmful => {
                let (messages, answer) = self.two_answers(format, &mut n_lists)?;
                let scores = if format.form == Form::Preference { self.scores(format)? } else { None };
                other = Some(Other { answer, scores });
                messages
            }
            Form::Guard => self.labelled(format)?,
        };
        let system = match format.form {
            Form::Text | Form::Guard => None,
            _ => self.optional(&name(Field::System))?,
        };
        if let Some(system) = &system {
            if messages.first().is_some_and(|first| first.role == Role::System) {
                return Err(DataError::LateSystem { place: self.place });
            }
            messages.insert(0, Message::new(Role::System, system.as_str()));
        }
        let given = if is_chat { self.given()? } else { Map::new() };
        let known: Vec<String> = format.form.fields().iter().map(|known| name(*known)).collect();
        let is_known = |field: &String| given.contains_key(field) || known.contains(field);
        let unread =
            self.record.iter().filter(|(field, value)| says_something(Some(value)) && !is_known(field));
        let unread = unread.map(|(field, _)| field.clone()).collect();
        let conversation = Conversation { messages, other, given, line: self.place.number.into() };
        Ok(Read { conversation, has_system: system.is_some(), n_lists, unread })
    }

    /// A question and its answer, or, as TRL has it too, the turns before the answer and the answer in a list.
    fn prompt_and_completion(
        &mut self,
        format: &Format,
        n_lists: &mut usize,
    ) -> Result<Vec<Message>, DataError> {
        let [prompt, completion] = [Field::Prompt, Field::Completion].map(|field| format.name(field));
        if !self.is_list(&prompt) {
            let user = self.text(&prompt)?;
            // A file of requests has no answers: a transform gives them, or there is nothing to learn.
            let completion = Some(completion).filter(|name| !name.is_empty());
            let answer = completion.map_or(Ok(String::new()), |name| self.text(&name))?;
            return self.behind_history(pair(user, answer));
        }
        let mut messages = self.turns(&prompt, "role", "content", n_lists)?;
        // Only the completion is learned, whatever `loss_on` says.
        for message in &mut messages {
            message.muted = true;
        }
        match completion.as_str() {
            "" => messages.push(Message::new(Role::Assistant, "")),
            name if self.is_list(name) => {
                let answer = self.turns(name, "role", "content", n_lists)?;
                if answer.len() != 1 || answer[0].role != Role::Assistant {
                    return Err(self.wrong(name, "a list of more", "a list of one message of the assistant"));
                }
                messages.extend(answer);
            }
            name => messages.push(Message::new(Role::Assistant, self.text(name)?)),
        }
        Ok(messages)
    }

    /// The turns that a record has before its question, then these. A column of that name that holds no list is
    /// another's.
    fn behind_history(&mut self, turns: [Message; 2]) -> Result<Vec<Message>, DataError> {
        let listed = match self.record.get(HISTORY) {
            Some(Value::Array(pairs)) => Some(pairs.clone()),
            // A cell of a table can only hold the list as text.
            Some(Value::String(text)) if text.trim_start().starts_with("[[") => {
                serde_json::from_str(text).ok()
            }
            _ => None,
        };
        let Some(pairs) = listed else { return Ok(turns.to_vec()) };
        let mut messages = Vec::with_capacity(2 * pairs.len() + 2);
        for said in &pairs {
            let Some([Value::String(user), Value::String(answer)]) = said.as_array().map(Vec::as_slice)
            else {
                return Err(self.wrong(
                    HISTORY,
                    "a list of something else",
                    "a list of pairs of a question and its answer",
                ));
            };
            if user.trim().is_empty() || answer.trim().is_empty() {
                return Err(DataError::EmptyText { place: self.place.clone(), field: HISTORY.to_owned() });
            }
            messages.extend(pair(user.clone(), answer.clone()));
        }
        self.record.remove(HISTORY);
        messages.extend(turns);
        Ok(messages)
    }

    /// A prompt and two answers to it, each a text or, as TRL has them too, a list of turns, which may begin with the
    /// prompt: the conversation that ends with the first one, and the second one.
    fn two_answers(
        &mut self,
        format: &Format,
        n_lists: &mut usize,
    ) -> Result<(Vec<Message>, String), DataError> {
        let fields = match format.form {
            Form::Preference => [Field::Chosen, Field::Rejected],
            _ => [Field::Safe, Field::Harmful],
        };
        for field in fields {
            let name = format.name(field);
            if !self.record.contains_key(&name) {
                let (place, found) = (self.place.clone(), names(&self.record));
                return Err(DataError::OneAnswer { place, field: name, found, what: field.name() });
            }
        }
        let prompt = format.name(Field::Prompt);
        let mut turns = match self.record.get(&prompt) {
            Some(value) if value.is_array() => self.turns(&prompt, "role", "content", n_lists)?,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => vec![Message::new(Role::User, self.text(&prompt)?)],
        };
        let [first, second] = fields.map(|field| format.name(field));
        let (before, answer) = self.answer(&first, n_lists)?;
        if !before.is_empty() {
            turns = before;
        }
        let (before, other) = self.answer(&second, n_lists)?;
        if !before.is_empty() && before != turns {
            return Err(self.wrong(
                &second,
                "a list with other turns before its answer",
                "one prompt for both",
            ));
        }
        if turns.is_empty() {
            let (field, found) = (prompt, names(&self.record));
            return Err(DataError::MissingField { place: self.place.clone(), field, found });
        }
        turns.push(answer);
        Ok((turns, other.content))
    }

    /// One of two answers, and the turns that its list has before it.
    fn answer(&mut self, field: &str, n_lists: &mut usize) -> Result<(Vec<Message>, Message), DataError> {
        if !self.is_list(field) {
            return Ok((Vec::new(), Message::new(Role::Assistant, self.text(field)?)));
        }
        let mut turns = self.turns(field, "role", "content", n_lists)?;
        match turns.pop().filter(|last| last.role == Role::Assistant) {
            Some(answer) => Ok((turns, answer)),
            None => Err(self.wrong(field, "a list that ends otherwise", "a list that ends with an answer")),
        }
    }

    /// A number for each token of the chosen and of the rejected answer, where the record has them.
    fn scores(&self, format: &Format) -> Result<Option<[Vec<f64>; 2]>, DataError> {
        let names = [Field::ChosenScores, Field::RejectedScores].map(|field| format.name(field));
        let given = |name: &String| self.record.get(name).filter(|value| !value.is_null());
        let [Some(chosen), Some(rejected)] = names.each_ref().map(given) else {
            return match names.each_ref().map(given) {
                [None, None] => Ok(None),
                _ => Err(self.wrong(
                    &names[0],
                    "there without the other, or the other without it",
                    "both or none",
                )),
            };
        };
        let list = |name: &str, value: &Value| -> Result<Vec<f64>, DataError> {
            // A cell of a table can only hold the list as text.
            let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            let numbers = parsed.as_ref().unwrap_or(value).as_array();
            let numbers =
                numbers.and_then(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
            numbers.ok_or_else(|| self.wrong_type(name, value, "a list of numbers, one for each token"))
        };
        Ok(Some([list(&names[0], chosen)?, list(&names[1], rejected)?]))
    }

    /// A request, and the turn of a guard that labels it.
    fn labelled(&mut self, format: &Format) -> Result<Vec<Message>, DataError> {
        let [prompt, label] = [Field::Prompt, Field::Label].map(|field| format.name(field));
        let request = self.text(&prompt)?;
        let Some(found) = self.record.get(&label) else {
            let found = names(&self.record);
            return Err(DataError::MissingField { place: self.place.clone(), field: label, found });
        };
        let is_harmful = guard::label_of(found).ok_or_else(|| {
            self.wrong(&label, &found.to_string(), "`harmful`, `safe`, true, false, 1 or 0")
        })?;
        let [category, answer] = [Field::Category, Field::Answer].map(|field| {
            let name = format.name(field);
            // A name that the recipe gives is meant; without one the field may be missing.
            match format.fields.contains_key(&field) && !self.record.contains_key(&name) && !name.is_empty() {
                true => Err(DataError::MissingField {
                    place: self.place.clone(),
                    field: name,
                    found: names(&self.record),
                }),
                false => self.optional(&name),
            }
        });
        let turn = guard::labelled(is_harmful, category?.as_deref(), answer?.as_deref());
        Ok(pair(request, turn).to_vec())
    }

    /// What goes to the chat template beside the turns.
    fn given(&mut self) -> Result<Map<String, Value>, DataError> {
        let mut given = Map::new();
        if let Some(field) = MEDIA.into_iter().find(|field| holds_something(self.record.get(*field))) {
            return Err(DataError::BeyondText { place: self.place.clone(), field: field.to_owned() });
        }
        let [tools, functions, documents, values] = GIVEN;
        for field in [tools, functions] {
            // A text that is no JSON says nothing of tools.
            let is_text =
                |value: &Value| value.as_str().is_some_and(|text| !text.trim_start().starts_with(['[', '{']));
            let named = self.record.get(field).filter(|value| says_something(Some(value)) && !is_text(value));
            let Some(value) = named.cloned() else { continue };
            let tools = calls::tools(value);
            let tools = tools.ok_or_else(|| self.wrong(field, "something else", "a list of tools"))?;
            self.record.remove(field);
            given.insert("tools".to_owned(), tools);
        }
        if let Some(found) = self.record.remove(documents).filter(|value| says_something(Some(value))) {
            given.insert("documents".to_owned(), found);
        }
        match self.record.remove(values) {
            Some(Value::Object(values)) => {
                given.extend(values.into_iter().filter(|(_, value)| !value.is_null()));
            }
            None | Some(Value::Null) => {}
            Some(_) => return Err(self.wrong(values, "something else", "an object")),
        }
        Ok(given)
    }

    fn is_list(&self, field: &str) -> bool {
        self.record.get(field).is_some_and(Value::is_array)
    }

    fn wrong(&self, field: &str, found: &str, expected: &'static str) -> DataError {
        let (place, field) = (self.place.clone(), field.to_owned());
        DataError::WrongType { place, field, found: found.to_owned(), expected }
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
        self.wrong(field, kind(value), expected)
    }

    /// The turns of a list that ends with an answer.
    fn conversation(
        &mut self,
        [list, role, content]: &[String; 3],
        n_lists: &mut usize,
    ) -> Result<Vec<Message>, DataError> {
        let messages = self.turns(list, role, content, n_lists)?;
        match messages.last().map(|message| message.role) {
            Some(Role::Assistant) => Ok(messages),
            Some(role) => Err(DataError::NoAnswer { place: self.place.clone(), found: role.to_string() }),
            None => Err(DataError::EmptyText { place: self.place.clone(), field: list.clone() }),
        }
    }

    fn turns(
        &mut self,
        list: &str,
        role: &str,
        content: &str,
        n_lists: &mut usize,
    ) -> Result<Vec<Message>, DataError> {
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
            let name = format!("{list}[{i}]");
            let Value::Object(record) = turn else {
                return Err(self.wrong_type(
                    &name,
                    &turn,
                    "an object such as `{\"role\": …, \"content\": …}`",
                ));
            };
            let (message, is_list) = Turn { record, name, place: &self.place }.message(role, content)?;
            if message.role == Role::System && i > 0 {
                return Err(DataError::LateSystem { place: self.place.clone() });
            }
            *n_lists += usize::from(is_list);
            messages.push(message);
        }
        Ok(messages)
    }
}

fn pair(user: String, assistant: String) -> [Message; 2] {
    [Message::new(Role::User, user), Message::new(Role::Assistant, assistant)]
}
