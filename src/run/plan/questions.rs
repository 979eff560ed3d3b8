//! The questions of every suite as tokens: rendered and counted before anything is asked.

use std::sync::Arc;

use serde_json::json;

use super::openings;
use super::posed::Posed;
use super::sources::Sources;
use super::thinking;
use crate::data::{self, DataError, Encoder, Message, Role, Sample};
use crate::eval::fewshot::{FewShot, Layout};
use crate::eval::measures::windows;
use crate::eval::{EvalError, Form, Item, MetricKind, Suite};
use crate::generate::{Choice, Decoding, Question, Sampling, Thinking};
use crate::recipe::{self, Chat, Eval, LossOn, Purpose, RubricJudge};
use crate::report::SuiteSetup;
use crate::run::failure::Failure;
use crate::snapshot::digest::of_json;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;

/// One suite with its questions as tokens.
#[derive(Clone)]
pub struct Questions {
    pub posed: Arc<Posed>,
    /// By item, where answers are written.
    pub prompts: Vec<Vec<u32>>,
    /// By item, where an option is chosen.
    pub choices: Vec<Question>,
    /// By item, the texts whose log-likelihood is measured, in as many parts as windows; empty where none are.
    pub texts: Vec<Vec<Sample>>,
    pub decoding: Decoding,
    pub chat: Chat,
}

impl Questions {
    /// Everything that is asked of it: answers, texts, choices.
    pub fn n_parts(&self) -> usize {
        self.n_answers() + self.texts.len() + self.choices.len()
    }

    /// Items and samples that are answered in words.
    pub fn n_answers(&self) -> usize {
        self.prompts.len() * self.posed.n_samples
    }

    /// Where its answers begin, by how its prompts end.
    fn thinking(&self, found: Thinking) -> Result<Thinking, EvalError> {
        let opened = openings::opened(&self.posed, &found, found.opened && self.chat != Chat::Raw)?;
        Ok(Thinking { opened, ..found })
    }

    /// The digest of everything that a model reads.
    fn digest(&self) -> String {
        let choices = self.choices.iter().flat_map(|question| &question.choices).map(|choice| &choice.ids);
        // Where answers are written, these are the references.
        let texts = self.texts.iter().flatten().filter(|_| self.prompts.is_empty()).map(|text| &text.ids);
        let ids: Vec<_> = self.prompts.iter().chain(choices).chain(texts).collect();
        of_json(&json!(ids))
    }
}

/// Every suite's items, nothing rendered yet.
///
/// # Errors
///
/// A task or a judge is unknown, or a file is missing or wrong.
pub fn draw(eval: &Eval, sources: &mut Sources<'_>) -> Result<Vec<Questions>, Failure> {
    let sampling = (eval.temperature > 0.0).then_some(Sampling {
        temperature: eval.temperature,
        top_k: eval.top_k,
        top_p: eval.top_p,
        seed: eval.seed,
    });
    let of_all = Some(eval.max_new_tokens).filter(|n| *n > 0);
    let one = |(i, asked): (usize, &recipe::Suite)| {
        let path = sources.find(&format!("eval.suites.{i}.source"), &asked.source)?;
        let shots_path = asked.shots_source.as_ref();
        let shots_path = shots_path
            .map(|source| sources.find(&format!("eval.suites.{i}.shots_source"), source))
            .transpose()?;
        let task = crate::eval::tasks::find(&asked.task)?;
        // The recipe's judges are judges of refusals; a skill keeps its own.
        let rules = eval.judges.iter().filter(|name| RubricJudge::of_guard(name).is_none());
        let rules = rules.filter(|_| task.kind != MetricKind::Task).cloned().collect::<Vec<_>>();
        let mut suite = Suite::new(&asked.task, path, &rules)?;
        asked.name().clone_into(&mut suite.name);
        suite.field.clone_from(&asked.field);
        suite.opening_field.clone_from(&asked.prefill_field);
        suite.exclude.clone_from(&asked.exclude);
        suite.limit = Some(asked.limit.unwrap_or(eval.limit)).filter(|limit| *limit > 0);
        suite.shots = asked.shots.unwrap_or(task.shots);
        suite.shots_path = shots_path;
        let (items, of) = suite.items(eval.seed)?;
        let decoding = Decoding {
            stop_strings: suite.task.stop.iter().map(ToString::to_string).collect(),
            repetition_penalty: eval.repetition_penalty,
            sampling: sampling.clone(),
            ..Decoding::greedy(asked.max_new_tokens.or(of_all).unwrap_or(suite.task.max_new_tokens))
        };
        let chat = asked.chat.unwrap_or(if task.raw { Chat::Raw } else { Chat::Turns });
        let n_samples = asked.samples.unwrap_or(eval.samples);
        let opening = asked.prefill.clone().unwrap_or_default();
        let told = SuiteSetup {
            suite: suite.name.clone(),
            task: task.name.to_owned(),
            version: task.version,
            source: suite.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            items: items.len(),
            of,
            seed: (items.len() < of).then_some(eval.seed),
            excluded: suite.exclude.clone(),
            shots: suite.shots,
            chat: json!(chat).as_str().unwrap_or_default().to_owned(),
            system: eval.system.clone(),
            opening: opening.clone(),
            prefill_field: asked.prefill_field.clone(),
            prefill_tokens: asked.prefill_tokens,
            max_new_tokens: decoding.max_new_tokens,
            samples: n_samples,
            validation: asked.purpose == Purpose::Validation,
            thinking: None,
            sha256: String::new(),
        };
        let posed = Arc::new(Posed { suite, items, n_samples, opening, asked: told });
        let (prompts, choices, texts) = (Vec::new(), Vec::new(), Vec::new());
        openings::check(&posed)?;
        Ok(Questions { posed, prompts, choices, texts, decoding, chat })
    };
    eval.suites.iter().enumerate().map(one).collect()
}

