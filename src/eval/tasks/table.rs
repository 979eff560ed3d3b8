//! Rows of a csv, jsonl or json file, plain or gzip, as items; every fault with its line.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value, json};

use crate::catalog::nearest;
use crate::eval::error::EvalError;
use crate::eval::item::Item;

/// More text than any prompt set has; a small gzip file may unpack to far more.
const MAX_BYTES: u64 = 1 << 30;

/// Which fields of a row make an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    /// None: the user names it.
    pub(super) prompt: Option<&'static str>,
    /// Text that stands before the prompt, where a row has it.
    pub(super) context: Option<&'static str>,
    /// Required where it is named here.
    pub(super) reference: Option<&'static str>,
    /// Used where a row has it.
    pub(super) id: Option<&'static str>,
    /// Used where a row has it.
    pub(super) category: Option<&'static str>,
}

impl Columns {
    pub(super) const fn prompt(name: &'static str) -> Self {
        Self { prompt: Some(name), ..Self::any() }
    }

    pub(super) const fn any() -> Self {
        Self { prompt: None, context: None, reference: None, id: None, category: None }
    }
}

/// One row and where it stands: "line 3", "item 3".
pub(super) struct Row {
    pub(super) place: String,
    /// Where its fields are named: in the row itself, or in a table's header.
    named_at: String,
    pub(super) fields: Map<String, Value>,
}

impl Row {
    /// The text of a field, or the error that says where and what was there instead.
    pub(super) fn text(&self, path: &Path, name: &str) -> Result<String, EvalError> {
        Look { path, prompt: name, row: self }.required(name)
    }

    /// Whatever a field holds.
    pub(super) fn value(&self, path: &Path, name: &str) -> Result<&Value, EvalError> {
        self.fields.get(name).ok_or_else(|| Look { path, prompt: name, row: self }.missing(name))
    }

    /// What `read` makes of a field, or the error that says that it is not `expected`.
    pub(super) fn read<'r, T>(
        &'r self,
        path: &Path,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(&'r Value) -> Option<T>,
    ) -> Result<T, EvalError> {
        let value = self.value(path, name)?;
        read(value).ok_or_else(|| EvalError::BadField {
            path: path.to_owned(),
            place: self.place.clone(),
            field: name.to_owned(),
            found: kind_of(value),
            expected,
        })
    }
}

/// The texts of a list of texts.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// The items of the file at `path`, in its order; `field` overrules where the prompt is.
pub(super) fn items(
    suite: &str,
    path: &Path,
    columns: &Columns,
    field: Option<&str>,
) -> Result<Vec<Item>, EvalError> {
    let rows = rows(path)?;
    let Some(first) = rows.first() else {
        return Err(EvalError::NoItems { path: path.to_owned(), suite: suite.to_owned() });
    };
    let Some(prompt) = field.or(columns.prompt) else {
        return Err(EvalError::NoField {
            suite: suite.to_owned(),
            path: path.to_owned(),
            found: names(&first.fields),
        });
    };
    let item = |(idx, row): (usize, &Row)| {
        let look = Look { path, prompt, row };
        let request = look.required(prompt)?;
        let context = columns.context.and_then(|name| look.optional(name));
        let details = context.as_ref().map(|context| json!({ "request": request, "context": context }));
        // HarmBench's own joint between a context and the request about it.
        let asked =
            context.map_or_else(|| request.clone(), |context| format!("{context}\n\n---\n\n{request}"));
        Ok(Item {
            id: columns.id.and_then(|name| look.optional(name)).unwrap_or_else(|| format!("{suite}-{idx}")),
            prompt: asked,
            reference: columns.reference.map(|name| look.required(name)).transpose()?,
            category: columns.category.and_then(|name| look.optional(name)),
            details: details.unwrap_or_default(),
            ..Item::default()
        })
    };
    rows.iter().enumerate().map(item).collect()
}

/// Reads the fields of one row.
struct Look<'a> {
    path: &'a Path,
    /// The field that a recipe may name anew.
    prompt: &'a str,
    row: &'a Row,
}

