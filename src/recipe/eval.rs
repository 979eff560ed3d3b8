//! `[eval]`: what every candidate is asked, and who judges the answers.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Compute, NAME, RecipeError, bad, is_name};

/// The evaluation, the same for base, tuned and every merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// What is asked: `[[eval.suites]]` tables.
    pub suites: Vec<Suite>,
    /// The settings of a published evaluation of safety (`finetune list presets`); empty for none.
    pub preset: String,
    /// Judges of refusals (`finetune list judges`); empty takes each task's own.
    pub judges: Vec<String>,
    /// Judges that are models: `[[eval.rubrics]]` tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rubrics: Vec<RubricJudge>,
    /// Models of one's own that are asked too: `[[eval.candidates]]` tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<NamedCandidate>,
    /// Compares answers in free text with their references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bert_score: Option<BertScore>,
    /// Ask at most this many items of each suite, drawn by `seed`; 0 asks all.
    pub limit: usize,
    /// The most tokens of an answer, for suites without their own; 0 is each task's own number.
    pub max_new_tokens: usize,
    /// Draws the subset; the same items for every candidate.
    pub seed: u64,
    /// Divides the logits of tokens seen before (multiplies negative ones); 1 does nothing.
    pub repetition_penalty: f64,
    /// Divides the logits of the tokens that are drawn from; 0 takes the likeliest token.
    pub temperature: f64,
    /// Draws only among so many of the likeliest tokens; 0 among all.
    pub top_k: usize,
    /// Draws only among the likeliest tokens that together have this probability; 1 among all.
    pub top_p: f64,
    /// Answers to each question; several need a temperature.
    pub samples: usize,
    /// A system message put before every question; empty for none.
    pub system: String,
    /// Where answers begin, for models that think before they speak: what stands before is kept and not judged.
    pub thinking: Thinking,
    /// Also measure the log-likelihood per token of the reference answers.
    pub log_likelihood: bool,
    /// The format in which answers and likelihoods are computed, and judges that are models.
    pub compute: Compute,
    /// Run the programs that models write even where the system offers no sandbox; only the command line may say so.
    pub unprotected_programs: bool,
}

/// One set of questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The task (`finetune list tasks`).
    pub task: String,
    /// A file.
    pub source: String,
    /// The suite's name in the report; the task's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The field that holds the question, for tasks that read any file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Categories of the file that are not asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Ask at most this many items; `eval.limit` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The most tokens of an answer; `eval.max_new_tokens`, else the task's own number if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// How questions are put: turns (worked examples as turns of the chat template), text (all in one turn) or
    /// raw (no template); the task's own way if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    /// Worked examples before each question; the task's own number if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<usize>,
    /// The file that the examples come from; the task looks beside `source` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots_source: Option<String>,
    /// Answers to each question; `eval.samples` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// What its answers are for: to be reported (test), or to choose λ by (validation).
    #[serde(default, skip_serializing_if = "Purpose::is_test")]
    pub purpose: Purpose,
    /// How every answer begins, given to the model and to the judges.
    #[serde(default, alias = "opening", skip_serializing_if = "Option::is_none")]
    pub prefill: Option<String>,
    /// The field of the file with which each item's answers begin, such as `AdvBench`'s `target`; instead of `prefill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_field: Option<String>,
    /// How many tokens of `prefill_field` an answer begins with, as the tokenizer writes the field alone; 0 is none, the
    /// whole field if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_tokens: Option<usize>,
}

/// A model of one's own, of the base's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedCandidate {
    /// Its name in reports.
    pub name: String,
    /// A model folder, an adapter on the base, a run folder or a hub's repository.
    pub source: String,
}

/// What the answers to a suite are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    #[default]
    Test,
    Validation,
}

impl Purpose {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_test(&self) -> bool {
        *self == Self::Test
    }
}

