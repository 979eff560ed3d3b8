//! Questions written as tokens: through the chat template, with worked examples, opening and options.
//!
//! To be counted they are written once for each model, template and file, in any command; [`outline`] goes by what is
//! kept of that. [`write`] writes them where they are asked, and finds out if they are not what was counted.

use rayon::prelude::*;
use serde_json::{Value, json};

use super::kept::{Kept, kept};
use super::model::Model;
use super::openings;
use super::outline::{Outline, Written};
use super::questions::{Questions, Reader};
use super::thinking;
use crate::data::{self, DataError, Encoder, Message, Role, Sample};
use crate::eval::fewshot::{FewShot, Layout};
use crate::eval::measures::windows;
use crate::eval::{EvalError, Form, Item};
use crate::generate::{Choice, Question, Thinking};
use crate::recipe::{Chat, Eval, LossOn};
use crate::run::failure::Failure;
use crate::snapshot::tokenizer::Tokenizer;

/// Writes and counts every suite's questions.
///
/// # Errors
///
/// A template refuses a question, or the tokenizer cannot write it.
pub fn render(suites: &mut [Questions], eval: &Eval, reader: Reader<'_>) -> Result<(), Failure> {
    let pen = Pen::new(eval, reader)?;
    for asked in suites {
        pen.prepare(asked)?;
        let written = pen.write(asked)?;
        let outline = pen.outline(asked, &written);
        asked.count(outline);
        let _ = asked.written().set(written);
    }
    Ok(())
}

/// Counts a suite's questions: by what an earlier command kept of the same ones for the same model, else they are
/// written. `settings` are those of the template.
///
/// # Errors
///
/// As [`render`].
pub fn outline(asked: &mut Questions, eval: &Eval, model: &Model, settings: &Value) -> Result<(), Failure> {
    let pen = Pen::new(eval, model.reader())?;
    pen.prepare(asked)?;
    let (task, told) = (asked.posed.suite.task, &asked.posed.asked);
    let put = json!([asked.chat, told.opening, told.prefill_field, told.prefill_tokens, told.max_new_tokens]);
    let task = json!([task.name, task.version, task.delimiter]);
    let Reader { window, rows, .. } = model.reader();
    let by = json!([model.writing()?, settings, window, rows, eval.system, eval.log_likelihood]);
    let key = json!([asked.drawn(), task, put, by]);
    let Kept { found, path } = kept("questions", &key, || {
        let written = pen.write(asked)?;
        let outline = pen.outline(asked, &written);
        let _ = asked.written().set(written);
        Ok(outline)
    })?;
    asked.count(Outline { path, ..found });
    Ok(())
}

/// Writes the questions that were only counted, once for all that share them.
///
/// # Errors
///
/// They are not what was counted: another version of this program did that.
pub fn write(suites: &[Questions], eval: &Eval, reader: Reader<'_>) -> Result<(), Failure> {
    if suites.iter().all(|asked| asked.written().get().is_some()) {
        return Ok(());
    }
    let pen = Pen::new(eval, reader)?;
    for asked in suites.iter().filter(|asked| asked.written().get().is_none()) {
        let written = pen.write(asked)?;
        if written.digest() != asked.outline.sha256 {
            asked.outline.forget();
            return Err(EvalError::OtherQuestions { suite: asked.posed.suite.name.clone() }.into());
        }
        let _ = asked.written().set(written);
    }
    Ok(())
}

/// What writes the questions of all suites for one model.
struct Pen<'a> {
    with_template: Encoder<'a>,
    raw: Encoder<'a>,
    thinking: Option<Thinking>,
    eval: &'a Eval,
    reader: Reader<'a>,
}

impl<'a> Pen<'a> {
    fn new(eval: &'a Eval, reader: Reader<'a>) -> Result<Self, Failure> {
        let Reader { tokenizer, template, .. } = reader;
        Ok(Self {
            with_template: Encoder::new(tokenizer, template, "", LossOn::Completion)?,
            raw: Encoder::new(tokenizer, None, "", LossOn::Completion)?,
            thinking: thinking::find(&eval.thinking, tokenizer, template),
            eval,
            reader,
        })
    }

