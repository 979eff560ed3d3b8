//! The marks that a chat template writes around turns.

use std::collections::BTreeSet;

use regex::Regex;

use super::conversation::{Message, Role};
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;

/// A sentence on what the template writes as a special token and the tokenizer takes for plain text:
/// the model has not seen it as one token.
pub(super) fn unknown_tokens(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<String> {
    let messages = [Message::new(Role::User, "x"), Message::new(Role::Assistant, "y")];
    let text = template.render(&messages, false).ok()?;
    let marks = Regex::new(r"<\|[^<>|\s]{1,40}\|>|<[a-z]+(?:_[a-z]+)+>").expect("the pattern is right");
    let unknown: BTreeSet<&str> = marks
        .find_iter(&text)
        .map(|found| found.as_str())
        .filter(|mark| tokenizer.id_of(mark).is_none())
        .collect();
    let list: Vec<String> = unknown.iter().map(|mark| format!("`{mark}`")).collect();
    (!list.is_empty()).then(|| {
        let (list, name) = (list.join(", "), template.name());
        format!("chat template `{name}` writes {list}, of which the tokenizer makes several tokens each")
    })
}

#[cfg(test)]
mod tests {
    use super::super::tiny::{self, CHATML};
    use super::*;

    #[test]
    fn a_mark_that_is_no_token_is_told() {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "<|im_end|>");
        let said = |source: &str| unknown_tokens(&tiny::template(source, "<|im_end|>"), &tokenizer);
        assert_eq!(said(CHATML), None);
        let text =
            said("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end_of_text>{% endfor %}").unwrap();
        assert!(text.contains("writes `<end_of_text>`, `<|assistant|>`, `<|user|>`, of which"), "{text}");
    }
}
