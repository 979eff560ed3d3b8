//! The source rewritten where minijinja reads Jinja differently.
//!
//! Only tokens inside tags are touched, never text, comments or raw blocks, and each rewriting has
//! the same precedence as what it replaces. What has no equal is refused.

use std::ops::Range;

use super::python;
use tokens::{Token, TokenKind, bare_tag, begins_operand, tokens};

mod tokens;

/// A template as minijinja is to see it, and how its places map to the original's.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub text: String,
    original: String,
    /// Bytes of `text` with the bytes of `original` that they stand for, in order.
    edits: Vec<(Range<usize>, Range<usize>)>,
}

/// A construct that would silently mean something else.
#[derive(Debug)]
pub(super) struct Refused {
    pub at: Range<usize>,
    pub why: &'static str,
}

type Edit = (Range<usize>, String);

impl Source {
    pub fn new(original: String) -> Result<Self, Refused> {
        let mut scan = Scan { source: &original, edits: Vec::new(), blocks: Vec::new() };
        scan.run()?;
        let mut requested = scan.edits;
        // Stable: where two insertions meet, the outer one was made first.
        requested.sort_by_key(|(at, _)| at.start);
        let (mut text, mut edits, mut done) = (String::with_capacity(original.len()), Vec::new(), 0);
        for (at, new) in requested {
            text.push_str(&original[done..at.start]);
            let start = text.len();
            text.push_str(&new);
            done = at.end;
            edits.push((start..text.len(), at));
        }
        text.push_str(&original[done..]);
        Ok(Self { text, original, edits })
    }

    /// Line and text of the original at bytes of `text`, or at a whole line of it.
    pub fn place(&self, range: Option<Range<usize>>, line: usize) -> (usize, &str) {
        let range = range.unwrap_or_else(|| {
            let start = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
            start..start
        });
        place(&self.original, self.back(range.start, false)..self.back(range.end, true))
    }

    fn back(&self, at: usize, is_end: bool) -> usize {
        let before = |new: &Range<usize>| if is_end { new.start < at } else { new.start <= at };
        match self.edits.iter().rev().find(|(new, _)| before(new)) {
            Some((new, old)) if at < new.end => {
                if is_end {
                    old.end
                } else {
                    old.start
                }
            }
            Some((new, old)) => old.end + (at - new.end),
            None => at,
        }
    }
}

/// Line of the bytes `range` of `text`, and the bytes, or the line if they say nothing.
pub(super) fn place(text: &str, range: Range<usize>) -> (usize, &str) {
    let start = range.start.min(text.len());
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count();
    let exact = text.get(range).filter(|part| !part.trim().is_empty());
    (line + 1, exact.or_else(|| text.lines().nth(line)).unwrap_or(""))
}

struct Scan<'a> {
    source: &'a str,
    edits: Vec<Edit>,
    /// The statements that are open.
    blocks: Vec<&'a str>,
}

impl<'a> Scan<'a> {
    fn run(&mut self) -> Result<(), Refused> {
        let mut at = 0;
        while let Some(found) = self.source[at..].find('{').map(|found| at + found) {
            at = match self.source.as_bytes().get(found + 1) {
                Some(b'#') => match self.source[found..].find("#}") {
                    Some(end) => found + end + 2,
                    None => return Ok(()),
                },
                Some(b'%') => match self.raw(found) {
                    Some(end) => end,
                    None => match self.tag(found, "%}")? {
                        Some(end) => end,
                        None => return Ok(()),
                    },
                },
                Some(b'{') => match self.tag(found, "}}")? {
                    Some(end) => end,
                    None => return Ok(()),
                },
                _ => found + 1,
            };
        }
        Ok(())
    }

    /// The end of a raw block. Jinja keeps the newline after its opening tag.
    fn raw(&mut self, start: usize) -> Option<usize> {
        let body = start + bare_tag(&self.source[start..], "raw")?;
        if self.source[body..].starts_with('\n') && !self.source[..body].ends_with("-%}") {
            self.edits.push((body..body, "\n".to_owned()));
        }
        let mut at = body;
        loop {
            at += self.source[at..].find("{%")?;
            match bare_tag(&self.source[at..], "endraw") {
                Some(length) => return Some(at + length),
                None => at += 2,
            }
        }
    }

