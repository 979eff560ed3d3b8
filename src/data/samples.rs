//! Conversations as samples, in the way that the objective learns from them.

use super::conversation::Conversation;
use super::encode::Encoder;
use super::error::DataError;
use super::sample::Made;
use super::{derta, pairs};
use crate::recipe::{Objective, ObjectiveKind};

/// Encodes every conversation as `objective` wants it; what it draws, it draws by the seed and the name of the `set`.
///
/// # Errors
///
/// A conversation cannot be encoded, or has not the answers that the objective learns from.
pub fn samples(
    conversations: &[Conversation],
    encoder: &Encoder<'_>,
    objective: &Objective,
    seed: u64,
    set: &str,
) -> Result<Made, DataError> {
    let paired = conversations.iter().filter(|conversation| conversation.other.is_some());
    if let Some(derta) = objective.derta() {
        let n_paired = paired.count();
        if n_paired == 0 && !conversations.is_empty() {
            let (n, what) = (conversations.len(), "a safe and a harmful answer");
            return Err(DataError::NoPairs { n, kind: "derta", what, other: "harmful" });
        }
        return derta::samples(conversations, encoder, &derta, seed, set);
    }
    if objective.preference().is_some() {
        let kind = objective.kind.name();
        if let Some(lone) = conversations.iter().find(|conversation| conversation.other.is_none()) {
            return Err(DataError::NoPair { line: lone.line, kind });
        }
        return pairs::samples(conversations, encoder, objective.mask_of_file());
    }
    debug_assert_eq!(objective.kind, ObjectiveKind::Sft, "every other kind has its samples");
    let lines: Vec<_> = paired.map(|conversation| conversation.line).collect();
    if let Some(line) = lines.first() {
        return Err(DataError::TwoAnswers { found: lines.len(), n: conversations.len(), line: *line });
    }
    Ok(Made { samples: encoder.encode(conversations)?.samples, said: Vec::new() })
}
