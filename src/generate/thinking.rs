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
        if let Some(at) = text.rfind(&self.close) {
            let behind = at + self.close.len();
            let blanks = text[behind..].len() - text[behind..].trim_start().len();
            return Some(behind + blanks);
        }
        (!self.opened && !self.opens(text)).then_some(0)
    }

    /// The answer in what a model said; empty where the thinking never ends.
    pub fn answer_of<'t>(&self, text: &'t str) -> &'t str {
        self.answer_start(text).map_or("", |start| &text[start..])
    }

    /// Whether a text begins with thinking.
    pub fn opens(&self, text: &str) -> bool {
        !self.open.is_empty() && text.trim_start().starts_with(&self.open)
    }

    /// Whether what follows `text` may make it begin with thinking.
    pub fn may_open(&self, text: &str) -> bool {
        self.open.starts_with(text.trim_start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn think(opened: bool) -> Thinking {
        Thinking { open: "<think>".to_owned(), close: "</think>".to_owned(), opened }
    }

    #[test]
    fn the_answer_stands_behind_the_last_closing_mark() {
        for (text, answer) in [
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
            assert_eq!(think(false).answer_of(text), answer, "{text:?}");
        }
    }

    #[test]
    fn thinking_that_the_prompt_opened_must_be_closed() {
        assert_eq!(think(true).answer_of("Is it 3? It is"), "");
        assert_eq!(think(true).answer_of("Is it 3?</think>4"), "4");
    }
}
