//! Files of records, for whoever reads some: JSON lines, one JSON array, a table with a header or lines of
//! text, plain or in gzip or zstd, and parquet.
//!
//! [`read`] hands on one [`Record`] after another with its [`Place`] and knows nothing of what they are for:
//! conversations to learn from and questions to ask come through it alike. Compression and parquet are known by
//! their first bytes, JSON by its braces; then the name decides. Files that are no records, a page of text or one
//! object of JSON, come through the same stream: [`text`] and [`document`].

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

mod delimited;
mod error;
mod json;
mod parquet;
mod record;
mod stream;

pub use error::{Cause, TableError};
pub use json::record;
pub use record::{Each, Limits, Place, Record, Wanted, kind, names};

use self::stream::Stream;
use super::faults::Faults;
use crate::doing;

/// What a file of records turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFormat {
    pub layout: Layout,
    /// What it is packed with.
    pub packing: Option<&'static str>,
    /// The columns that were not wanted, where they lie apart and no record has them.
    pub skipped: Vec<String>,
}

/// How records lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One JSON array.
    Array,
    /// A JSON object a line.
    Lines,
    /// Rows of a table with the byte between two fields.
    Table(u8),
    /// A record, of one field `text`, is a line.
    Text,
    Parquet,
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.layout {
            Layout::Array | Layout::Lines => "json",
            Layout::Text => "lines of text",
            Layout::Table(b'\t') => "tsv",
            Layout::Table(_) => "csv",
            Layout::Parquet => "parquet",
        })?;
        self.packing.map_or(Ok(()), |packing| write!(f, " in {packing}"))
    }
}

/// Hands on every record of a file and returns what the file is.
///
/// # Errors
///
/// The file cannot be read, is too large, not UTF-8 or not what it begins as; or whatever `each` refuses.
pub fn read<E: From<TableError>>(path: &Path, limits: Limits, each: Each<'_, E>) -> Result<FileFormat, E> {
    read_wanted(path, &|_| true, limits, each)
}

/// As [`read`]; columns that are not wanted may be absent from the records.
///
/// # Errors
///
/// As there.
pub fn read_wanted<E: From<TableError>>(
    path: &Path,
    wanted: Wanted<'_>,
    limits: Limits,
    each: Each<'_, E>,
) -> Result<FileFormat, E> {
    read_named(path, None, wanted, limits, each)
}

/// As [`read`]; a table has no header, and its columns are `names`.
///
/// # Errors
///
/// As there.
pub fn read_headless<E: From<TableError>>(
    path: &Path,
    names: &[&str],
    limits: Limits,
    each: Each<'_, E>,
) -> Result<FileFormat, E> {
    read_named(path, Some(names), &|_| true, limits, each)
}

fn read_named<E: From<TableError>>(
    path: &Path,
    names: Option<&[&str]>,
    wanted: Wanted<'_>,
    limits: Limits,
    each: Each<'_, E>,
) -> Result<FileFormat, E> {
    let _doing = doing::now(format!("reading `{}`", path.display()));
    let mut held = 0;
    let each: Each<'_, E> = &mut |record, place| {
        held += record::held_bytes(&record);
        if held > limits.held_bytes {
            let path = place.path;
            return Err(TableError::TooMuch { path, number: place.number, limit: limits.held_bytes }.into());
        }
        each(record, place)
    };
    if parquet::is_parquet(path) {
        let skipped = parquet::read(path, wanted, limits, each)?;
        return Ok(FileFormat { layout: Layout::Parquet, packing: None, skipped });
    }
    let mut stream = Stream::open(path, limits)?;
    // The first buffer decides: 64 KB of leading white space is no data set.
    let layout = Layout::of(path, stream.start()?);
    let packing = stream.packing;
    match layout {
        Layout::Array => json::array(stream, each)?,
        Layout::Text => stream.lines(&mut |bytes, place| {
            let text = String::from_utf8(bytes.to_vec()).expect("the stream passes on whole characters");
            each(Record::from_iter([("text".to_owned(), Value::String(text))]), place)
        })?,
        Layout::Table(delimiter) => delimited::read(stream, delimiter, names, each)?,
        Layout::Lines | Layout::Parquet => {
            let mut faults = Faults::default();
            let ended = stream.lines(&mut |bytes, place| match json::line(bytes, &place) {
                Ok(record) if faults.is_empty() => each(record, place),
                Ok(_) => Ok(()),
                Err(error) if faults.is_full() => Err(error.into()),
                Err(error) => {
                    faults.note(error, place.number);
                    Ok(())
                }
            });
            faults.end(|told| TableError::several(path, told))?;
            ended?;
        }
    }
    Ok(FileFormat { layout, packing, skipped: Vec::new() })
}

