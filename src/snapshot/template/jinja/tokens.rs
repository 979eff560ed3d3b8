//! The tokens inside a tag, as Jinja reads them.

use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Name,
    String,
    Number,
    Symbol,
}

#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    pub at: Range<usize>,
    /// How many brackets are open around it; a bracket is inside itself.
    pub depth: usize,
}

impl Token<'_> {
    pub fn is(&self, text: &str) -> bool {
        self.text == text && self.kind != TokenKind::String
    }
}

/// Whether an operand, not an operator, must follow.
pub(super) fn begins_operand(token: &Token) -> bool {
    const WORDS: &[&str] = &["in", "not", "and", "or", "if", "elif", "else", "is"];
    match token.kind {
        TokenKind::Symbol => ![")", "]", "}"].contains(&token.text),
        TokenKind::Name => WORDS.contains(&token.text),
        TokenKind::String | TokenKind::Number => false,
    }
}

/// The length of a tag with nothing but `word` in it.
pub(super) fn bare_tag(source: &str, word: &str) -> Option<usize> {
    let rest = source.strip_prefix("{%")?;
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start().strip_prefix(word)?.trim_start();
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
    Some(source.len() - rest.len())
}

/// The tokens of a tag whose inside begins at `at`, and where the tag ends.
pub(super) fn tokens<'a>(source: &'a str, mut at: usize, end: &str) -> Option<(Vec<Token<'a>>, usize)> {
    const PAIRS: &[&str] = &["//", "**", "==", "!=", ">=", "<="];
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut depth = 0usize;
    if source[at..].starts_with(['-', '+']) {
        at += 1;
    }
    loop {
        at = source.len() - source[at..].trim_start().len();
        let rest = &source[at..];
        let first = rest.chars().next()?;
        if depth == 0 {
            let signed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if let Some(found) = [rest, signed].into_iter().find(|rest| rest.starts_with(end)) {
                return Some((tokens, source.len() - found.len() + end.len()));
            }
        }
        let (kind, length) = if first == '"' || first == '\'' {
            (TokenKind::String, string_length(rest, first)?)
        } else if first.is_ascii_digit() {
            let decimal = |(i, c): (usize, char)| {
                is_name(c) || (c == '.' && rest[i + 1..].starts_with(|c: char| c.is_ascii_digit()))
            };
            (
                TokenKind::Number,
                rest.char_indices().find(|pair| !decimal(*pair)).map_or(rest.len(), |(i, _)| i),
            )
        } else if is_name(first) {
            (TokenKind::Name, rest.find(|c| !is_name(c)).unwrap_or(rest.len()))
        } else if PAIRS.iter().any(|pair| rest.starts_with(pair)) {
            (TokenKind::Symbol, 2)
        } else {
            (TokenKind::Symbol, first.len_utf8())
        };
        let text = &rest[..length];
        if ["(", "[", "{"].contains(&text) {
            depth += 1;
        }
        tokens.push(Token { kind, text, at: at..at + length, depth });
        if [")", "]", "}"].contains(&text) {
            depth = depth.checked_sub(1)?;
        }
        at += length;
    }
}

fn string_length(rest: &str, quote: char) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()?),
            c if c == quote => return Some(i + 1),
            _ => {}
        }
    }
    None
}
