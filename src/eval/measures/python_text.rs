//! How Python prints and strips: upstream's scorers compare what it prints.

use serde_json::{Number, Value};

/// White space as `str.isspace` knows it: that of Unicode and four separators of ASCII.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str(value)` of a value that came out of JSON.
pub fn str_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr_of(other),
    }
}

/// `repr(value)`.
fn repr_of(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_text(number),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(repr_of).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), repr_of(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

fn number_text(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(value) => float_text(value),
        None => number.to_string(),
    }
}

/// `repr` of a float: the shortest digits that read back the same, with an exponent from 1e16 on and below 1e-4.
fn float_text(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`e` formats with an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent of a float is a small number");
    if (-4..16).contains(&exponent) {
        return format!("{value:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `repr` of a text: single quotes, unless only double ones avoid an escape.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            c if c == quote => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.extend(format!("\\x{:02x}", u32::from(c)).chars()),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JSON text, and what `CPython` 3.11 prints for `str(json.loads(text))`.
    const PRINTED: &[(&str, &str)] = &[
        (r#""it's""#, "it's"),
        ("3", "3"),
        ("3.0", "3.0"),
        ("2.5e-7", "2.5e-07"),
        ("0.0001", "0.0001"),
        ("1e16", "1e+16"),
        ("1e15", "1000000000000000.0"),
        ("123456789012345680", "123456789012345680"),
        ("1.5e300", "1.5e+300"),
        (r#"[true, null, "a", "it's", "\"'"]"#, r#"[True, None, 'a', "it's", '"\'']"#),
        (r#"{"a": {"b": [1, 2.0]}, "c": "x\ny"}"#, r"{'a': {'b': [1, 2.0]}, 'c': 'x\ny'}"),
        ("{}", "{}"),
    ];

    #[test]
    fn values_print_as_in_python() {
        for (json, printed) in PRINTED {
            assert_eq!(str_of(&serde_json::from_str(json).unwrap()), *printed, "{json}");
        }
    }
}
