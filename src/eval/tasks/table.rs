//! Records of a file as items; every fault with its place.

use std::path::Path;

use serde_json::{Value, json};

use super::Source;
use crate::catalog::nearest;
use crate::data::table::{self, FileFormat, Layout, Limits, Place, Record, TableError, kind, names};
use crate::eval::error::EvalError;
use crate::eval::item::Item;

/// More text than any prompt set has; a small packed file may unpack to far more.
fn limits() -> Limits {
    Limits { file_bytes: 1 << 30, held_bytes: 2 << 30, ..Limits::default() }
}

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

/// One row and where it stands: "line 3", "record 3".
pub(super) struct Row {
    pub(super) place: String,
    /// Where its fields are named: in the row itself, or in a table's header.
    named_at: String,
    pub(super) fields: Record,
}

impl Row {
    /// The text of a field, or the error that says where and what was there instead.
    pub(super) fn text(&self, path: &Path, name: &str) -> Result<String, EvalError> {
        Look { path, prompt: name, row: self }.required(name)
    }

    /// Whether a field holds anything.
    pub(super) fn has(&self, name: &str) -> bool {
        let blank =
            |value: &Value| value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        self.fields.get(name).is_some_and(|value| !blank(value))
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
            found: kind(value),
            expected,
        })
    }
}

