//! Conversations to token ids, and which of them the loss covers.
//!
//! What is learned is found by rendering: the text up to an answer, with the generation prompt, must
//! begin the text that has the answer; what follows is the answer. Nothing is guessed from roles or
//! special tokens, and prompts for generation come from the same function as those in training.

use std::borrow::Cow;

use rayon::prelude::*;

use super::conversation::{Conversation, Line, Message, Role};
use super::cut::{self, Cut, CutError};
use super::error::DataError;
use super::marks::unknown_tokens;
use super::sample::Sample;
use crate::recipe::LossOn;
use crate::snapshot::template::{ChatTemplate, TemplateError};
use crate::snapshot::tokenizer::{Piece, Tokenizer, TokenizerError};

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
    stops: Vec<u32>,
    said: Vec<String>,
}

/// The text of a conversation and the byte ranges of the answers in it.
struct Layout {
    text: String,
    answers: Vec<(usize, usize)>,
}

/// A place within a line that went wrong before its number was known.
enum Failure {
    Template(TemplateError),
    Tokenizer(TokenizerError),
    NotPrefixStable { expected: String, found: String },
    NotSplittable,
    NeedsTemplate { found: usize },
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::Template(error)
    }
}

impl From<TokenizerError> for Failure {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}

impl From<CutError> for Failure {
    fn from(error: CutError) -> Self {
        match error {
            CutError::Tokenizer(error) => Self::Tokenizer(error),
            CutError::NotSplittable => Self::NotSplittable,
        }
    }
}

