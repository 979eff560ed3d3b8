//! What a reader hands on: one record, where it stands, and how much a file may hold.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

/// The fields of one record by name, in the file's order.
pub type Record = Map<String, Value>;

/// What is done with each record; the first error ends the reading.
pub type Each<'a, E> = &'a mut dyn FnMut(Record, Place) -> Result<(), E>;

/// Which columns are looked at, by name: where columns lie apart, no other is read.
pub type Wanted<'a> = &'a dyn Fn(&str) -> bool;

/// A record of a file, as a user finds it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    /// `line`, `record` in a JSON array, or `row` in a parquet file.
    pub unit: &'static str,
    pub number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of `{}`", self.unit, self.number, self.path.display())
    }
}

/// How much a file may ask for before reading stops.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the whole file, unpacked: data sets are held in memory.
    pub file_bytes: u64,
    /// Bytes of one record.
    pub record_bytes: u64,
    /// Unpacked bytes for each packed one, once there are more than a few megabytes. JSON text
    /// packs to a fifth, very repetitive text to a fiftieth; DEFLATE can reach 1,032, zstd more.
    pub pack_ratio: u64,
    /// Bytes of memory that all records take as values, about: a list of zeros takes sixteen times its text.
    pub held_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 4 << 30, record_bytes: 16 << 20, pack_ratio: 200, held_bytes: 8 << 30 }
    }
}

/// Below this size a ratio says nothing.
const RATIO_FROM_BYTES: u64 = 8 << 20;

impl Limits {
    /// Whether `total` bytes that came out of `packed` ones are more than text can be.
    pub(super) fn is_bomb(self, total: u64, packed: u64) -> bool {
        total > RATIO_FROM_BYTES && total / self.pack_ratio > packed
    }
}

/// What a record takes in memory, about.
pub(super) fn held_bytes(record: &Record) -> u64 {
    let entry = |(name, value): (&String, &Value)| ENTRY_BYTES + name.len() as u64 + value_bytes(value);
    record.iter().map(entry).sum()
}

/// An entry of a map beside its name and its value.
const ENTRY_BYTES: u64 = 40;

fn value_bytes(value: &Value) -> u64 {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len() as u64,
        Value::Array(values) => values.iter().map(value_bytes).sum(),
        Value::Object(record) => held_bytes(record),
    };
    size_of::<Value>() as u64 + inside
}

/// What a value is, for a message.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The names of a record's fields, for a message.
pub fn names(record: &Record) -> String {
    if record.is_empty() {
        return "no fields".to_owned();
    }
    let names: Vec<String> = record.keys().take(12).map(|name| format!("`{name}`")).collect();
    let more = if record.len() > names.len() { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}
