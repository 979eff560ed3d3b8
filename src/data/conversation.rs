//! The one shape that every data set takes: who said what.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
    /// What a tool gave back.
    Tool,
}

impl Role {
    /// As chat templates and endpoints spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: String,
    /// What else its file says of the turn, by name: `tool_calls`, `reasoning_content`, … A chat template
    /// sees all of it. `content` is here where it is null.
    pub more: Map<String, Value>,
    /// Whether its file keeps it out of the loss.
    pub muted: bool,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), more: Map::new(), muted: false }
    }
}

/// As chat templates see it.
impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", self.role.name())?;
        if !self.more.contains_key("content") {
            map.serialize_entry("content", &self.content)?;
        }
        self.more.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// The answer that a record has besides the one that ends its conversation: the rejected or the harmful one.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    pub answer: String,
    /// A number for each token of the conversation's answer, and of this one.
    pub scores: Option<[Vec<f64>; 2]>,
}

/// Messages that belong together and where they were read.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    pub messages: Vec<Message>,
    pub other: Option<Other>,
    /// What its record hands to the chat template beside the turns: `tools`, `documents` and the like.
    pub given: Map<String, Value>,
    pub line: Line,
}

impl Conversation {
    /// Turns to which nothing else belongs.
    pub fn new(messages: impl Into<Vec<Message>>, line: impl Into<Line>) -> Self {
        Self { messages: messages.into(), other: None, given: Map::new(), line: line.into() }
    }
}

/// Where a conversation was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Which file of a mixture, counted from 1; 0 if there is one file.
    pub source: usize,
    /// The line of the file, or the record of a JSON array or a table, counted from 1.
    pub number: usize,
}

impl From<usize> for Line {
    fn from(number: usize) -> Self {
        Self { source: 0, number }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        if self.source > 0 {
            write!(f, " of source {}", self.source)?;
        }
        Ok(())
    }
}