    /// Settles where answers begin and what ends them.
    fn prepare(&self, asked: &mut Questions) -> Result<(), Failure> {
        openings::cut(&mut asked.posed, self.reader.tokenizer)?;
        asked.decoding.stop_ids = self.with_template.stop_ids().to_vec();
        let opened = |found: &Thinking| {
            let unopened = found.opened && asked.chat != Chat::Raw;
            let opened = openings::opened(&asked.posed, found, unopened)?;
            Ok::<_, EvalError>(Thinking { opened, ..found.clone() })
        };
        asked.decoding.thinking = self.thinking.as_ref().map(opened).transpose()?;
        Ok(())
    }

    /// The questions as tokens, several items at once.
    fn write(&self, asked: &Questions) -> Result<Written, Failure> {
        let Reader { tokenizer, template, window, rows } = self.reader;
        let raw = template.is_none() || asked.chat == Chat::Raw;
        let encoder = if raw { &self.raw } else { &self.with_template };
        let writer = Writer { encoder, raw, system: &self.eval.system, asked };
        let mut written = Written::default();
        match asked.posed.suite.task.form {
            Form::Answer => {
                written.prompts = writer.each(|item| writer.prompt(item))?;
                if self.eval.log_likelihood {
                    written.texts = writer.references()?;
                }
            }
            Form::Choose => written.choices = writer.each(|item| writer.question(item))?,
            Form::Read => written.texts = writer.each(|item| writer.page(item, window))?,
            Form::Expect => written.texts = writer.references()?,
        }
        check_vocabulary(&written, &asked.posed.suite.name, tokenizer, rows)?;
        Ok(written)
    }

    fn outline(&self, asked: &Questions, written: &Written) -> Outline {
        Outline::of(written, &asked.posed, asked.decoding.max_new_tokens, self.reader.tokenizer)
    }
}

/// By item, the tokens of a suite's prompts before anything begins their answers, and the same with `suffix` behind
/// them; none of pages, which are no prompts.
///
/// # Errors
///
/// As [`render`].
pub fn unopened(
    asked: &Questions,
    eval: &Eval,
    reader: Reader<'_>,
    suffix: &str,
) -> Result<Vec<[Vec<u32>; 2]>, Failure> {
    if asked.posed.suite.task.form == Form::Read {
        return Ok(Vec::new());
    }
    let template = reader.template.filter(|_| asked.chat != Chat::Raw);
    let encoder = Encoder::new(reader.tokenizer, template, "", LossOn::Completion)?;
    let writer = Writer { encoder: &encoder, raw: template.is_none(), system: &eval.system, asked };
    let both = |item: &Item| {
        let text = encoder.prompt_text(&writer.messages(item))?;
        Ok([encoder.ids(&text)?, encoder.ids(&format!("{text}{suffix}"))?])
    };
    asked.posed.items.iter().map(both).collect()
}

/// That the model has a row for every token that a suite asks with.
fn check_vocabulary(
    written: &Written,
    suite: &str,
    tokenizer: &Tokenizer,
    rows: usize,
) -> Result<(), DataError> {
    let outside = |ids: &&Vec<u32>| ids.iter().any(|id| *id as usize >= rows);
    let all = || written.rows().filter(outside);
    let Some(largest) = all().flatten().max().copied() else {
        return Ok(());
    };
    Err(DataError::OutsideVocabulary {
        found: all().count(),
        n: written.rows().count(),
        largest,
        token: tokenizer.token_of(largest).unwrap_or_default(),
        vocab_size: rows,
        places: format!("prompts of suite `{suite}`"),
    })
}

/// Renders the items of one suite.
struct Writer<'a> {
    encoder: &'a Encoder<'a>,
    /// Plain text, without a template.
    raw: bool,
    /// What the user asks for before every question; may be empty.
    system: &'a str,
    asked: &'a Questions,
}

