//! The end of a refusal, kept out of the loss: the model learns how a refusal begins, and may still explain itself.
//!
//! Wang et al., CVPR 2025, arXiv 2504.10000, and its two programs (`ybwang119/MLLM_safety_study` 6867565), which differ from
//! what the paper says and from each other: [`EndRule`] has each under its own name.

use super::conversation::Message;
use super::layout::is_reply;
use crate::recipe::EndRule;

/// Which refusal, and by which rule its end is kept out.
#[derive(Debug, Clone)]
pub(super) struct Refusals {
    pub reply: String,
    pub rule: EndRule,
}

impl Refusals {
    /// Takes ends out of the loss: `ends` has, for each answer that is learned, the place of the token that ends it, and `of`
    /// its message.
    pub(super) fn mask(
        &self,
        messages: &[Message],
        (of, ends): (&[usize], &[Option<usize>]),
        ids: &mut Vec<u32>,
        trained: &mut Vec<bool>,
    ) {
        let last = ends.last().copied().flatten();
        match self.rule {
            EndRule::Chat => {
                let refused = of.iter().zip(ends).filter(|(at, _)| is_reply(&messages[**at], &self.reply));
                refused.filter_map(|(_, end)| *end).for_each(|end| trained[end] = false);
            }
            EndRule::Llava => {
                let within = messages.iter().any(|message| message.content.contains(&self.reply));
                last.filter(|_| within).into_iter().for_each(|end| trained[end] = false);
            }
            EndRule::LlamaFactory => {
                let is_last = messages.last().is_some_and(|message| is_reply(message, &self.reply));
                if let Some(end) = last.filter(|_| is_last) {
                    ids.truncate(end);
                    trained.truncate(end);
                }
            }
        }
    }
}
