//! `json.dumps`, which is what transformers makes of `tojson`.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Error, State, Value};

use super::print::float;
use super::values::{Lazy, Range, View};
use super::{MAX_DEPTH, invalid};

/// `json.dumps(value, ensure_ascii=False)`: never escapes HTML, spaces after separators.
pub(super) fn tojson(state: &State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args = args.into_values();
    let (ascii, indent, kwargs): (Option<bool>, Option<Value>, Kwargs) = from_args(&args)?;
    let indent = indent.or(kwargs.get("indent")?);
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent)?.min(64)),
        }),
    };
    let separators = match kwargs.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("`separators` needs two strings")),
    };
    let ascii = ascii.or(kwargs.get("ensure_ascii")?).unwrap_or(false);
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut json = Json { state, out: String::new(), indent, separators, ascii, sort_keys };
    json.value(value, 0)?;
    Ok(json.out)
}

struct Json<'a, 'template, 'environment> {
    state: &'a State<'template, 'environment>,
    out: String,
    indent: Option<String>,
    separators: (String, String),
    ascii: bool,
    sort_keys: bool,
}

impl Json<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("`tojson` of a value nested deeper than {MAX_DEPTH}")));
        }
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable if is_list(value) => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.block('[', ']', items.len(), depth, |json, i| json.value(&items[i], depth + 1))?;
            }
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    pairs.push((scalar(&key)?, item));
                }
                if self.sort_keys {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.block('{', '}', pairs.len(), depth, |json, i| {
                    json.string(&pairs[i].0)?;
                    json.out.push_str(&json.separators.1);
                    json.value(&pairs[i].1, depth + 1)
                })?;
            }
            _ => self.out.push_str(&scalar(value)?),
        }
        Ok(())
    }

    fn block(
        &mut self,
        open: char,
        close: char,
        n_items: usize,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for i in 0..n_items {
            if i > 0 {
                self.out.push_str(&self.separators.0);
            }
            self.new_line(depth + 1)?;
            item(self, i)?;
        }
        if n_items > 0 {
            self.new_line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            self.state.consume_fuel((indent.len() * depth / 64) as u64)?;
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel((text.len() / 16) as u64)?;
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\x08' => self.out.push_str("\\b"),
                '\x0c' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}").expect("a string takes all");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(())
    }
}

/// Whether `json` takes a value for an array: generators, views and ranges it refuses.
fn is_list(value: &Value) -> bool {
    value.downcast_object_ref::<Lazy>().is_none()
        && value.downcast_object_ref::<View>().is_none()
        && value.downcast_object_ref::<Range>().is_none()
}

/// A scalar as Python's `json` writes it, which is also how it writes a key that is no string.
fn scalar(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => float(f64::try_from(value.clone())?, ["NaN", "Infinity", "-Infinity"]),
        kind => return Err(invalid(format!("a value of type {kind} is not JSON serializable"))),
    })
}
