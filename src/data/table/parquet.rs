//! Parquet files to records, row by row.
//!
//! A column's values may take a thousandth of their bytes here, and what a file says of its own size may be a
//! lie. So only columns that are wanted are decoded, and of those the sizes that the decoder will believe are
//! checked before it begins: each page's own, and how many values the pages of a row group say they have.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;
use serde_json::{Value, json};
use thiserror::Error;

use super::error::{Cause, TableError};
use super::record::{Each, Limits, Place, Record, Wanted};
use crate::folders;

/// Whether the file's first bytes are parquet's.
pub(super) fn is_parquet(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = folders::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"PAR1"
}

/// The most bytes of one page, unpacked. Most writers put 1 MB into one, `DuckDB` up to 100 MB.
const PAGE_BYTES: i64 = 256 << 20;
/// The most elements of the lists of one row group: decoded they take a hundred bytes each, and all may be one row's.
const LIST_ELEMENTS: usize = 16 << 20;

/// Hands on every row with the wanted columns, and returns the names of the others.
pub(super) fn read<E: From<TableError>>(
    path: &Path,
    wanted: Wanted<'_>,
    limits: Limits,
    each: Each<'_, E>,
) -> Result<Vec<String>, E> {
    let file = folders::open(path).map_err(|error| TableError::unreadable(path, error))?;
    let packed_bytes = file.metadata().map_err(|error| TableError::unreadable(path, error))?.len();
    let broken = |error| bad(error, format!("`{}`", path.display()));
    let pages = Arc::new(AtomicBool::new(false));
    let guarded = Guarded { file, pages: Arc::clone(&pages) };
    let reader = caught(|| SerializedFileReader::new(guarded)).map_err(broken)?;
    pages.store(true, Ordering::Relaxed);
    let root = reader.metadata().file_metadata().schema();
    let (read, skipped): (Vec<_>, Vec<_>) =
        root.get_fields().iter().cloned().partition(|field| wanted(field.name()));
    let schema = Type::group_type_builder(root.name()).with_fields(read).build().map_err(broken)?;
    for group in 0..reader.num_row_groups() {
        let n = caught(|| list_elements(&reader, group, wanted)).map_err(broken)?;
        if n > LIST_ELEMENTS {
            let path = path.to_owned();
            return Err(
                TableError::LongLists { path, group: group + 1, found: n, limit: LIST_ELEMENTS }.into()
            );
        }
    }
    let mut rows = caught(|| reader.get_row_iter(Some(schema))).map_err(broken)?;
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
        let mut record = object(row.into_columns(), &mut bytes);
        // They are there, whatever they hold.
        record.extend(skipped.iter().map(|field| (field.name().to_owned(), Value::Null)));
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
    Ok(skipped.iter().map(|field| field.name().to_owned()).collect())
}

/// How many more values than rows the fullest wanted column of a row group has, by the headers of its pages.
fn list_elements(
    reader: &SerializedFileReader<Guarded>,
    group: usize,
    wanted: Wanted<'_>,
) -> Result<usize, ParquetError> {
    let row_group = reader.get_row_group(group)?;
    let columns = row_group.metadata().columns().iter().enumerate();
    let mut most = 0;
    for (nth, column) in columns {
        let path = column.column_descr();
        if path.max_rep_level() == 0 || !path.path().parts().first().is_some_and(|name| wanted(name)) {
            continue;
        }
        let mut pages = row_group.get_column_page_reader(nth)?;
        let mut n = 0_usize;
        while let Some(page) = pages.peek_next_page()? {
            n = n.saturating_add(page.num_levels.unwrap_or(0));
            pages.skip_next_page()?;
        }
        most = most.max(n);
    }
    let rows = usize::try_from(row_group.metadata().num_rows()).unwrap_or(0);
    Ok(most.saturating_sub(rows))
}

/// A file whose pages are no larger than a page may be.
///
/// The decoder makes room for what a page's header says; so the header is looked at on its way.
struct Guarded {
    file: File,
    /// The footer is read; what is asked for as a stream from here on begins with a page's header.
    pages: Arc<AtomicBool>,
}

impl Length for Guarded {
    fn len(&self) -> u64 {
        Length::len(&self.file)
    }
}

/// Three integers in compact Thrift: a byte each for their kind, and at most five for a value of 32 bits.
const PAGE_START: u64 = 18;

impl ChunkReader for Guarded {
    type T = io::Chain<Cursor<Vec<u8>>, BufReader<File>>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let mut rest = self.file.get_read(start)?;
        let mut begun = Vec::new();
        if self.pages.load(Ordering::Relaxed) {
            rest.by_ref().take(PAGE_START).read_to_end(&mut begun)?;
            match page_bytes(&begun) {
                Some(bytes) if bytes > PAGE_BYTES => {
                    return Err(ParquetError::External(Box::new(LargePage)));
                }
                Some(_) => {}
                None => return Err(ParquetError::General(format!("no page begins at byte {start}"))),
            }
        }
        Ok(Cursor::new(begun).chain(rest))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // Room is made before the first byte is read.
        if start.saturating_add(length as u64) > Length::len(&self.file) {
            return Err(ParquetError::EOF(format!("{length} bytes at byte {start} reach beyond the file")));
        }
        self.file.get_bytes(start, length)
    }
}

/// What a page says it unpacks to: the second field of its header, behind its kind (`PageHeader` of
/// `parquet.thrift`, Thrift's compact protocol). None where that is not what it begins with.
fn page_bytes(header: &[u8]) -> Option<i64> {
    const INTEGER: u8 = 5;
    let mut bytes = header.iter().copied();
    let mut field = || {
        // The difference to the last field's number, and the kind of this one.
        (bytes.next()? == 1 << 4 | INTEGER).then_some(())?;
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    };
    field()?;
    field()
}

/// A page that is larger than any should be; travels inside a [`ParquetError`].
#[derive(Debug, Error)]
#[error("a page of more than {PAGE_BYTES} bytes")]
struct LargePage;

/// The crate asserts some of what a damaged file breaks.
fn caught<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let broken = |_| Err(ParquetError::General("the file contradicts itself".to_owned()));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(broken)
}

/// Characters of a complaint; some quote a whole column.
const SHOWN: usize = 160;

fn bad(error: ParquetError, what: String) -> TableError {
    if matches!(&error, ParquetError::External(inner) if inner.is::<LargePage>()) {
        return TableError::LargePage { what, limit: PAGE_BYTES };
    }
    let cause = error.to_string().lines().next().unwrap_or_default().chars().take(SHOWN).collect();
    TableError::BadParquet { what, source: Cause(cause) }
}

/// A value that is no text counts as one of this many bytes: about what JSON would take.
const VALUE_BYTES: u64 = 8;

fn object(columns: Vec<(String, Field)>, bytes: &mut u64) -> Record {
    columns.into_iter().map(|(name, field)| (name, value(field, bytes))).collect()
}

/// A field as JSON; what it would take there is added to `bytes`, about.
fn value(field: Field, bytes: &mut u64) -> Value {
    *bytes += VALUE_BYTES;
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
