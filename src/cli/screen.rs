//! What may reach a terminal: text, its colours, and nothing that moves, copies or renames.
//!
//! Prompts, answers, names and complaints of servers are strangers' text. A terminal obeys some control characters in
//! it: a title is set, the clipboard is written, a line is overwritten by a carriage return.

use std::borrow::Cow;
use std::io::{self, Write};

/// The text with every control character written out, but for line ends, tabs and colours.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_command) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_command) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let n = colour(rest);
        if n > 0 {
            out.push_str(&rest[..n]);
            rest = &rest[n..];
        } else {
            let c = rest.chars().next().expect("it was just found");
            out.extend(c.escape_debug());
            rest = &rest[c.len_utf8()..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Control characters, and those that turn the direction of text around.
fn is_command(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The length of the colour, `ESC [ 1 ; 4 m`, that a text begins with; 0 if it begins otherwise.
fn colour(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\x1b[") else { return 0 };
    let n = rest.find(|c: char| !(c.is_ascii_digit() || c == ';')).unwrap_or(rest.len());
    if rest[n..].starts_with('m') { "\x1b[m".len() + n } else { 0 }
}

/// Passes on what may reach a terminal.
pub struct Screen<W>(pub W);

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(plain(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_copies_or_renames_is_written_out() {
        for (text, shown) in [
            ("two\nlines\tand é 漢 😀", "two\nlines\tand é 漢 😀"),
            ("\x1b[1;4mbold\x1b[0m\x1b[m", "\x1b[1;4mbold\x1b[0m\x1b[m"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\x1b]52;c;aGk=\x07", "\\u{1b}]52;c;aGk=\\u{7}"),
            ("safe\rgone", "safe\\rgone"),
            ("\x1b[2Jgone\x1b[3", "\\u{1b}[2Jgone\\u{1b}[3"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\x1b[38;5;1mred", "\x1b[38;5;1mred"),
        ] {
            assert_eq!(plain(text), shown);
            let mut written = Vec::new();
            write!(Screen(&mut written), "{text}").unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), shown);
        }
    }
}