impl Writer<'_> {
    /// Worked examples and question, joined as the harness does.
    fn messages(&self, item: &Item) -> Vec<Message> {
        let prompt = FewShot {
            system: Some(self.system.to_owned()),
            description: item.description.clone(),
            target_delimiter: self.asked.posed.suite.task.delimiter.to_owned(),
            shots: item.shots.clone(),
            ..FewShot::default()
        };
        match self.asked.chat {
            _ if self.raw => vec![Message::new(Role::User, prompt.text(&item.prompt))],
            Chat::Turns => prompt.turns(&item.prompt, Layout::MultiTurn),
            Chat::Text | Chat::Raw => prompt.turns(&item.prompt, Layout::SingleTurn),
        }
    }

    /// What `write` makes of each item, on all cores; the first failure if there are several.
    fn each<T: Send>(
        &self,
        write: impl Fn(&Item) -> Result<T, Failure> + Send + Sync,
    ) -> Result<Vec<T>, Failure> {
        let all: Vec<Result<T, Failure>> = self.asked.posed.items.par_iter().map(write).collect();
        all.into_iter().collect()
    }

    fn prompt(&self, item: &Item) -> Result<Vec<u32>, Failure> {
        // A task may begin the answers itself, as a code task does with its fence.
        let own = item.details["opening"].as_str().filter(|_| !self.raw).unwrap_or_default();
        let opening = format!("{own}{}{}", self.asked.posed.opening, item.opening);
        Ok(self.encoder.prompt(&self.messages(item), &opening)?)
    }

    /// As lm-eval splits: blanks at the context's end belong to the option, and what the context alone would be
    /// is cut off the tokens of both together.
    fn question(&self, item: &Item) -> Result<Question, Failure> {
        let text = self.encoder.prompt_text(&self.messages(item))?;
        let context = text.trim_end();
        let blanks = &text[context.len()..];
        let delimiter = if self.raw { self.asked.posed.suite.task.delimiter } else { "" };
        let n_context = self.encoder.ids(context)?.len();
        let texts = item.choices.iter().flat_map(|choices| &choices.texts);
        let choices = texts.map(|option| {
            let mut ids = self.encoder.ids(&format!("{context}{blanks}{delimiter}{option}"))?;
            let mut n_context = n_context.min(ids.len().saturating_sub(1));
            if n_context == 0 {
                // Nothing stands before the option: the token for a text's end is what it is conditioned on.
                ids.insert(0, self.encoder.tokenizer().eos_id().unwrap_or(0));
                n_context = 1;
            }
            Ok(Choice { ids, n_context })
        });
        Ok(Question { choices: choices.collect::<Result<_, Failure>>()? })
    }

    fn references(&self) -> Result<Vec<Vec<Sample>>, Failure> {
        let items = &self.asked.posed.items;
        if items.iter().any(|item| item.reference.is_none()) {
            return Ok(Vec::new());
        }
        let delimiter = if self.raw { self.asked.posed.suite.task.delimiter } else { "" };
        let conversations = items.iter().enumerate().map(|(i, item)| {
            let reference = item.reference.clone().unwrap_or_default();
            let mut messages = self.messages(item);
            messages.push(Message::new(Role::Assistant, format!("{delimiter}{reference}")));
            data::Conversation::new(messages, i + 1)
        });
        let samples = self.encoder.encode(&conversations.collect::<Vec<_>>())?.samples;
        Ok(samples.into_iter().map(|sample| vec![sample]).collect())
    }

    /// A page in windows of the model's length, every token predicted once.
    fn page(&self, item: &Item, window: usize) -> Result<Vec<Sample>, Failure> {
        let tokenizer = self.encoder.tokenizer();
        let ids = tokenizer.encode(&item.prompt)?;
        let first = tokenizer.bos_id().or(tokenizer.eos_id()).unwrap_or(0);
        let windows = windows::rolling(&ids, first, window, 1);
        let sample = |window: windows::Window| {
            let windows::Window { context, targets } = window.disjoint();
            let n_context = context.len();
            let ids: Vec<u32> = context.into_iter().chain(targets).collect();
            let n = ids.len();
            Sample::of_trained(ids, (0..n).map(|i| i >= n_context), 1.into())
        };
        Ok(windows.into_iter().map(sample).collect())
    }
}
