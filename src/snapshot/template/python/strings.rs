//! The methods of `str` that minijinja-contrib lacks or reads differently.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, State, Value};

use super::invalid;

/// `str.isspace` counts four separators that Unicode's property does not.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// What a method returns, if it is one of those here.
pub(super) fn method(state: &State, text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            Value::from(strip(text, chars, name != "rstrip", name != "lstrip"))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "split" | "rsplit" => {
            let (separator, limit) = split_args(args)?;
            split(text, separator.as_deref(), limit, name == "rsplit")?
        }
        "splitlines" => {
            let (keep_ends, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep_ends = keep_ends.or(kwargs.get("keepends")?);
            kwargs.assert_all_used()?;
            splitlines(text, keep_ends.unwrap_or(false))
        }
        "partition" | "rpartition" => partition(text, name, args)?,
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, name, args)?,
        "startswith" | "endswith" => begins_or_ends(text, name, args)?,
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            join(state, text, items)?
        }
        "center" | "ljust" | "rjust" | "zfill" => pad(state, text, name, args)?,
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(is_space))
        }
        "isdigit" | "isdecimal" | "isnumeric" => {
            let () = from_args(args)?;
            Value::from(is_digits(text, name)?)
        }
        "format" if has_wide_field(text) => return Err(invalid("a field of `format` is wider than 9999")),
        _ => return Ok(None),
    }))
}

fn partition(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let found = if name == "partition" { text.find(separator) } else { text.rfind(separator) };
    let parts = match found {
        Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
        None if name == "partition" => [text, "", ""],
        None => ["", "", text],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// The part of a text between two character positions, which may count from its end, and where it
/// begins; `None` if that is past the end.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(&str, usize)> {
    let n_chars = text.chars().count();
    let place =
        |at: i64| if at < 0 { n_chars.saturating_sub(at.unsigned_abs() as usize) } else { at as usize };
    let (start, end) = (start.map_or(0, place), end.map_or(n_chars, place).min(n_chars));
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    (start <= end).then(|| (&text[byte(start)..byte(end)], start))
}

fn search(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let part = window(text, start, end);
    if name == "count" {
        return Ok(Value::from(part.map_or(0, |(part, _)| part.matches(wanted).count())));
    }
    let found = part.and_then(|(part, start)| {
        let at = if name.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) };
        Some(start + part[..at?].chars().count())
    });
    match found {
        Some(at) => Ok(Value::from(at)),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(invalid("substring not found")),
    }
}

fn begins_or_ends(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
    let wanted = match wanted.is_tuple() {
        true => wanted.try_iter()?.collect(),
        false => vec![wanted.clone()],
    };
    let part = window(text, start, end);
    let mut is_found = false;
    for wanted in &wanted {
        let not_text = || invalid(format!("`{name}` takes a string or a tuple of strings"));
        let wanted = wanted.as_str().ok_or_else(not_text)?;
        is_found |= part.is_some_and(|(part, _)| match name {
            "startswith" => part.starts_with(wanted),
            _ => part.ends_with(wanted),
        });
    }
    Ok(Value::from(is_found))
}

fn join(state: &State, separator: &str, items: &Value) -> Result<Value, Error> {
    if items.is_none() {
        return Err(invalid("none is not iterable"));
    }
    let mut out = String::new();
    for (i, item) in items.try_iter()?.enumerate() {
        state.consume_fuel(1 + (separator.len() / 64) as u64)?;
        out.push_str(if i > 0 { separator } else { "" });
        let kind = item.kind();
        out.push_str(
            item.as_str().ok_or_else(|| invalid(format!("item {i} of `join` is {kind}, no string")))?,
        );
    }
    Ok(Value::from(out))
}

pub(super) fn pad(state: &State, text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    let missing = width.saturating_sub(text.chars().count());
    state.consume_fuel((missing / 16) as u64)?;
    let fill = fill.unwrap_or(if name == "zfill" { '0' } else { ' ' });
    let left = match name {
        "ljust" => 0,
        // Where both differ by one, Python's left side is the longer for an odd width.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (sign, digits) = match text.starts_with(['-', '+']) {
        true if name == "zfill" => text.split_at(1),
        _ => ("", text),
    };
    let fills = |n: usize| fill.to_string().repeat(n);
    Ok(Value::from(format!("{sign}{}{digits}{}", fills(left), fills(missing - left))))
}

