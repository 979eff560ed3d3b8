//! Judges that are models, settled: every rubric, encoder and endpoint looked up before anything is asked.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::guard::GuardPlan;
use super::sources::Sources;
use crate::catalog::did_you_mean;
use crate::eval::endpoint::{Endpoint, Settings};
use crate::eval::measures::bertscore::BertScore;
use crate::eval::presets::Preset;
use crate::eval::rubrics::{self, Decode, Rubric};
use crate::hub;
use crate::model::encoder::EncoderShape;
use crate::recipe::{self, Eval, RecipeError, RubricJudge};
use crate::run::failure::{Failure, JudgeError};
use crate::snapshot::Config;
use crate::snapshot::digest::{Algorithm, of_files, of_json};
use crate::snapshot::files::WeightFiles;
use crate::snapshot::tokenizer::{self, Tokenizer};

/// How answers are judged besides by the suites' rules.
#[derive(Debug, Clone)]
pub struct Judges {
    pub rubrics: Vec<RubricPlan>,
    pub bert_score: Option<BertScorePlan>,
    /// Programs are run and texts compared; not for a run that is looked at again, whose findings are read.
    pub settles: bool,
    /// Programs may run where there is no sandbox.
    pub unprotected_programs: bool,
    pub preset: Option<&'static Preset>,
    /// The judge whose rates tables show, where it is none of the recipe's choice.
    pub headline: Option<String>,
}

/// Looks up who replies to a rubric, as [`RubricPlan::of`] does.
pub type Find<'f> =
    dyn FnMut(&'static Rubric, &RubricJudge, &mut Sources<'_>) -> Result<RubricPlan, Failure> + 'f;

/// A judge that is a model.
#[derive(Debug, Clone)]
pub struct RubricPlan {
    pub rubric: &'static Rubric,
    /// None of a run that is looked at again: its replies are read, and nobody is asked for more.
    pub by: Option<By>,
    /// The most tokens of a reply, where it is not the rubric's own number.
    pub max_new_tokens: Option<usize>,
    /// What its replies depend on besides the exchange.
    pub key: String,
    /// From which score on the verdict is yes, where the model's folder says so: a guard's.
    pub threshold: Option<f64>,
}

/// Who replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    Model(PathBuf),
    Endpoint { url: String, model: String, key_variable: Option<String>, thinks: bool },
}

/// `[eval.bert_score]`, settled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BertScorePlan {
    pub folder: PathBuf,
    pub layer: usize,
    pub idf: bool,
    pub rescale: Option<[f64; 3]>,
    /// What scores depend on besides the texts.
    pub key: String,
}

impl Judges {
    /// Looks up every judge of `[eval]`.
    ///
    /// # Errors
    ///
    /// A rubric is unknown, stands twice or fits no suite; a model is missing or broken.
    pub fn new(
        eval: &Eval,
        preset: Option<&'static Preset>,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        Self::found(eval, preset, sources, &mut RubricPlan::of)
    }

