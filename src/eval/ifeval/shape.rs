//! How an answer begins, ends and falls into parts.

use super::arguments::Arguments;
use super::{Rule, python};

/// Two different responses with six asterisks between them; one more such line may stand before and behind.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of types")]
pub(super) fn two_responses(_: &Arguments) -> Result<Rule, String> {
    Ok(Box::new(|response| {
        let parts: Vec<&str> = response.split("******").map(python::strip).collect();
        let inner = parts.get(1..parts.len() - 1).unwrap_or_default();
        let filled: Vec<&&str> = parts.iter().filter(|part| !part.is_empty()).collect();
        !inner.contains(&"") && matches!(filled[..], [first, second] if first != second)
    }))
}

/// The answer begins with the request.
pub(super) fn repeat_prompt(arguments: &Arguments) -> Result<Rule, String> {
    let prompt = python::strip(arguments.text("prompt_to_repeat")?).to_lowercase();
    Ok(Box::new(move |response| python::strip(response).to_lowercase().starts_with(&prompt)))
}

/// The answer ends with a phrase, quotation marks aside.
pub(super) fn end_checker(arguments: &Arguments) -> Result<Rule, String> {
    let phrase = python::strip(arguments.text("end_phrase")?).to_lowercase();
    Ok(Box::new(move |response| python::strip(response).trim_matches('"').to_lowercase().ends_with(&phrase)))
}

/// The answer stands in double quotation marks.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of types")]
pub(super) fn quotation(_: &Arguments) -> Result<Rule, String> {
    Ok(Box::new(|response| {
        let response = python::strip(response);
        response.len() > 1 && response.starts_with('"') && response.ends_with('"')
    }))
}

/// No ASCII comma.
#[expect(clippy::unnecessary_wraps, reason = "a row of the table of types")]
pub(super) fn no_comma(_: &Arguments) -> Result<Rule, String> {
    Ok(Box::new(|response| !response.contains(',')))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Instruction;

    #[test]
    fn two_responses_may_be_framed_but_not_be_empty_or_equal() {
        let two = Instruction::of("combination:two_responses", &json!({})).unwrap();
        for good in ["a\n******\nb", "******a******b******"] {
            assert!(two.follows("", good), "{good}");
        }
        for bad in ["a", "a******", "a******a ", "a******b******c", "a************b"] {
            assert!(!two.follows("", bad), "{bad}");
        }
    }

    #[test]
    fn a_lone_quotation_mark_wraps_nothing() {
        let quotation = Instruction::of("startend:quotation", &json!({})).unwrap();
        assert!(quotation.follows("", " \"\"\n") && !quotation.follows("", "\""));
    }
}