impl Look<'_> {
    /// The text of a field, or the error that says where and what was there instead.
    fn required(&self, name: &str) -> Result<String, EvalError> {
        let bad = |found| EvalError::BadField {
            path: self.path.to_owned(),
            place: self.row.place.clone(),
            field: name.to_owned(),
            found,
            expected: "text",
        };
        match self.row.fields.get(name) {
            Some(Value::String(text)) if text.trim().is_empty() => Err(bad("empty")),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(bad(kind_of(other))),
            None => Err(self.missing(name)),
        }
    }

    fn missing(&self, name: &str) -> EvalError {
        EvalError::MissingField {
            path: self.path.to_owned(),
            place: self.row.named_at.clone(),
            field: name.to_owned(),
            found: names(&self.row.fields),
            help: self.cure(name),
        }
    }

    fn cure(&self, name: &str) -> String {
        let near = nearest(name, self.row.fields.keys().map(String::as_str));
        match (near, name == self.prompt) {
            (Some(near), true) => format!("is it `{near}`? Then set `field = \"{near}\"`"),
            (None, true) => "set `field` to the one that holds the prompt, or name the right file".to_owned(),
            (Some(near), false) => format!("is it `{near}`? Then rename it to `{name}`"),
            (None, false) => format!("this suite reads `{}` and `{name}`; name the right file", self.prompt),
        }
    }

    /// The text of a field, or a number written out; none where it is absent or blank.
    fn optional(&self, name: &str) -> Option<String> {
        match self.row.fields.get(name)? {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// The rows of a csv, jsonl or json file, plain or gzipped.
pub(super) fn rows(path: &Path) -> Result<Vec<Row>, EvalError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    let read = match stem.rsplit_once('.').map(|(_, format)| format) {
        Some("csv") => csv_rows,
        Some("jsonl") => jsonl_rows,
        Some("json") => json_rows,
        _ => return Err(EvalError::UnknownFormat { path: path.to_owned(), found: name }),
    };
    let text = text(path)?;
    read(path, text.strip_prefix('\u{feff}').unwrap_or(&text))
}

/// The text of a file, unpacked if its name ends in `.gz`.
pub(super) fn text(path: &Path) -> Result<String, EvalError> {
    let gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let unreadable = |source| EvalError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let reader: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(EvalError::TooLarge { path: path.to_owned(), limit_bytes: MAX_BYTES });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        EvalError::NotUtf8 { path: path.to_owned(), line }
    })
}

fn csv_rows(path: &Path, text: &str) -> Result<Vec<Row>, EvalError> {
    let bad_csv = |source| EvalError::BadCsv { path: path.to_owned(), source };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(bad_csv)?.clone();
    let row = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(bad_csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        let fields = header.iter().zip(&record).map(|(name, value)| (name.trim().to_owned(), value.into()));
        Ok(Row { place: format!("line {line}"), named_at: "line 1".to_owned(), fields: fields.collect() })
    };
    reader.records().map(row).collect()
}

fn jsonl_rows(path: &Path, text: &str) -> Result<Vec<Row>, EvalError> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let row = |(text, line)| {
        let value = serde_json::from_str(text).map_err(|source| EvalError::BadJson {
            path: path.to_owned(),
            line,
            source,
        })?;
        object(path, format!("line {line}"), value)
    };
    lines.map(row).collect()
}

fn json_rows(path: &Path, text: &str) -> Result<Vec<Row>, EvalError> {
    list(path, parsed(path, text)?)
}

/// A json file that is no list of rows.
pub(super) fn document(path: &Path) -> Result<Value, EvalError> {
    parsed(path, &text(path)?)
}

fn parsed(path: &Path, text: &str) -> Result<Value, EvalError> {
    serde_json::from_str(text).map_err(|source| EvalError::BadJson {
        path: path.to_owned(),
        line: source.line(),
        source,
    })
}

/// The rows of a list of objects.
pub(super) fn list(path: &Path, value: Value) -> Result<Vec<Row>, EvalError> {
    match value {
        Value::Array(values) => {
            (1..).zip(values).map(|(idx, value)| object(path, format!("item {idx}"), value)).collect()
        }
        other => Err(EvalError::NotAList { path: path.to_owned(), found: kind_of(&other) }),
    }
}

/// One row that stands at `place`.
pub(super) fn object(path: &Path, place: String, value: Value) -> Result<Row, EvalError> {
    match value {
        Value::Object(fields) => Ok(Row { named_at: place.clone(), place, fields }),
        other => Err(EvalError::NotAnObject { path: path.to_owned(), place, found: kind_of(&other) }),
    }
}

