//! Parquet files to records, row by row.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};

use super::error::{Cause, TableError};
use super::record::{Each, Limits, Place, Record};

/// Whether the file's first bytes are parquet's.
pub(super) fn is_parquet(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"PAR1"
}

/// Hands on every row.
///
/// The limits count the texts that come out: what a file says of its own size may be a lie.
pub(super) fn read<E: From<TableError>>(path: &Path, limits: Limits, each: Each<'_, E>) -> Result<(), E> {
    let file = File::open(path).map_err(|error| TableError::unreadable(path, error))?;
    let packed_bytes = file.metadata().map_err(|error| TableError::unreadable(path, error))?.len();
    let broken = |error| bad(error, format!("`{}`", path.display()));
    let reader = caught(|| SerializedFileReader::new(file)).map_err(broken)?;
    let mut rows = caught(|| reader.get_row_iter(None)).map_err(broken)?;
    let mut total = 0;
    for number in 1.. {
        let place = Place { path: path.to_owned(), unit: "row", number };
        let row = caught(|| rows.next().transpose()).map_err(|error| {
            match error.to_string().contains("BYTE_ARRAY as String") {
                true => TableError::RowNotUtf8 { place: place.clone() },
                false => bad(error, place.to_string()),
            }
        })?;
        let Some(row) = row else { break };
        let mut bytes = 0;
        let record = object(row.into_columns(), &mut bytes);
        total += bytes;
        if bytes > limits.record_bytes {
            return Err(TableError::RecordTooLarge { place, limit: limits.record_bytes }.into());
        } else if total > limits.file_bytes {
            return Err(TableError::TooLarge { path: path.to_owned(), limit: limits.file_bytes }.into());
        } else if limits.is_bomb(total, packed_bytes) {
            return Err(TableError::Bomb { path: path.to_owned(), ratio: limits.pack_ratio }.into());
        }
        each(record, place)?;
    }
    Ok(())
}

/// The crate asserts some of what a damaged file breaks.
fn caught<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let broken = |_| Err(ParquetError::General("the file contradicts itself".to_owned()));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(broken)
}

fn bad(error: ParquetError, what: String) -> TableError {
    // Some messages quote a whole column.
    const SHOWN: usize = 160;
    let cause = error.to_string().lines().next().unwrap_or_default().chars().take(SHOWN).collect();
    TableError::BadParquet { what, source: Cause(cause) }
}

fn object(columns: Vec<(String, Field)>, bytes: &mut u64) -> Record {
    columns.into_iter().map(|(name, field)| (name, value(field, bytes))).collect()
}

/// A field as JSON; the bytes of its texts are added to `bytes`.
fn value(field: Field, bytes: &mut u64) -> Value {
    let mut text = |text: String| {
        *bytes += text.len() as u64;
        Value::String(text)
    };
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => json!(value),
        Field::Byte(value) => json!(value),
        Field::Short(value) => json!(value),
        Field::Int(value) => json!(value),
        Field::Long(value) => json!(value),
        Field::UByte(value) => json!(value),
        Field::UShort(value) => json!(value),
        Field::UInt(value) => json!(value),
        Field::ULong(value) => json!(value),
        Field::Float(value) => json!(value),
        Field::Double(value) => json!(value),
        Field::Str(value) => text(value),
        // Older writers do not say which bytes are text; those of a picture are none.
        Field::Bytes(value) => String::from_utf8(value.data().to_vec()).map_or(Value::Null, text),
        Field::Group(row) => Value::Object(object(row.into_columns(), bytes)),
        Field::ListInternal(list) => {
            list.elements().iter().map(|field| value(field.clone(), bytes)).collect()
        }
        // Dates, decimals, maps: as they are printed.
        other => text(other.to_string()),
    }
}
