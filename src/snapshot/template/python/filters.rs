//! Jinja's filters where the engine's lack arguments, refuse or return something else.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::print::{repr, text};
use super::values::Lazy;
use super::{invalid, strings};

type Args = Rest<ValueOrKwargs>;

pub(super) fn add(environment: &mut Environment) {
    for unknown_to_jinja in ["split", "lines", "bool", "chain", "zip"] {
        environment.remove_filter(unknown_to_jinja);
    }
    environment.add_filter("trim", strings::trim);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("string", |state: &State, value: &Value| text(state, value));
    environment.add_filter("join", join);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("sort", sort);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("indent", indent);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("center", |state: &State, value: &Value, width: Option<usize>| {
        strings::pad(state, &text(state, value)?, "center", &[Value::from(width.unwrap_or(80))])
    });
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("pprint", pprint);
    environment.add_filter("last", last);
    add_lazy(environment);
}

/// Those that return generators in Jinja.
fn add_lazy(environment: &mut Environment) {
    environment.add_filter("map", |state: &mut State, value: Value, args: Args| {
        Ok::<_, Error>(Lazy::value(filters::map(state, iterable(value)?, args)?))
    });
    environment.add_filter(
        "select",
        |state: &mut State, value: Value, test: Option<Cow<'_, str>>, args: Args| {
            Ok::<_, Error>(Lazy::value(filters::select(state, iterable(value)?, test, args)?))
        },
    );
    environment.add_filter(
        "reject",
        |state: &mut State, value: Value, test: Option<Cow<'_, str>>, args: Args| {
            Ok::<_, Error>(Lazy::value(filters::reject(state, iterable(value)?, test, args)?))
        },
    );
    environment.add_filter(
        "selectattr",
        |state: &mut State, value: Value, name: Cow<'_, str>, test: Option<Cow<'_, str>>, args: Args| {
            Ok::<_, Error>(Lazy::value(filters::selectattr(state, iterable(value)?, name, test, args)?))
        },
    );
    environment.add_filter(
        "rejectattr",
        |state: &mut State, value: Value, name: Cow<'_, str>, test: Option<Cow<'_, str>>, args: Args| {
            Ok::<_, Error>(Lazy::value(filters::rejectattr(state, iterable(value)?, name, test, args)?))
        },
    );
    environment.add_filter("unique", |state: &State, value: Value, kwargs: Kwargs| {
        lazy(&filters::unique(state, iterable(value)?, kwargs)?)
    });
    environment.add_filter("batch", |state: &State, value: Value, count: usize, fill: Option<Value>| {
        lazy(&filters::batch(state, iterable(value)?, count, fill)?)
    });
    environment.add_filter("slice", |state: &State, value: Value, count: usize, fill: Option<Value>| {
        lazy(&filters::slice(state, iterable(value)?, count, fill)?)
    });
    environment.add_filter("items", |value: &Value| lazy(&filters::items(value)?));
    environment.add_filter("reverse", |value: &Value| {
        let reversed = filters::reverse(value)?;
        if reversed.kind() == ValueKind::String { Ok(reversed) } else { lazy(&reversed) }
    });
}

fn lazy(value: &Value) -> Result<Value, Error> {
    Ok(Lazy::value(value.try_iter()?.collect()))
}

fn iterable(value: Value) -> Result<Value, Error> {
    if value.is_none() { Err(invalid("none is not iterable")) } else { Ok(value) }
}

/// An argument by place or name, which may be none.
fn argument(args: &[Value], i: usize, kwargs: &Kwargs, name: &'static str) -> Result<Option<Value>, Error> {
    match args.get(i) {
        Some(value) => Ok(Some(value.clone())),
        None if kwargs.has(name) => kwargs.get(name).map(Some),
        None => Ok(None),
    }
}

fn at_most(args: &[Value], n: usize) -> Result<(), Error> {
    if args.len() > n { Err(ErrorKind::TooManyArguments.into()) } else { Ok(()) }
}

fn no_kwargs() -> Kwargs {
    std::iter::empty::<(&str, Value)>().collect()
}