/// Only Unicode's tables know which digits beyond ASCII are decimal, and which ideographs numbers.
fn is_digits(text: &str, name: &str) -> Result<bool, Error> {
    let is_ideograph = |c: char| c >= '\u{3000}' && c.is_alphabetic();
    let is_known = match name {
        "isnumeric" => !text.chars().any(is_ideograph),
        _ => !text.chars().any(|c| c.is_numeric() && !c.is_ascii_digit()),
    };
    if !is_known {
        return Err(invalid(format!("`{name}` of `{text}` is not supported")));
    }
    Ok(!text.is_empty() && text.chars().all(char::is_numeric))
}

/// `'…' % value`, of which the rewritten source makes a filter.
pub(in super::super) fn percent(text: &str, value: &Value) -> Result<String, Error> {
    if has_wide_field(&text.replace('%', "{")) {
        return Err(invalid("a field of `%` is wider than 9999"));
    }
    let args: Vec<Value> = match value.kind() {
        _ if value.is_tuple() => value.try_iter()?.collect(),
        ValueKind::Map if text.contains("%(") => {
            let pairs: Result<Vec<_>, Error> =
                value.try_iter()?.map(|key| Ok((key.to_string(), value.get_item(&key)?))).collect();
            vec![Value::from(pairs?.into_iter().collect::<Kwargs>())]
        }
        _ => vec![value.clone()],
    };
    format(FormatStyle::Printf, text, &args)
}

/// Jinja's `trim` filter.
pub(in super::super) fn trim(value: &Value, chars: Option<&str>, kwargs: Kwargs) -> Result<String, Error> {
    let chars = chars.or(kwargs.get("chars")?);
    kwargs.assert_all_used()?;
    Ok(match value.as_str() {
        Some(text) => strip(text, chars, true, true).to_owned(),
        None => strip(&value.to_string(), chars, true, true).to_owned(),
    })
}

/// Every letter that follows no letter with a case in upper case, the others in lower case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_letter = false;
    for c in text.chars() {
        if after_letter {
            out.extend(c.to_lowercase());
        } else {
            match c {
                // Croatian digraphs have a third case.
                'Ǆ'..='ǆ' => out.push('ǅ'),
                'Ǉ'..='ǉ' => out.push('ǈ'),
                'Ǌ'..='ǌ' => out.push('ǋ'),
                'Ǳ'..='ǳ' => out.push('ǲ'),
                _ => {
                    let mut upper = c.to_uppercase();
                    out.extend(upper.next());
                    out.extend(upper.flat_map(char::to_lowercase));
                }
            }
        }
        after_letter = c.is_uppercase() || c.is_lowercase() || "ǅǈǋǲ".contains(c);
    }
    out
}

/// A width in a format string is memory that the engine does not charge for.
fn has_wide_field(format: &str) -> bool {
    let inside = format.split('{').skip(1).filter_map(|part| part.split('}').next());
    let is_wide = |field: &str| field.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 4);
    inside.into_iter().any(is_wide)
}

fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let drop = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(drop) } else { text };
    if right { text.trim_end_matches(drop) } else { text }
}

fn split_args(args: &[Value]) -> Result<(Option<String>, Option<usize>), Error> {
    let (separator, limit, kwargs): (Option<String>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(kwargs.get("sep")?);
    let limit = limit.or(kwargs.get("maxsplit")?);
    kwargs.assert_all_used()?;
    // A negative limit is Python's "all".
    Ok((separator, limit.and_then(|limit| usize::try_from(limit).ok())))
}

fn split(text: &str, separator: Option<&str>, limit: Option<usize>, right: bool) -> Result<Value, Error> {
    let limit = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) if right => text.rsplitn(limit, separator).collect(),
        Some(separator) => text.splitn(limit, separator).collect(),
        None => words(text, limit, right),
    };
    if right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words between white space, at most `limit`, the last of which is the rest; from the right, the
/// words come in reverse order.
fn words(text: &str, limit: usize, right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = strip(rest, None, !right, right);
        if rest.is_empty() {
            return parts;
        }
        let end = if right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(end) = end.filter(|_| parts.len() + 1 < limit) else {
            parts.push(rest);
            return parts;
        };
        if right {
            let space = rest[end..].chars().next().map_or(1, char::len_utf8);
            parts.push(&rest[end + space..]);
            rest = &rest[..end];
        } else {
            parts.push(&rest[..end]);
            rest = &rest[end..];
        }
    }
}

fn splitlines(text: &str, keep_ends: bool) -> Value {
    let is_end =
        |c| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_end) {
        let width = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        lines.push(Value::from(&rest[..if keep_ends { at + width } else { at }]));
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        lines.push(Value::from(rest));
    }
    Value::from(lines)
}
