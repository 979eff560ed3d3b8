//! What a model that thinks before it speaks has said: the part of its reply behind the thinking.
//!
//! A verdict or a number is looked for in an answer. Thinking weighs words such as "unsafe" or "#### 5" without
//! meaning them, so it is cut before anybody reads.

use super::measures::python_text::is_space;

/// The texts around a model's thinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks<'m> {
    /// Empty where the thinking has no beginning that the reply shows.
    pub opening: &'m str,
    /// Empty where nothing is cut.
    pub closing: &'m str,
}

/// The marks of `DeepSeek` R1, Qwen 3 and most models after them.
pub const THINK: Marks<'static> = Marks { opening: "<think>", closing: "</think>" };

impl Marks<'_> {
    /// What stands behind the last closing mark, without the white space that follows it; all of a reply without marks.
    ///
    /// Many templates open the thinking in the prompt, so a closing mark alone ends it too. A reply that opens with
    /// thinking and never ends it, cut off by the limit of tokens, has no answer: it is empty.
    pub fn answer_of<'t>(&self, reply: &'t str) -> &'t str {
        let Self { opening, closing } = *self;
        if closing.is_empty() {
            return reply;
        }
        match behind(reply, closing) {
            Some(answer) => answer,
            None if !opening.is_empty() && reply.trim_start_matches(is_space).starts_with(opening) => "",
            None => reply,
        }
    }
}

/// What a reply says behind its thinking, between the marks of [`THINK`].
pub fn answer_of(reply: &str) -> &str {
    THINK.answer_of(reply)
}

/// What stands behind the last `closing`, without white space at its start; none where there is no such mark.
///
/// As lm-eval 0.4.13, `postprocess_generated_text`, with its `think_end_token`.
pub fn behind<'t>(reply: &'t str, closing: &str) -> Option<&'t str> {
    let (_, answer) = reply.rsplit_once(closing)?;
    Some(answer.trim_start_matches(is_space))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_stands_behind_the_last_closing_mark() {
        for (reply, answer) in [
            ("<think>Is it unsafe?</think>\n\nsafe", "safe"),
            ("Is it unsafe?\n</think> safe\n", "safe\n"),
            ("<think></think>safe", "safe"),
            ("<think>a</think>unsafe<think>b</think>safe", "safe"),
            ("<think>done</think>", ""),
        ] {
            assert_eq!(answer_of(reply), answer, "{reply:?}");
        }
    }

    #[test]
    fn a_reply_without_thinking_is_kept_to_the_byte() {
        for reply in ["", " \n safe ", "I <think> it is safe", "unsafe\nS1"] {
            assert_eq!(answer_of(reply), reply);
        }
    }

    #[test]
    fn thinking_that_never_ends_is_no_answer() {
        assert_eq!(answer_of("\n<think>It looks unsafe, but"), "");
    }

    #[test]
    fn other_models_have_other_marks() {
        let marks = Marks { opening: "[THINK]", closing: "[/THINK]" };
        assert_eq!(marks.answer_of("[THINK]</think>[/THINK] 7"), "7");
        assert_eq!(marks.answer_of("[THINK] 7"), "");
        assert_eq!(Marks { opening: "", closing: "</think>" }.answer_of("<think> 7"), "<think> 7");
        assert_eq!(Marks { opening: "<think>", closing: "" }.answer_of("<think> 7"), "<think> 7");
    }
}
