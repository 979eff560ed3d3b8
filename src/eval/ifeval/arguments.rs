//! The arguments of an instruction, read by name and kind.

use std::cell::RefCell;

use regex::Regex;
use serde_json::{Map, Value};

use super::python;

/// How a count is compared with the number that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    LessThan,
    AtLeast,
}

impl Relation {
    pub(super) fn holds(self, found: usize, asked: usize) -> bool {
        match self {
            Self::LessThan => found < asked,
            Self::AtLeast => found >= asked,
        }
    }
}

/// What an instruction was given; remembers what was read.
pub(super) struct Arguments {
    given: Map<String, Value>,
    read: RefCell<Vec<&'static str>>,
}

impl Arguments {
    /// Those of `kwargs` that Python takes for true: the others count as absent upstream.
    pub(super) fn of(kwargs: &Value) -> Result<Self, String> {
        let given = match kwargs {
            Value::Null => Map::new(),
            Value::Object(map) => map.clone().into_iter().filter(|(_, value)| is_true(value)).collect(),
            other => return Err(format!("arguments are an object, not {other}")),
        };
        Ok(Self { given, read: RefCell::default() })
    }

    fn value(&self, key: &'static str) -> Result<&Value, String> {
        self.read.borrow_mut().push(key);
        self.given.get(key).ok_or_else(|| format!("`{key}` is missing, zero or empty"))
    }

    pub(super) fn number(&self, key: &'static str) -> Result<usize, String> {
        let value = self.value(key)?;
        // Tables of numbers with gaps come back from some tools as floats.
        let whole = value.as_f64().filter(|number| *number > 0.0 && number.fract() == 0.0);
        whole.map(|number| number as usize).ok_or_else(|| format!("`{key}` is {value}, not a count"))
    }

    pub(super) fn text(&self, key: &'static str) -> Result<&str, String> {
        let value = self.value(key)?;
        value.as_str().ok_or_else(|| format!("`{key}` is {value}, not text"))
    }

    /// A list of regular expressions, each between `before` and `after`; letters match whatever their case.
    pub(super) fn patterns(&self, key: &'static str) -> Result<Vec<Regex>, String> {
        let value = self.value(key)?;
        let words: Option<Vec<&str>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        let words = words.ok_or_else(|| format!("`{key}` is {value}, not a list of texts"))?;
        words.into_iter().map(|word| python::pattern(&format!("(?i){word}"))).collect()
    }

    pub(super) fn relation(&self, key: &'static str) -> Result<Relation, String> {
        match self.text(key)? {
            "less than" => Ok(Relation::LessThan),
            "at least" => Ok(Relation::AtLeast),
            other => Err(format!("`{key}` is `{other}`, expected `less than` or `at least`")),
        }
    }

    /// An error if something was given that nothing asked for.
    pub(super) fn all_read(&self) -> Result<(), String> {
        let read = self.read.borrow();
        match self.given.keys().find(|key| !read.contains(&key.as_str())) {
            Some(key) => Err(format!("`{key}` is no argument of this type")),
            None => Ok(()),
        }
    }
}

/// Python's truth of a value.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
