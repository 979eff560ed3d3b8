//! Marks that an answer has: bullets, highlights, sections, titles, JSON.

use regex::Regex;

use super::arguments::Arguments;
use super::{Rule, json, python};

/// Square brackets with anything between them on one line.
pub(super) fn number_placeholders(arguments: &Arguments) -> Result<Rule, String> {
    let placeholder = python::own(r"\[.*?\]");
    let asked = arguments.number("num_placeholders")?;
    Ok(Box::new(move |response| placeholder.find_iter(response).count() >= asked))
}

/// A postscript mark anywhere, dots and spaces as the mark's own pattern allows.
pub(super) fn postscript(arguments: &Arguments) -> Result<Rule, String> {
    let mark = match python::strip(arguments.text("postscript_marker")?) {
        "P.P.S" => python::own(r"p\.\s?p\.\s?s"),
        "P.S." => python::own(r"p\.\s?s\."),
        other => python::pattern(&other.to_lowercase())?,
    };
    Ok(Box::new(move |response| mark.is_match(&response.to_lowercase())))
}

/// Exactly so many lines that start with a dash or with an asterisk that is not doubled.
pub(super) fn number_bullet_lists(arguments: &Arguments) -> Result<Rule, String> {
    // White space before a mark may span lines, and what follows an asterisk may be the end of its line.
    let asterisk = python::own(r"(?m)^\s*\*[^*].*$");
    let dash = python::own(r"(?m)^\s*-.*$");
    let asked = arguments.number("num_bullets")?;
    Ok(Box::new(move |response| {
        asterisk.find_iter(response).count() + dash.find_iter(response).count() == asked
    }))
}

/// One of three sentences, anywhere and with anything around it.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of types")]
pub(super) fn constrained_response(_: &Arguments) -> Result<Rule, String> {
    Ok(Box::new(|response| {
        ["My answer is yes.", "My answer is no.", "My answer is maybe."]
            .iter()
            .any(|option| response.contains(option))
    }))
}

/// At least so many stretches between asterisks or double asterisks.
pub(super) fn number_highlighted_sections(arguments: &Arguments) -> Result<Rule, String> {
    let single = python::own(r"\*[^\n*]*\*");
    let double = python::own(r"\*\*[^\n*]*\*\*");
    let asked = arguments.number("num_highlights")?;
    // What is left between the marks; a single mark is never next to a third asterisk's inside, hence the same rule.
    let n = |mark: &Regex, text: &str| {
        mark.find_iter(text)
            .filter(|found| !python::strip(found.as_str().trim_matches('*')).is_empty())
            .count()
    };
    Ok(Box::new(move |response| n(&single, response) + n(&double, response) >= asked))
}

/// At least so many marks such as `Section 1`.
pub(super) fn multiple_sections(arguments: &Arguments) -> Result<Rule, String> {
    let splitter = python::strip(arguments.text("section_spliter")?);
    // Each group of the splitter would add a part of its own to what `re.split` returns.
    let mark = python::pattern(&format!(r"\s?{splitter}\s?\d+\s?"))?;
    let asked = arguments.number("num_sections")?;
    Ok(Box::new(move |response| mark.find_iter(response).count() * mark.captures_len() >= asked))
}

/// The answer is JSON as Python reads it, with or without a code fence.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of types")]
pub(super) fn json_format(_: &Arguments) -> Result<Rule, String> {
    Ok(Box::new(|response| {
        let mut text = python::strip(response);
        // One after the other: each that is there goes.
        for fence in ["```json", "```Json", "```JSON", "```"] {
            text = text.strip_prefix(fence).unwrap_or(text);
        }
        json::is_json(python::strip(text.strip_suffix("```").unwrap_or(text)))
    }))
}

/// A title in double angular brackets on one line.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of types")]
pub(super) fn title(_: &Arguments) -> Result<Rule, String> {
    let title = python::own(r"<<[^\n]+>>");
    Ok(Box::new(move |response| {
        title.find_iter(response).any(|found| {
            let inside = found.as_str().trim_start_matches('<').trim_end_matches('>');
            !python::strip(inside).is_empty()
        })
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Instruction;

    fn follows(id: &str, key: &str, n: usize, response: &str) -> bool {
        Instruction::of(&format!("detectable_format:{id}"), &json!({ key: n })).unwrap().follows("", response)
    }

    #[test]
    fn a_bold_stretch_holds_two_highlights_and_a_rule_none() {
        let highlights = |n, response| follows("number_highlighted_sections", "num_highlights", n, response);
        assert!(highlights(2, "*a* *b*") && highlights(1, "**a**") && !highlights(3, "**a**"));
        assert!(!highlights(1, "******") && !highlights(1, "* *"));
    }

    #[test]
    fn a_bullet_may_stand_alone_on_its_line() {
        let bullets = |n, response| follows("number_bullet_lists", "num_bullets", n, response);
        assert!(bullets(2, "Items:\n\n  * a\n - b\n**bold**"));
        assert!(bullets(1, "*\n* a"));
        assert!(bullets(3, "---\n- a\n-b"));
    }
}
