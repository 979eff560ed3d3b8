//! Where an answer begins in what a model says that thinks before it speaks.
//!
//! Thinking weighs words that it does not mean: a stop string in it ends nothing, and nobody judges it.

use serde::{Deserialize, Serialize};

/// The texts around a model's thinking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thinking {
    pub open: String,
    pub close: String,
    /// Whether the prompt ends within the thinking, so that what is generated only closes it.
    #[serde(default)]
    pub opened: bool,
}

impl Thinking {
    /// The byte at which the answer begins, behind the last closing mark and the white space after it; the
    /// beginning where nothing was thought. `None` where the thinking never ends: there is no answer.
    pub fn answer_start(&self, text: &str) -> Option<usize> {
        match behind(text, &self.close) {
            Some(answer) => Some(text.len() - answer.len()),
            None => (!self.opened && !self.opens(text)).then_some(0),
        }
    }

    /// Whether a text begins with thinking.
    pub fn opens(&self, text: &str) -> bool {
        opens(text, &self.open)
    }

    /// Whether what follows `text` may make it begin with thinking.
    pub fn may_open(&self, text: &str) -> bool {
        self.open.starts_with(text.trim_start())
    }
}

/// What a reply says behind its thinking, between the marks of DeepSeek R1, Qwen 3 and most models after them; empty
/// where the thinking never ends.
pub fn answer_of(reply: &str) -> &str {
    let answer = behind(reply, "</think>");
    answer.unwrap_or(if opens(reply, "<think>") { "" } else { reply })
}

/// What stands behind the last `close`, without white space at its start; none where there is no such mark.
///
/// As lm-eval 0.4.13, `postprocess_generated_text`, with its `think_end_token`.
pub fn behind<'t>(text: &'t str, close: &str) -> Option<&'t str> {
    let (_, answer) = text.rsplit_once(close)?;
    Some(answer.trim_start())
}

fn opens(text: &str, open: &str) -> bool {
    !open.is_empty() && text.trim_start().starts_with(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn think(opened: bool) -> Thinking {
        Thinking { open: "<think>".to_owned(), close: "</think>".to_owned(), opened }
    }

    fn answer<'t>(thinking: &Thinking, text: &'t str) -> &'t str {
        thinking.answer_start(text).map_or("", |start| &text[start..])
    }

    #[test]
    fn the_answer_stands_behind_the_last_closing_mark() {
        for (text, expected) in [
            ("<think>\nIs it 3?\n</think>\n\n4", "4"),
            ("Is it 3?\n</think>\n\n4 ", "4 "),
            ("<think></think>\n\n<think>3</think>4", "4"),
            ("<think>3</think>", ""),
            ("\n<think>3, or 4", ""),
            // No mark at all, and one that is only spoken of.
            (" 4\n", " 4\n"),
            ("The mark <think> opens it.", "The mark <think> opens it."),
            ("", ""),
        ] {
            assert_eq!(answer(&think(false), text), expected, "{text:?}");
            assert_eq!(answer_of(text), expected, "{text:?}");
        }
    }

    #[test]
    fn thinking_that_the_prompt_opened_must_be_closed() {
        assert_eq!(answer(&think(true), "Is it 3? It is"), "");
        assert_eq!(answer(&think(true), "Is it 3?</think>4"), "4");
    }

    #[test]
    fn other_models_have_other_marks() {
        let marks = Thinking { open: "[THINK]".to_owned(), close: "[/THINK]".to_owned(), opened: false };
        assert_eq!(answer(&marks, "[THINK]</think>[/THINK] 7"), "7");
        assert_eq!(answer(&marks, "[THINK] 7"), "");
        let endless = Thinking { open: String::new(), ..think(false) };
        assert_eq!(answer(&endless, "<think> 7"), "<think> 7");
    }
}