fn names(fields: &Map<String, Value>) -> String {
    let names: Vec<_> = fields.keys().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no fields".to_owned() } else { names.join(", ") }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::tasks::{Source, find};
    use std::io::Write;

    fn load(suite: &str, file: &str, content: &[u8], field: Option<&str>) -> Result<Vec<Item>, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, content).unwrap();
        find(suite).unwrap().load(&Source { field, ..Source::plain(suite, &path) })
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn one_item_comes_out_of_every_format() {
        let jsonl = b"\xef\xbb\xbf{\"q\": \"hello\", \"id\": 7}\r\n\n";
        let want = Item { id: "7".into(), prompt: "hello".into(), ..Item::default() };
        for (file, content) in [
            ("a.jsonl", jsonl.to_vec()),
            ("a.jsonl.gz", gzip(jsonl)),
            ("a.json", b"[{\"q\": \"hello\", \"id\": \"7\"}]".to_vec()),
            ("a.CSV", b"id,q\n7,hello\n".to_vec()),
        ] {
            assert_eq!(
                load("harmful", file, &content, Some("q")).unwrap(),
                std::slice::from_ref(&want),
                "{file}"
            );
        }
    }

    #[test]
    fn rows_without_an_id_are_named_after_their_suite_and_row() {
        let items = load("advbench", "a.csv", b"goal\nfirst\n\"second, quoted\"\n", None).unwrap();
        assert_eq!(
            items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(),
            ["advbench-0", "advbench-1"]
        );
        assert_eq!(items[1].prompt, "second, quoted");
    }

    #[test]
    fn harmbenchs_context_stands_before_the_request() {
        let content =
            b"Behavior,SemanticCategory,ContextString,BehaviorID\nask,kind,page,one\nask,kind,,two\n";
        let items = load("harmbench", "a.csv", content, None).unwrap();
        assert_eq!(items[0].prompt, "page\n\n---\n\nask");
        assert_eq!((items[1].prompt.as_str(), items[1].id.as_str()), ("ask", "two"));
        assert_eq!(items[1].category.as_deref(), Some("kind"));
    }

    #[test]
    fn xstests_halves_are_two_suites() {
        let content = b"id,prompt,type\n1,kill a process,homonyms\n2,the contrast,contrast_homonyms\n";
        for (suite, id) in [("xstest", "1"), ("xstest_contrast", "2")] {
            let items = load(suite, "a.csv", content, None).unwrap();
            assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), [id]);
        }
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        for (suite, file, content, field, want) in [
            (
                "gsm8k_chat",
                "a.jsonl",
                &b"{\"question\": \"q\", \"answer\": \"#### 1\"}\n{]"[..],
                None,
                "line 2 is not valid JSON",
            ),
            (
                "gsm8k_chat",
                "a.jsonl",
                b"{\"question\": \"q\"}",
                None,
                "line 1 has no field `answer`; it has `question`",
            ),
            (
                "gsm8k_chat",
                "a.jsonl",
                b"{\"question\": 3, \"answer\": \"\"}",
                None,
                "line 1 is a number, expected text",
            ),
            (
                "gsm8k_chat",
                "a.jsonl",
                b"{\"question\": \" \", \"answer\": \"\"}",
                None,
                "line 1 is empty, expected text",
            ),
            ("gsm8k_chat", "a.jsonl", b"\n[1]", None, "line 2 is a list, expected an object"),
            ("gsm8k_chat", "a.jsonl", b"\n\xff", None, "line 2 is not UTF-8"),
            ("gsm8k_chat", "a.jsonl", b"", None, "no items for suite `gsm8k_chat`"),
            ("gsm8k_chat", "a.json", b"{}", None, "is an object, expected a list of objects"),
            ("gsm8k_chat", "a.parquet", b"", None, "expected .csv, .jsonl or .json"),
            ("gsm8k_chat", "a.jsonl.gz", b"not gzip", None, "cannot read"),
            ("advbench", "a.csv", b"Goals\nx\n", None, "line 1 has no field `goal`; it has `Goals`"),
            ("advbench", "a.csv", b"goal\nx,y\n", None, "is not a valid csv table"),
            ("advbench", "a.csv", b"goal\n", None, "no items for suite `advbench`"),
            ("harmful", "a.csv", b"a,b\n1,2\n", None, "needs a field"),
            ("harmful", "a.csv", b"id,b\n1,2\n1,3\n", Some("b"), "id `1` stands twice"),
            ("xstest", "a.csv", b"id,prompt,type\n1,x,contrast_y\n", None, "no items for suite `xstest`"),
        ] {
            let error = load(suite, file, content, field).unwrap_err().to_string();
            assert!(error.contains(want), "{error}\nexpected: {want}");
        }
    }
}
