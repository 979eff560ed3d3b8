//! The beginnings of long conversations.
//!
//! Refusals are decided early, and long conversations cost memory: a comparison of data sets holds the
//! number of answers equal.

use super::super::conversation::Role;
use super::{Number, Transform};

pub(super) const TURNS: Transform = Transform {
    name: "turns",
    summary: "keep so many answers of each conversation, from the front",
    example: "turns:1",
    source: "common practice",
    number: Number::Count,
    apply: |conversations, number, _| {
        let mut cut = 0;
        for conversation in conversations.iter_mut() {
            let answers = conversation.messages.iter().enumerate();
            let answers = answers.filter(|(_, message)| message.role == Role::Assistant).map(|(i, _)| i);
            if let Some(last) = answers.take(number as usize).last() {
                cut += usize::from(last + 1 < conversation.messages.len());
                conversation.messages.truncate(last + 1);
            }
        }
        format!("{cut} of {} conversations cut to {number} answers", conversations.len())
    },
};
