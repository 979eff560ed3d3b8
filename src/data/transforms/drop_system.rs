//! Conversations without the system messages they bring.
//!
//! Lyu et al., "Keeping LLMs aligned after fine-tuning: the crucial role of prompt templates",
//! arXiv 2402.18540: tune without a safety prompt and test with one, which `eval.system` gives.

use super::super::conversation::Role;
use super::{Number, Transform};

pub(super) const DROP_SYSTEM: Transform = Transform {
    name: "drop-system",
    summary: "take the data's own system messages away",
    example: "drop-system",
    source: "Lyu et al. 2024",
    number: Number::None,
    apply: |conversations, _, _| {
        let mut dropped = 0;
        for conversation in conversations.iter_mut() {
            let n = conversation.messages.len();
            conversation.messages.retain(|message| message.role != Role::System);
            dropped += n - conversation.messages.len();
        }
        format!("{dropped} system messages of {} conversations taken away", conversations.len())
    },
};
