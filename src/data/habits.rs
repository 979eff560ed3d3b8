//! What a chat template does that its text does not tell, found by rendering.

use std::collections::BTreeMap;

use serde_json::json;

use super::calls;
pub(super) use super::calls::Arguments;
use super::conversation::{Conversation, Message, Role};
use crate::snapshot::template::ChatTemplate;

/// Stands in no template.
const PROBE: &str = "Kw7vprobe";

fn exchange() -> [Message; 2] {
    [Message::new(Role::User, "x"), Message::new(Role::Assistant, PROBE)]
}

/// What the template writes behind an answer.
pub(super) fn behind_answer(template: &ChatTemplate) -> Option<String> {
    let text = template.render(&exchange(), false).ok()?;
    text.rfind(PROBE).map(|at| text[at + PROBE.len()..].to_owned())
}

/// What a template without a generation prompt writes before an answer. It would be learned as the answer's
/// beginning, and models would be asked without it.
pub(super) fn unasked_header(template: &ChatTemplate) -> Option<String> {
    let turns = exchange();
    let asked = template.render(&turns[..1], true).ok()?;
    let text = template.render(&turns, false).ok()?;
    let behind = text.strip_prefix(&asked)?;
    let header = &behind[..behind.find(PROBE)?];
    let is_silent = template.render(&turns[..1], false).is_ok_and(|without| without == asked);
    (is_silent && !header.trim().is_empty()).then(|| header.to_owned())
}

/// How the template takes the arguments of calls.
pub(super) fn arguments(template: &ChatTemplate) -> Arguments {
    let [user, mut answer] = exchange();
    answer.content.clear();
    let call =
        json!([{ "type": "function", "id": PROBE, "function": { "name": "f", "arguments": { "a": 1 } } }]);
    let mut takes = |arguments: Arguments| {
        answer.more.insert(calls::FIELD.to_owned(), arguments.of(&call));
        template.render(&[user.clone(), answer.clone()], false).is_ok()
    };
    if !takes(Arguments::Object) && takes(Arguments::Text) { Arguments::Text } else { Arguments::Object }
}

/// A sentence on the fields of turns that change nothing in what the template writes.
pub(super) fn unread(template: &ChatTemplate, conversations: &[Conversation]) -> Option<String> {
    // A template may leave a field out in some turns, as Qwen's leaves out the reasoning of past ones.
    const TRIED: usize = 8;
    let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
    for conversation in conversations {
        let names = conversation.messages.iter().flat_map(|message| message.more.keys());
        let mut names: Vec<&str> = names.map(String::as_str).filter(|name| *name != "content").collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let times = tried.entry(name).or_default();
            if *times < TRIED {
                let is_written = writes(template, conversation, name);
                *times = if is_written { usize::MAX } else { *times + 1 };
            }
        }
    }
    let unread: Vec<String> =
        tried.iter().filter(|(_, times)| **times < usize::MAX).map(|(name, _)| format!("`{name}`")).collect();
    let name = template.name();
    (!unread.is_empty())
        .then(|| format!("chat template `{name}` does not write {} of turns", unread.join(", ")))
}

/// Whether a field of the turns changes what the template writes.
fn writes(template: &ChatTemplate, conversation: &Conversation, name: &str) -> bool {
    let mut without = conversation.messages.clone();
    for message in &mut without {
        message.more.shift_remove(name);
    }
    let text = |messages: &[Message]| template.render_with(messages, &conversation.given, false).ok();
    text(&conversation.messages) != text(&without)
}
