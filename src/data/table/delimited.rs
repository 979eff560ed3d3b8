//! Tables with a byte between two fields, and a header or names for their columns.

use std::collections::HashSet;
use std::io::{self, Read};

use serde_json::Value;

use super::error::TableError;
use super::record::{Each, Place, Record};
use super::stream::{Source, Stream};

/// Stands behind the last row of a table. A quote left open would swallow the rest of the file without
/// a word, and this with it.
const END: &str = "\n\u{4}\n";

/// Hands on every row that is not blank; without `names` the first one names the columns.
pub(super) fn read<E: From<TableError>>(
    stream: Stream<'_>,
    delimiter: u8,
    names: Option<&[&str]>,
    each: Each<'_, E>,
) -> Result<(), E> {
    let source = stream.source;
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .terminator(csv::Terminator::Any(b'\n'))
        .flexible(true)
        .has_headers(false)
        .from_reader(stream.reader.chain(END.as_bytes()));
    let mut columns: Option<Vec<String>> =
        names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let mut row = csv::StringRecord::new();
    let mut line = 0;
    loop {
        stream.record_bytes.set(0);
        let next = source.place("line", line + 1);
        let is_row = rows.read_record(&mut row).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => source.stopped_at(error, next),
            kind => source.stopped_at(io::Error::other(format!("{kind:?}")), next),
        })?;
        let within = row.iter().flat_map(str::bytes).filter(|byte| *byte == b'\n').count();
        line = (rows.position().line() as usize).saturating_sub(1 + within);
        let end = END.trim();
        if !is_row || row.iter().eq([end]) {
            return Ok(());
        }
        // The end of a line in the manner of Windows is no part of its last field.
        let mut fields: Vec<&str> = row.iter().collect();
        let last = fields.last_mut().expect("a row has a field");
        if last.contains(end) {
            // No line end closed this row.
            return Err(TableError::OpenQuote { place: source.place("line", line + 1) }.into());
        }
        *last = last.strip_suffix('\r').unwrap_or(last);
        match &columns {
            _ if fields == [""] => {}
            None => columns = Some(header(source, &fields)?),
            Some(columns) => {
                let place = source.place("line", line);
                each(cells(columns, &fields, &place)?, place)?;
            }
        }
    }
}

fn header(source: Source<'_>, fields: &[&str]) -> Result<Vec<String>, TableError> {
    let names: Vec<String> = fields.iter().map(|name| name.trim().to_owned()).collect();
    let path = || source.path.to_owned();
    if names.iter().any(|name| name.contains('\r')) {
        return Err(TableError::LoneReturns { path: path() });
    }
    if let [only] = names.as_slice()
        && let Some(found) = only.chars().find(|c| [';', '\t', '|'].contains(c))
    {
        return Err(TableError::OtherDelimiter { path: path(), found });
    }
    let mut seen = HashSet::new();
    let twice = names.iter().position(|name| !seen.insert(name));
    twice.map_or(Ok(()), |i| {
        let (path, name) = (source.path.to_owned(), names[i].clone());
        Err(TableError::SameColumn { path, column: i + 1, name })
    })?;
    Ok(names)
}

/// A row of a table as a record.
fn cells(columns: &[String], fields: &[&str], place: &Place) -> Result<Record, TableError> {
    let (found, expected) = (fields.len(), columns.len());
    if found != expected {
        let detail = match columns.get(found) {
            Some(name) => format!("column {}, `{name}`, is missing", found + 1),
            None => format!("column {} has no name", expected + 1),
        };
        return Err(TableError::UnevenRow { place: place.clone(), found, expected, detail });
    }
    let value = |field: &&str| Value::String((*field).to_owned());
    Ok(columns.iter().cloned().zip(fields.iter().map(value)).collect())
}
