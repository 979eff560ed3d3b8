//! A file's records to conversations: the form that the first one has, and what is left out.

use std::path::Path;

use super::conversation::Conversation;
use super::error::{DataError, places};
use super::faults::{Faults, Told};
use super::format::Format;
use super::table::{self, Limits, Place, Record};
use super::turns::Turns;
use crate::recipe::{Field, Form};

/// A file's conversations, in the file's order.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub conversations: Vec<Conversation>,
    /// The form they were in; never [`Form::Auto`].
    pub format: Format,
    /// What the file is and the form in words, with the reason, and what was left out.
    pub said: String,
}

/// A file may have one empty answer among this many; more is no slip.
const RECORDS_PER_EMPTY: usize = 100;

/// Reads every conversation of a file.
///
/// # Errors
///
/// The file cannot be read, is too large, not UTF-8, not what it begins as, or has a record from which
/// no conversation that ends with an answer can be made: the first one is named. A few records with an
/// empty text, as published files have them, are left out and counted in [`Loaded::said`].
pub fn read(path: &Path, format: &Format, limits: Limits) -> Result<Loaded, DataError> {
    let mut reading = Reading { format: format.clone(), ..Reading::default() };
    let wanted = |name: &str| format.reads(name);
    let file = table::read_wanted(path, &wanted, limits, &mut |record, place| reading.push(record, place));
    let Reading { format, said, out, empty, first_empty, n_system, n_lists, mut unread, faults } = reading;
    faults.end(|Told { n, lines, first, help }| DataError::Several {
        path: path.to_owned(),
        n,
        lines,
        first,
        help,
    })?;
    let file = file?;
    unread.extend(file.skipped.iter().take(NAMED.saturating_sub(unread.len())).cloned());
    let mut said = vec![format!("{file}: {said}")];
    if let Some(error) = first_empty {
        if empty.len() * RECORDS_PER_EMPTY > out.len() {
            return Err(error);
        }
        let lines: Vec<_> = empty.iter().map(|&line| line.into()).collect();
        said.push(format!("{} left out because a text in it is empty: {}", empty.len(), places(&lines)));
    }
    if out.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    if n_system > 0 {
        said.push(format!("{n_system} have a system message in `{}`", format.name(Field::System)));
    }
    if n_lists > 0 {
        said.push(format!("{n_lists} turns hold a list of texts, read one after the other"));
    }
    if !unread.is_empty() {
        let names: Vec<String> = unread.iter().map(|name| format!("`{name}`")).collect();
        said.push(format!("not read: {}", names.join(", ")));
    }
    if format.form == Form::Text {
        said.push("every token is learned".to_owned());
    }
    Ok(Loaded { conversations: out, format, said: said.join("; ") })
}

#[derive(Default)]
struct Reading {
    format: Format,
    said: String,
    out: Vec<Conversation>,
    /// The numbers of records with an empty text, and the complaint about the first.
    empty: Vec<usize>,
    first_empty: Option<DataError>,
    /// How many have a system message beside their turns.
    n_system: usize,
    /// How many turns have a list of parts for their content.
    n_lists: usize,
    /// Fields that nobody reads, in the order they came.
    unread: Vec<String>,
    faults: Faults<DataError>,
}

/// The most unread fields that are named.
const NAMED: usize = 20;

