//! Files to records: JSON lines, one JSON array, a table with a header, or lines of text; plain or packed.
//!
//! Compression and parquet are known by their first bytes. Texts have no such mark: an opening brace is
//! JSON, then the name decides.

use std::io::{self, BufRead, Read};
use std::path::Path;

use serde::de::DeserializeSeed;
use serde_json::{Map, Value};

use super::error::{Cause, DataError, Place};
use super::parquet_rows;
use super::reader::{self, Elements, Limits, Stop, Stream};

pub(super) type Record = Map<String, Value>;

/// What is done with each record; the first error ends the reading.
pub(super) type Each<'a> = &'a mut dyn FnMut(Record, Place) -> Result<(), DataError>;

/// What is done with each line and its number.
type EachLine<'a> = &'a mut dyn FnMut(&[u8], usize) -> Result<(), DataError>;

/// Hands on every record of a file and returns what the file is, in words.
pub(super) fn read(path: &Path, limits: Limits, each: Each<'_>) -> Result<String, DataError> {
    if parquet_rows::is_parquet(path) {
        parquet_rows::read(path, limits, each)?;
        return Ok("parquet".to_owned());
    }
    let source = Source { path, limits };
    let mut stream = reader::open(path, limits)?;
    // The first buffer decides: 64 KB of leading white space is no data set.
    let start = stream.reader.fill_buf().map_err(|error| reader::stopped(path, error, limits))?;
    let kind = Kind::of(path, start);
    let packed = stream.packing.map(|packing| format!(" in {packing}")).unwrap_or_default();
    match kind {
        Kind::Array => source.array(stream, each)?,
        Kind::Lines => source.lines(stream, &mut |bytes, line| source.object(bytes, line, each))?,
        Kind::Text => source.lines(stream, &mut |bytes, line| source.text(bytes, line, each))?,
        Kind::Table(delimiter) => source.table(stream, delimiter, each)?,
    }
    let name = match kind {
        Kind::Array | Kind::Lines => "json",
        Kind::Text => "lines of text",
        Kind::Table(b'\t') => "tsv",
        Kind::Table(_) => "csv",
    };
    Ok(format!("{name}{packed}"))
}

#[derive(Clone, Copy)]
enum Kind {
    Array,
    Lines,
    /// With the byte between two fields.
    Table(u8),
    Text,
}

impl Kind {
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

/// Stands behind the last row of a table. A quote left open would swallow the rest of the file without
/// a word, and this with it.
const END: &str = "\n\u{4}\n";

#[derive(Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    limits: Limits,
}