    /// The same, where `find` knows who replies to a rubric.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn found(
        eval: &Eval,
        preset: Option<&'static Preset>,
        sources: &mut Sources<'_>,
        find: &mut Find<'_>,
    ) -> Result<Self, Failure> {
        let mut rubrics: Vec<RubricPlan> = Vec::new();
        for asked in &eval.rubrics {
            let planned = find(fitting(asked, eval)?, asked, sources)?;
            if rubrics.iter().any(|other| other.rubric.name == planned.rubric.name) {
                return Err(JudgeError::Twice { name: asked.rubric.clone() }.into());
            }
            rubrics.push(planned);
        }
        Ok(Self {
            rubrics,
            bert_score: BertScorePlan::new(eval, sources)?,
            settles: true,
            unprotected_programs: eval.unprotected_programs,
            preset,
            headline: None,
        })
    }

    /// With those that judged before besides: their findings are read.
    pub fn with(mut self, before: Self) -> Self {
        for other in before.rubrics {
            if self.rubrics.iter().all(|own| own.rubric.name != other.rubric.name) {
                self.rubrics.push(other);
            }
        }
        self.bert_score = self.bert_score.or(before.bert_score);
        // Another preset is another choice.
        let same = |own: &Preset, other: &Preset| own.name == other.name;
        let is_same = match (self.preset, before.preset) {
            (Some(own), Some(other)) => same(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        self.headline = before.headline.filter(|_| is_same);
        self
    }

    /// The judge whose rates tables show, where it is not the first rule of each suite.
    pub fn headline(&self) -> Option<&str> {
        let of_preset = self.preset.and_then(|preset| preset.rubric);
        self.headline.as_deref().or(of_preset)
    }
}

impl RubricPlan {
    /// Looks up one rubric and who replies to it.
    ///
    /// # Errors
    ///
    /// As [`Judges::new`].
    pub fn new(asked: &RubricJudge, eval: &Eval, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        Self::of(fitting(asked, eval)?, asked, sources)
    }

    /// Looks up who replies to a rubric.
    ///
    /// # Errors
    ///
    /// The rubric cannot be put to them, or a model is missing or broken.
    pub fn of(
        rubric: &'static Rubric,
        asked: &RubricJudge,
        sources: &mut Sources<'_>,
    ) -> Result<Self, Failure> {
        let name = rubric.name;
        let max_new_tokens = asked.max_new_tokens;
        if max_new_tokens.is_some() && !matches!(rubric.decode, Decode::Text { .. }) {
            return Err(JudgeError::WritesNothing { name: name.to_owned() }.into());
        }
        let mut threshold = None;
        let (by, key) = match &asked.endpoint {
            Some(_) if !rubric.fits_an_endpoint() => {
                return Err(JudgeError::NoEndpoint { name: name.to_owned() }.into());
            }
            Some(url) => {
                let by = By::Endpoint {
                    url: url.clone(),
                    model: asked.model.clone(),
                    key_variable: asked.key_variable.clone(),
                    thinks: asked.reasoning,
                };
                by.endpoint()?;
                let key = match asked.reasoning {
                    true => json!([url, asked.model, "reasoning"]),
                    false => json!([url, asked.model]),
                };
                (by, key)
            }
            None if RubricJudge::of_guard(&format!("{name}:{}", asked.model)).is_some() => {
                let guard = GuardPlan::open(&asked.model, None, 1, sources)?;
                threshold = Some(guard.threshold);
                (By::Model(guard.folder), json!(guard.key))
            }
            None => {
                let folder = sources.model(&asked.model)?;
                sources.weights(&asked.model)?;
                let key = json!(model_key(&folder, sources)?);
                (By::Model(folder), key)
            }
        };
        let key = match max_new_tokens {
            Some(n) => of_json(&json!([key, n])),
            None => of_json(&key),
        };
        Ok(Self { rubric, by: Some(by), max_new_tokens, key, threshold })
    }

    /// Who is asked what, and how long a reply may be, in a line.
    pub fn in_words(&self) -> String {
        let reply = match self.as_asked().decode {
            Decode::Text { max_new_tokens } => format!("at most {max_new_tokens} tokens of a reply"),
            Decode::FirstToken { .. } => "by the probabilities of two words".to_owned(),
        };
        let by = match &self.by {
            Some(By::Model(folder)) => folder.display().to_string(),
            Some(By::Endpoint { url, model, thinks, .. }) => match thinks {
                true => format!("`{model}` at {url}, which thinks: without a temperature"),
                false => format!("`{model}` at {url}, at temperature 0 if it takes one"),
            },
            None => "stored replies".to_owned(),
        };
        format!("{}: {by}, {reply}", self.rubric.name)
    }

    /// The rubric with the recipe's limit of a reply.
    pub fn as_asked(&self) -> Rubric {
        let decode = match self.max_new_tokens {
            Some(max_new_tokens) => Decode::Text { max_new_tokens },
            None => self.rubric.decode,
        };
        Rubric { decode, ..*self.rubric }
    }
}

/// The rubric that is asked for, which a suite has something for.
fn fitting(asked: &RubricJudge, eval: &Eval) -> Result<&'static Rubric, JudgeError> {
    let name = asked.rubric.as_str();
    let rubric = rubrics::find(name).ok_or_else(|| JudgeError::UnknownRubric {
        name: name.to_owned(),
        help: did_you_mean(name, rubrics::RUBRICS.iter().map(|rubric| rubric.name)),
    })?;
    let mut tasks = eval.suites.iter().filter_map(|suite| crate::eval::tasks::find(&suite.task).ok());
    match tasks.any(|task| task.kind.fits(rubric.asks)) {
        true => Ok(rubric),
        false => Err(JudgeError::Idle { name: name.to_owned() }),
    }
}

