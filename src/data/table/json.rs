//! JSON to records: an object a line, or one array of objects.

use std::fmt;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::Value;

use super::error::{RECORDS, TableError};
use super::record::{Each, Place, Record, kind};
use super::stream::Stream;

/// The record that a line holds.
pub(super) fn line(bytes: &[u8], place: &Place) -> Result<Record, TableError> {
    if bytes.starts_with("\u{feff}".as_bytes()) {
        return Err(TableError::MarkInside { place: place.clone() });
    }
    let value = serde_json::from_slice(bytes).map_err(|error| {
        // A line end in the manner of Windows was taken away.
        match bytes.windows(3).any(|end| end == b"}\r{") {
            true => TableError::LoneReturns { path: place.path.clone() },
            false => TableError::bad_json(&place.path, &error, place.number, RECORDS),
        }
    })?;
    record(value, place)
}

/// The record that a value is.
///
/// # Errors
///
/// It is no object.
pub fn record(value: Value, place: &Place) -> Result<Record, TableError> {
    match value {
        Value::Object(record) => Ok(record),
        other => Err(TableError::NotAnObject { place: place.clone(), found: kind(&other) }),
    }
}

/// Hands on every element.
pub(super) fn array<E: From<TableError>>(stream: Stream<'_>, each: Each<'_, E>) -> Result<(), E> {
    let mut failure = None;
    let (source, record_bytes) = (stream.source, stream.record_bytes);
    let mut json = serde_json::Deserializer::from_reader(stream.reader);
    let mut number = 0;
    let one = |value| {
        record_bytes.set(0);
        number += 1;
        let place = source.place("record", number);
        let handed = record(value, &place).map_err(E::from).and_then(|record| each(record, place));
        handed.map_err(|error| failure = Some(error)).is_ok()
    };
    let result = Elements(one).deserialize(&mut json).and_then(|()| json.end());
    if let Some(failure) = failure {
        return Err(failure);
    }
    let refused = |error: serde_json::Error| {
        if error.is_io() {
            source.stopped_at(error.into(), source.place("record", number + 1))
        } else {
            TableError::bad_json(source.path, &error, error.line(), RECORDS)
        }
    };
    Ok(result.map_err(refused)?)
}

/// Hands each element of an array on as soon as it is read, until one is refused.
struct Elements<F>(F);

impl<'de, F: FnMut(Value) -> bool> DeserializeSeed<'de> for Elements<F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element()? {
            if !self.0(value) {
                return Err(serde::de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}