fn default(value: &Value, args: Args) -> Result<Value, Error> {
    let args = args.into_values();
    let (args, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    let other = argument(args, 0, &kwargs, "default_value")?.unwrap_or_else(|| Value::from(""));
    let lax = argument(args, 1, &kwargs, "boolean")?.is_some_and(|lax| lax.is_true());
    at_most(args, 2)?;
    kwargs.assert_all_used()?;
    Ok(if value.is_undefined() || (lax && !value.is_true()) { other } else { value.clone() })
}

fn join(state: &State, value: Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let (separator, attribute, kwargs): (Option<Value>, Option<String>, Kwargs) = from_args(&args)?;
    let separator = separator.or(kwargs.get("d")?).map(|value| text(state, &value)).transpose()?;
    let separator = separator.unwrap_or_default();
    let attribute = attribute.or(kwargs.get("attribute")?);
    kwargs.assert_all_used()?;
    let mut out = String::new();
    for (i, item) in iterable(value)?.try_iter()?.enumerate() {
        out.push_str(if i > 0 { &separator } else { "" });
        let path = attribute.iter().flat_map(|path| path.split('.'));
        let item = path.into_iter().try_fold(item, |item, name| match name.parse::<usize>() {
            Ok(i) => item.get_item_by_index(i),
            Err(_) => item.get_item(&Value::from(name)),
        })?;
        let item = text(state, &item)?;
        state.consume_fuel(1 + ((item.len() + separator.len()) / 64) as u64)?;
        out.push_str(&item);
    }
    Ok(out)
}

fn int(state: &State, value: &Value, args: Args) -> Result<Value, Error> {
    let args = args.into_values();
    let (args, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    let default = argument(args, 0, &kwargs, "default")?.unwrap_or_else(|| Value::from(0));
    let base = argument(args, 1, &kwargs, "base")?.map(u32::try_from).transpose()?;
    at_most(args, 2)?;
    kwargs.assert_all_used()?;
    let value = number_like(value)?;
    match filters::int(state, &value, None, base, no_kwargs()) {
        Ok(found) if !value.is_none() => Ok(found),
        _ => Ok(default),
    }
}

fn float(state: &State, value: &Value, args: Args) -> Result<Value, Error> {
    let args = args.into_values();
    let (args, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    let default = argument(args, 0, &kwargs, "default")?.unwrap_or_else(|| Value::from(0.0));
    at_most(args, 1)?;
    kwargs.assert_all_used()?;
    let value = number_like(value)?;
    match filters::float(state, &value, None, no_kwargs()) {
        Ok(found) if !value.is_none() => Ok(found),
        _ => Ok(default),
    }
}

/// Python's `int` and `float` strip a text.
fn number_like(value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        _ if value.is_undefined() => Err(invalid("an undefined value is no number")),
        Some(text) => Ok(Value::from(text.trim())),
        None => Ok(value.clone()),
    }
}

fn sort(state: &State, value: Value, args: Args) -> Result<Value, Error> {
    let args = args.into_values();
    let (reverse, case_sensitive, attribute, kwargs): (Option<Value>, Option<Value>, Option<Value>, Kwargs) =
        from_args(&args)?;
    let named = [("reverse", reverse), ("case_sensitive", case_sensitive), ("attribute", attribute)];
    let kwargs = merged(named, &kwargs)?;
    let items = filters::list(state, iterable(value)?)?;
    if !kwargs.has("attribute") {
        let kind = |item: Value| if item.kind() == ValueKind::Bool { ValueKind::Number } else { item.kind() };
        let mut kinds = items.try_iter()?.map(kind);
        let first = kinds.next();
        if let Some(other) = kinds.find(|kind| Some(*kind) != first) {
            return Err(invalid(format!("`sort` compares {other} with another type")));
        }
    }
    filters::sort(state, items, kwargs)
}

fn dictsort(value: &Value, args: Args) -> Result<Value, Error> {
    let args = args.into_values();
    let (case_sensitive, by, reverse, kwargs): (Option<Value>, Option<Value>, Option<Value>, Kwargs) =
        from_args(&args)?;
    let named = [("case_sensitive", case_sensitive), ("by", by), ("reverse", reverse)];
    filters::dictsort(value, merged(named, &kwargs)?)
}

/// Arguments by position among those by name.
fn merged(named: [(&'static str, Option<Value>); 3], kwargs: &Kwargs) -> Result<Kwargs, Error> {
    let mut all: Vec<(String, Value)> = Vec::new();
    for (name, value) in named {
        all.extend(value.map(|value| (name.to_owned(), value)));
    }
    for name in kwargs.args() {
        all.push((name.to_owned(), kwargs.get(name)?));
    }
    Ok(all.into_iter().collect())
}

fn indent(state: &State, value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let (width, first, blank, kwargs): (Option<Value>, Option<bool>, Option<bool>, Kwargs) =
        from_args(&args)?;
    let width = width.or(kwargs.get("width")?).unwrap_or_else(|| Value::from(4));
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let source = text(state, value)?;
    let n_lines = source.split('\n').count();
    let indent = match width.as_str() {
        Some(indent) => indent.to_owned(),
        None => {
            let width = usize::try_from(width)?;
            state.consume_fuel((width / 16) as u64)?;
            " ".repeat(width)
        }
    };
    state.consume_fuel((indent.len().saturating_mul(n_lines) / 16) as u64)?;
    let line = |(i, line): (usize, &str)| {
        let indented = if i == 0 { first } else { blank || !line.is_empty() };
        format!("{}{line}", if indented { &indent } else { "" })
    };
    Ok(source.split('\n').enumerate().map(line).collect::<Vec<_>>().join("\n"))
}

fn wordcount(state: &State, value: &Value) -> Result<usize, Error> {
    let text = text(state, value)?;
    Ok(text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count())
}

fn escape(state: &State, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    for c in text(state, value)?.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Python breaks what is longer than a line.
fn pprint(state: &State, value: &Value) -> Result<String, Error> {
    let text = repr(state, value)?;
    match text.chars().count() {
        ..=79 => Ok(text),
        _ => Err(invalid("`pprint` of more than a line is not supported")),
    }
}

fn last(value: Value) -> Result<Value, Error> {
    match value.downcast_object_ref::<Lazy>() {
        Some(_) => Err(invalid("a generator has no last item: add `| list`")),
        None => filters::last(value),
    }
}
