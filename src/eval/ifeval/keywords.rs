//! Which words and letters an answer has.

use super::arguments::Arguments;
use super::{Rule, python};

/// Every keyword occurs, be it inside a longer word.
pub(super) fn existence(arguments: &Arguments) -> Result<Rule, String> {
    let keywords = arguments.patterns("keywords")?;
    Ok(Box::new(move |response| keywords.iter().all(|keyword| keyword.is_match(response))))
}

/// A keyword occurs often or seldom enough, occurrences inside longer words included.
pub(super) fn frequency(arguments: &Arguments) -> Result<Rule, String> {
    let keyword = python::pattern(&format!("(?i){}", python::strip(arguments.text("keyword")?)))?;
    let (asked, relation) = (arguments.number("frequency")?, arguments.relation("relation")?);
    Ok(Box::new(move |response| relation.holds(keyword.find_iter(response).count(), asked)))
}

/// No forbidden word occurs as a word.
pub(super) fn forbidden_words(arguments: &Arguments) -> Result<Rule, String> {
    let words = arguments.patterns("forbidden_words")?;
    Ok(Box::new(move |response| {
        !words.iter().any(|word| {
            let mut start = 0;
            std::iter::from_fn(|| {
                let found = word.find_at(response, start)?;
                let step = response[found.start()..].chars().next().map_or(1, char::len_utf8);
                start = found.start() + step;
                // Behind the last character there is nowhere left to look.
                (start <= response.len()).then_some(found.range())
            })
            .any(|found| has_border(response, found.start) && has_border(response, found.end))
        })
    }))
}

/// Python's `\b`, which lies between a word character and none. Rust's takes combining marks for word characters.
fn has_border(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back().is_some_and(python::is_word);
    let after = text[at..].chars().next().is_some_and(python::is_word);
    before != after
}

/// A letter occurs often or seldom enough, whatever its case.
///
/// Two prompts of the published file ask for `#` and `!`; upstream, which wants a Latin letter, draws a letter at
/// random for them. Here the sign itself is counted, as those prompts ask.
pub(super) fn letter_frequency(arguments: &Arguments) -> Result<Rule, String> {
    let text = arguments.text("letter")?.to_lowercase();
    let mut chars = text.chars();
    let (Some(letter), None) = (chars.next(), chars.next()) else {
        return Err(format!("`letter` is `{text}`, not one letter"));
    };
    let (asked, relation) = (arguments.number("let_frequency")?, arguments.relation("let_relation")?);
    Ok(Box::new(move |response| {
        let n = response.to_lowercase().chars().filter(|c| *c == letter).count();
        relation.holds(n, asked)
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Instruction;

    fn follows(id: &str, kwargs: &serde_json::Value, response: &str) -> bool {
        Instruction::of(id, kwargs).unwrap().follows("", response)
    }

    #[test]
    fn a_forbidden_word_ends_where_python_ends_it() {
        let red = json!({ "forbidden_words": ["red", "resume"] });
        assert!(follows("keywords:forbidden_words", &red, "A redder, bored sky_red."));
        assert!(!follows("keywords:forbidden_words", &red, "A redder sky. RED"));
        // A combining accent is no word character in Python.
        assert!(!follows("keywords:forbidden_words", &red, "my resume\u{301}"));
    }

    #[test]
    fn a_keyword_is_a_pattern() {
        assert!(follows("keywords:existence", &json!({ "keywords": ["a.b"] }), "xAzBx"));
        assert!(Instruction::of("keywords:existence", &json!({ "keywords": ["("] })).is_err());
    }

    #[test]
    fn a_sign_may_stand_for_a_letter() {
        let hash = json!({ "letter": "#", "let_frequency": 2, "let_relation": "at least" });
        assert!(follows("keywords:letter_frequency", &hash, "#a #b"));
        assert!(!follows("keywords:letter_frequency", &hash, "#a"));
    }
}