/// The most bytes of a text that is held whole: twenty times WikiText-2.
const TEXT_BYTES: u64 = 256 << 20;
/// The most bytes of one value of JSON that is held whole; in memory it takes up to sixteen times as many.
const DOCUMENT_BYTES: u64 = 64 << 20;

/// A whole file of text, unpacked, without its byte order mark.
///
/// # Errors
///
/// The file cannot be read, is too large or not UTF-8.
pub fn text(path: &Path, limits: Limits) -> Result<String, TableError> {
    let _doing = doing::now(format!("reading `{}`", path.display()));
    let file_bytes = limits.file_bytes.min(TEXT_BYTES);
    // Nothing here is a record.
    let limits = Limits { file_bytes, record_bytes: file_bytes, ..limits };
    let mut text = String::new();
    let mut stream = Stream::open(path, limits)?;
    stream.reader.read_to_string(&mut text).map_err(|error| stream.source.stopped(error))?;
    Ok(text)
}

/// A whole file of JSON, unpacked.
///
/// # Errors
///
/// As [`text`], and what is no JSON.
pub fn document(path: &Path, limits: Limits) -> Result<Value, TableError> {
    let text = text(path, Limits { file_bytes: limits.file_bytes.min(DOCUMENT_BYTES), ..limits })?;
    serde_json::from_str(&text)
        .map_err(|error| TableError::bad_json(path, &error, error.line(), error::DOCUMENT))
}