    /// Rewrites a tag and returns its end. `None` leaves the rest to the engine, which will find
    /// it wrong.
    fn tag(&mut self, start: usize, end: &str) -> Result<Option<usize>, Refused> {
        let Some((tokens, end)) = tokens(self.source, start + 2, end) else { return Ok(None) };
        if self.source.as_bytes()[start + 1] == b'%' {
            self.statement(&tokens)?;
        }
        self.expressions(&tokens)?;
        Ok(Some(end))
    }

    fn statement(&mut self, tokens: &[Token<'a>]) -> Result<(), Refused> {
        let Some(first) = tokens.first() else { return Ok(()) };
        let is_block = !tokens.iter().any(|token| token.depth == 0 && token.is("="));
        match first.text {
            "generation" | "endgeneration" if tokens.len() == 1 => {
                let with = if first.is("generation") { "with" } else { "endwith" };
                self.edits.push((first.at.clone(), with.to_owned()));
            }
            "for" => self.loop_values(tokens),
            "macro" => parameters(tokens)?,
            "with" => assignments(tokens)?,
            "set" => private_attribute(tokens)?,
            "break" | "continue" => {
                let inner = self.blocks.iter().rev().take_while(|block| **block != "for");
                if inner.into_iter().any(|block| *block != "if") {
                    return refuse(first, "the engine cannot leave a block inside the loop");
                }
            }
            _ => {}
        }
        match first.text {
            "for" | "if" | "macro" | "call" | "filter" | "with" | "block" | "autoescape" | "generation" => {
                self.blocks.push(first.text);
            }
            "set" if is_block => self.blocks.push("set"),
            name if name.strip_prefix("end") == self.blocks.last().copied() => {
                self.blocks.pop();
            }
            _ => {}
        }
        Ok(())
    }

    /// What a loop runs over passes through a function that Python's rules are in.
    fn loop_values(&mut self, tokens: &[Token]) {
        let Some(over) = tokens.iter().position(|token| token.depth == 0 && token.is("in")) else { return };
        let rest = &tokens[over + 1..];
        let ends = |token: &Token| token.depth == 0 && (token.is("if") || token.is("recursive"));
        let Some(last) = rest.iter().position(ends).unwrap_or(rest.len()).checked_sub(1) else { return };
        self.insert(rest[0].at.start, &format!("{}(", python::LOOP));
        self.insert(rest[last].at.end, ")");
    }

    fn expressions(&mut self, tokens: &[Token]) -> Result<(), Refused> {
        let targets = assigned(tokens);
        for (i, token) in tokens.iter().enumerate() {
            let before = i.checked_sub(1).map(|i| &tokens[i]);
            let after = tokens.get(i + 1);
            match token.kind {
                TokenKind::String if token.text.contains('\\') => {
                    let new = literal(token)?;
                    if new != token.text {
                        self.edits.push((token.at.clone(), new));
                    }
                }
                TokenKind::Name if before.is_some_and(|dot| dot.is(".")) => {
                    let of_loop = i >= 2 && tokens[i - 2].is("loop");
                    let called = after.is_some_and(|next| next.is("("));
                    if python::METHODS.contains(&token.text) && !called && !of_loop && i >= targets {
                        let call = format!("{}('{}')", python::ATTRIBUTE, token.text);
                        self.edits.push((token.at.clone(), call));
                    }
                }
                TokenKind::Name
                    if self.blocks.contains(&"macro") && ["varargs", "kwargs"].contains(&token.text) =>
                {
                    return refuse(token, "a macro's extra arguments are not supported");
                }
                TokenKind::Name if token.is("self") && !after.is_some_and(|next| next.is(".")) => {
                    return refuse(token, "the template itself is no value");
                }
                // Unary: it says nothing about a number.
                TokenKind::Symbol if token.is("+") && before.is_none_or(begins_operand) => {
                    self.edits.push((token.at.clone(), String::new()));
                }
                TokenKind::Symbol
                    if token.is("[") && before.is_some_and(|before| !begins_operand(before)) =>
                {
                    self.item(&tokens[i..]);
                }
                TokenKind::Symbol if token.is("%") => self.format_string(tokens, i),
                _ => {}
            }
        }
        Ok(())
    }

    /// `['name']`, which falls back to a method of that name as `.name` does to an item.
    fn item(&mut self, tokens: &[Token]) {
        if let [open, name, close, ..] = tokens
            && name.kind == TokenKind::String
            && close.is("]")
            && python::METHODS.contains(&&name.text[1..name.text.len() - 1])
        {
            self.edits.push((open.at.clone(), format!(".{}(", python::ITEM)));
            self.edits.push((close.at.clone(), ")".to_owned()));
        }
    }

    /// `'…' % value` with a literal on its left becomes a filter of the literal.
    fn format_string(&mut self, tokens: &[Token], percent: usize) {
        const ENDS: &[&str] = &[
            "*", "/", "//", "%", "~", "+", "-", "==", "!=", "<", ">", "<=", ">=", ",", ":", ")", "]", "}",
            "in", "not", "and", "or", "if", "else",
        ];
        let is_string = percent.checked_sub(1).is_some_and(|i| tokens[i].kind == TokenKind::String);
        let alone = percent.checked_sub(2).is_none_or(|i| {
            tokens[i].kind != TokenKind::String && !["*", "/", "//", "%", "**"].contains(&tokens[i].text)
        });
        let rest = &tokens[percent + 1..];
        let depth = tokens[percent].depth;
        let ends = |token: &Token| {
            token.depth == depth && token.kind != TokenKind::String && ENDS.contains(&token.text)
        };
        let n_tokens = rest.iter().position(ends).unwrap_or(rest.len());
        let operand = &rest[..n_tokens];
        let plain = !operand.is_empty() && !operand.iter().any(|token| token.is("is") || token.is("**"));
        if is_string && alone && plain {
            self.edits.push((tokens[percent].at.clone(), format!("|{}(", python::PERCENT)));
            self.insert(operand[n_tokens - 1].at.end, ")");
        }
    }

    fn insert(&mut self, at: usize, text: &str) {
        self.edits.push((at..at, text.to_owned()));
    }
}

/// How many tokens of a `set` statement are its target.
fn assigned(tokens: &[Token]) -> usize {
    if !tokens.first().is_some_and(|first| first.is("set")) {
        return 0;
    }
    let ends = |token: &Token| token.depth == 0 && (token.is("=") || token.is("|"));
    tokens.iter().position(ends).unwrap_or(tokens.len())
}

fn parameters(tokens: &[Token]) -> Result<(), Refused> {
    let mut names = Vec::new();
    for (i, token) in tokens.iter().enumerate().skip(2) {
        let before = &tokens[i - 1];
        if token.depth == 1 && token.kind == TokenKind::Name && (before.is("(") || before.is(",")) {
            names.push(token.text);
        } else if token.kind == TokenKind::Name && !before.is(".") && names.contains(&token.text) {
            return refuse(token, "a default that is another parameter is not supported");
        } else if token.is(")") && before.is(",") && token.depth == 1 {
            return refuse(before, "a macro's parameters end with a comma");
        }
    }
    Ok(())
}

/// Jinja computes all values before it sets the first name.
fn assignments(tokens: &[Token]) -> Result<(), Refused> {
    let mut names = Vec::new();
    for (i, token) in tokens.iter().enumerate().skip(1) {
        let sets = token.depth == 0 && tokens.get(i + 1).is_some_and(|next| next.is("="));
        if token.kind == TokenKind::Name && !tokens[i - 1].is(".") {
            match sets {
                true => names.push(token.text),
                // The value of the name itself is still the outer one.
                false if names[..names.len().saturating_sub(1)].contains(&token.text) => {
                    return refuse(token, "a value of `with` that names another of it is not supported");
                }
                false => {}
            }
        }
    }
    Ok(())
}

fn private_attribute(tokens: &[Token]) -> Result<(), Refused> {
    let target = &tokens[..assigned(tokens)];
    match target.windows(2).find(|pair| pair[0].is(".") && pair[1].text.starts_with('_')) {
        Some(pair) => refuse(&pair[1], "transformers keeps names with an underscore for itself"),
        None => Ok(()),
    }
}

fn refuse<T>(token: &Token, why: &'static str) -> Result<T, Refused> {
    Err(Refused { at: token.at.clone(), why })
}

/// A string literal with the escapes that minijinja lacks or reads differently written out.
fn literal(token: &Token) -> Result<String, Refused> {
    let mut out = String::with_capacity(token.text.len());
    let mut chars = token.text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('\n') => {}
            Some('/') => out.push_str("\\\\/"),
            Some('a') => out.push('\x07'),
            Some('v') => out.push('\x0b'),
            Some('U') => {
                let digits: String = chars.by_ref().take(8).collect();
                let found = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                let found = found.filter(|found| *found != '\\' && *found != '\'' && *found != '"');
                let Some(found) = found else { return refuse(token, "this escape is not supported") };
                out.push(found);
            }
            Some('N') => return refuse(token, "characters by name are not supported"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(source: &str) -> String {
        Source::new(source.to_owned()).unwrap().text
    }

    #[test]
    fn only_tokens_in_tags_are_rewritten() {
        let source = "{%- generation -%}{%+ x %}{% generationx %}{%endgeneration%}{{ '{% generation %}' }}";
        let expected = "{%- with -%}{%+ x %}{% generationx %}{%endwith%}{{ '{% generation %}' }}";
        assert_eq!(rewritten(source), expected);
        for same in [
            "{# {% generation %} {{ +1 }} #}",
            "{% raw %}{{ +1 }}{% generation %}{% endraw %}",
            "x.items + 1 % 'a'",
            "{{ x.items() }}{{ loop.index }}{{ 1 + 2 }}{{ 'a' + b }}{{ x[1] + 1 }}{{ x % y }}{{ ['items'] }}",
            "{% set ns.items = 1 %}",
            "{{ 'unclosed }}",
            "{% for %}{% for x in %}",
        ] {
            assert_eq!(rewritten(same), same);
        }
    }

    #[test]
    fn each_rewriting_keeps_its_precedence() {
        let cases = [
            ("{% for x in a if x %}", "{% for x in loop__(a) if x %}"),
            ("{% for x in 'a' if '\\/' recursive %}", "{% for x in loop__('a') if '\\\\/' recursive %}"),
            ("{% for x in 1, +2 %}", "{% for x in loop__(1, 2) %}"),
            ("{{ -x.items ~ y }}", "{{ -x.attribute__('items') ~ y }}"),
            ("{{ x['items'][0] }}", "{{ x.item__('items')[0] }}"),
            ("{{ a ~ '%s' % b.c | d ~ e }}", "{{ a ~ '%s' |percent__( b.c | d) ~ e }}"),
            ("{{ ('%s' % (a, b)) }}", "{{ ('%s' |percent__( (a, b))) }}"),
            ("{% raw %}\n{% endraw %}", "{% raw %}\n\n{% endraw %}"),
        ];
        for (source, expected) in cases {
            assert_eq!(rewritten(source), expected, "{source}");
        }
    }

    #[test]
    fn a_place_is_one_of_the_original() {
        let source = Source::new("a\n{{ m.items }}\n{{ 'a' % f(b) + c }}".to_owned()).unwrap();
        let at = |part: &str| {
            let start = source.text.find(part).unwrap();
            source.place(Some(start..start + part.len()), 1)
        };
        assert_eq!(at(".attribute__('items')"), (2, ".items"));
        assert_eq!(at("f(b)"), (3, "f(b)"));
        assert_eq!(at("c }}"), (3, "c }}"));
        assert_eq!(source.place(None, 2), (2, "{{ m.items }}"));
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for source in [
            "{% for x in y %}{% with %}{% break %}{% endwith %}{% endfor %}",
            "{% for x in y %}{% generation %}{% if x %}{% continue %}{% endif %}{% endgeneration %}{% endfor %}",
            "{% macro f(a, b=a) %}{% endmacro %}",
            "{% with a = 1, b = a %}{% endwith %}",
            "{{ self }}",
            r"{{ '\N{DASH}' }}",
        ] {
            assert!(Source::new(source.to_owned()).is_err(), "{source}");
        }
        assert!(
            Source::new("{% with %}{% for x in y %}{% break %}{% endfor %}{% endwith %}".to_owned()).is_ok()
        );
        assert!(Source::new("{% with a = a, b = c.a %}{% endwith %}".to_owned()).is_ok());
    }
}