/// The texts of a list of texts.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// The items of the source's file, in its order; its `field` overrules where the prompt is.
pub(super) fn items(source: &Source<'_>, columns: &Columns) -> Result<Vec<Item>, EvalError> {
    let Source { suite, path, field, opening_field, .. } = *source;
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
            opening: opening_field.map(|name| look.opening(name)).transpose()?.unwrap_or_default(),
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
            Some(other) => Err(bad(kind(other))),
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

    /// The text that the item's answers begin with.
    fn opening(&self, name: &str) -> Result<String, EvalError> {
        match self.required(name) {
            Err(EvalError::MissingField { path, place, field, found, .. }) => {
                let near = nearest(name, self.row.fields.keys().map(String::as_str));
                let help = match near {
                    Some(near) => format!("is it `{near}`? Then set `prefill_field = \"{near}\"`"),
                    None => "set `prefill_field` to the one that answers begin with, or name the right file"
                        .to_owned(),
                };
                Err(EvalError::MissingField { path, place, field, found, help })
            }
            other => other,
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

/// The rows of a file of records.
pub(super) fn rows(path: &Path) -> Result<Vec<Row>, EvalError> {
    gathered(|each| table::read(path, limits(), each))
}

/// The rows of a file of records; a table has no header, and its columns are `names`.
pub(super) fn rows_headless(path: &Path, names: &[&str]) -> Result<Vec<Row>, EvalError> {
    gathered(|each| table::read_headless(path, names, limits(), each))
}

fn gathered(
    read: impl FnOnce(table::Each<'_, TableError>) -> Result<FileFormat, TableError>,
) -> Result<Vec<Row>, EvalError> {
    let mut rows = Vec::new();
    let format = read(&mut |fields, place| {
        let place = shown(&place);
        rows.push(Row { named_at: place.clone(), place, fields });
        Ok(())
    })?;
    if let Layout::Table(_) = format.layout {
        for row in &mut rows {
            row.named_at = String::from("line 1");
        }
    }
    Ok(rows)
}

fn shown(place: &Place) -> String {
    format!("{} {}", place.unit, place.number)
}

/// The text of a file, unpacked.
pub(super) fn text(path: &Path) -> Result<String, EvalError> {
    Ok(table::text(path, limits())?)
}

/// A json file that is one object.
pub(super) fn document(path: &Path) -> Result<Row, EvalError> {
    object(path, "the file", table::document(path, limits())?)
}

/// The rows of a list of objects.
pub(super) fn list(path: &Path, values: &[Value]) -> Result<Vec<Row>, EvalError> {
    (1..)
        .zip(values)
        .map(|(number, value)| object(path, &format!("record {number}"), value.clone()))
        .collect()
}

/// One row that stands at `place`.
pub(super) fn object(path: &Path, place: &str, value: Value) -> Result<Row, EvalError> {
    match value {
        Value::Object(fields) => Ok(Row { named_at: place.to_owned(), place: place.to_owned(), fields }),
        other => {
            let (path, place) = (path.to_owned(), place.to_owned());
            Err(EvalError::NotAnObject { path, place, found: kind(&other) })
        }
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
            ("a.jsonl.zst", zstd::encode_all(&jsonl[..], 3).unwrap()),
            ("packed", gzip(jsonl)),
            ("a.CSV", b"id,q\n7,hello\n".to_vec()),
            ("windows.csv", b"\xef\xbb\xbfid,q\r\n7,hello\r\n".to_vec()),
            ("a.csv.gz", gzip(b"id,q\n7,hello\n")),
            ("a.tsv", b"id\tq\n7\thello\n".to_vec()),
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
                "is not valid JSON at line 2, column 2",
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
            ("gsm8k_chat", "a.jsonl", b"{}\n[1]", None, "is a list, expected an object"),
            ("gsm8k_chat", "a.jsonl", b"\n\xff", None, "is not UTF-8 at byte 1, line 2"),
            ("gsm8k_chat", "a.jsonl", b"", None, "no items for suite `gsm8k_chat`"),
            ("gsm8k_chat", "a.json", b"{}", None, "line 1 has no field `question`; it has no fields"),
            ("gsm8k_chat", "a.parquet", b"PAR1", None, "as parquet"),
            ("gsm8k_chat", "a.jsonl.gz", b"not gzip", None, "is not valid JSON at line 1"),
            ("gsm8k_chat", "a.jsonl.gz", b"\x1f\x8bnot gzip", None, "cannot read"),
            ("advbench", "a.csv", b"Goals\nx\n", None, "line 1 has no field `goal`; it has `Goals`"),
            ("advbench", "a.csv", b"goal\nx,y\n", None, "has 2 fields where the header has 1"),
            ("advbench", "a.csv", b"goal\n\"x\ny\n", None, "opens a quote that is never closed"),
            ("advbench", "a.csv", b"goal\n", None, "no items for suite `advbench`"),
            ("harmful", "a.csv", b"a,b\n1,2\n", None, "needs a field"),
            ("harmful", "a.csv", b"id,b\n1,2\n1,3\n", Some("b"), "id `1` stands twice"),
            ("xstest", "a.csv", b"id,prompt,type\n1,x,contrast_y\n", None, "no items for suite `xstest`"),
        ] {
            let error = load(suite, file, content, field).unwrap_err().to_string();
            assert!(error.contains(want), "{error}\nexpected: {want}");
        }
    }

    #[test]
    fn a_suite_in_parquet_holds_the_items_of_its_jsonl() {
        let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let pairs = [("What is 2 and 3?", "It is 5."), ("Sag \"Grüße\",\nbitte.", "Grüße 😀")];
        let line = |(q, a): (&str, &str)| format!("{}\n", json!({ "question": q, "answer": a }));
        let lines = pairs.map(line).concat();
        let want = load("gsm8k_chat", "a.jsonl", lines.as_bytes(), None).unwrap();
        assert_eq!(load("gsm8k_chat", "a.jsonl.gz", &gzip(lines.as_bytes()), None).unwrap(), want);
        for name in ["pairs-none", "pairs-snappy", "pairs-gzip", "pairs-zstd"] {
            let path = stored.join(name).with_extension("parquet");
            let items = find("gsm8k_chat").unwrap().load(&Source::plain("gsm8k_chat", &path)).unwrap();
            assert_eq!(items, want, "{name}");
        }
        let path = stored.join("numbers.parquet");
        let error = find("gsm8k_chat").unwrap().load(&Source::plain("gsm8k_chat", &path)).unwrap_err();
        assert!(error.to_string().contains("row 1 is a number, expected text"), "{error}");
    }
}
