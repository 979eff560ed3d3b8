//! What chat templates expect of Python: its values, their methods and how they are printed.
//!
//! minijinja-contrib has most methods; here are those it lacks, and those that differ from Python's.

use std::fmt::Write;

use chrono::NaiveDate;
use chrono::format::{Item, StrftimeItems};
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use thiserror::Error as ThisError;

mod filters;
mod json;
mod predicates;
mod print;
mod strings;
mod values;

/// A value nested deeper than this is an attack on the stack.
const MAX_DEPTH: usize = 64;

/// Names that only rewritten sources use: what a loop runs over, `.name` and `['name']` where a
/// method has the name, `'…' % x`.
pub(super) const LOOP: &str = "loop__";
pub(super) const ATTRIBUTE: &str = "attribute__";
pub(super) const ITEM: &str = "item__";
pub(super) const PERCENT: &str = "percent__";

/// The methods whose names are attributes of every dict or string.
pub(super) const METHODS: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "copy",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "get",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "items",
    "join",
    "keys",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "values",
    "zfill",
];

/// A template's wish to stop.
#[derive(Debug, ThisError)]
pub(super) enum Exception {
    #[error("{0}")]
    Raised(String),
    #[error("no date is pinned")]
    NoDate,
}

impl From<Exception> for Error {
    fn from(stop: Exception) -> Self {
        Error::new(ErrorKind::InvalidOperation, stop.to_string()).with_source(stop)
    }
}

/// Makes an environment's values, filters, tests and functions Python's.
pub(super) fn add(environment: &mut Environment) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print::write);
    filters::add(environment);
    predicates::add(environment);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter(PERCENT, strings::percent);
    environment.add_function(LOOP, looped);
    environment.add_function("range", values::range);
    environment.add_function("dict", dict);
    environment.add_function("namespace", |args: Rest<ValueOrKwargs>| {
        let args = args.into_values();
        let (start, kwargs): (Option<Value>, Kwargs) = from_args(&args)?;
        minijinja::functions::namespace(Some(dict(start, kwargs)?.into()))
    });
    environment.remove_global("debug");
}

/// Methods of strings, dicts and lists that templates call on values.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if name == ATTRIBUTE {
        let (name,): (&str,) = from_args(args)?;
        return attribute(value, name);
    }
    if name == ITEM {
        let (name,): (&str,) = from_args(args)?;
        let item = value.get_item(&Value::from(name))?;
        return if item.is_undefined() { attribute(value, name) } else { Ok(item) };
    }
    if let Some(text) = value.as_str()
        && let Some(result) = strings::method(state, text, name, args)?
    {
        return Ok(result);
    }
    match (value.kind(), name) {
        (ValueKind::Seq, "index") => {
            let (wanted,): (&Value,) = from_args(args)?;
            let place = value.try_iter()?.position(|item| item == *wanted);
            return place.map(Value::from).ok_or_else(|| invalid(format!("{wanted} is not in the list")));
        }
        // No template can change a value, so a copy is the same.
        (ValueKind::Seq | ValueKind::Map, "copy") => {
            let () = from_args(args)?;
            return Ok(value.clone());
        }
        (ValueKind::Map, "keys" | "values" | "items") if print::is_dict(value) => {
            let () = from_args(args)?;
            if let Some(view) = values::View::value(value, name) {
                return Ok(view);
            }
        }
        _ => {}
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// `value.name`, where a method hides an item of that name.
fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    let is_method = match value.kind() {
        ValueKind::String => !["copy", "get", "items", "keys", "values"].contains(&name),
        ValueKind::Map => print::is_dict(value) && ["copy", "get", "items", "keys", "values"].contains(&name),
        ValueKind::Seq => ["copy", "count", "index"].contains(&name),
        _ => false,
    };
    match is_method {
        true => Ok(Value::from_object(values::Bound { value: value.clone(), name: name.to_owned() })),
        false => value.get_attr(name),
    }
}

/// What a loop runs over: texts as lists, which know their length; several values as one tuple.
fn looped(args: Rest<Value>) -> Result<Value, Error> {
    match args.as_slice() {
        [value] if value.is_none() => Err(invalid("none is not iterable")),
        [value] if value.kind() == ValueKind::String => {
            Ok(Value::from(value.try_iter()?.collect::<Vec<_>>()))
        }
        [value] => Ok(value.clone()),
        values => Ok(Value::from(values.to_vec())),
    }
}

/// `dict` of another dict or of pairs, and of keyword arguments.
fn dict(start: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    let start = match start {
        Some(pairs) if pairs.kind() != ValueKind::Map => {
            let pair = |pair: Value| Ok((pair.get_item_by_index(0)?, pair.get_item_by_index(1)?));
            Some(Value::from_pairs(pairs.try_iter()?.map(pair).collect::<Result<Vec<_>, Error>>()?))
        }
        start => start,
    };
    minijinja::functions::dict(start, more)
}

fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

/// `datetime.strftime` of midnight on the pinned day.
pub(super) fn strftime(state: &State, date: NaiveDate, format: &str) -> Result<String, Error> {
    let asked = format;
    let bad = || invalid(format!("strftime_now does not understand the format `{asked}`"));
    // A directive writes at most a few dozen bytes.
    state.consume_fuel(format.len() as u64)?;
    // Python's date has microseconds and no zone.
    let format = format.replace("%f", "000000").replace("%Z", "").replace("%z", "");
    let items: Vec<Item> = StrftimeItems::new(&format).collect();
    if items.contains(&Item::Error) {
        return Err(bad());
    }
    let midnight = date.and_hms_opt(0, 0, 0).expect("every day has a midnight");
    let mut text = String::new();
    write!(text, "{}", midnight.format_with_items(items.iter())).map_err(|_| bad())?;
    Ok(text)
}