/// A judge that is a model, in this process or behind an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RubricJudge {
    /// What it is asked and how its reply is read (`finetune list judges`).
    pub rubric: String,
    /// A model folder or hub id; with `endpoint` the model's name there.
    pub model: String,
    /// The base URL of an OpenAI-compatible chat endpoint, such as `https://host/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The environment variable that holds the endpoint's key; it goes out only if `--key RUBRIC=VARIABLE` says so too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_variable: Option<String>,
    /// The most tokens of a reply, thinking included; the rubric's own number if absent, with room for thinking on top
    /// where an endpoint's limit counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// The endpoint's model thinks before it answers: it is sent `max_completion_tokens` and no temperature. Where this
    /// is false, it is found out when the endpoint refuses ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reasoning: bool,
}

impl RubricJudge {
    /// The judge that `guard:FOLDER` or `guard_request:FOLDER` means, where rules are named.
    pub fn of_guard(written: &str) -> Option<Self> {
        let (rubric, folder) = written.split_once(':')?;
        let is_guard = ["guard", "guard_request"].contains(&rubric) && !folder.is_empty();
        is_guard.then(|| Self {
            rubric: rubric.to_owned(),
            model: folder.to_owned(),
            endpoint: None,
            key_variable: None,
            max_new_tokens: None,
            reasoning: false,
        })
    }
}

/// The texts around a model's thinking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Thinking {
    /// Those that the chat template writes or the tokenizer has as tokens, if any.
    #[default]
    Auto,
    /// All of a text is the answer.
    None,
    /// These; `open` may be empty.
    Marks { open: String, close: String },
}

/// As it is written: a word, or a table of marks.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Marks(Marks),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marks {
    #[serde(default)]
    open: String,
    close: String,
}

impl Serialize for Thinking {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match self {
            Self::Auto => Written::Word("auto".to_owned()),
            Self::None => Written::Word("none".to_owned()),
            Self::Marks { open, close } => Written::Marks(Marks { open: open.clone(), close: close.clone() }),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Thinking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected =
            "expected `auto`, `none` or marks such as `{ open = \"<think>\", close = \"</think>\" }`";
        match Written::deserialize(deserializer) {
            Ok(Written::Word(word)) if word == "auto" => Ok(Self::Auto),
            Ok(Written::Word(word)) if word == "none" => Ok(Self::None),
            Ok(Written::Marks(Marks { open, close })) if !close.is_empty() => Ok(Self::Marks { open, close }),
            _ => Err(D::Error::custom(expected)),
        }
    }
}

/// `BERTScore`: how well the tokens of answer and reference match in the space of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BertScore {
    /// A folder or hub id of an encoder (bert, roberta, deberta).
    pub model: String,
    /// The layer whose states are compared; 0 is the embeddings.
    pub layer: usize,
    /// Tokens of few references count more.
    #[serde(default)]
    pub idf: bool,
    /// Precision, recall and F1 of unrelated texts, which become 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescale: Option<[f64; 3]>,
}

/// How questions are put to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chat {
    /// Worked examples are turns of a conversation.
    Turns,
    /// Worked examples and question are one turn.
    Text,
    /// Plain text, no chat template.
    Raw,
}

impl Suite {
    /// The suite's name in the report.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.task)
    }

    /// That its answers are made to begin in one way.
    fn check_prefill(&self, i: usize) -> Result<(), RecipeError> {
        let key = |name| format!("eval.suites.{i}.{name}");
        match (&self.prefill, &self.prefill_field, self.prefill_tokens) {
            (Some(_), Some(field), _) => {
                let expected = "either this or `prefill`, one text for all items";
                Err(bad(&key("prefill_field"), format!("`{field}`"), expected))
            }
            (_, None, Some(n)) => {
                let expected = "a `prefill_field` beside it: the field that they are taken from";
                Err(bad(&key("prefill_tokens"), n, expected))
            }
            _ => Ok(()),
        }
    }
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            suites: Vec::new(),
            preset: String::new(),
            judges: Vec::new(),
            candidates: Vec::new(),
            rubrics: Vec::new(),
            bert_score: None,
            limit: 0,
            max_new_tokens: 0,
            seed: 1,
            repetition_penalty: 1.0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            samples: 1,
            system: String::new(),
            thinking: Thinking::Auto,
            log_likelihood: false,
            compute: Compute::Auto,
            unprotected_programs: false,
        }
    }
}

