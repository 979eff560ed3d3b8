//! The questions of every suite as tokens: rendered, counted and looked over before anything is asked.

use serde_json::json;

use super::Failure;
use super::overlap::Trained;
use super::plan::digest;
use super::sources::Sources;
use crate::data::{self, Encoder, Message, Role, Sample};
use crate::eval::fewshot::{FewShot, Layout};
use crate::eval::measures::windows;
use crate::eval::presets::{self, Preset};
use crate::eval::{EvalError, Form, Item, MetricKind, Suite};
use crate::generate::{Choice, Decoding, Question, Sampling};
use crate::recipe::{Chat, Eval, Recipe};
use crate::report::Asked;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;

/// One suite with its questions as tokens.
pub struct PlannedSuite {
    pub suite: Suite,
    pub items: Vec<Item>,
    /// How many items these were drawn from.
    pub of: usize,
    /// By item, where answers are written.
    pub prompts: Vec<Vec<u32>>,
    /// By item, where an option is chosen.
    pub questions: Vec<Question>,
    /// By item, the texts whose log-likelihood is measured, in as many parts as windows; empty where none are.
    pub texts: Vec<Vec<Sample>>,
    pub decoding: Decoding,
    /// Answers to each item.
    pub n_samples: usize,
    /// How every answer begins.
    pub opening: String,
    pub chat: Chat,
}

impl PlannedSuite {
    /// Items and samples that are answered in words.
    pub fn n_answers(&self) -> usize {
        self.prompts.len() * self.n_samples
    }

    /// What a report says of it.
    pub(super) fn asked(&self, eval: &Eval) -> Asked {
        let Suite { name, task, path, exclude, shots, .. } = &self.suite;
        let questions =
            self.questions.iter().flat_map(|question| &question.choices).map(|choice| &choice.ids);
        // Where answers are written, these are the references.
        let texts = self.texts.iter().flatten().filter(|_| self.prompts.is_empty()).map(|text| &text.ids);
        let ids: Vec<_> = self.prompts.iter().chain(questions).chain(texts).collect();
        Asked {
            suite: name.clone(),
            task: task.name.to_owned(),
            version: task.version,
            source: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            items: self.items.len(),
            of: self.of,
            seed: (self.items.len() < self.of).then_some(eval.seed),
            excluded: exclude.clone(),
            shots: *shots,
            chat: json!(self.chat).as_str().unwrap_or_default().to_owned(),
            system: eval.system.clone(),
            opening: self.opening.clone(),
            max_new_tokens: self.decoding.max_new_tokens,
            samples: self.n_samples,
            sha256: digest(&json!(ids)),
        }
    }
}

/// The suites of a recipe as one model is asked them, without a run.
///
/// # Errors
///
/// A suite is unknown, its file wrong, or a template refuses a question.
pub fn alone(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    window: usize,
) -> Result<Vec<PlannedSuite>, Failure> {
    let mut suites = suites(recipe, &mut Sources::new("", None, &mut |_| ()))?;
    let training = Encoder::new(tokenizer, template, "", recipe.data.loss_on)?;
    write(&mut suites, recipe, &training, tokenizer, template, window)?;
    Ok(suites)
}

/// Fills in what the preset settles.
pub(super) fn settle(eval: &mut Eval) -> Result<Option<&'static Preset>, EvalError> {
    if eval.preset.is_empty() {
        return Ok(None);
    }
    let preset = presets::find(&eval.preset)?;
    let given = Eval::default();
    let clash = |key, settled: String| EvalError::PresetAndKey { preset: preset.name, key, settled };
    let number = |mine: &mut f64, default: f64, settled: f64, key| {
        if *mine != default && *mine != settled {
            return Err(clash(key, settled.to_string()));
        }
        *mine = settled;
        Ok(())
    };
    let penalty = (given.repetition_penalty, preset.repetition_penalty);
    number(&mut eval.repetition_penalty, penalty.0, penalty.1, "repetition_penalty")?;
    number(&mut eval.temperature, given.temperature, preset.temperature, "temperature")?;
    number(&mut eval.top_p, given.top_p, preset.top_p, "top_p")?;
    if !eval.system.is_empty() && eval.system != preset.system {
        return Err(clash("system", format!("`{}`", preset.system)));
    }
    preset.system.clone_into(&mut eval.system);
    if !preset.judges.is_empty() {
        if !eval.judges.is_empty() && eval.judges != preset.judges {
            return Err(clash("judges", preset.judges.join(", ")));
        }
        eval.judges = preset.judges.iter().map(ToString::to_string).collect();
    }
    if let Some(rubric) = preset.rubric.filter(|name| eval.rubrics.iter().all(|judge| judge.rubric != *name))
    {
        return Err(EvalError::PresetWithoutRubric { preset: preset.name, rubric });
    }
    for suite in &mut eval.suites {
        let is_safety = crate::eval::tasks::find(&suite.task)?.kind != MetricKind::Task;
        if is_safety && suite.max_new_tokens.is_none() {
            suite.max_new_tokens = Some(preset.max_new_tokens);
        }
    }
    Ok(Some(preset))
}