impl<'a> Encoder<'a> {
    /// Without a template a sample is the prompt, the completion and the end-of-text token, joined
    /// as they are. An empty `system` is none.
    ///
    /// # Errors
    ///
    /// There is neither a template nor an end-of-text token.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        system: &str,
        loss_on: LossOn,
    ) -> Result<Self, DataError> {
        let system = (!system.trim().is_empty()).then(|| system.to_owned());
        let stops = tokenizer.stop_ids().to_vec();
        let mut encoder = Self { tokenizer, template, system, loss_on, stops, said: Vec::new() };
        match template {
            None if tokenizer.eos_id().is_none() => return Err(DataError::NoEos),
            None => {}
            Some(template) => {
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

    /// Learns the token with which the template ends an answer. Gemma's configuration, for one, does
    /// not always list it among the tokens to stop at.
    fn find_turn_end(&mut self, template: &ChatTemplate) {
        const PROBE: &str = "Kw7vprobe";
        let messages = [Message::new(Role::User, "x"), Message::new(Role::Assistant, PROBE)];
        let Ok(text) = template.render(&messages, false) else { return };
        let Some(at) = text.rfind(PROBE) else { return };
        let Ok(ids) = self.tokenizer.encode(&text[at + PROBE.len()..]) else { return };
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
        let messages = self.with_system(messages);
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
                let sample = self.sample_of(conversation);
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
        let sample = self.sample_of(conversation).map(|(sample, _)| sample);
        sample.map_err(|failure| self.at(failure, conversation.line))
    }

    fn sample_of(&self, conversation: &Conversation) -> Result<(Sample, bool), Failure> {
        let messages = self.with_system(&conversation.messages);
        let layout = match self.template {
            Some(template) => self.lay_out(template, &messages)?,
            None => Self::join(&messages)?,
        };
        let Cut { pieces, starts, is_split } = cut::cut(self.tokenizer, &layout.text, &layout.answers)?;
        let mut ids = self.start();
        let n_before = ids.len();
        ids.extend(pieces.iter().map(|piece| piece.id));
        let mut trained = vec![self.loss_on == LossOn::All; ids.len()];
        for (&start, &(_, end)) in starts.iter().zip(&layout.answers) {
            let end = self.answer_end(&pieces, &layout.text, start, end);
            trained[n_before + start..n_before + end].fill(true);
        }
        if self.template.is_none() {
            ids.push(self.tokenizer.eos_id().expect("an encoder without template has an eos"));
            trained.push(true);
        }
        Ok((Sample::of_trained(ids, trained, conversation.line), is_split))
    }

    /// The messages with the recipe's system text, in the form that the template understands.
    fn with_system<'m>(&self, messages: &'m [Message]) -> Cow<'m, [Message]> {
        let own = messages.first().filter(|first| is_system(first)).map(|first| &first.content);
        let (text, rest) = match (own, &self.system) {
            (Some(text), _) => (text, &messages[1..]),
            (None, Some(text)) => (text, messages),
            (None, None) => return Cow::Borrowed(messages),
        };
        let mut turns = Vec::with_capacity(messages.len() + 1);
        match rest.split_first() {
            Some((user, rest)) if !self.has_system_role() && user.role == Role::User => {
                turns.push(Message::new(Role::User, format!("{text}\n\n{}", user.content)));
                turns.extend_from_slice(rest);
            }
            _ => {
                turns.push(Message::new(Role::System, text));
                turns.extend_from_slice(rest);
            }
        }
        Cow::Owned(turns)
    }

    fn lay_out(&self, template: &ChatTemplate, messages: &[Message]) -> Result<Layout, Failure> {
        let text = template.render(messages, false)?;
        let last = messages.iter().rposition(|message| message.role == Role::Assistant);
        let mut answers = Vec::new();
        for (i, message) in messages.iter().enumerate() {
            let wanted = match self.loss_on {
                LossOn::Completion | LossOn::All => Some(i) == last,
                LossOn::Assistant => message.role == Role::Assistant,
            };
            if !wanted {
                continue;
            }
            let before = template.render(&messages[..i], true)?;
            stable(&before, &text)?;
            let end = if i + 1 == messages.len() {
                text.len()
            } else {
                let through = template.render(&messages[..=i], false)?;
                stable(&through, &text)?;
                through.len()
            };
            if end < before.len() {
                return Err(Failure::NotPrefixStable {
                    expected: excerpt(&before, end),
                    found: String::new(),
                });
            }
            answers.push((before.len(), end));
        }
        Ok(Layout { text, answers })
    }

    /// Without a template: the prompt and the completion as they are, or plain text.
    fn join(messages: &[Message]) -> Result<Layout, Failure> {
        match messages {
            [text] if text.role == Role::Assistant => {
                Ok(Layout { text: text.content.clone(), answers: vec![(0, text.content.len())] })
            }
            [user, answer] if user.role == Role::User && answer.role == Role::Assistant => {
                let text = format!("{}{}", user.content, answer.content);
                let answers = vec![(user.content.len(), text.len())];
                Ok(Layout { text, answers })
            }
            _ => Err(Failure::NeedsTemplate { found: messages.len() }),
        }
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
        match failure {
            Failure::Template(source) => DataError::Template { line, source },
            Failure::Tokenizer(source) => DataError::Tokenizer { line, source },
            Failure::NotPrefixStable { expected, found } => {
                let template = self.template.map_or("none", ChatTemplate::name).to_owned();
                DataError::NotPrefixStable { template, line, expected, found }
            }
            Failure::NotSplittable => DataError::NotSplittable { line },
            Failure::NeedsTemplate { found } => DataError::NeedsTemplate { line, found },
        }
    }
}

fn is_system(message: &Message) -> bool {
    message.role == Role::System
}

/// `before` must begin `text`.
fn stable(before: &str, text: &str) -> Result<(), Failure> {
    if text.starts_with(before) {
        return Ok(());
    }
    let same = before.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    Err(Failure::NotPrefixStable { expected: excerpt(before, same), found: excerpt(text, same) })
}

/// A few characters of `text` from around byte `at`, on one line.
fn excerpt(text: &str, at: usize) -> String {
    let from = (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[from..].chars().take(30).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
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
                let sample =
                    encoder.sample(&Conversation { messages: messages.into(), line: 1.into() }).unwrap();
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
