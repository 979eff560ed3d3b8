//! The questions of every suite: drawn, counted before anything is asked, and written as tokens where they are asked.

use std::sync::{Arc, OnceLock};

use serde_json::json;

use super::openings;
use super::outline::{Outline, Written};
use super::posed::Posed;
use super::sources::Sources;
use crate::eval::{Item, MetricKind, Suite};
use crate::generate::{Decoding, Sampling};
use crate::recipe::{Chat, Eval, Purpose, RubricJudge};
use crate::report::SuiteSetup;
use crate::run::failure::Failure;
use crate::snapshot::template::ChatTemplate;
use crate::snapshot::tokenizer::Tokenizer;

/// One suite with its questions.
#[derive(Clone)]
pub struct Questions {
    pub posed: Arc<Posed>,
    pub decoding: Decoding,
    pub chat: Chat,
    /// How long they are as tokens.
    pub outline: Arc<Outline>,
    /// The tokens; written when they are needed, once for all that share them.
    written: Arc<OnceLock<Written>>,
    /// The digest of its items as they were drawn.
    drawn: Arc<str>,
}

impl Questions {
    /// The questions as tokens.
    ///
    /// # Panics
    ///
    /// They were not written.
    pub fn tokens(&self) -> &Written {
        self.written.get().expect("questions are written before they are asked")
    }

    /// Everything that is asked of it: answers, texts, choices.
    pub fn n_parts(&self) -> usize {
        self.n_answers() + self.outline.texts.len() + self.outline.choices.len()
    }

    /// Items and samples that are answered in words.
    pub fn n_answers(&self) -> usize {
        self.outline.prompts.len() * self.posed.n_samples
    }

    /// The digest of its items as they were drawn, for what is kept about them.
    pub(super) fn drawn(&self) -> &str {
        &self.drawn
    }

    /// Only the first `n` items.
    pub fn truncate(&mut self, n: usize) {
        let mut written = self.tokens().clone();
        Arc::make_mut(&mut self.posed).items.truncate(n);
        written.prompts.truncate(n);
        written.choices.truncate(n);
        written.texts.truncate(n);
        let outline = Arc::make_mut(&mut self.outline);
        outline.prompts.truncate(n);
        outline.choices.truncate(n);
        outline.texts.truncate(n);
        self.written = Arc::new(OnceLock::from(written));
    }

    /// The same items, not written for anybody yet.
    pub(super) fn blank(mut self) -> Self {
        (self.outline, self.written) = (Arc::default(), Arc::default());
        self
    }

    /// Where the tokens are, once they are written.
    pub(super) fn written(&self) -> &OnceLock<Written> {
        &self.written
    }

    /// Keeps what its questions are in numbers.
    pub(super) fn count(&mut self, outline: Outline) {
        let (sha256, thinking) = (outline.sha256.clone(), self.decoding.thinking.clone());
        let told = &mut Arc::make_mut(&mut self.posed).asked;
        (told.sha256, told.thinking) = (sha256, thinking);
        self.outline = Arc::new(outline);
    }
}

/// Every suite's items, nothing written yet.
///
/// # Errors
///
/// A task or a judge is unknown, or a file is missing or wrong.
pub fn draw(eval: &Eval, sources: &mut Sources<'_>) -> Result<Vec<Questions>, Failure> {
    (0..eval.suites.len()).map(|nth| draw_one(eval, nth, sources)).collect()
}

/// The items of one suite.
///
/// # Errors
///
/// As [`draw`].
pub fn draw_one(eval: &Eval, i: usize, sources: &mut Sources<'_>) -> Result<Questions, Failure> {
    let asked = &eval.suites[i];
    let sampling = (eval.temperature > 0.0).then_some(Sampling {
        temperature: eval.temperature,
        top_k: eval.top_k,
        top_p: eval.top_p,
        seed: eval.seed,
    });
    let of_all = Some(eval.max_new_tokens).filter(|n| *n > 0);
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
    openings::check(&posed)?;
    let drawn = digest_of(&posed.items).into();
    Ok(Questions { posed, decoding, chat, outline: Arc::default(), written: Arc::default(), drawn })
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

/// The digest of what of some items is asked.
fn digest_of(items: &[Item]) -> String {
    let (mut hasher, mut line) = (blake3::Hasher::new(), Vec::new());
    let mut before: Option<&[(String, String)]> = None;
    for item in items {
        // Worked examples are mostly those of the item before.
        let shots = Some(&item.shots[..]).filter(|shots| before != Some(*shots));
        before = Some(&item.shots);
        let Item { id, prompt, reference, description, choices, details, opening, .. } = item;
        let asked = (id, prompt, reference, description, shots, choices, details, opening);
        line.clear();
        serde_json::to_writer(&mut line, &asked).expect("texts are JSON");
        hasher.update(&line).update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}