/// Every suite's items, nothing rendered yet.
pub(super) fn suites(recipe: &Recipe, sources: &mut Sources<'_>) -> Result<Vec<PlannedSuite>, Failure> {
    let eval = &recipe.eval;
    let sampling = (eval.temperature > 0.0).then_some(Sampling {
        temperature: eval.temperature,
        top_k: eval.top_k,
        top_p: eval.top_p,
        seed: eval.seed,
    });
    let planned = eval.suites.iter().enumerate().map(|(i, asked)| {
        let path = sources.find(&format!("eval.suites.{i}.source"), &asked.source)?;
        let shots_path = asked.shots_source.as_ref();
        let shots_path = shots_path
            .map(|source| sources.find(&format!("eval.suites.{i}.shots_source"), source))
            .transpose()?;
        let task = crate::eval::tasks::find(&asked.task)?;
        // The recipe's judges are judges of refusals; a skill keeps its own.
        let judges = if task.kind == MetricKind::Task { &[] } else { eval.judges.as_slice() };
        let mut suite = Suite::new(&asked.task, path, judges)?;
        asked.name().clone_into(&mut suite.name);
        suite.field.clone_from(&asked.field);
        suite.exclude.clone_from(&asked.exclude);
        suite.limit = Some(asked.limit.unwrap_or(eval.limit)).filter(|limit| *limit > 0);
        suite.shots = asked.shots.unwrap_or(task.shots);
        suite.shots_path = shots_path;
        let (items, of) = suite.items(eval.seed)?;
        let decoding = Decoding {
            stop_strings: suite.task.stop.iter().map(ToString::to_string).collect(),
            repetition_penalty: eval.repetition_penalty,
            sampling: sampling.clone(),
            ..Decoding::greedy(asked.max_new_tokens.unwrap_or(suite.task.max_new_tokens))
        };
        let chat = asked.chat.unwrap_or(if task.raw { Chat::Raw } else { Chat::Turns });
        Ok(PlannedSuite {
            suite,
            items,
            of,
            prompts: Vec::new(),
            questions: Vec::new(),
            texts: Vec::new(),
            decoding,
            n_samples: asked.samples.unwrap_or(eval.samples),
            opening: asked.opening.clone().unwrap_or_default(),
            chat,
        })
    });
    planned.collect()
}

/// Renders every suite's questions.
pub(super) fn write(
    suites: &mut [PlannedSuite],
    recipe: &Recipe,
    training: &Encoder<'_>,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    window: usize,
) -> Result<(), Failure> {
    let with_template = Encoder::new(tokenizer, template, "", recipe.data.loss_on)?;
    let raw = Encoder::new(tokenizer, None, "", recipe.data.loss_on)?;
    for planned in suites {
        let is_raw = template.is_none() || planned.chat == Chat::Raw;
        let encoder = if is_raw { &raw } else { &with_template };
        planned.decoding.stop_ids = training.stop_ids().to_vec();
        let writer = Writer { encoder, raw: is_raw, system: &recipe.eval.system, planned };
        match planned.suite.task.form {
            Form::Answer => {
                let prompts: Result<Vec<_>, Failure> =
                    planned.items.iter().map(|item| writer.prompt(item)).collect();
                let texts = if recipe.eval.log_likelihood { writer.references()? } else { Vec::new() };
                planned.prompts = prompts?;
                planned.texts = texts;
            }
            Form::Choose => {
                let questions: Result<Vec<_>, Failure> =
                    planned.items.iter().map(|item| writer.question(item)).collect();
                planned.questions = questions?;
            }
            Form::Read => {
                let pages: Result<Vec<_>, Failure> =
                    planned.items.iter().map(|item| writer.page(item, window)).collect();
                planned.texts = pages?;
            }
        }
    }
    Ok(())
}

/// Renders the items of one suite.
struct Writer<'a> {
    encoder: &'a Encoder<'a>,
    /// Plain text, without a template.
    raw: bool,
    /// What the user asks for before every question; may be empty.
    system: &'a str,
    planned: &'a PlannedSuite,
}