impl Layout {
    fn of(path: &Path, start: &[u8]) -> Self {
        let mut bytes = start.iter().filter(|byte| !byte.is_ascii_whitespace());
        let first = [bytes.next(), bytes.next()];
        let extension = |path: &Path| path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let name = match extension(path).as_deref() {
            Some("gz" | "zst" | "zstd") => extension(&path.with_extension("")),
            name => name.map(ToOwned::to_owned),
        };
        match (first, name.as_deref()) {
            ([Some(b'{'), _], _) => Self::Lines,
            ([Some(b'['), Some(b'{')], _) => Self::Array,
            (_, Some("csv")) => Self::Table(b','),
            (_, Some("tsv")) => Self::Table(b'\t'),
            (_, Some("txt")) => Self::Text,
            ([Some(b'['), _], _) => Self::Array,
            ([None, _], _) | (_, Some("json" | "jsonl" | "ndjson")) => Self::Lines,
            _ => Self::Table(b','),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::{Limits, TableError};
    use crate::data::{DataError, Format, Loaded, read};
    use crate::recipe::{Fields, Form};

    const SMALL: Limits =
        Limits { file_bytes: 1 << 20, record_bytes: 100 << 10, pack_ratio: 200, held_bytes: 8 << 20 };
    const PAIRS: [(&str, &str); 2] =
        [("What is 2 and 3?", "It is 5."), ("Sag \"Grüße\",\nbitte.", "Grüße 😀")];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    /// Reads `bytes` from a file called `name`; errors call it `FILE`.
    fn load(name: &str, bytes: &[u8]) -> Result<Loaded, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read(&path, &Format::default(), SMALL)
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    fn stored(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
    }

    fn turns(loaded: &Loaded) -> Vec<(&str, &str)> {
        let messages = loaded.conversations.iter().map(|conversation| &conversation.messages);
        messages.map(|two| (two[0].content.as_str(), two[1].content.as_str())).collect()
    }

    /// The two pairs in every text format.
    fn texts() -> Vec<(&'static str, String)> {
        let json = |(q, a): (&str, &str)| serde_json::json!({"question": q, "answer": a}).to_string();
        let lines: Vec<String> = PAIRS.map(json).into();
        let messages = PAIRS.map(|(q, a)| {
            serde_json::json!([{"role": "user", "content": q}, {"role": "assistant", "content": a}])
                .to_string()
        });
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let table = |by: &str, end: &str| {
            let rows = PAIRS.map(|(q, a)| format!("{}{by}{}{end}", quoted(q), quoted(a)));
            format!("question{by}answer{end}{}", rows.concat())
        };
        let cells = messages.map(|list| format!("{}\n", quoted(&list)));
        vec![
            ("x.jsonl", lines.join("\n")),
            ("x.json", format!("[{}]", lines.join(",\n"))),
            ("x.csv", table(",", "\n")),
            ("windows.csv", table(",", "\r\n")),
            ("marked.csv", format!("\u{feff}{}", table(",", "\n"))),
            ("x.tsv", table("\t", "\n")),
            ("lists.csv", format!("messages\n{}", cells.concat())),
            ("x", lines.join("\n")),
        ]
    }

    #[test]
    fn every_format_and_compression_gives_the_same_conversations() {
        for (name, text) in texts() {
            let bytes = text.as_bytes();
            for (packed, bytes) in [("", bytes.to_vec()), (".gz", gzip(bytes)), (".zst", zstd(bytes))] {
                let loaded = load(&format!("{name}{packed}"), &bytes).unwrap();
                assert_eq!(turns(&loaded), PAIRS, "{name}{packed}");
                let packing = [("", ""), (".gz", " in gzip"), (".zst", " in zstd")];
                let packing = packing.iter().find(|(end, _)| *end == packed).unwrap().1;
                assert!(loaded.said.contains(&format!("{packing}: ")), "{}", loaded.said);
            }
        }
        for name in
            ["pairs-none", "pairs-snappy", "pairs-gzip", "pairs-zstd", "messages-pandas", "messages-zstd"]
        {
            let loaded = read(&stored(&format!("{name}.parquet")), &Format::default(), SMALL).unwrap();
            assert_eq!(turns(&loaded), PAIRS, "{name}");
            assert!(loaded.said.starts_with("parquet: "), "{}", loaded.said);
        }
    }

    #[test]
    fn a_line_of_text_is_a_record() {
        let loaded = load("x.txt", b"[1] one\n\n  two\r\n").unwrap();
        let texts: Vec<_> =
            loaded.conversations.iter().map(|one| (one.line.number, &one.messages[0].content[..])).collect();
        assert_eq!(texts, [(1, "[1] one"), (3, "  two")]);
        assert_eq!(
            loaded.said,
            "lines of text: text, because the first record has `text`; every token is learned"
        );
    }

    #[test]
    fn wrong_lines_are_told_together() {
        let good = r#"{"prompt": "a", "completion": "b"}"#;
        let text = |lines: &[&str]| format!("{}\n", lines.join("\n"));
        let found = |lines: &[&str]| load("x.jsonl", text(lines).as_bytes()).unwrap_err();
        let three = found(&[good, "{\"prompt\": ", good, "[1]", "{,}"]);
        assert!(
            three.starts_with(
                "3 lines of `FILE` are wrong (2, 4, 5); the first: `FILE` is not valid JSON at line 2"
            ),
            "{three}"
        );
        let records = found(&[good, r#"{"prompt": "a"}"#, good, r#"{"prompt": 3, "completion": "b"}"#]);
        assert!(records.starts_with("2 records of `FILE` are wrong (2, 4); the first: "), "{records}");
        let many = vec!["nonsense"; 50];
        assert!(found(&many).starts_with("20 lines of `FILE` are wrong (1, 2, 3"), "{}", found(&many));
        let joined = format!("{good}\n\u{feff}{good}\n");
        assert_eq!(
            load("x.jsonl", joined.as_bytes()).unwrap_err(),
            "line 2 of `FILE` begins with a byte order mark, in the middle of the file"
        );
        let returns = format!("{good}\r{good}\r");
        assert_eq!(
            load("x.jsonl", returns.as_bytes()).unwrap_err(),
            "the lines of `FILE` end with a carriage return alone"
        );
    }

    #[test]
    fn what_is_wrong_with_a_table_is_named_with_its_place() {
        let cases = [
            (
                "prompt,completion\na,b\nc\n",
                "line 3 of `FILE` has 1 fields where the header has 2: column 2, `completion`, is missing",
            ),
            (
                "prompt,completion\r\n\"a\nb\",c\r\n\r\nd,e,f\r\n",
                "line 5 of `FILE` has 3 fields where the header has 2: column 3 has no name",
            ),
            ("prompt,completion\na,b\nc,\"d\ne,f\n", "line 3 of `FILE` opens a quote that is never closed"),
            ("prompt,prompt\na,b\n", "the header of `FILE` names column 2, `prompt`, as it does one before"),
            ("prompt,completion\n", "`FILE` has no records"),
            ("prompt,completion\ra,b\rc,d\r", "the lines of `FILE` end with a carriage return alone"),
            ("prompt;completion\na;b\n", "the columns of `FILE` stand apart by `;`, expected `,`"),
            ("prompt,completion\na,\n", "field `completion` in line 2 of `FILE` is empty"),
            ("ask,tell\na,b\n", "line 2 of `FILE` has none of the known forms; its fields are `ask`, `tell`"),
            (
                "messages\nhello\n",
                "field `messages` in line 2 of `FILE` is a string, expected a list of messages",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(load("x.csv", text.as_bytes()).unwrap_err(), expected, "{text}");
        }
        let long = format!("prompt,completion\na,{}\n", "x".repeat(300 << 10));
        assert_eq!(
            load("x.csv", long.as_bytes()).unwrap_err(),
            "line 2 of `FILE` is longer than 102400 bytes"
        );
        assert_eq!(
            load("x.csv", b"prompt,completion\na,\xff\n").unwrap_err(),
            "`FILE` is not UTF-8 at byte 20, line 2"
        );
    }

    #[test]
    fn packed_files_that_are_cut_off_or_grow_without_end_are_refused() {
        let many = "{\"prompt\": \"p\", \"completion\": \"c\"}\n".repeat(4000);
        let packed = zstd(many.as_bytes());
        assert_eq!(load("x.zst", &packed[..packed.len() - 4]).unwrap_err(), "cannot read `FILE`");
        assert_eq!(load("x.zst", &[packed.clone(), packed].concat()).unwrap().conversations.len(), 8000);
        let bomb = zstd(&vec![b' '; 300 << 20]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb");
        std::fs::write(&path, bomb).unwrap();
        let limits = Limits { file_bytes: 1 << 40, record_bytes: 1 << 40, ..SMALL };
        let error = read(&path, &Format::default(), limits).unwrap_err();
        assert!(matches!(error, DataError::Table(TableError::Bomb { ratio: 200, .. })), "{error:?}");
    }

    #[test]
    fn what_is_wrong_with_a_parquet_file_is_named_with_its_row() {
        let bytes = std::fs::read(stored("numbers.parquet")).unwrap();
        assert_eq!(
            load("x", &bytes).unwrap_err(),
            "2 records of `FILE` are wrong (1, 2); the first: field `answer` in row 1 of `FILE` is a number, expected a string"
        );
        let bytes = std::fs::read(stored("pairs-zstd.parquet")).unwrap();
        assert_eq!(load("x", &bytes[..bytes.len() / 2]).unwrap_err(), "cannot read `FILE` as parquet");
        let limits = Limits { record_bytes: 8, ..SMALL };
        let error = read(&stored("pairs-zstd.parquet"), &Format::default(), limits).unwrap_err();
        assert!(
            matches!(&error, DataError::Table(TableError::RecordTooLarge { place, .. }) if place.number == 1),
            "{error:?}"
        );
        let mut bytes = std::fs::read(stored("pairs-none.parquet")).unwrap();
        let at = bytes.windows(2).position(|two| two == "ß".as_bytes()).unwrap();
        bytes[at] = 0xff;
        assert_eq!(load("x", &bytes).unwrap_err(), "row 2 of `FILE` holds a text that is not UTF-8");
    }

    #[test]
    fn a_missing_column_is_told_with_those_that_are_there_read_or_not() {
        let format = Format::new(Form::Alpaca, &Fields::default());
        let error = read(&stored("pairs-zstd.parquet"), &format, SMALL).unwrap_err().to_string();
        for name in ["`instruction`", "`question`", "`id`", "`answer`"] {
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_damaged_parquet_file_is_read_or_refused() {
        for name in ["pairs-snappy", "messages-pandas", "messages-zstd"] {
            let original = std::fs::read(stored(&format!("{name}.parquet"))).unwrap();
            for i in (4..original.len()).step_by(3) {
                let mut bytes = original.clone();
                bytes[i] ^= [0x01, 0x80, 0xff][i / 3 % 3];
                let _ = load("x", &bytes);
            }
        }
    }
}