impl Source<'_> {
    fn place(self, unit: &'static str, number: usize) -> Place {
        Place { path: self.path.to_owned(), unit, number }
    }

    fn stopped(self, error: io::Error, place: Place) -> DataError {
        if let Some(Stop::Record) = Stop::of(&error) {
            return DataError::RecordTooLarge { place, limit: self.limits.record_bytes };
        }
        reader::stopped(self.path, error, self.limits)
    }

    /// Hands on each line that is not blank, without its end, and its number.
    fn lines(self, mut stream: Stream, each: EachLine<'_>) -> Result<(), DataError> {
        let mut buffer = Vec::new();
        for line in 1.. {
            buffer.clear();
            stream.record_bytes.set(0);
            let n = stream.reader.read_until(b'\n', &mut buffer);
            if n.map_err(|error| self.stopped(error, self.place("line", line)))? == 0 {
                break;
            }
            if buffer.len() as u64 > self.limits.record_bytes {
                return Err(self.stopped(io::Error::other(Stop::Record), self.place("line", line)));
            }
            if !buffer.iter().all(u8::is_ascii_whitespace) {
                each(buffer.trim_ascii_end(), line)?;
            }
        }
        Ok(())
    }

    fn object(self, bytes: &[u8], line: usize, each: Each<'_>) -> Result<(), DataError> {
        let value = serde_json::from_slice(bytes).map_err(|error| self.bad_json(&error, line))?;
        hand_on(value, self.place("line", line), each)
    }

    fn text(self, bytes: &[u8], line: usize, each: Each<'_>) -> Result<(), DataError> {
        let text = String::from_utf8(bytes.to_vec()).expect("the stream passes on whole characters");
        each(Record::from_iter([("text".to_owned(), Value::String(text))]), self.place("line", line))
    }

    fn array(self, stream: Stream, each: Each<'_>) -> Result<(), DataError> {
        let mut failure = None;
        let record_bytes = stream.record_bytes;
        let mut json = serde_json::Deserializer::from_reader(stream.reader);
        let mut number = 0;
        let one = |value| {
            record_bytes.set(0);
            number += 1;
            let handed = hand_on(value, self.place("record", number), each);
            handed.map_err(|error| failure = Some(error)).is_ok()
        };
        let result = Elements(one).deserialize(&mut json).and_then(|()| json.end());
        if let Some(failure) = failure {
            return Err(failure);
        }
        result.map_err(|error| {
            if error.is_io() {
                self.stopped(error.into(), self.place("record", number + 1))
            } else {
                self.bad_json(&error, error.line())
            }
        })
    }

    fn bad_json(self, error: &serde_json::Error, line: usize) -> DataError {
        let text = error.to_string();
        let cause = text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
        let column = error.column();
        DataError::BadJson { path: self.path.to_owned(), line, column, source: Cause(cause.to_owned()) }
    }

    fn table(self, stream: Stream, delimiter: u8, each: Each<'_>) -> Result<(), DataError> {
        let mut rows = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .terminator(csv::Terminator::Any(b'\n'))
            .flexible(true)
            .has_headers(false)
            .from_reader(stream.reader.chain(END.as_bytes()));
        let mut header: Option<Vec<String>> = None;
        let mut row = csv::StringRecord::new();
        let mut line = 0;
        loop {
            stream.record_bytes.set(0);
            let is_row = rows.read_record(&mut row).map_err(|error| match error.into_kind() {
                csv::ErrorKind::Io(error) => self.stopped(error, self.place("line", line + 1)),
                kind => self.stopped(io::Error::other(format!("{kind:?}")), self.place("line", line + 1)),
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
                return Err(DataError::OpenQuote { place: self.place("line", line + 1) });
            }
            *last = last.strip_suffix('\r').unwrap_or(last);
            match &header {
                _ if fields == [""] => {}
                None => header = Some(self.header(&fields)?),
                Some(header) => {
                    let place = self.place("line", line);
                    each(cells(header, &fields, &place)?, place)?;
                }
            }
        }
    }

    fn header(self, fields: &[&str]) -> Result<Vec<String>, DataError> {
        let names: Vec<String> = fields.iter().map(|name| name.trim().to_owned()).collect();
        let twice = (1..names.len()).find(|&i| names[..i].contains(&names[i]));
        twice.map_or(Ok(()), |i| {
            let (path, name) = (self.path.to_owned(), names[i].clone());
            Err(DataError::SameColumn { path, column: i + 1, name })
        })?;
        Ok(names)
    }
}

fn hand_on(value: Value, place: Place, each: Each<'_>) -> Result<(), DataError> {
    match value {
        Value::Object(record) => each(record, place),
        other => Err(DataError::NotAnObject { place, found: super::formats::kind(&other) }),
    }
}

/// A row of a table as a record.
fn cells(header: &[String], fields: &[&str], place: &Place) -> Result<Record, DataError> {
    let (found, expected) = (fields.len(), header.len());
    if found != expected {
        let detail = match header.get(found) {
            Some(name) => format!("column {}, `{name}`, is missing", found + 1),
            None => format!("column {} has no name", expected + 1),
        };
        return Err(DataError::UnevenRow { place: place.clone(), found, expected, detail });
    }
    let value = |field: &&str| Value::String((*field).to_owned());
    Ok(header.iter().cloned().zip(fields.iter().map(value)).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::formats::{Format, Loaded, read};
    use super::*;

    const SMALL: Limits = Limits { file_bytes: 1 << 20, record_bytes: 100 << 10, pack_ratio: 200 };
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
        assert!(matches!(error, DataError::Bomb { ratio: 200, .. }), "{error:?}");
    }

    #[test]
    fn what_is_wrong_with_a_parquet_file_is_named_with_its_row() {
        let bytes = std::fs::read(stored("numbers.parquet")).unwrap();
        assert_eq!(
            load("x", &bytes).unwrap_err(),
            "field `answer` in row 1 of `FILE` is a number, expected a string"
        );
        let bytes = std::fs::read(stored("pairs-zstd.parquet")).unwrap();
        assert_eq!(load("x", &bytes[..bytes.len() / 2]).unwrap_err(), "cannot read `FILE` as parquet");
        let limits = Limits { record_bytes: 8, ..SMALL };
        let error = read(&stored("pairs-zstd.parquet"), &Format::default(), limits).unwrap_err();
        assert!(matches!(&error, DataError::RecordTooLarge { place, .. } if place.number == 1), "{error:?}");
        let mut bytes = std::fs::read(stored("pairs-none.parquet")).unwrap();
        let at = bytes.windows(2).position(|two| two == "ß".as_bytes()).unwrap();
        bytes[at] = 0xff;
        assert_eq!(load("x", &bytes).unwrap_err(), "row 2 of `FILE` holds a text that is not UTF-8");
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