impl Writer<'_> {
    /// Worked examples and question, joined as the harness does.
    fn messages(&self, item: &Item) -> Vec<Message> {
        let prompt = FewShot {
            system: Some(self.system.to_owned()),
            description: item.description.clone(),
            target_delimiter: self.planned.suite.task.delimiter.to_owned(),
            shots: item.shots.clone(),
            ..FewShot::default()
        };
        match self.planned.chat {
            _ if self.raw => vec![Message::new(Role::User, prompt.text(&item.prompt))],
            Chat::Turns => prompt.turns(&item.prompt, Layout::MultiTurn),
            Chat::Text | Chat::Raw => prompt.turns(&item.prompt, Layout::SingleTurn),
        }
    }

    fn prompt(&self, item: &Item) -> Result<Vec<u32>, Failure> {
        // A task may begin the answers itself, as a code task does with its fence.
        let own = item.details["opening"].as_str().filter(|_| !self.raw).unwrap_or_default();
        let opening = format!("{own}{}", self.planned.opening);
        Ok(self.encoder.prompt(&self.messages(item), &opening)?)
    }

    /// As lm-eval splits: blanks at the context's end belong to the option, and what the context alone would be
    /// is cut off the tokens of both together.
    fn question(&self, item: &Item) -> Result<Question, Failure> {
        let text = self.encoder.prompt_text(&self.messages(item))?;
        let context = text.trim_end();
        let blanks = &text[context.len()..];
        let delimiter = if self.raw { self.planned.suite.task.delimiter } else { "" };
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
        let items = &self.planned.items;
        if items.iter().any(|item| item.reference.is_none()) {
            return Ok(Vec::new());
        }
        let delimiter = if self.raw { self.planned.suite.task.delimiter } else { "" };
        let conversations = items.iter().enumerate().map(|(i, item)| {
            let reference = item.reference.clone().unwrap_or_default();
            let mut messages = self.messages(item);
            messages.push(Message::new(Role::Assistant, format!("{delimiter}{reference}")));
            data::Conversation { messages, line: (i + 1).into() }
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
            let trained = (0..ids.len()).map(|i| i >= n_context).collect();
            Sample { ids, trained, line: 1.into() }
        };
        Ok(windows.into_iter().map(sample).collect())
    }
}

/// What a user should know about the questions before they are asked.
pub(super) fn remarks(
    train: &[data::Conversation],
    suites: &[PlannedSuite],
    tokenizer: &Tokenizer,
    window: usize,
) -> Vec<String> {
    [overlap(train, suites), long(suites, tokenizer, window)].concat()
}

/// Says how many evaluation prompts were trained on.
fn overlap(train: &[data::Conversation], suites: &[PlannedSuite]) -> Vec<String> {
    let messages = train.iter().flat_map(|conversation| &conversation.messages);
    let users = messages.filter(|message| message.role == Role::User);
    let trained = Trained::new(users.map(|message| message.content.as_str()));
    let sentence = |planned: &PlannedSuite| {
        let (name, of) = (&planned.suite.name, planned.items.len());
        let found: Vec<bool> = planned.items.iter().filter_map(|item| trained.within(&item.prompt)).collect();
        let (n, exact) = (found.len(), found.iter().filter(|verbatim| **verbatim).count());
        (n > 0).then(|| {
            format!("{n} of {of} prompts of suite `{name}` stand in the training data, {exact} word for word")
        })
    };
    suites.iter().filter_map(sentence).collect()
}

/// Says how many reference answers are longer than a suite lets answers be, and how many questions leave a model's
/// `window` no room for an answer.
fn long(suites: &[PlannedSuite], tokenizer: &Tokenizer, window: usize) -> Vec<String> {
    let reference = |planned: &PlannedSuite| {
        let most = planned.decoding.max_new_tokens;
        let references = planned.items.iter().filter(|_| planned.suite.task.form == Form::Answer);
        let references = references.filter_map(|item| item.reference.as_ref());
        let n = references.filter(|text| tokenizer.encode(text).is_ok_and(|ids| ids.len() > most)).count();
        let (of, name) = (planned.items.len(), &planned.suite.name);
        (n > 0).then(|| {
            format!("{n} of {of} reference answers of suite `{name}` are longer than its {most} new tokens")
        })
    };
    let cramped = |planned: &PlannedSuite| {
        let most = planned.decoding.max_new_tokens;
        let n = planned.prompts.iter().filter(|ids| ids.len() + most > window).count();
        let (of, name) = (planned.items.len(), &planned.suite.name);
        (n > 0).then(|| {
            format!(
                "{n} of {of} prompts of suite `{name}` and {most} new tokens are more than the model's {window} positions"
            )
        })
    };
    suites.iter().filter_map(reference).chain(suites.iter().filter_map(cramped)).collect()
}
