//! Function calls written out, as in `weather.forecast(location="Paris", days=5)`, and the Python values in them.
//!
//! Arguments are literals of Python or JSON, for models mix the two (`true` and `True`); a bare word, as some
//! references have it, stands for its text.

use serde_json::{Map, Number, Value};

/// How deep values may nest: a model's answer must not decide the depth of our stack.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// With its dots.
    pub name: String,
    /// In order; a positional argument goes by its place.
    pub arguments: Vec<(String, Value)>,
}

impl Call {
    /// The first call in a text; none without one that can be read to its closing parenthesis.
    pub fn find(text: &str) -> Option<Self> {
        let mut before = ' ';
        for (at, c) in text.char_indices() {
            let starts = is_name_start(c) && !is_name(before) && before != '.';
            if let Some(call) = starts.then(|| Reader { text, at }.call()).flatten() {
                return Some(call);
            }
            before = c;
        }
        None
    }
}

/// The value of a whole text that is a literal of Python or JSON.
pub fn literal(text: &str) -> Option<Value> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0, false)?;
    reader.blanks();
    reader.rest().is_empty().then_some(value)
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Steps over `expected` and the white space before it.
    fn takes(&mut self, expected: char) -> bool {
        self.blanks();
        let takes = self.peek() == Some(expected);
        if takes {
            self.at += expected.len_utf8();
        }
        takes
    }

    fn while_in(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A name with dots; its parts are names too.
    fn name(&mut self) -> Option<&'t str> {
        let name = self.while_in(|c| is_name(c) || c == '.');
        name.split('.').all(|part| part.starts_with(is_name_start)).then_some(name)
    }

    fn call(&mut self) -> Option<Call> {
        let name = self.name()?.to_owned();
        if self.peek() != Some('(') {
            return None;
        }
        self.at += 1;
        let mut arguments = Vec::new();
        while !self.takes(')') {
            if !arguments.is_empty() && !self.takes(',') {
                return None;
            }
            // A comma may follow the last argument.
            if !arguments.is_empty() && self.takes(')') {
                break;
            }
            let key = self.keyword();
            // Prose has parentheses too: only a keyword makes a bare word a value.
            let value = self.value(0, key.is_some())?;
            arguments.push((key.unwrap_or_else(|| arguments.len().to_string()), value));
        }
        Some(Call { name, arguments })
    }

    /// `name =`, if that is what comes.
    fn keyword(&mut self) -> Option<String> {
        self.blanks();
        let start = self.at;
        let name = self.while_in(is_name);
        if name.starts_with(is_name_start) && self.takes('=') {
            return Some(name.to_owned());
        }
        self.at = start;
        None
    }

    fn value(&mut self, depth: usize, bare_words: bool) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blanks();
        match self.peek()? {
            '"' | '\'' => self.quoted().map(Value::String),
            '[' => self.items(']', depth, bare_words).map(Value::Array),
            '(' => self.items(')', depth, bare_words).map(Value::Array),
            '{' => self.entries(depth, bare_words),
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number().map(Value::Number),
            c if is_name_start(c) => self.word(bare_words),
            _ => None,
        }
    }

    fn word(&mut self, bare_words: bool) -> Option<Value> {
        let name = self.name()?;
        match name {
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            "None" | "null" => Some(Value::Null),
            // A call inside a call has no value here.
            _ if self.peek() == Some('(') => None,
            _ => bare_words.then(|| Value::String(name.to_owned())),
        }
    }

    fn number(&mut self) -> Option<Number> {
        let mut before = ' ';
        let text = self.while_in(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'));
        let text: String = text
            .chars()
            .take_while(|c| {
                // A sign stands at the start or behind the exponent's letter.
                let fits = !matches!(c, '-' | '+') || matches!(before, ' ' | 'e' | 'E');
                before = *c;
                fits
            })
            .filter(|c| *c != '_')
            .collect();
        match text.parse::<i64>() {
            Ok(whole) => Some(whole.into()),
            Err(_) => text.parse().ok().filter(|value: &f64| value.is_finite()).and_then(Number::from_f64),
        }
    }

    fn quoted(&mut self) -> Option<String> {
        let mut chars = self.rest().char_indices();
        let (_, quote) = chars.next()?;
        let mut text = String::new();
        while let Some((place, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += place + c.len_utf8();
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    '\n' => {}
                    kind @ ('x' | 'u' | 'U') => {
                        let n_digits = if kind == 'x' {
                            2
                        } else if kind == 'u' {
                            4
                        } else {
                            8
                        };
                        let digits: String = chars.by_ref().take(n_digits).map(|(_, digit)| digit).collect();
                        text.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)?);
                    }
                    c @ ('\\' | '\'' | '"' | '/') => text.push(c),
                    // As in Python, a backslash before anything else is one.
                    c => text.extend(['\\', c]),
                },
                c => text.push(c),
            }
        }
        None
    }

    fn items(&mut self, close: char, depth: usize, bare_words: bool) -> Option<Vec<Value>> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.takes(close) {
            if !items.is_empty() && !self.takes(',') {
                return None;
            }
            if !items.is_empty() && self.takes(close) {
                break;
            }
            items.push(self.value(depth + 1, bare_words)?);
        }
        Some(items)
    }

    /// An object; its keys are texts.
    fn entries(&mut self, depth: usize, bare_words: bool) -> Option<Value> {
        self.at += 1;
        let mut entries = Map::new();
        while !self.takes('}') {
            if !entries.is_empty() && !self.takes(',') {
                return None;
            }
            if !entries.is_empty() && self.takes('}') {
                break;
            }
            let Value::String(key) = self.value(depth + 1, bare_words)? else { return None };
            if !self.takes(':') {
                return None;
            }
            entries.insert(key, self.value(depth + 1, bare_words)?);
        }
        Some(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_is_found_in_prose_and_read_with_all_its_values() {
        let text =
            "Sure (see below): `a.b_c(x=\"it's\", y = [1, 2.5, 'z'], open=true, at=Berkeley, -3,)` works.";
        let call = Call::find(text).unwrap();
        assert_eq!(call.name, "a.b_c");
        let expected = [
            ("x", json!("it's")),
            ("y", json!([1, 2.5, "z"])),
            ("open", json!(true)),
            ("at", json!("Berkeley")),
            ("4", json!(-3)),
        ];
        assert_eq!(call.arguments, expected.map(|(key, value)| (key.to_owned(), value)));
    }

    #[test]
    fn what_is_not_closed_is_no_call() {
        for text in
            ["f(", "f(a=", "f(a=1", "f(a='1)", "f(a=1 b=2)", "location(s)", "f (a=1)", "", "f(a=g(1))x"]
        {
            let found = Call::find(text);
            assert!(found.as_ref().is_none_or(|call| call.name == "g"), "{text}: {found:?}");
        }
        assert_eq!(Call::find("item(s): now()").unwrap().name, "now");
    }

    #[test]
    fn depth_has_an_end() {
        assert_eq!(Call::find(&format!("f(a={}", "[".repeat(100_000))), None);
        assert_eq!(Call::find(&"f(".repeat(2_000)), None);
    }

    #[test]
    fn a_python_literal_is_a_value() {
        let text = r#"[{'api': "f", 'parameters': {'a': None, 'b': "don't \u00e9"}, 'responses': ('x',)}] "#;
        let expected = json!([{"api": "f", "parameters": {"a": null, "b": "don't é"}, "responses": ["x"]}]);
        assert_eq!(literal(text), Some(expected));
        assert_eq!(literal("[1] x"), None);
    }
}
