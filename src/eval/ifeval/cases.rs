//! The case of an answer's letters, and its language.

use super::arguments::Arguments;
use super::{Rule, language, python, words};

/// Words in capitals only, as NLTK parts words: a hyphenated one is one word, a contraction two.
pub(super) fn capital_word_frequency(arguments: &Arguments) -> Result<Rule, String> {
    let (asked, relation) = (arguments.number("capital_frequency")?, arguments.relation("capital_relation")?);
    Ok(Box::new(move |response| {
        let n = words::split(response).iter().filter(|word| python::is_upper(word)).count();
        relation.holds(n, asked)
    }))
}

/// The answer is in English and has no lower-case letter.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of types")]
pub(super) fn english_capital(_: &Arguments) -> Result<Rule, String> {
    Ok(Box::new(|response| python::is_upper(response) && is_in(response, "en")))
}

/// The answer is in English and has no upper-case letter.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of types")]
pub(super) fn english_lowercase(_: &Arguments) -> Result<Rule, String> {
    Ok(Box::new(|response| python::is_lower(response) && is_in(response, "en")))
}

/// The answer is in the language of this ISO 639-1 code.
pub(super) fn response_language(arguments: &Arguments) -> Result<Rule, String> {
    let asked = arguments.text("language")?.to_owned();
    Ok(Box::new(move |response| is_in(response, &asked)))
}

/// Text without a trace of any language counts as being in the language asked for.
fn is_in(text: &str, asked: &str) -> bool {
    language::detect(text).is_none_or(|found| found == asked)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Instruction;

    #[test]
    fn capitals_must_be_english_too() {
        let capital = Instruction::of("change_case:english_capital", &json!({})).unwrap();
        assert!(capital.follows("", "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG."));
        assert!(!capital.follows("", "The QUICK BROWN FOX JUMPS OVER THE LAZY DOG."));
        assert!(!capital.follows("", "СЕГОДНЯ ОЧЕНЬ ХОРОШАЯ ПОГОДА."));
    }

    #[test]
    fn words_in_capitals_are_counted_as_nltk_parts_them() {
        let kwargs = json!({ "capital_frequency": 4, "capital_relation": "less than" });
        let few = Instruction::of("change_case:capital_word_frequency", &kwargs).unwrap();
        // Three words: `A`, `WELL-KNOWN` and `CAN`; `Not` has a small letter.
        assert!(few.follows("", "A WELL-KNOWN CANNot."));
        assert!(!few.follows("", "A WELL-KNOWN CANNOT."));
    }
}