impl By {
    /// The endpoint, if it is one.
    ///
    /// # Errors
    ///
    /// Its address or its key is wrong.
    pub fn endpoint(&self) -> Result<Option<Endpoint>, Failure> {
        let Self::Endpoint { url, model, key_variable, thinks } = self else { return Ok(None) };
        let mut settings = Settings::new(url, model);
        settings.key_variable.clone_from(key_variable);
        settings.thinks = *thinks;
        settings.root_certs = hub::root_certs()?;
        Ok(Some(Endpoint::new(settings)?))
    }
}

impl BertScorePlan {
    /// Finds the encoder and looks at what it computes.
    fn new(eval: &Eval, sources: &mut Sources<'_>) -> Result<Option<Self>, Failure> {
        let Some(recipe::BertScore { model, layer, idf, rescale }) = &eval.bert_score else {
            return Ok(None);
        };
        let wrong = |key: &str, found: String, expected: String| RecipeError::BadValue {
            key: format!("eval.bert_score{key}"),
            found,
            expected,
        };
        let mut tasks = eval.suites.iter().filter_map(|suite| crate::eval::tasks::find(&suite.task).ok());
        if !tasks.any(|task| task.free_text) {
            let expected = "a suite whose answers are compared with texts, such as `free_text`".to_owned();
            return Err(wrong("", "set".to_owned(), expected).into());
        }
        let folder = sources.model(model)?;
        sources.weights(model)?;
        let shape = EncoderShape::read(&Config::read(&folder)?)?;
        if *layer > shape.n_layers {
            let expected = format!("at most {}, the layers of `{model}`", shape.n_layers);
            return Err(wrong(".layer", layer.to_string(), expected).into());
        }
        let key = of_json(&json!([model_key(&folder, sources)?, layer, idf]));
        Ok(Some(Self { folder, layer: *layer, idf: *idf, rescale: *rescale, key }))
    }

    /// What is subtracted from scores, so that unrelated texts have 0.
    pub fn baseline(&self) -> Option<BertScore> {
        self.rescale.map(|[precision, recall, f1]| BertScore { precision, recall, f1 })
    }
}

/// What decides what a judge's model says: files of its folder, and how its tokenizer is read where these disagree.
fn model_key(folder: &Path, sources: &mut Sources<'_>) -> Result<Value, Failure> {
    let weights = WeightFiles::open(folder)?;
    sources.say(weights.unread());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut names: Vec<String> = weights.paths().map(name).collect();
    let sides = ["config.json", "generation_config.json"].into_iter();
    let sides = sides.chain(tokenizer::FILES).chain(["chat_template.jinja", "chat_template.json"]);
    names.extend(sides.filter(|name| folder.join(name).is_file()).map(str::to_owned));
    let files: Vec<_> = names.into_iter().map(|name| (name.clone(), folder.join(name))).collect();
    let (files, tokenizer) = (of_files(&files, Algorithm::Sha256)?, Tokenizer::load(folder)?);
    sources.say(tokenizer.said(folder));
    Ok(match tokenizer.amended() {
        [] => json!(files),
        amended => json!([files, amended]),
    })
}
