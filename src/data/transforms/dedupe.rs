//! One conversation of each prompt.
//!
//! Lee et al., "Deduplicating training data makes language models better", arXiv 2107.06499. They remove
//! shared passages; fine-tuning sets repeat whole prompts, and those are what is removed here.

use std::collections::HashSet;

use serde_json::json;

use super::super::calls;
use super::super::conversation::Conversation;
use super::{Number, Transform};

pub(super) const DEDUPE: Transform = Transform {
    name: "dedupe",
    summary: "keep the first conversation of each prompt, case and blanks aside",
    example: "dedupe",
    source: "Lee et al. 2022",
    number: Number::None,
    apply: |conversations, _, _| {
        let n = conversations.len();
        let mut seen = HashSet::new();
        conversations.retain(|conversation| seen.insert(prompt(conversation)));
        format!("{} of {n} conversations left out, their prompt stands earlier", n - conversations.len())
    },
};

/// All that comes before the last answer, the tools with it, or a plain text itself.
fn prompt(conversation: &Conversation) -> String {
    let messages = &conversation.messages;
    let before = &messages[..messages.len().saturating_sub(1).max(1)];
    let words = before.iter().flat_map(|message| message.content.split_whitespace());
    let words = words.collect::<Vec<_>>().join(" ").to_lowercase();
    let calls: Vec<_> = before.iter().filter_map(|message| message.more.get(calls::FIELD)).collect();
    if conversation.given.is_empty() && calls.is_empty() {
        return words;
    }
    json!([words, conversation.given, calls]).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::super::tiny::conversation;
    use super::*;

    #[test]
    fn the_first_of_each_prompt_stays() {
        let mut all = vec![
            conversation(&["user: What is it?", "assistant: a"]),
            conversation(&["user: what  is IT?\n", "assistant: b"]),
            conversation(&["user: what is it not?", "assistant: a"]),
            conversation(&["assistant: a text"]),
            conversation(&["assistant: a text"]),
        ];
        let said = (DEDUPE.apply)(&mut all, 1.0, 1);
        assert_eq!(said, "2 of 5 conversations left out, their prompt stands earlier");
        let answers: Vec<&str> = all.iter().map(|c| c.messages.last().unwrap().content.as_str()).collect();
        assert_eq!(answers, ["a", "a", "a text"]);
    }
}
