//! Conversations to token ids, and which of them the loss covers.
//!
//! What is learned is found by rendering, never guessed from roles or special tokens, and prompts for generation come from the same function as those in training.

use std::borrow::Cow;

use rayon::prelude::*;

use super::calls;
use super::conversation::{Conversation, Line, Message, Role};
use super::cut::{self, Cut};
use super::ends::Refusals;
use super::error::DataError;
use super::habits::{self, Arguments};
use super::layout::{self, Failure};
use super::marks::unknown_tokens;
use super::sample::Sample;
use crate::recipe::{EndRule, LossOn};
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::{Piece, Tokenizer};

/// Samples, and what happened to some of them on the way.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    pub samples: Vec<Sample>,
    /// How many have a token across the border of prompt and answer, and were encoded in two parts.
    pub n_split: usize,
    /// How many brought their own system message, which stands instead of the recipe's.
    pub n_own_system: usize,
}

/// Turns messages into ids with one tokenizer, one template and one system text.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
    system: Option<String>,
    loss_on: LossOn,
    arguments: Arguments,
    stops: Vec<u32>,
    said: Vec<String>,
    refusals: Option<Refusals>,
}

impl<'a> Encoder<'a> {
    /// Without a template a sample is the prompt, the completion and the end-of-text token, joined
    /// as they are. An empty `system` is none.
    ///
    /// # Errors
    ///
    /// There is neither a template nor an end-of-text token, or the template has no generation prompt.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        system: &str,
        loss_on: LossOn,
    ) -> Result<Self, DataError> {
        let system = (!system.trim().is_empty()).then(|| system.to_owned());
        let stops = tokenizer.stop_ids().to_vec();
        let arguments = template.map_or(Arguments::Object, habits::arguments);
        let (said, refusals) = (Vec::new(), None);
        let mut encoder = Self { tokenizer, template, system, loss_on, arguments, stops, said, refusals };
        match template {
            None if tokenizer.eos_id().is_none() => return Err(DataError::NoEos),
            None => {}
            Some(template) => {
                if let Some(header) = habits::unasked_header(template) {
                    let template = template.name().to_owned();
                    return Err(DataError::NoGenerationPrompt { template, header });
                }
                encoder.find_turn_end(template);
                encoder.said.extend(unknown_tokens(template, tokenizer));
            }
        }
        if tokenizer.drew_pieces() {
            let said = "the tokenizer's BPE dropout is left out: it would make other samples each time";
            encoder.said.push(said.to_owned());
        }
        if encoder.system.is_some() && !encoder.has_system_role() {
            let said = "the template has no system role: system texts go in front of the first user message";
            encoder.said.push(said.to_owned());
        }
        Ok(encoder)
    }

    /// Keeps the end of this refusal out of the loss.
    #[must_use]
    pub fn with_refusals(mut self, reply: &str, rule: EndRule) -> Self {
        self.refusals = Some(Refusals { reply: reply.to_owned(), rule });
        self
    }

    /// Learns the token with which the template ends an answer. Gemma's configuration, for one, does
    /// not always list it among the tokens to stop at.
    fn find_turn_end(&mut self, template: &ChatTemplate) {
        let Some(behind) = habits::behind_answer(template) else { return };
        let Ok(ids) = self.tokenizer.encode(&behind) else { return };
        let Some(&end) = ids.iter().find(|&&id| self.tokenizer.is_special(id)) else {
            let said = format!("chat template `{}` writes no special token after an answer", template.name());
            self.said.push(said);
            return;
        };
        if !self.stops.contains(&end) {
            self.stops.push(end);
            self.said.push(format!(
                "`{}` ends answers in chat template `{}` and is taken for a stop token, though the model's files do not list it",
                self.token(end),
                template.name()
            ));
        }
    }

    fn has_system_role(&self) -> bool {
        self.template.is_some_and(ChatTemplate::has_system)
    }

    /// The ids at which generation must stop: the tokenizer's and the template's end of an answer.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stops
    }

    /// What a user should know about how conversations are encoded, one sentence each.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer
    }

    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template
    }

    /// A sentence on the fields of turns that the template does not write.
    pub fn unread(&self, conversations: &[Conversation]) -> Option<String> {
        habits::unread(self.template?, conversations)
    }

    /// A token as it is written, for messages.
    pub(super) fn token(&self, id: u32) -> String {
        self.tokenizer.token_of(id).unwrap_or_else(|| format!("id {id}"))
    }

    /// The ids from which the model generates its answer to `messages`, the beginning of which is `opening`.
    ///
    /// # Errors
    ///
    /// The template refuses the messages, or the tokenizer has no way to write them.
    pub fn prompt(&self, messages: &[Message], opening: &str) -> Result<Vec<u32>, DataError> {
        let text = self.prompt_text(messages)?;
        self.ids(&format!("{text}{opening}"))
    }

    /// The text from which the model generates its answer to `messages`.
    ///
    /// # Errors
    ///
    /// The template refuses the messages.
    pub fn prompt_text(&self, messages: &[Message]) -> Result<String, DataError> {
        let messages = self.turns(messages);
        let text = match (self.template, &messages[..]) {
            (Some(template), messages) => template.render(messages, true).map_err(Failure::from),
            (None, [user]) => Ok(user.content.clone()),
            (None, messages) => Err(Failure::NeedsTemplate { found: messages.len() }),
        };
        text.map_err(|failure| self.at(failure, 1.into()))
    }

    /// The ids of a text that stands at the beginning.
    ///
    /// # Errors
    ///
    /// The tokenizer has no way to write it.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoded = self.tokenizer.encode(text).map_err(|error| self.at(error.into(), 1.into()))?;
        let mut ids = self.start();
        ids.extend(encoded);
        Ok(ids)
    }

    /// What stands before the text: templates write their own beginning.
    fn start(&self) -> Vec<u32> {
        let bos = self.tokenizer.bos_id();
        bos.filter(|_| self.template.is_none() && self.tokenizer.adds_bos()).into_iter().collect()
    }

    /// Encodes every conversation, on all cores, in order.
    ///
    /// # Errors
    ///
    /// The first conversation that cannot be encoded.
    pub fn encode(&self, conversations: &[Conversation]) -> Result<Encoded, DataError> {
        let results: Vec<_> = conversations
            .par_iter()
            .map(|conversation| {
                let sample = self.sample_of(conversation, "");
                sample.map_err(|failure| self.at(failure, conversation.line))
            })
            .collect();
        let mut encoded = Encoded::default();
        for result in results {
            let (sample, is_split) = result?;
            encoded.n_split += usize::from(is_split);
            encoded.samples.push(sample);
        }
        let own = |conversation: &&Conversation| conversation.messages[..].first().is_some_and(is_system);
        if self.system.is_some() {
            encoded.n_own_system = conversations.iter().filter(own).count();
        }
        Ok(encoded)
    }

    /// Encodes one conversation.
    ///
    /// # Errors
    ///
    /// The template refuses the messages or is not prefix-stable, or the tokenizer fails.
    pub fn sample(&self, conversation: &Conversation) -> Result<Sample, DataError> {
        self.sample_behind(conversation, "")
    }

    /// Encodes one conversation of whose last answer the beginning, `given`, is not learned.
    ///
    /// # Errors
    ///
    /// As [`Self::sample`], or the template writes the answer otherwise.
    pub(super) fn sample_behind(
        &self,
        conversation: &Conversation,
        given: &str,
    ) -> Result<Sample, DataError> {
        let sample = self.sample_of(conversation, given).map(|(sample, _)| sample);
        sample.map_err(|failure| self.at(failure, conversation.line))
    }

    fn sample_of(&self, conversation: &Conversation, given: &str) -> Result<(Sample, bool), Failure> {
        let messages = self.turns(&conversation.messages);
        let mut layout = match self.template {
            Some(template) => {
                let refusal = self.refusals.as_ref().map(|refusals| refusals.reply.as_str());
                layout::with_template(template, &messages, &conversation.given, self.loss_on, refusal)?
            }
            None => layout::joined(&messages, &conversation.given)?,
        };
        if !given.is_empty() {
            layout.give(given)?;
        }
        let Cut { pieces, starts, is_split } = cut::cut(self.tokenizer, &layout.text, &layout.answers)?;
        let mut ids = self.start();
        let n_before = ids.len();
        ids.extend(pieces.iter().map(|piece| piece.id));
        let mut trained = vec![self.loss_on == LossOn::All; ids.len()];
        let mut ends = Vec::with_capacity(starts.len());
        for (&start, answer) in starts.iter().zip(&layout.answers) {
            let end = self.answer_end(&pieces, &layout.text, start, answer.end);
            trained[n_before + start..n_before + end].fill(true);
            let has_stop = end > start && self.stops.contains(&pieces[end - 1].id);
            ends.push(has_stop.then(|| n_before + end - 1));
        }
        for (piece, trained) in pieces.iter().zip(&mut trained[n_before..]) {
            *trained &= !layout.muted.iter().any(|turn| turn.contains(&piece.start));
        }
        if self.template.is_none() {
            ids.push(self.tokenizer.eos_id().expect("an encoder without template has an eos"));
            trained.push(layout.muted.is_empty());
            ends.fill(Some(ids.len() - 1));
        }
        if let Some(refusals) = &self.refusals {
            refusals.mask(&messages, (&layout.of, &ends), &mut ids, &mut trained);
        }
        Ok((Sample::of_trained(ids, trained, conversation.line), is_split))
    }

    /// The messages with the recipe's system text, in the form that the template understands.
    fn turns<'m>(&self, messages: &'m [Message]) -> Cow<'m, [Message]> {
        let mut turns = self.with_system(messages);
        let calls = |message: &Message| message.more.contains_key(calls::FIELD);
        if turns.iter().any(calls) {
            for message in turns.to_mut() {
                if let Some(calls) = message.more.get_mut(calls::FIELD) {
                    *calls = self.arguments.of(calls);
                }
            }
        }
        turns
    }

    fn with_system<'m>(&self, messages: &'m [Message]) -> Cow<'m, [Message]> {
        let (system, rest) = match (messages.split_first(), &self.system) {
            (Some((first, rest)), _) if is_system(first) => (first.clone(), rest),
            (_, Some(text)) => (Message::new(Role::System, text), messages),
            (_, None) => return Cow::Borrowed(messages),
        };
        let mut turns = Vec::with_capacity(messages.len() + 1);
        match rest.split_first() {
            Some((user, rest)) if !self.has_system_role() && user.role == Role::User => {
                let both = match system.content.as_str() {
                    "" => user.content.clone(),
                    text => format!("{text}\n\n{}", user.content),
                };
                turns.push(Message { content: both, ..user.clone() });
                turns.extend_from_slice(rest);
            }
            _ => {
                turns.push(system);
                turns.extend_from_slice(rest);
            }
        }
        Cow::Owned(turns)
    }

    /// The token after the last one to learn: after the stop token, without the white space behind it.
    fn answer_end(&self, pieces: &[Piece], text: &str, start: usize, end_byte: usize) -> usize {
        let end = start + pieces[start..].partition_point(|piece| piece.start < end_byte);
        let mut last = end;
        while last > start {
            let piece = pieces[last - 1];
            if self.stops.contains(&piece.id) {
                return last;
            }
            if !text.get(piece.start..piece.end).is_some_and(|part| part.trim().is_empty()) {
                break;
            }
            last -= 1;
        }
        end
    }

    fn at(&self, failure: Failure, line: Line) -> DataError {
        let template = self.template.map_or("none", ChatTemplate::name).to_owned();
        match failure {
            Failure::Template(source) => DataError::Template { line, source },
            Failure::Tokenizer(source) => DataError::Tokenizer { line, source },
            Failure::NotPrefixStable { expected, found } => {
                DataError::NotPrefixStable { template, line, expected, found }
            }
            Failure::NotWhole { field, expected, found } => {
                DataError::NotWhole { template, line, field, expected, found }
            }
            Failure::NotWritten { what } => DataError::NotWritten { template, line, what },
            Failure::NotSplittable => DataError::NotSplittable { line },
            Failure::NeedsTemplate { found } => DataError::NeedsTemplate { line, found },
        }
    }
}

