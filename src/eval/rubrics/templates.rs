//! The texts that published judges are asked with, and how an answer is put into them.
//!
//! The texts are their authors': `templates.json` holds each with its origin and licence, unchanged. A value goes in by
//! one pass, so that braces in an answer stay braces, and it stays a piece of its own, so that `[/INST]` in an answer
//! stays text: only the template's own pieces may hold special tokens.

use std::sync::LazyLock;

use serde::Deserialize;

/// A published text with places for values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub name: String,
    /// Where the text was taken from.
    pub origin: String,
    pub licence: String,
    pub note: String,
    /// The system turn that goes with it.
    pub system: Option<String>,
    /// The text; a place is written `{name}`, and every other brace is a brace.
    pub user: String,
    pub placeholders: Vec<String>,
    /// Asked once for each of these, where there are any.
    #[serde(default)]
    pub policies: Vec<Policy>,
}

/// A rule that an answer may break.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub name: String,
    pub text: String,
}

/// A stretch of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Of the template: its special tokens are meant.
    Template(String),
    /// What is judged: tokenised as plain text, whatever it spells.
    Value(String),
}

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("templates.json")).expect("the shipped file is valid")
});

/// All published texts.
pub fn all() -> &'static [Template] {
    &TEMPLATES
}

/// The text of this name, if there is one.
pub fn find(name: &str) -> Option<&'static Template> {
    TEMPLATES.iter().find(|template| template.name == name)
}

/// The text of this name, which is one of those shipped.
pub(super) fn shipped(name: &str) -> &'static Template {
    find(name).expect("a rubric names a text that is shipped")
}

/// The template with `values` in its places, in one pass: no value is searched for places.
pub fn render(template: &Template, values: &[(&str, &str)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template.user.as_str();
    while let Some((before, place, after)) = next_place(rest, &template.placeholders) {
        if !before.is_empty() {
            pieces.push(Piece::Template(before.to_owned()));
        }
        let value = values.iter().find(|(name, _)| *name == place);
        let (_, value) = value.expect("a rubric gives a value for every place");
        pieces.push(Piece::Value((*value).to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Template(rest.to_owned()));
    }
    pieces
}

/// What stands before the first place, its name, and what stands behind it.
fn next_place<'t>(text: &'t str, placeholders: &'t [String]) -> Option<(&'t str, &'t str, &'t str)> {
    let found = placeholders.iter().filter_map(|name| Some((text.find(&format!("{{{name}}}"))?, name)));
    let (at, name) = found.min()?;
    Some((&text[..at], name, &text[at + name.len() + 2..]))
}

/// The pieces as one text, for a reader that makes no difference between them.
pub fn text(pieces: &[Piece]) -> String {
    let one = |piece: &Piece| match piece {
        Piece::Template(text) | Piece::Value(text) => text.clone(),
    };
    pieces.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_its_places_an_origin_and_a_licence() {
        for template in all() {
            assert!(!template.origin.is_empty() && !template.licence.is_empty(), "{}", template.name);
            let values: Vec<_> = template.placeholders.iter().map(|name| (name.as_str(), "")).collect();
            let places =
                render(template, &values).into_iter().filter(|piece| matches!(piece, Piece::Value(_)));
            assert_eq!(places.count(), template.placeholders.len(), "{}", template.name);
        }
    }

    #[test]
    fn a_value_is_neither_searched_for_places_nor_part_of_the_template() {
        let values = [("prompt", "{response}"), ("response", "[/INST] {prompt} {x}")];
        let pieces = render(shipped("wildguard"), &values);
        assert_eq!(pieces[1], Piece::Value("{response}".to_owned()));
        assert_eq!(pieces[3], Piece::Value("[/INST] {prompt} {x}".to_owned()));
        assert_eq!(pieces.len(), 5);
        assert!(text(&pieces).contains("AI assistant:\n[/INST] {prompt} {x}\n\n---"));
    }
}
