//! Every way a file of records can be wrong, whatever the records are for.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use super::record::Place;
use crate::data::faults::Told;

/// What a parser said, without the place it thinks it was at.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Cause(pub String);

/// Why a file does not give its records.
#[derive(Debug, Error, Diagnostic)]
pub enum TableError {
    #[error("cannot read `{}`", path.display())]
    #[diagnostic(
        code(data::unreadable),
        help("check that the file is there, may be read and was not cut off")
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` unpacks to more than {limit} bytes", path.display())]
    #[diagnostic(code(data::too_large), help("split the file; a data set is held in memory"))]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("the first {number} records of `{}` take more than {limit} bytes of memory", path.display())]
    #[diagnostic(
        code(data::too_much),
        help("leave out fields that nobody reads, or split the file; a data set is held in memory")
    )]
    TooMuch { path: PathBuf, number: usize, limit: u64 },
    #[error("the lists of row group {group} of `{}` have {found} elements, at most {limit} can be read", path.display())]
    #[diagnostic(
        code(data::long_lists),
        help("write the file again with fewer rows in a group, such as pyarrow's `row_group_size=10000`")
    )]
    LongLists { path: PathBuf, group: usize, found: usize, limit: usize },
    #[error("`{}` unpacks to more than {ratio} times its size", path.display())]
    #[diagnostic(
        code(data::bomb),
        help("is it really text? If so, unpack it first with `gunzip` or `unzstd`")
    )]
    Bomb { path: PathBuf, ratio: u64 },
    #[error("{place} is longer than {limit} bytes")]
    #[diagnostic(
        code(data::record_too_large),
        help("is it one JSON object a line, and is every quoted text of a table closed?")
    )]
    RecordTooLarge { place: Place, limit: u64 },
    #[error("`{}` is not UTF-8 at byte {offset}, line {line}", path.display())]
    #[diagnostic(
        code(data::not_utf8),
        help(
            "turn it into UTF-8: Windows' \"Unicode\" by `iconv -f UTF-16 -t UTF-8 OLD > NEW`, Excel's csv by `iconv -f CP1252 -t UTF-8 OLD > NEW`"
        )
    )]
    NotUtf8 { path: PathBuf, offset: u64, line: u64 },
    #[error("`{}` is not valid JSON at line {line}, column {column}", path.display())]
    #[diagnostic(code(data::bad_json), help("{expected}"))]
    BadJson { path: PathBuf, line: usize, column: usize, expected: &'static str, source: Cause },
    #[error("{place} has {found} fields where the header has {expected}: {detail}")]
    #[diagnostic(
        code(data::uneven_row),
        help("put a text with commas, quotes or line ends between double quotes, and double those within")
    )]
    UnevenRow { place: Place, found: usize, expected: usize, detail: String },
    #[error("{place} opens a quote that is never closed")]
    #[diagnostic(code(data::open_quote), help("close it, or double it if it is part of the text"))]
    OpenQuote { place: Place },
    #[error("the lines of `{}` end with a carriage return alone", path.display())]
    #[diagnostic(code(data::lone_returns), help("turn them into line ends: `tr '\\r' '\\n' < OLD > NEW`"))]
    LoneReturns { path: PathBuf },
    #[error("the columns of `{}` stand apart by `{found}`, expected `,`", path.display())]
    #[diagnostic(
        code(data::other_delimiter),
        help(
            "save it with commas, or as a `.tsv` with tabs; in Python: `pandas.read_csv(OLD, sep=\"{found}\").to_csv(NEW, index=False)`"
        )
    )]
    OtherDelimiter { path: PathBuf, found: char },
    #[error("{place} begins with a byte order mark, in the middle of the file")]
    #[diagnostic(
        code(data::mark_inside),
        help(
            "files were joined that each begin with one: `sed 's/\\xef\\xbb\\xbf//g' OLD > NEW` takes them away"
        )
    )]
    MarkInside { place: Place },
    #[error("{n} lines of `{}` are wrong ({lines}); the first: {first}", path.display())]
    #[diagnostic(code(data::several), help("{help}"))]
    Several { path: PathBuf, n: usize, lines: String, first: String, help: String },
    #[error("the header of `{}` names column {column}, `{name}`, as it does one before", path.display())]
    #[diagnostic(code(data::same_column), help("give each column a name of its own"))]
    SameColumn { path: PathBuf, column: usize, name: String },
    #[error("cannot read {what} as parquet")]
    #[diagnostic(
        code(data::bad_parquet),
        help(
            "was the file cut off? Read are texts, numbers, lists and structs, plain or in snappy, gzip or zstd"
        )
    )]
    BadParquet { what: String, source: Cause },
    #[error("{what} has a page of more than {limit} bytes, unpacked")]
    #[diagnostic(
        code(data::large_page),
        help(
            "write the table again with smaller pages, such as pyarrow's `data_page_size=1048576`, or without the column"
        )
    )]
    LargePage { what: String, limit: i64 },
    #[error("{place} holds a text that is not UTF-8")]
    #[diagnostic(code(data::row_not_utf8), help("write the table again with its texts as UTF-8"))]
    RowNotUtf8 { place: Place },
    #[error("{place} is {found}, expected an object")]
    #[diagnostic(
        code(data::not_an_object),
        help("a record has named fields, such as `{{\"messages\": […]}}`")
    )]
    NotAnObject { place: Place, found: &'static str },
}

/// What a file of records holds, where it is JSON.
pub(super) const RECORDS: &str = "expected one JSON object a line, or one JSON array of objects";
/// What any other file of JSON holds.
pub(super) const DOCUMENT: &str = "expected one JSON value: was the file cut off, or has it one a line?";

impl TableError {
    pub(super) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), source }
    }

    pub(super) fn bad_json(
        path: &Path,
        error: &serde_json::Error,
        line: usize,
        expected: &'static str,
    ) -> Self {
        let text = error.to_string();
        let cause = text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
        let (path, column, source) = (path.to_owned(), error.column(), Cause(cause.to_owned()));
        Self::BadJson { path, line, column, expected, source }
    }
}

impl TableError {
    /// Several lines of a file that are wrong.
    pub(super) fn several(path: &std::path::Path, told: Told) -> Self {
        let Told { n, lines, first, help } = told;
        Self::Several { path: path.to_owned(), n, lines, first, help }
    }
}
