//! Just enough of Rust's grammar to see what a file uses: words, imports, and which lines are tests.

use std::collections::BTreeSet;

/// A word, `::`, or any other character, with the line that it stands on.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path that a file names, from the crate's root, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    pub parts: Vec<String>,
    pub line: usize,
    /// The name under which an import makes it known.
    pub known_as: Option<String>,
    /// The module that names it.
    pub within: Vec<String>,
}

/// What a file says, without comments, texts and tests.
#[derive(Debug)]
pub struct Source {
    pub tokens: Vec<Token>,
    /// Lines that are not tests.
    pub n_lines: usize,
    /// Files that are there for tests: `#[cfg(test)] mod name;`.
    pub test_files: Vec<String>,
}

impl Source {
    pub fn of(text: &str) -> Self {
        let all = tokens(&blanked(text));
        let (mut tokens, mut test_files, mut test_lines, mut at) =
            (Vec::new(), Vec::new(), BTreeSet::new(), 0);
        while at < all.len() {
            let Some(item) = test_attribute(&all[at..]).map(|n| at + n) else {
                tokens.push(all[at].clone());
                at += 1;
                continue;
            };
            let end = item + item_length(&all[item..]);
            if let [.., before, name, last] = &all[item..end]
                && (before.text.as_str(), last.text.as_str()) == ("mod", ";")
            {
                test_files.push(name.text.clone());
            }
            test_lines.extend(all[at].line..=all[end - 1].line);
            at = end;
        }
        for token in &tokens {
            test_lines.remove(&token.line);
        }
        let lines: Vec<&str> = text.lines().collect();
        let is_left = |n: &usize| !test_lines.contains(n);
        // The blank line before the tests is no line of code.
        let last = (0..lines.len()).filter(is_left).rfind(|n| !lines[*n].trim().is_empty());
        let n_lines = last.map_or(0, |last| (0..=last).filter(is_left).count());
        Self { tokens, n_lines, test_files }
    }

    /// Every path that begins in this crate, with those of imports, of the file that is the module `own`.
    pub fn paths(&self, own: &[String], is_child: impl Fn(&[String]) -> bool) -> Vec<Path> {
        let tokens = &self.tokens;
        let (mut found, mut inner, mut depth, mut at) = (Vec::new(), Vec::<(String, usize)>::new(), 0, 0);
        while at < tokens.len() {
            let word = |n: usize| tokens.get(at + n).map_or("", |token| token.text.as_str());
            let within: Vec<String> =
                own.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone())).collect();
            match word(0) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inner.retain(|(_, at)| *at <= depth);
                }
                "mod" if word(2) == "{" => {
                    inner.push((word(1).to_owned(), depth + 1));
                }
                "use" if word(1) != "<" => {
                    let end = at + tokens[at..].iter().position(|token| token.text == ";").unwrap_or(0);
                    for mut path in imports(&tokens[at + 1..end]) {
                        let first = [&within[..], &path.parts[..1]].concat();
                        if let Some(parts) = absolute(&path.parts, &within, is_child(&first)) {
                            path.parts = parts;
                            path.within.clone_from(&within);
                            found.push(path);
                        }
                    }
                    at = end;
                }
                "crate" | "self" | "super" if word(1) == "::" => {
                    let line = tokens[at].line;
                    let mut parts = vec![word(0).to_owned()];
                    while tokens.get(at + 1).is_some_and(|token| token.text == "::")
                        && tokens.get(at + 2).is_some_and(|token| is_word(&token.text))
                    {
                        parts.push(tokens[at + 2].text.clone());
                        at += 2;
                    }
                    if let Some(parts) = absolute(&parts, &within, false) {
                        found.push(Path { parts, line, known_as: None, within });
                    }
                }
                _ => {}
            }
            at += 1;
        }
        found
    }
}

