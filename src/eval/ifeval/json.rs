//! What Python's `json.loads` accepts.
//!
//! It takes `NaN`, `Infinity` and `-Infinity` for numbers, and lone surrogates in escapes; a byte order mark, control
//! characters in strings and whole numbers of more than 4,300 digits (Python 3.11) it refuses.

/// Deeper nesting ends upstream's whole run with a `RecursionError`; here such text is no JSON.
const MAX_DEPTH: usize = 990;
/// Python's limit for whole numbers.
const MAX_DIGITS: usize = 4300;

/// Whether the text is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    reader.value(0).is_some() && reader.at == reader.bytes.len()
}

struct Reader<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, word: &str) -> Option<()> {
        let there = self.bytes[self.at..].starts_with(word.as_bytes());
        there.then(|| self.at += word.len())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    /// A value and the white space around it.
    fn value(&mut self, depth: usize) -> Option<()> {
        self.blank();
        match self.peek()? {
            b'"' => self.string()?,
            b'{' | b'[' if depth >= MAX_DEPTH => return None,
            b'{' => self.list(b'}', |reader| {
                reader.blank();
                reader.string()?;
                reader.blank();
                reader.take(":")?;
                reader.value(depth + 1)
            })?,
            b'[' => self.list(b']', |reader| reader.value(depth + 1))?,
            b'n' => self.take("null")?,
            b't' => self.take("true")?,
            b'f' => self.take("false")?,
            b'N' => self.take("NaN")?,
            b'I' => self.take("Infinity")?,
            b'-' => self.take("-Infinity").or_else(|| self.number())?,
            _ => self.number()?,
        }
        self.blank();
        Some(())
    }

    /// Members between commas, from the opening bracket to `close`.
    fn list(&mut self, close: u8, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.blank();
        if self.peek()? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            member(self)?;
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b',' => {}
                byte if byte == close => return Some(()),
                _ => return None,
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.take("\"")?;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                0..0x20 => return None,
                b'\\' => {
                    let escape = self.peek()?;
                    self.at += 1;
                    match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.bytes.get(self.at..self.at + 4)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.at += 4;
                        }
                        _ => return None,
                    }
                }
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take("-");
        let n_digits = match self.peek()? {
            b'0' => {
                self.at += 1;
                1
            }
            _ => self.digits(),
        };
        // A fraction or an exponent that is cut short is left over, and then the text is refused for it.
        let whole_end = self.at;
        if self.take(".").is_some() && self.digits() == 0 {
            self.at = whole_end;
            return None;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let _ = self.take("+").or_else(|| self.take("-"));
            if self.digits() == 0 {
                return None;
            }
        }
        let is_whole = self.at == whole_end;
        (n_digits > 0 && !(is_whole && n_digits > MAX_DIGITS)).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_accepts_is_json() {
        for good in
            ["NaN", "-Infinity", "[]", " { } ", r#"{"a" : [1, -0.5e+3, null], "b":"\ud800\/ü"}"#, "\"\"", "0"]
        {
            assert!(is_json(good), "{good}");
        }
        let digits = "1".repeat(4301);
        assert!(is_json(&digits[1..]) && is_json(&format!("{digits}.0")) && !is_json(&digits));
    }

    #[test]
    fn what_python_refuses_is_not() {
        for bad in [
            "",
            "nan",
            "01",
            "1.",
            "1e",
            "-",
            ".5",
            "+1",
            "[1,]",
            "{1: 2}",
            "{\"a\"}",
            "{'a': 1}",
            "[1] 2",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "[",
            "{\"a\": 1,}",
            "\u{feff}1",
            "tru",
            "1 2",
            "\u{a0}1",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
        assert!(!is_json(&"[".repeat(100_000)));
    }
}