impl Reading {
    fn push(&mut self, record: Record, place: Place) -> Result<(), DataError> {
        if self.said.is_empty() {
            // `messages` has always meant both kinds of lists.
            let is_any_list = self.format.form == Form::Messages && self.format.fields.is_empty();
            (self.format, self.said) = match self.format.recognise(&record, &place) {
                Ok((found, said)) if self.format.form == Form::Auto => (found, said),
                Ok((found, said)) if is_any_list && found.form == Form::Sharegpt => (found, said),
                Ok((found, _)) if is_any_list && found.form == Form::Messages => (found, self.format.said()),
                Err(error) if self.format.form == Form::Auto => return Err(error),
                _ => (self.format.clone(), self.format.said()),
            };
        }
        let number = place.number;
        match (Turns { record, place }).read(&self.format) {
            Ok(read) => {
                self.n_system += usize::from(read.has_system);
                self.n_lists += read.n_lists;
                for name in read.unread {
                    if self.unread.len() < NAMED && !self.unread.contains(&name) {
                        self.unread.push(name);
                    }
                }
                self.out.push(read.conversation);
            }
            Err(error @ DataError::EmptyText { .. }) => {
                self.empty.push(number);
                self.first_empty.get_or_insert(error);
            }
            Err(error) if self.faults.is_full() => return Err(error),
            Err(error) => self.faults.note(error, number),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::conversation::Message;
    use super::super::table::TableError;
    use super::*;
    use crate::recipe::Field;

    const SMALL: Limits =
        Limits { file_bytes: 1 << 20, record_bytes: 100 << 10, pack_ratio: 200, held_bytes: 8 << 20 };

    fn read_bytes(bytes: &[u8], format: &Format) -> Result<Loaded, DataError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        read(file.path(), format, SMALL)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Role and content of each message of each conversation, on one line.
    fn shown(loaded: &Loaded) -> String {
        let turn = |message: &Message| format!("{}={}", message.role, message.content);
        let conversation = |conversation: &Conversation| {
            let turns: Vec<String> = conversation.messages.iter().map(turn).collect();
            format!("{}:{}", conversation.line, turns.join("|"))
        };
        loaded.conversations.iter().map(conversation).collect::<Vec<_>>().join(" ")
    }

    fn auto(text: &str) -> Result<Loaded, DataError> {
        read_bytes(text.as_bytes(), &Format::default())
    }

    #[test]
    fn lines_and_arrays_plain_and_packed_are_the_same() {
        let lines = "{\"question\": \"a\", \"answer\": \"b\"}\r\n\n{\"question\": \"c\", \"answer\": \"é\", \"x\": 1}";
        let array =
            " \n[{\"question\": \"a\", \"answer\": \"b\"}, {\"question\": \"c\", \"answer\": \"é\"}]\n";
        for (text, expected) in [
            (lines, "1:user=a|assistant=b 3:user=c|assistant=é"),
            (array, "1:user=a|assistant=b 2:user=c|assistant=é"),
        ] {
            let marked = format!("\u{feff}{text}");
            for bytes in
                [text.into(), marked.clone().into_bytes(), gzip(text.as_bytes()), gzip(marked.as_bytes())]
            {
                let loaded: Loaded = read_bytes(&bytes, &Format::default()).unwrap();
                assert_eq!(shown(&loaded), expected);
                assert_eq!(loaded.format.form, Form::PromptCompletion);
            }
        }
        let halves = [gzip(lines.as_bytes()), gzip(b"\n{\"question\": \"d\", \"answer\": \"e\"}")].concat();
        assert_eq!(read_bytes(&halves, &Format::default()).unwrap().conversations.len(), 3);
    }

    #[test]
    fn each_form_is_recognised_and_said() {
        let cases = [
            (
                r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}"#,
                "1:system=s|user=u|assistant=a",
                "messages, because the first record has `messages`",
            ),
            (
                r#"{"system": "s", "conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}"#,
                "1:system=s|user=u|assistant=a",
                "sharegpt, because the first record has `conversations` with `from` and `value`; 1 have a system message in `system`",
            ),
            (
                r#"{"conversations": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}"#,
                "1:user=u|assistant=a",
                "messages, because the first record has `conversations`",
            ),
            (
                r#"{"instruction": "i", "input": "x", "output": "o", "system": ""}"#,
                "1:user=i\n\nx|assistant=o",
                "alpaca, because the first record has `instruction`, `input` and `output`",
            ),
            (
                r#"{"instruction": "i", "context": null, "response": "o"}"#,
                "1:user=i|assistant=o",
                "alpaca, because the first record has `instruction`, `context` and `response`",
            ),
            (
                r#"{"instruction": "i", "output": "o"}"#,
                "1:user=i|assistant=o",
                "alpaca, because the first record has `instruction` and `output`",
            ),
            (
                r#"{"prompt": "p", "completion": "c"}"#,
                "1:user=p|assistant=c",
                "prompt-completion, because the first record has `prompt` (prompt) and `completion` (completion)",
            ),
            (
                r#"{"text": "all of it", "label": 3}"#,
                "1:assistant=all of it",
                "text, because the first record has `text`; not read: `label`; every token is learned",
            ),
        ];
        for (text, expected, said) in cases {
            let loaded = auto(text).unwrap();
            assert_eq!(shown(&loaded), expected);
            assert_eq!(loaded.said, format!("json: {said}"));
        }
    }

    /// The first conversation of a record, its turns as chat templates see them.
    fn turns(record: &str) -> (Vec<Value>, Conversation, String) {
        let loaded = auto(record).unwrap();
        let conversation = loaded.conversations[0].clone();
        (conversation.messages.iter().map(|message| json!(message)).collect(), conversation, loaded.said)
    }

    #[test]
    fn all_that_a_template_can_write_is_handed_on() {
        let call = json!({"type": "function", "function": {"name": "stock", "arguments": {"item": "pens"}}});
        let (found, conversation, _) = turns(
            &json!({"tools": [{"name": "stock"}], "messages": [
                {"role": "user", "content": [{"type": "text", "text": "How "}, {"type": "text", "text": "many?"}]},
                {"role": "assistant", "content": null, "tool_calls": [call], "name": null},
                {"role": "tool", "content": "7", "tool_call_id": "c1"},
                {"role": "assistant", "content": "7", "reasoning_content": "It says 7."},
            ]})
            .to_string(),
        );
        assert_eq!(
            found,
            [
                json!({"role": "user", "content": "How many?"}),
                json!({"role": "assistant", "content": null, "tool_calls": [call]}),
                json!({"role": "tool", "content": "7", "tool_call_id": "c1"}),
                json!({"role": "assistant", "content": "7", "reasoning_content": "It says 7."}),
            ]
        );
        let tools = json!([{"type": "function", "function": {"name": "stock"}}]);
        assert_eq!(json!(conversation.given), json!({ "tools": tools }));

        // LLaMA-Factory's form of the same, all of it text.
        let (found, conversation, _) = turns(
            &json!({"tools": "[{\"name\": \"stock\"}]", "conversations": [
                {"from": "human", "value": "How many?"},
                {"from": "function_call", "value": "{\"name\": \"stock\", \"arguments\": {\"item\": \"pens\"}}"},
                {"from": "observation", "value": "7"},
                {"from": "gpt", "value": "7"},
            ]})
            .to_string(),
        );
        assert_eq!(found[1], json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        assert_eq!(found[2], json!({"role": "tool", "content": "7"}));
        assert_eq!(json!(conversation.given), json!({ "tools": tools }));

        // OpenAI's older form.
        let (found, conversation, _) = turns(
            &json!({"functions": [{"name": "stock"}], "messages": [
                {"role": "user", "content": "How many?"},
                {"role": "assistant", "content": null, "function_call": {"name": "stock", "arguments": "{}"}},
                {"role": "function", "name": "stock", "content": "7"},
                {"role": "assistant", "content": "7"},
            ]})
            .to_string(),
        );
        assert_eq!(found[1]["tool_calls"][0]["function"], json!({"name": "stock", "arguments": "{}"}));
        assert_eq!(found[2], json!({"role": "tool", "content": "7", "name": "stock"}));
        assert_eq!(json!(conversation.given), json!({ "tools": tools }));
    }

    #[test]
    fn turns_before_a_question_are_part_of_the_conversation() {
        let whole = "1:user=a|assistant=b|user=c|assistant=d";
        let before = json!([["a", "b"]]);
        for record in [
            json!({"instruction": "c", "input": "", "output": "d", "history": before}),
            json!({"query": "c", "response": "d", "history": before}),
            json!({"query": "c", "response": "d", "history": before.to_string()}),
        ] {
            let loaded = auto(&record.to_string()).unwrap();
            assert_eq!(shown(&loaded), whole);
            assert!(!loaded.said.contains("not read"), "{}", loaded.said);
        }
        let alpaca =
            |history: Value| json!({"instruction": "c", "output": "d", "system": "s", "history": history});
        for none in [json!([]), Value::Null, json!("")] {
            let loaded = auto(&alpaca(none).to_string()).unwrap();
            assert_eq!(shown(&loaded), "1:system=s|user=c|assistant=d");
        }
        // A patient's is no conversation.
        let loaded = auto(&alpaca(json!("asthma")).to_string()).unwrap();
        assert!(loaded.said.contains("not read: `history`"), "{}", loaded.said);
        let error = auto(&alpaca(json!(["a", "b"])).to_string()).unwrap_err().to_string();
        assert!(error.contains("`history`"), "{error}");
        assert!(matches!(auto(&alpaca(json!([["a", " "]])).to_string()), Err(DataError::EmptyText { .. })));
    }

    #[test]
    fn marks_mute_answers_and_what_nobody_reads_is_said() {
        for mark in
            [json!({"weight": 0}), json!({"train": false}), json!({"loss": 0.0}), json!({"loss_scale": 0})]
        {
            let mut answer = json!({"role": "assistant", "content": "a"});
            answer.as_object_mut().unwrap().extend(mark.as_object().unwrap().clone());
            let record = json!({"messages": [{"role": "user", "content": "u"}, answer, {"role": "user", "content": "u"},
                {"role": "assistant", "content": "b", "weight": 1}], "id": 7, "parallel_tool_calls": false, "empty": ""});
            let (found, conversation, said) = turns(&record.to_string());
            let muted: Vec<bool> = conversation.messages.iter().map(|message| message.muted).collect();
            assert_eq!(muted, [false, true, false, false]);
            assert_eq!(found[1], json!({"role": "assistant", "content": "a"}));
            assert!(said.ends_with("; not read: `id`, `parallel_tool_calls`"), "{said}");
        }
        // Columns of a table are no part of a conversation: a label, a picture's address, a list of tools.
        let record = json!({"prompt": "u", "response": "a", "refusal": "partial", "image": "a.png", "tools": ["saw"],
            "documents": ["d"]});
        let (_, conversation, said) = turns(&record.to_string());
        assert!(conversation.given.is_empty());
        assert!(said.ends_with("; not read: `refusal`, `image`, `tools`, `documents`"), "{said}");
        let record = json!({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a",
            "refusal": false}], "tools": "none"});
        let (_, conversation, said) = turns(&record.to_string());
        assert!(conversation.given.is_empty() && said.ends_with("; not read: `tools`"), "{said}");
        // TRL's prompts of turns: only the completion is learned.
        let record = json!({"prompt": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"},
            {"role": "user", "content": "v"}], "completion": [{"role": "assistant", "content": "b"}]});
        let (found, conversation, _) = turns(&record.to_string());
        assert_eq!(found.len(), 4);
        assert!(conversation.messages[1].muted && !conversation.messages[3].muted);
    }

    #[test]
    fn fields_name_a_form_and_are_used() {
        type Case = (Form, &'static [(Field, &'static str)], &'static str, &'static str, &'static str);
        let cases: [Case; 7] = [
            (
                Form::Auto,
                &[(Field::Prompt, "q"), (Field::Completion, "a")],
                r#"{"q": "x", "a": "y"}"#,
                "1:user=x|assistant=y",
                "prompt-completion with `q` (prompt), `a` (completion), because the recipe says so",
            ),
            (
                Form::Auto,
                &[(Field::Instruction, "task"), (Field::Output, "done"), (Field::System, "s")],
                r#"{"task": "t", "input": "i", "done": "d", "s": "b"}"#,
                "1:system=b|user=t\n\ni|assistant=d",
                "alpaca with `task` (instruction), `done` (output), `s` (system), because the recipe says so; 1 have a system message in `s`",
            ),
            (
                Form::Auto,
                &[(Field::Messages, "chat"), (Field::Role, "who"), (Field::Content, "what")],
                r#"{"chat": [{"who": "user", "what": "u"}, {"who": "assistant", "what": "a"}]}"#,
                "1:user=u|assistant=a",
                "messages with `chat` (messages), `who` (role), `what` (content), because the recipe says so",
            ),
            (
                Form::Auto,
                &[(Field::Prompt, "goal"), (Field::Completion, "")],
                r#"{"goal": "x"}"#,
                "1:user=x|assistant=",
                "prompt-completion with `goal` (prompt), no completion, because the recipe says so",
            ),
            // Names that say nothing leave the form to be recognised.
            (
                Form::Auto,
                &[(Field::Prompt, "prompt"), (Field::Completion, "completion")],
                r#"{"question": "x", "answer": "y"}"#,
                "1:user=x|assistant=y",
                "prompt-completion, because the first record has `question` (prompt) and `answer` (completion)",
            ),
            // `messages` has always meant both kinds of lists.
            (
                Form::Messages,
                &[],
                r#"{"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}"#,
                "1:user=u|assistant=a",
                "sharegpt, because the first record has `conversations` with `from` and `value`",
            ),
            (
                Form::Text,
                &[(Field::Text, "body")],
                r#"{"body": "b", "prompt": "p", "completion": "c"}"#,
                "1:assistant=b",
                "text with `body` (text), because the recipe says so; not read: `prompt`, `completion`; every token is learned",
            ),
        ];
        for (form, fields, text, expected, said) in cases {
            let fields = fields.iter().map(|(field, name)| (*field, (*name).to_owned())).collect();
            let loaded = read_bytes(text.as_bytes(), &Format::new(form, &fields)).unwrap();
            assert_eq!(shown(&loaded), expected);
            assert_eq!(loaded.said, format!("json: {said}"));
        }
    }

    /// Checks what is said of files that cannot be read, in which `GOOD` stands for a good record.
    fn refused(cases: &[(&str, &str)], good: &str) {
        for (text, expected) in cases {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.replace("GOOD", good).as_bytes()).unwrap();
            let error = read(file.path(), &Format::default(), SMALL).unwrap_err().to_string();
            assert_eq!(error.replace(&file.path().display().to_string(), "FILE"), *expected, "{text}");
        }
    }

    #[test]
    fn what_no_sample_can_hold_is_named_with_its_place() {
        let cases = [
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "image"}]}]}"#,
                "field `messages[0].content` in line 1 of `FILE` is a list with a part of type `image`, expected a string or a list of texts",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "x", "images": ["a.png"]}]}"#,
                "field `messages[0].images` in line 1 of `FILE` says what no text can, and would be lost",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "x"}], "video": "a.mp4"}"#,
                "field `video` in line 1 of `FILE` says what no text can, and would be lost",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "x", "refusal": "No."}]}"#,
                "field `messages[0].refusal` in line 1 of `FILE` says what no text can, and would be lost",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "x", "weight": 0.5}]}"#,
                "field `messages[0].weight` in line 1 of `FILE` is 0.5, expected 0 or 1",
            ),
            (
                r#"{"messages": [{"role": "user", "content": "x", "train": true}]}"#,
                "field `messages[0].train` in line 1 of `FILE` is set for a turn of the user, expected it at answers only",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": ["look"]}]}"#,
                "field `messages[0].tool_calls` in line 1 of `FILE` is a list with what is no object, expected a list of calls such as `{\"function\": {\"name\": …, \"arguments\": {…}}}`",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "x"}], "tools": "[a hammer"}"#,
                "field `tools` in line 1 of `FILE` is something else, expected a list of tools",
            ),
            (
                r#"{"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "user", "content": "y"}]}"#,
                "field `completion` in line 1 of `FILE` is a list of more, expected a list of one message of the assistant",
            ),
        ];
        refused(&cases, "");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let good = r#"{"prompt": "p", "completion": "c"}"#;
        let cases = [
            ("", "`FILE` has no records"),
            (" \n\n", "`FILE` has no records"),
            ("[]", "`FILE` has no records"),
            ("{\"prompt\": \"p\",\n", "`FILE` is not valid JSON at line 1, column 15"),
            ("GOOD\n{\"prompt\": \"p\" \"x\"}", "`FILE` is not valid JSON at line 2, column 16"),
            ("[GOOD,\n GOOD", "`FILE` is not valid JSON at line 2, column 35"),
            ("[GOOD] x", "`FILE` is not valid JSON at line 1, column 38"),
            ("[GOOD, 3]", "record 2 of `FILE` is a number, expected an object"),
            (
                "GOOD\n{\"prompt\": \"p\", \"compltion\": \"c\"}",
                "line 2 of `FILE` has no field `completion`; it has `prompt`, `compltion`",
            ),
            (
                "{\"prompt\": \"p\", \"completion\": 3}",
                "field `completion` in line 1 of `FILE` is a number, expected a string",
            ),
            (
                "GOOD\n{\"prompt\": \"p\", \"completion\": \" \"}",
                "field `completion` in line 2 of `FILE` is empty",
            ),
            ("{\"txet\": \"p\"}", "line 1 of `FILE` has none of the known forms; its fields are `txet`"),
            ("{}", "line 1 of `FILE` has none of the known forms; its fields are no fields"),
            ("{\"messages\": []}", "field `messages` in line 1 of `FILE` is empty"),
            (
                "{\"messages\": \"x\"}",
                "field `messages` in line 1 of `FILE` is a string, expected a list of messages",
            ),
            (
                "{\"messages\": [{\"role\": \"user\"}]}",
                "line 1 of `FILE` has no field `messages[0].content`; it has `role`",
            ),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
                "line 1 of `FILE` ends with a message from the user, expected the assistant",
            ),
            (
                "{\"messages\": [{\"role\": \"critic\", \"content\": \"x\"}]}",
                "the role `critic` in line 1 of `FILE` is unknown, expected `system`, `user`, `assistant` or `tool`",
            ),
            (
                "{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}",
                "line 1 of `FILE` ends with a message from the tool, expected the assistant",
            ),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"system\", \"content\": \"x\"}]}",
                "line 1 of `FILE` has a system message that is not the first",
            ),
        ];
        refused(&cases, good);
        let missing = read(Path::new("/nowhere/x.jsonl"), &Format::default(), SMALL);
        assert!(matches!(missing, Err(DataError::Table(TableError::Unreadable { .. }))));
        assert!(matches!(
            read(Path::new("/"), &Format::default(), SMALL),
            Err(DataError::Table(TableError::Unreadable { .. }))
        ));
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_offset_and_line() {
        let mut text = br#"{"prompt": "p", "completion": "c"}"#.to_vec();
        text.extend(b"\n{\"prompt\": \"\xff\"}");
        for bytes in [text.clone(), gzip(&text)] {
            let error = read_bytes(&bytes, &Format::default()).unwrap_err();
            assert!(
                matches!(error, DataError::Table(TableError::NotUtf8 { offset: 47, line: 2, .. })),
                "{error:?}"
            );
        }
        // A character that is cut off by the end of the file, and one across two chunks.
        let error = read_bytes("é".as_bytes().split_at(1).0, &Format::default()).unwrap_err();
        assert!(
            matches!(error, DataError::Table(TableError::NotUtf8 { offset: 0, line: 1, .. })),
            "{error:?}"
        );
        for shift in 0..4 {
            let text = format!(
                "{{\"prompt\": \"{}{}\", \"completion\": \"c\"}}",
                "x".repeat(shift),
                "😀".repeat(20_000)
            );
            assert_eq!(auto(&text).unwrap().conversations.len(), 1);
        }
    }

    #[test]
    fn a_few_empty_answers_are_left_out_and_counted() {
        let mut lines = vec![r#"{"prompt": "p", "completion": "c"}"#; 250];
        lines[99] = r#"{"prompt": "p", "completion": ""}"#;
        lines[199] = r#"{"prompt": " ", "completion": "c"}"#;
        let loaded = auto(&lines.join("\n")).unwrap();
        assert_eq!(loaded.conversations.len(), 248);
        assert!(loaded.said.ends_with("; 2 left out because a text in it is empty: line or record 100, 200"));
        lines[0] = lines[99];
        assert!(
            matches!(auto(&lines.join("\n")), Err(DataError::EmptyText { place, .. }) if place.number == 1)
        );
    }

    #[test]
    fn files_that_grow_without_end_are_stopped() {
        let bomb = gzip(&vec![b' '; 300 << 20]);
        let limits = Limits { file_bytes: 1 << 40, record_bytes: 1 << 40, ..SMALL };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bomb).unwrap();
        assert!(matches!(
            read(file.path(), &Format::default(), limits),
            Err(DataError::Table(TableError::Bomb { ratio: 200, .. }))
        ));
        let long = format!("{{\"prompt\": \"{}\"}}", "x".repeat(200 << 10));
        for (text, unit) in [(long.clone(), "line"), (format!("[{long}]"), "record")] {
            let error = auto(&text).unwrap_err();
            assert!(
                matches!(&error, DataError::Table(TableError::RecordTooLarge { place, .. }) if place.unit == unit && place.number == 1),
                "{error:?}"
            );
        }
        let many = "{\"prompt\": \"p\", \"completion\": \"c\"}\n".repeat(40_000);
        assert!(matches!(auto(&many), Err(DataError::Table(TableError::TooLarge { limit: 1_048_576, .. }))));
        let deep = "[".repeat(100_000);
        assert!(matches!(auto(&deep), Err(DataError::Table(TableError::BadJson { .. }))));
        let cut = gzip(many.as_bytes());
        let error = read_bytes(&cut[..cut.len() / 2], &Format::default()).unwrap_err();
        assert!(
            matches!(error, DataError::Table(TableError::Unreadable { .. } | TableError::TooLarge { .. })),
            "{error:?}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_mutated_file_is_read_or_refused(
            is_array: bool,
            is_packed: bool,
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..8),
        ) {
            let record = r#"{"messages": [{"role": "user", "content": "é\u00e9"}, {"role": "assistant", "content": "b"}]}"#;
            let text = if is_array { format!("[{record},\n{record}]") } else { format!("{record}\n{record}\n") };
            let mut bytes = if is_packed { gzip(text.as_bytes()) } else { text.into_bytes() };
            for (at, byte, kind) in edits {
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            let _ = read_bytes(&bytes, &Format::default());
        }
    }
}