/// The lines that turn the compiler's checks off, tests and all, counted from 1.
pub fn unsafe_lines(text: &str) -> Vec<usize> {
    let words = tokens(&blanked(text)).into_iter();
    let mut lines: Vec<usize> = words
        .filter(|token| ["unsafe", "unsafe_code"].contains(&token.text.as_str()))
        .map(|token| token.line + 1)
        .collect();
    lines.dedup();
    lines
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The path from the crate's root; none if it begins in another crate.
fn absolute(parts: &[String], within: &[String], begins_in_child: bool) -> Option<Vec<String>> {
    let mut base = within.to_vec();
    let mut rest = parts;
    match parts[0].as_str() {
        "crate" => {
            base.clear();
            rest = &parts[1..];
        }
        "self" => rest = &parts[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        _ if begins_in_child => {}
        _ => return None,
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The paths of an import, between `use` and `;`: groups expanded, `{self}` the path before it.
fn imports(tokens: &[Token]) -> Vec<Path> {
    let (mut paths, mut prefix, mut open) = (Vec::new(), Vec::<String>::new(), Vec::new());
    let (mut at, mut is_ended) = (0, true);
    let line = tokens.first().map_or(0, |token| token.line);
    let mut end = |prefix: &mut Vec<String>, open: &[usize], known_as: Option<&str>| {
        let mut parts = std::mem::take(prefix);
        prefix.extend_from_slice(&parts[..open.last().copied().unwrap_or(0)]);
        if parts.len() > 1 && parts.last().is_some_and(|part| part == "self") {
            parts.pop();
        }
        let name = known_as.or(parts.last().map(String::as_str)).map(str::to_owned);
        if !parts.is_empty() {
            paths.push(Path { parts, line, known_as: name, within: Vec::new() });
        }
    };
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "::" => {}
            "{" => {
                open.push(prefix.len());
                is_ended = true;
            }
            close @ ("}" | ",") => {
                if !is_ended {
                    end(&mut prefix, &open, None);
                }
                is_ended = close == "}"; // What stood before a closed group was its prefix.
                if close == "}" {
                    open.pop();
                    prefix.truncate(open.last().copied().unwrap_or(0));
                } else {
                    is_ended = true;
                }
            }
            "as" => {
                end(&mut prefix, &open, Some(&tokens[at + 1].text));
                is_ended = true;
                at += 1;
            }
            part => {
                prefix.push(part.to_owned());
                is_ended = false;
            }
        }
        at += 1;
    }
    if !is_ended {
        end(&mut prefix, &open, None);
    }
    paths
}

/// How many tokens a `#[cfg(test)]` here takes.
fn test_attribute(tokens: &[Token]) -> Option<usize> {
    let texts: Vec<&str> = tokens.iter().take(7).map(|token| token.text.as_str()).collect();
    (texts == ["#", "[", "cfg", "(", "test", ")", "]"]).then_some(7)
}

/// Where an item ends.
#[derive(PartialEq)]
enum End {
    Semicolon,
    SemicolonOrBlock,
    /// A field's or an arm's.
    Comma,
}

/// How many tokens the item here takes, its other attributes with it.
fn item_length(tokens: &[Token]) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut at = 0;
    while text(at) == "#" {
        at += 1 + group_length(&tokens[at + 1..]);
    }
    if text(at) == "pub" {
        at += 1 + if text(at + 1) == "(" { group_length(&tokens[at + 1..]) } else { 0 };
    }
    let is_modifier = |at: &usize| ["const", "async", "unsafe", "extern"].contains(&text(*at));
    let item = (at..tokens.len()).find(|at| !is_modifier(at)).unwrap_or(at);
    let end = match text(item) {
        "fn" | "mod" | "impl" | "struct" | "enum" | "trait" | "macro_rules" => End::SemicolonOrBlock,
        _ if item > at => End::Semicolon,
        "use" | "static" | "type" => End::Semicolon,
        _ => End::Comma,
    };
    while at < tokens.len() {
        match text(at) {
            "(" | "[" | "{" => {
                let is_block = text(at) == "{";
                at += group_length(&tokens[at..]);
                if is_block && end != End::Semicolon {
                    return at;
                }
            }
            "}" | ")" | "]" => return at,
            ";" => return at + 1,
            "," if end == End::Comma => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// How many tokens the parentheses, brackets or braces here take with all that is in them.
fn group_length(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (n, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return n + 1;
        }
    }
    tokens.len()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let mut rest = content.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                c if c.is_alphanumeric() || c == '_' => {
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
                }
                c => c.len_utf8(),
            };
            tokens.push(Token { text: rest[..length].to_owned(), line });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// The text with blanks for comments and for what stands in quotes; lines stay lines.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_length(rest),
            '"' => quote_length(rest, true),
            'r' if !after_word || out.ends_with('b') => raw_length(rest),
            '\'' => character_length(rest),
            _ => 0,
        };
        match length {
            0 => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
            _ => {
                out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
        }
    }
    out
}

fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn quote_length(text: &str, has_escapes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if has_escapes && bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Of `r"…"` and `r#"…"#`; 0 of a word that begins with an r.
fn raw_length(text: &str) -> usize {
    let n_marks = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    if !text[1 + n_marks..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(n_marks));
    let start = 2 + n_marks;
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// Of `'c'`; 0 of a lifetime.
fn character_length(text: &str) -> usize {
    let mut rest = text[1..].chars();
    match (rest.next(), rest.next()) {
        (Some('\\'), Some(escaped)) => {
            let start = 2 + escaped.len_utf8();
            text[start..].find('\'').map_or(0, |at| start + at + 1)
        }
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}