fn is_system(message: &Message) -> bool {
    message.role == Role::System
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tiny::{self, CHATML, GEMMA, LLAMA3, MISTRAL};
    use super::*;
    use crate::data::preview;

    const TURNS: [&str; 4] = ["user: hello bob", "assistant: all\nabout", "user: b?", "assistant: he ab"];

    fn shown(template: Option<&str>, eos: &str, system: &str, loss_on: LossOn, turns: &[&str]) -> String {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), eos);
        let template = template.map(|source| tiny::template(source, eos));
        let encoder = Encoder::new(&tokenizer, template.as_ref(), system, loss_on).unwrap();
        let conversation = tiny::conversation(turns);
        let sample = encoder.sample(&conversation).unwrap();
        assert_eq!((sample.labels.len(), sample.line), (sample.ids.len(), 7.into()));
        // What is generated from is what was trained on.
        let (_, before) = conversation.messages.split_last().unwrap();
        let prompt = encoder.prompt(before, "").unwrap();
        assert_eq!(sample.ids[..prompt.len()], prompt);
        preview(&sample, &tokenizer, false)
    }

    #[test]
    fn the_last_answer_is_learned_with_its_stop_token_and_without_what_follows() {
        let cases = [
            (CHATML, "<|im_end|>", "<|im_start|>assistant\n[[he ab<|im_end|>]]\n"),
            (LLAMA3, "<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n[[he ab<|eot_id|>]]"),
            (MISTRAL, "</s>", "[INST] b? [/INST][[ he ab</s>]]"),
            (GEMMA, "</s>", "<start_of_turn>model\n[[he ab<end_of_turn>]]\n"),
        ];
        for (template, eos, end) in cases {
            let text = shown(Some(template), eos, "", LossOn::Completion, &TURNS);
            assert!(text.ends_with(end), "{text}");
            assert_eq!(text.matches("[[").count(), 1, "{text}");
        }
    }

    #[test]
    fn every_answer_is_learned_when_asked_for() {
        let text = shown(Some(CHATML), "<|im_end|>", "", LossOn::Assistant, &TURNS);
        assert!(text.contains("assistant\n[[all\nabout<|im_end|>]]\n<|im_start|>user"), "{text}");
        assert!(text.ends_with("[[he ab<|im_end|>]]\n"), "{text}");
        let text = shown(Some(MISTRAL), "</s>", "", LossOn::Assistant, &TURNS);
        assert_eq!(text, "<s>[INST] hello bob [/INST][[ all\nabout</s>]][INST] b? [/INST][[ he ab</s>]]");
    }

    #[test]
    fn all_is_all_but_the_first() {
        let text = shown(Some(GEMMA), "</s>", "", LossOn::All, &TURNS[..2]);
        assert!(text.starts_with("<s>[[<start_of_turn>user"), "{text}");
        assert!(text.ends_with("<end_of_turn>\n]]"), "{text}");
    }

    #[test]
    fn without_a_template_prompt_and_completion_are_joined_and_ended() {
        let text = shown(None, "</s>", "", LossOn::Completion, &TURNS[..2]);
        assert_eq!(text, "hello bob[[all\nabout</s>]]");
        // The two line ends would share a token; the parts are encoded one by one.
        let text = shown(None, "</s>", "", LossOn::Completion, &["user: ab \n", "assistant: \nb"]);
        assert_eq!(text, "ab \n[[\nb</s>]]");
    }

    #[test]
    fn plain_text_is_learned_whole_and_ended() {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "</s>");
        let encoder = Encoder::new(&tokenizer, None, "", LossOn::Completion).unwrap();
        let sample = encoder.sample(&tiny::conversation(&["assistant: hello bob"])).unwrap();
        // Nothing comes before the first token from which it could be predicted.
        assert_eq!(sample.n_trained(), sample.ids.len() - 1);
        assert_eq!(tokenizer.decode(&sample.ids, false), "hello bob</s>");
    }

    #[test]
    fn a_prompt_keeps_its_ids_when_a_token_would_cross_the_border() {
        for json in [tiny::byte_level(), tiny::metaspace()] {
            let tokenizer = tiny::tokenizer(&json, "</s>");
            let encoder = Encoder::new(&tokenizer, None, "", LossOn::Completion).unwrap();
            for (prompt, answer) in [("x a", "b"), ("x ", "b"), ("x", "ab"), ("x\n", "\nab"), ("a", " b b")] {
                let messages = [Message::new(Role::User, prompt), Message::new(Role::Assistant, answer)];
                let before = encoder.prompt(&messages[..1], "").unwrap();
                let sample = encoder.sample(&Conversation::new(messages, 1)).unwrap();
                assert_eq!(sample.ids[..before.len()], before, "{prompt:?} {answer:?}");
                assert_eq!(tokenizer.decode(&sample.ids, true), format!("{prompt}{answer}"));
                assert_eq!(sample.n_trained(), sample.ids.len() - before.len());
            }
        }
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "</s>");
        let encoder = Encoder::new(&tokenizer, None, "", LossOn::Completion).unwrap();
        let conversations = [
            tiny::conversation(&["user: a", "assistant: b"]),
            tiny::conversation(&["user: a", "assistant: -"]),
        ];
        assert_eq!(encoder.encode(&conversations).unwrap().n_split, 1);
    }

    #[test]
    fn a_system_text_goes_where_the_template_can_show_it() {
        let turns = ["user: b", "assistant: he"];
        let text = shown(Some(CHATML), "<|im_end|>", "ab", LossOn::Completion, &turns);
        assert!(text.starts_with("<|im_start|>system\nab<|im_end|>\n<|im_start|>user\nb<"), "{text}");
        let text = shown(Some(GEMMA), "</s>", "ab", LossOn::Completion, &turns);
        assert!(text.starts_with("<s><start_of_turn>user\nab\n\nb<"), "{text}");
        let own = ["system: he", "user: b", "assistant: he"];
        let text = shown(Some(CHATML), "<|im_end|>", "ab", LossOn::Completion, &own);
        assert!(text.starts_with("<|im_start|>system\nhe<|im_end|>\n<|im_start|>user\nb<"), "{text}");
        let text = shown(None, "</s>", "", LossOn::Completion, &own);
        assert_eq!(text, "he\n\nb[[he</s>]]");
    }

    #[test]
    fn an_end_of_turn_that_the_files_do_not_list_is_found_and_said() {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "</s>");
        let gemma = tiny::template(GEMMA, "</s>");
        let encoder = Encoder::new(&tokenizer, Some(&gemma), "ab", LossOn::Completion).unwrap();
        let ids = ["</s>", "<end_of_turn>"].map(|token| tokenizer.id_of(token).unwrap());
        assert_eq!(encoder.stop_ids(), ids);
        assert!(encoder.said()[0].starts_with("`<end_of_turn>` ends answers"), "{:?}", encoder.said());
        assert!(encoder.said()[1].contains("no system role"), "{:?}", encoder.said());
    }

    #[test]
    fn a_template_that_rewrites_the_past_is_refused_by_name() {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "</s>");
        let source = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}";
        let template = tiny::template(source, "</s>");
        let encoder = Encoder::new(&tokenizer, Some(&template), "", LossOn::Completion).unwrap();
        let error = encoder.sample(&tiny::conversation(&TURNS[..2])).unwrap_err();
        let DataError::NotPrefixStable { template, line: Line { number: 7, .. }, expected, found } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!((template.as_str(), expected.as_str(), &found[..4]), ("tiny", "1hello bob", "2hel"));
    }

    /// ChatML as Qwen has it: tools, calls, reasoning of the last answer.
    const QWEN: &str = "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    fn with_calls() -> Conversation {
        let mut conversation =
            tiny::conversation(&["user: b?", "assistant: he", "user: b?", "assistant: ab"]);
        let call =
            |arguments| json!([{"type": "function", "function": {"name": "all", "arguments": arguments}}]);
        let messages = &mut conversation.messages;
        messages[1].more.insert("tool_calls".to_owned(), call(json!("{\"a\": 1}")));
        messages[2].role = Role::Tool;
        messages[2].more.insert("call".to_owned(), json!("c1"));
        messages[3].more.insert("reasoning_content".to_owned(), json!("bob"));
        conversation.given.insert("tools".to_owned(), json!(["all"]));
        conversation
    }

    fn preview_of(template: &str, loss_on: LossOn, conversation: &Conversation) -> Result<String, DataError> {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "<|im_end|>");
        let template = tiny::template(template, "<|im_end|>");
        let encoder = Encoder::new(&tokenizer, Some(&template), "", loss_on)?;
        Ok(preview(&encoder.sample(conversation)?, &tokenizer, false))
    }

    #[test]
    fn tools_calls_and_reasoning_are_written_and_learned_where_they_are_the_answer() {
        let text = preview_of(QWEN, LossOn::Assistant, &with_calls()).unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\n[\"all\"]<|im_end|>\n<|im_start|>user\nb?<|im_end|>\n<|im_start|>assistant\n\
             [[he<call>all {\"a\": 1}</call><|im_end|>]]\n<|im_start|>tool\nb?<|im_end|>\n<|im_start|>assistant\n\
             [[<think>bob</think>ab<|im_end|>]]\n"
        );
        // A template that puts arguments between its own text gets them as text.
        let deepseek = QWEN.replace("c.function.arguments | tojson", "'' + c.function.arguments");
        let mut conversation = with_calls();
        conversation.messages[1].more["tool_calls"][0]["function"]["arguments"] = json!({"a": 1});
        let text = preview_of(&deepseek, LossOn::Assistant, &conversation).unwrap();
        assert!(text.contains("<call>all {\"a\":1}</call>"), "{text}");
        // What changes nothing in the text is told.
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "<|im_end|>");
        let template = tiny::template(QWEN, "<|im_end|>");
        let encoder = Encoder::new(&tokenizer, Some(&template), "", LossOn::Assistant).unwrap();
        let said = encoder.unread(&[with_calls()]).unwrap();
        assert_eq!(said, "chat template `tiny` does not write `call` of turns");
    }

    #[test]
    fn what_the_template_would_drop_is_refused_by_name() {
        let without = |from: &str, to: &str| {
            let error = preview_of(&QWEN.replace(from, to), LossOn::Assistant, &with_calls()).unwrap_err();
            error.to_string()
        };
        assert!(
            without("{% if tools %}", "{% if false %}").contains("does not write `tools` (line or record 7)")
        );
        let said = without("m.tool_calls or []", "[]");
        assert!(said.contains("does not write `tool_calls` of the turns of the assistant"), "{said}");
        let said = without("c.function.arguments | tojson", "''");
        assert!(said.contains("does not write the arguments in `tool_calls` of the turns of"), "{said}");
        let said = without("for m in messages %}", "for m in messages if m.role != 'tool' %}");
        assert!(said.contains("does not write `content` of the turns of the tool"), "{said}");
        let said = without("m.reasoning_content and", "false and");
        assert!(said.contains("of `reasoning_content` \"bob\" it writes \"ab<|im_end|>"), "{said}");
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "</s>");
        let encoder = Encoder::new(&tokenizer, None, "", LossOn::Completion).unwrap();
        let said = encoder.sample(&with_calls()).unwrap_err().to_string();
        assert!(said.contains("`none` does not write `tools`"), "{said}");
    }

    #[test]
    fn an_answer_that_the_template_cuts_is_refused_with_both_texts() {
        // As DeepSeek-R1's distilled models have it.
        let strips = CHATML.replace("message.content }}", "message.content.split('</think>')[-1] }}");
        let turns = ["user: b?", "assistant: <think>\nbob\n</think>\n\nab"];
        let error = preview_of(&strips, LossOn::Completion, &tiny::conversation(&turns)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "chat template `tiny` leaves a part of an answer out of what is learned (line or record 7): of `content` \
             \"<think>\\nbob\\n</think>\\n\\nab\" it writes \"\\n\\nab<|im_end|>\\n\""
        );
        // White space may change: templates trim.
        assert!(
            preview_of(LLAMA3, LossOn::Completion, &tiny::conversation(&["user: b?", "assistant:  ab "]))
                .is_ok()
        );
    }

    #[test]
    fn a_header_that_is_never_asked_for_is_refused() {
        let silent = CHATML.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "");
        let conversation = tiny::conversation(&TURNS[..2]);
        let error = preview_of(&silent, LossOn::Completion, &conversation).unwrap_err();
        let DataError::NoGenerationPrompt { header, .. } = error else { panic!("{error:?}") };
        assert_eq!(header, "<|im_start|>assistant\n");
        // Mistral's needs none: what stands before an answer is written where one is asked for.
        assert!(preview_of(MISTRAL, LossOn::Completion, &conversation).is_ok());
    }

    #[test]
    fn muted_turns_are_not_learned_whatever_the_loss_is_on() {
        let mut conversation = tiny::conversation(&TURNS);
        conversation.messages[1].muted = true;
        let text = preview_of(CHATML, LossOn::Assistant, &conversation).unwrap();
        assert_eq!(
            (text.matches("[[").count(), text.ends_with("[[he ab<|im_end|>]]\n")),
            (1, true),
            "{text}"
        );
        let text = preview_of(CHATML, LossOn::All, &conversation).unwrap();
        assert!(text.contains("assistant\n]]all\nabout<|im_end|>\n[[<|im_start|>user"), "{text}");
        conversation.messages[3].muted = true;
        assert!(!preview_of(CHATML, LossOn::Completion, &conversation).unwrap().contains("[["));
        // Without a template too, where the end of the text is learned with the answer.
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "</s>");
        let encoder = Encoder::new(&tokenizer, None, "", LossOn::Completion).unwrap();
        let mut pair = tiny::conversation(&TURNS[..2]);
        pair.messages[1].muted = true;
        assert_eq!(encoder.sample(&pair).unwrap().n_trained(), 0);
    }

    #[test]
    fn every_answer_is_learned_where_the_end_of_text_stands_only_behind_the_last() {
        // As Phi-3's template ends.
        let phi = CHATML.replace("assistant\n{% endif %}", "assistant\n{% else %}{{ eos_token }}{% endif %}");
        let text = shown(Some(&phi), "</s>", "", LossOn::Assistant, &TURNS);
        assert!(text.contains("assistant\n[[all\nabout<|im_end|>]]\n<|im_start|>user"), "{text}");
        assert!(text.ends_with("assistant\n[[he ab<|im_end|>\n</s>]]"), "{text}");
    }

    #[test]
    fn an_empty_system_turn_is_written_as_it_stands() {
        let turns = ["system: ", "user: b", "assistant: he"];
        let text = shown(Some(CHATML), "<|im_end|>", "ab", LossOn::Completion, &turns);
        assert!(text.starts_with("<|im_start|>system\n<|im_end|>\n<|im_start|>user\nb<"), "{text}");
        let text = shown(Some(GEMMA), "</s>", "ab", LossOn::Completion, &turns);
        assert!(text.starts_with("<s><start_of_turn>user\nb<"), "{text}");
    }

    #[test]
    fn a_refusal_of_the_template_names_the_line() {
        let tokenizer = tiny::tokenizer(&tiny::byte_level(), "</s>");
        let template = tiny::template("{{ raise_exception('never') }}", "</s>");
        let encoder = Encoder::new(&tokenizer, Some(&template), "", LossOn::Completion).unwrap();
        let error = encoder.encode(&[tiny::conversation(&TURNS)]).unwrap_err();
        assert!(matches!(error, DataError::Template { line: Line { number: 7, .. }, .. }), "{error:?}");
        let encoder = Encoder::new(&tokenizer, None, "", LossOn::Completion).unwrap();
        let error = encoder.sample(&tiny::conversation(&TURNS)).unwrap_err();
        assert!(
            matches!(error, DataError::NeedsTemplate { line: Line { number: 7, .. }, found: 4 }),
            "{error:?}"
        );
    }
}