/// Who is asked: how its questions are written, and how long they may be.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub tokenizer: &'a Tokenizer,
    pub template: Option<&'a ChatTemplate>,
    pub window: usize,
    /// Tokens that its embedding has rows for.
    pub rows: usize,
}

/// Renders every suite's questions.
///
/// # Errors
///
/// A template refuses a question, or the tokenizer cannot write it.
pub fn render(suites: &mut [Questions], eval: &Eval, reader: Reader<'_>) -> Result<(), Failure> {
    let Reader { tokenizer, template, window, rows } = reader;
    let with_template = Encoder::new(tokenizer, template, "", LossOn::Completion)?;
    let raw = Encoder::new(tokenizer, None, "", LossOn::Completion)?;
    let thinking = thinking::find(&eval.thinking, tokenizer, template);
    for asked in suites {
        openings::cut(&mut asked.posed, tokenizer)?;
        let is_raw = template.is_none() || asked.chat == Chat::Raw;
        let encoder = if is_raw { &raw } else { &with_template };
        asked.decoding.stop_ids = with_template.stop_ids().to_vec();
        asked.decoding.thinking = thinking.clone().map(|found| asked.thinking(found)).transpose()?;
        let writer = Writer { encoder, raw: is_raw, system: &eval.system, asked };
        let items = &asked.posed.items;
        match asked.posed.suite.task.form {
            Form::Answer => {
                let prompts = items.iter().map(|item| writer.prompt(item)).collect::<Result<_, _>>()?;
                let texts = if eval.log_likelihood { writer.references()? } else { Vec::new() };
                (asked.prompts, asked.texts) = (prompts, texts);
            }
            Form::Choose => {
                asked.choices = items.iter().map(|item| writer.question(item)).collect::<Result<_, _>>()?;
            }
            Form::Read => {
                asked.texts = items.iter().map(|item| writer.page(item, window)).collect::<Result<_, _>>()?;
            }
        }
        check_vocabulary(asked, tokenizer, rows)?;
        let (sha256, thinking) = (asked.digest(), asked.decoding.thinking.clone());
        let told = &mut Arc::make_mut(&mut asked.posed).asked;
        (told.sha256, told.thinking) = (sha256, thinking);
    }
    Ok(())
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
fn check_vocabulary(asked: &Questions, tokenizer: &Tokenizer, rows: usize) -> Result<(), DataError> {
    let choices = asked.choices.iter().flat_map(|question| &question.choices).map(|choice| &choice.ids);
    let all: Vec<&Vec<u32>> = asked
        .prompts
        .iter()
        .chain(choices)
        .chain(asked.texts.iter().flatten().map(|text| &text.ids))
        .collect();
    let outside = |ids: &&&Vec<u32>| ids.iter().any(|id| *id as usize >= rows);
    let Some(largest) = all.iter().filter(outside).flat_map(|ids| ids.iter()).max().copied() else {
        return Ok(());
    };
    Err(DataError::OutsideVocabulary {
        found: all.iter().filter(outside).count(),
        n: all.len(),
        largest,
        token: tokenizer.token_of(largest).unwrap_or_default(),
        vocab_size: rows,
        places: format!("prompts of suite `{}`", asked.posed.suite.name),
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
