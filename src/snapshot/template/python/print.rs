//! `str` and `repr`: how Python prints values.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, Output, State, Value};

use super::values::{Lazy, Range, View};
use super::{MAX_DEPTH, invalid};

/// What `{{ … }}` writes.
pub(in super::super) fn write(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&text(state, value)?)?,
    }
    Ok(())
}

/// `str(value)`.
pub(super) fn text(state: &State, value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Undefined => Ok(String::new()),
        _ => repr(state, value),
    }
}

/// `repr(value)`.
pub(super) fn repr(state: &State, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    Repr { state, out: &mut out }.value(value, 0)?;
    Ok(out)
}

struct Repr<'a, 'template, 'environment> {
    state: &'a State<'template, 'environment>,
    out: &'a mut String,
}

impl Repr<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("a value nested deeper than {MAX_DEPTH} is printed")));
        }
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::Undefined => self.out.push_str("Undefined"),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Number if !value.is_integer() => {
                self.out.push_str(&float(f64::try_from(value.clone())?, ["nan", "inf", "-inf"]));
            }
            ValueKind::Map if is_dict(value) => {
                self.out.push('{');
                for (i, key) in value.try_iter()?.enumerate() {
                    self.out.push_str(if i > 0 { ", " } else { "" });
                    self.value(&key, depth + 1)?;
                    self.out.push_str(": ");
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.out.push('}');
            }
            ValueKind::Seq | ValueKind::Iterable => self.sequence(value, depth)?,
            _ => write!(self.out, "{value}").expect("a string takes all"),
        }
        Ok(())
    }

    fn sequence(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if value.downcast_object_ref::<Lazy>().is_some() {
            return Err(invalid("a generator has no text: add `| list`"));
        }
        if let Some(range) = value.downcast_object_ref::<Range>() {
            self.out.push_str(&range.to_string());
            return Ok(());
        }
        let view = value.downcast_object_ref::<View>().map(|view| view.name);
        if let Some(name) = view {
            write!(self.out, "dict_{name}(").expect("a string takes all");
        }
        let is_tuple = value.is_tuple();
        self.out.push(if is_tuple { '(' } else { '[' });
        let mut n_items = 0;
        for item in value.try_iter()? {
            self.out.push_str(if n_items > 0 { ", " } else { "" });
            self.value(&item, depth + 1)?;
            n_items += 1;
        }
        self.out.push_str(match is_tuple {
            true if n_items == 1 => ",)",
            true => ")",
            false => "]",
        });
        self.out.push_str(if view.is_some() { ")" } else { "" });
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel((text.len() / 16) as u64)?;
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        self.out.push(quote);
        for c in text.chars() {
            match c {
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\\' => self.out.push_str("\\\\"),
                c if c == quote => self.out.extend(['\\', c]),
                c if is_printable(c) => self.out.push(c),
                c => match c as u32 {
                    code @ ..=0xff => write!(self.out, "\\x{code:02x}"),
                    code @ ..=0xffff => write!(self.out, "\\u{code:04x}"),
                    code => write!(self.out, "\\U{code:08x}"),
                }
                .expect("a string takes all"),
            }
        }
        self.out.push(quote);
        Ok(())
    }
}

/// Whether a map is a dict, not a namespace, a loop or a macro, which have no methods of dicts.
pub(super) fn is_dict(value: &Value) -> bool {
    const OTHERS: &[&str] = &["Namespace", "Loop", "Macro", "Module"];
    value.kind() == ValueKind::Map
        && value
            .as_object()
            .is_some_and(|object| !OTHERS.iter().any(|name| object.type_name().ends_with(name)))
}

/// `str.isprintable` of one character, which Rust's escapes also go by.
fn is_printable(c: char) -> bool {
    // After another character: alone, one that combines is escaped.
    c == '\\'
        || c == '\''
        || c == '"'
        || ['a', c].iter().collect::<String>().escape_debug().nth(1) != Some('\\')
}

/// `repr(float)`: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(number: f64, [nan, infinite, negative]: [&str; 3]) -> String {
    if number.is_nan() {
        return nan.to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { infinite } else { negative }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').expect("the format writes an exponent");
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{number:?}")
}