/// Answers to one prompt.
const MOST_SAMPLES: usize = 10_000;
/// Worked examples before one question.
const MOST_SHOTS: usize = 1_000;
/// Tokens of one answer: eight times the longest window that models had in 2025.
const MOST_TOKENS: usize = 1 << 20;

/// That an answer may be as long as is said, if it is.
fn length(key: &str, tokens: Option<usize>) -> Result<(), RecipeError> {
    match tokens {
        Some(tokens) if tokens == 0 || tokens > MOST_TOKENS => Err(bad(key, tokens, "1 to 1048576")),
        _ => Ok(()),
    }
}

impl Eval {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        for (nth, NamedCandidate { name, .. }) in self.candidates.iter().enumerate() {
            let is_known = ["base", "tuned"].contains(&name.as_str());
            if !is_name(name) || is_known || self.candidates[..nth].iter().any(|other| other.name == *name) {
                let expected = format!("{NAME}, other than base, tuned and those before");
                return Err(bad("eval.candidates.name", format!("`{name}`"), &expected));
            }
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return Err(bad("eval.repetition_penalty", self.repetition_penalty, "a number above 0"));
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(bad("eval.temperature", self.temperature, "0 or more"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(bad("eval.top_p", self.top_p, "above 0 and at most 1"));
        }
        let drawn = [("eval.top_k", self.top_k > 0), ("eval.top_p", self.top_p < 1.0)];
        if let Some((key, _)) = drawn.into_iter().find(|(_, set)| *set && self.temperature == 0.0) {
            return Err(bad(
                key,
                "set",
                "a temperature above 0 beside it: the likeliest token is never drawn",
            ));
        }
        let baselines = self.bert_score.iter().flat_map(|asked| asked.rescale.iter().flatten());
        if let Some(baseline) = baselines.into_iter().find(|b| !(b.is_finite() && **b < 1.0)) {
            return Err(bad("eval.bert_score.rescale", baseline, "three numbers below 1"));
        }
        let samples = self.suites.iter().map(|suite| suite.samples.unwrap_or(self.samples));
        for n in samples.chain([self.samples]) {
            if n == 0 || (n > 1 && self.temperature == 0.0) {
                return Err(bad("eval.samples", n, "1, or more with a temperature above 0"));
            } else if n > MOST_SAMPLES {
                return Err(bad("eval.samples", n, "at most 10000"));
            }
        }
        for (i, rubric) in self.rubrics.iter().enumerate() {
            length(&format!("eval.rubrics.{i}.max_new_tokens"), rubric.max_new_tokens)?;
            if rubric.reasoning && rubric.endpoint.is_none() {
                let expected = "an `endpoint` beside it: it is how one is asked";
                return Err(bad(&format!("eval.rubrics.{i}.reasoning"), "true", expected));
            }
        }
        length("eval.max_new_tokens", Some(self.max_new_tokens).filter(|n| *n > 0))?;
        for (i, suite) in self.suites.iter().enumerate() {
            length(&format!("eval.suites.{i}.max_new_tokens"), suite.max_new_tokens)?;
            if let Some(shots) = suite.shots.filter(|shots| *shots > MOST_SHOTS) {
                return Err(bad(&format!("eval.suites.{i}.shots"), shots, "at most 1000"));
            }
            suite.check_prefill(i)?;
            if let Some(name) = suite.name.as_deref().filter(|name| !is_name(name)) {
                return Err(bad(&format!("eval.suites.{i}.name"), format!("`{name}`"), NAME));
            }
        }
        let mut names: Vec<&str> = self.suites.iter().map(Suite::name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                Err(bad("eval.suites", format!("`{}` twice", pair[0]), "a `name` of its own for each"))
            }
            None => Ok(()),
        }
    }
}
