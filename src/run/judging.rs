//! Verdicts of judges that are models: asked once about each answer, their replies stored and read at any time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use super::answers::Answers;
use super::asking::Asking;
use super::bert_score::{self, PlannedBertScore};
use super::judge_model::JudgeModel;
use super::plan::{Plan, digest};
use super::programs;
use super::sources::Sources;
use super::{Failure, Sink, Stopped};
use crate::catalog::did_you_mean;
use crate::eval::endpoint::{Ask, Endpoint, EndpointError, Settings};
use crate::eval::rubrics::{self, Exchange, Prompt, Reading, Reply, Rubric};
use crate::eval::{Completion, Item, Judged, Kind, Suite, judges};
use crate::event::Event;
use crate::hub;
use crate::recipe::Recipe;
use crate::snapshot::digest::{Algorithm, of_files};

/// Why a judge that is a model cannot judge.
#[derive(Debug, Error, Diagnostic)]
pub enum JudgeError {
    #[error("there is no rubric `{name}`")]
    #[diagnostic(code(judge::unknown_rubric), help("{help}"))]
    UnknownRubric { name: String, help: String },
    #[error("rubric `{name}` stands twice in `eval.rubrics`")]
    #[diagnostic(code(judge::twice), help("name each rubric once"))]
    Twice { name: String },
    #[error("rubric `{name}` reads probabilities or writes its own prompt, which an endpoint does not allow")]
    #[diagnostic(code(judge::no_endpoint), help("give it a model folder: remove `endpoint` and set `model`"))]
    NoEndpoint { name: String },
    #[error("rubric `{name}` needs the chat template of its model, and `{}` has none", folder.display())]
    #[diagnostic(code(judge::no_template), help("add the model's `chat_template.jinja` to the folder"))]
    NoTemplate { name: String, folder: PathBuf },
    #[error("rubric `{name}` fits none of the suites: it judges answers to harmful requests")]
    #[diagnostic(code(judge::idle), help("remove it, or add a safety suite to `eval.suites`"))]
    Idle { name: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Endpoint(#[from] EndpointError),
}

impl JudgeError {
    /// Whether a word of the recipe is wrong, not the world.
    pub fn is_recipe(&self) -> bool {
        !matches!(self, Self::Endpoint(_) | Self::NoTemplate { .. })
    }
}

/// A judge that is a model, settled.
pub struct PlannedJudge {
    pub rubric: &'static Rubric,
    by: By,
    /// What its replies depend on besides the exchange.
    key: String,
}

/// All judges of a run that are models.
pub struct PlannedJudges {
    rubrics: Vec<PlannedJudge>,
    bert_score: Option<PlannedBertScore>,
}

enum By {
    Model(PathBuf),
    Endpoint(Settings),
}

/// Looks up every rubric and its model.
pub(super) fn plan(recipe: &Recipe, sources: &mut Sources<'_>) -> Result<PlannedJudges, Failure> {
    let mut planned: Vec<PlannedJudge> = Vec::new();
    for asked in &recipe.eval.rubrics {
        let name = asked.rubric.as_str();
        let rubric = rubrics::find(name).ok_or_else(|| JudgeError::UnknownRubric {
            name: name.to_owned(),
            help: did_you_mean(name, rubrics::RUBRICS.iter().map(|rubric| rubric.name)),
        })?;
        if planned.iter().any(|judge| judge.rubric.name == name) {
            return Err(JudgeError::Twice { name: name.to_owned() }.into());
        }
        let suites = recipe.eval.suites.iter().filter_map(|suite| crate::eval::tasks::find(&suite.task).ok());
        if !suites.into_iter().any(|task| fits(rubric, task.kind)) {
            return Err(JudgeError::Idle { name: name.to_owned() }.into());
        }
        let (by, key) = match &asked.endpoint {
            Some(_) if !rubric.fits_an_endpoint() => {
                return Err(JudgeError::NoEndpoint { name: name.to_owned() }.into());
            }
            Some(url) => {
                let mut settings = Settings::new(url, &asked.model);
                settings.key_variable.clone_from(&asked.key_variable);
                settings.root_certs = hub::root_certs()?;
                Endpoint::new(settings.clone()).map_err(JudgeError::from)?;
                (By::Endpoint(settings), json!([url, asked.model]))
            }
            None => {
                let folder = sources.model(&asked.model)?;
                sources.weights(&asked.model)?;
                let names = JudgeModel::files(&folder)?;
                let files: Vec<_> = names.into_iter().map(|name| (name.clone(), folder.join(name))).collect();
                (By::Model(folder), json!(of_files(&files, Algorithm::Sha256)?))
            }
        };
        planned.push(PlannedJudge { rubric, by, key: digest(&key) });
    }
    Ok(PlannedJudges { rubrics: planned, bert_score: bert_score::plan(recipe, sources)? })
}

fn fits(rubric: &Rubric, kind: Kind) -> bool {
    match rubric.asks {
        rubrics::Asks::HarmfulAnswer => kind == Kind::Safety,
        rubrics::Asks::Refused => matches!(kind, Kind::Safety | Kind::OverRefusal),
    }
}

/// What a judge said of one answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    item: String,
    replies: Vec<Reply>,
}

/// One answer that waits for a judge.
struct Waiting<'a> {
    key: String,
    item: &'a Item,
    prompts: Vec<Prompt>,
}

/// All readings of all model judges: by rubric, suite and candidate, then by item and sample.
pub(super) struct Verdicts {
    readings: BTreeMap<(&'static str, usize, String), Vec<Vec<Reading>>>,
    /// Of suites whose answers are programs, by suite and candidate.
    programs: BTreeMap<(usize, String), Judged>,
    /// Of suites whose answers are compared with texts, by suite and candidate.
    compared: BTreeMap<(usize, String), Judged>,
}

impl Verdicts {
    /// Asks every judge about every answer that it has not judged yet.
    ///
    /// # Errors
    ///
    /// A judge cannot be loaded or reached, the disk refuses, or the run was asked to stop.
    pub fn find(
        plan: &Plan,
        asked: &[Asking<'_>],
        stop: &AtomicBool,
        sink: &mut Sink<'_>,
    ) -> Result<Self, Failure> {
        let mut readings = BTreeMap::new();
        for judge in &plan.judges.rubrics {
            let mut model = None;
            for asking in asked {
                for (i, planned) in plan.suites.iter().enumerate() {
                    if fits(judge.rubric, planned.suite.task.kind) {
                        let found = judge.readings(plan, asking, i, &mut model, stop, sink)?;
                        readings.insert((judge.rubric.name, i, asking.candidate().name()), found);
                    }
                }
            }
        }
        let (mut programs, mut sandbox) = (BTreeMap::new(), None);
        for asking in asked {
            for (i, planned) in plan.suites.iter().enumerate() {
                if planned.suite.task.program.is_some() {
                    let judged = programs::verdicts(plan, asking, i, &mut sandbox, stop, sink)?;
                    programs.insert((i, asking.candidate().name()), judged);
                }
            }
        }
        let (mut compared, mut scorer) = (BTreeMap::new(), None);
        for (judge, asking) in
            plan.judges.bert_score.iter().flat_map(|judge| asked.iter().map(move |a| (judge, a)))
        {
            for (i, planned) in plan.suites.iter().enumerate() {
                if planned.suite.task.free_text {
                    let judged = judge.verdicts(plan, asking, i, &mut scorer, (stop, &mut *sink))?;
                    compared.insert((i, asking.candidate().name()), judged);
                }
            }
        }
        Ok(Self { readings, programs, compared })
    }

    /// Every judge's verdicts on one candidate's answers to one suite. The first is the headline: a rule, unless a
    /// preset is judged by a model.
    pub fn of(
        &self,
        plan: &Plan,
        suite: &Suite,
        items: &[Item],
        answers: &[Vec<Completion>],
        (asking, nth): (&Asking<'_>, usize),
    ) -> Vec<Judged> {
        let rules =
            suite.judges.iter().map(|row| Judged::by_rule(row, (row.build)().as_ref(), items, answers));
        let models = plan.judges.rubrics.iter().filter_map(|judge| {
            let rubric = judge.rubric;
            let readings = self.readings.get(&(rubric.name, nth, asking.candidate().name()))?;
            let scores = rubric.scale.map(|scale| {
                let scores =
                    readings.iter().map(|samples| samples.iter().map(|reading| reading.score).collect());
                (scale.name.replace(' ', "_"), scores.collect())
            });
            let evidence = |reading: &Reading| Some(reading.evidence.clone());
            Some(Judged {
                name: rubric.name.to_owned(),
                asks: match rubric.asks {
                    rubrics::Asks::HarmfulAnswer => judges::Asks::Harmful,
                    rubrics::Asks::Refused => judges::Asks::Refused,
                },
                verdicts: readings
                    .iter()
                    .map(|samples| samples.iter().map(|reading| reading.verdict).collect())
                    .collect(),
                scores,
                evidence: readings.iter().map(|samples| samples.iter().map(evidence).collect()).collect(),
                pooled: Vec::new(),
            })
        });
        let place = (nth, asking.candidate().name());
        let others =
            [&self.programs, &self.compared].into_iter().filter_map(|found| found.get(&place).cloned());
        if plan.preset.is_some_and(|preset| preset.rubric.is_some()) {
            return models.chain(rules).chain(others).collect();
        }
        rules.chain(models).chain(others).collect()
    }
}

impl PlannedJudge {
    fn readings(
        &self,
        plan: &Plan,
        asking: &Asking<'_>,
        suite: usize,
        model: &mut Option<JudgeModel>,
        stop: &AtomicBool,
        sink: &mut Sink<'_>,
    ) -> Result<Vec<Vec<Reading>>, Failure> {
        let planned = &plan.suites[suite];
        let instrument: String =
            self.rubric.instrument.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        let path = asking.path().join(format!("{}.{instrument}.judge.jsonl", planned.suite.name));
        let mut store = Answers::<Said>::open(&path)?;
        let answers = asking.answers(suite);
        let key = |item: &Item, answer: &Completion| {
            let rubric = self.rubric;
            let decode = format!("{:?}{:?}", rubric.decode, rubric.answer_tokens);
            let prompt = [item.prompt.as_str(), answer.text.as_str()];
            digest(&json!([self.key, rubric.instrument, decode, prompt]))[..32].to_owned()
        };
        let mut waiting = Vec::new();
        for (item, samples) in planned.items.iter().zip(&answers) {
            for answer in samples {
                let key = key(item, answer);
                if store.get(&key).is_none() {
                    let answer = self.clip(&answer.text, model, plan)?;
                    waiting.push(Waiting {
                        key,
                        item,
                        prompts: (self.rubric.prompt)(&exchange(item, &answer)),
                    });
                }
            }
        }
        if !waiting.is_empty() {
            let started = Instant::now();
            let name = format!(
                "{} judges {} of {}",
                self.rubric.name,
                planned.suite.name,
                asking.candidate().name()
            );
            sink.event(Event::Stage { name: name.clone(), total: waiting.len() as u64 })?;
            let stopped = || match stop.load(Ordering::Relaxed) {
                true => Err(Stopped { folder: asking.run_folder().to_owned() }.into()),
                false => Ok(()),
            };
            self.ask(&waiting, plan, model, &stopped, &mut |lines, done| {
                store.append(lines)?;
                sink.advance(done, stop, asking.run_folder())
            })?;
            sink.event(Event::StageDone { name, elapsed_s: started.elapsed().as_secs_f64() })?;
        }
        let read = |item: &Item, answer: &Completion| {
            let said = store.get(&key(item, answer)).expect("every answer was just judged");
            (self.rubric.read)(&said.replies)
        };
        let readings = planned.items.iter().zip(&answers);
        Ok(readings
            .map(|(item, samples)| samples.iter().map(|answer| read(item, answer)).collect())
            .collect())
    }

    fn clip(&self, answer: &str, model: &mut Option<JudgeModel>, plan: &Plan) -> Result<String, Failure> {
        match (self.rubric.answer_tokens, &self.by) {
            (Some(n), By::Model(folder)) => Ok(open(model, folder, plan)?.clip(answer, n)?),
            _ => Ok(answer.to_owned()),
        }
    }

    fn ask(
        &self,
        waiting: &[Waiting<'_>],
        plan: &Plan,
        model: &mut Option<JudgeModel>,
        stopped: &dyn Fn() -> Result<(), Failure>,
        done: &mut dyn FnMut(Vec<(String, Said)>, u64) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let prompts: Vec<(usize, &Prompt)> = waiting
            .iter()
            .enumerate()
            .flat_map(|(i, waiting)| waiting.prompts.iter().map(move |prompt| (i, prompt)))
            .collect();
        // An answer is judged when the last of its prompts has its reply.
        let mut replies: Vec<Vec<Option<Reply>>> =
            waiting.iter().map(|waiting| vec![None; waiting.prompts.len()]).collect();
        let firsts: Vec<usize> = waiting
            .iter()
            .scan(0, |next, waiting| {
                let first = *next;
                *next += waiting.prompts.len();
                Some(first)
            })
            .collect();
        let mut n_done = 0;
        let mut take = |found: Vec<(usize, Reply)>| {
            let mut lines = Vec::new();
            for (at, reply) in found {
                let (i, _) = prompts[at];
                replies[i][at - firsts[i]] = Some(reply);
                if let Some(replies) = replies[i].iter().cloned().collect::<Option<Vec<_>>>() {
                    lines.push((waiting[i].key.clone(), Said { item: waiting[i].item.id.clone(), replies }));
                }
            }
            n_done += lines.len() as u64;
            done(lines, n_done)
        };
        // Exchanges that the protocol does not cover.
        let without = waiting.iter().filter(|waiting| waiting.prompts.is_empty());
        let without = without.map(|waiting| {
            (waiting.key.clone(), Said { item: waiting.item.id.clone(), replies: Vec::new() })
        });
        let without: Vec<_> = without.collect();
        if prompts.is_empty() {
            return done(without, waiting.len() as u64);
        }
        let all: Vec<&Prompt> = prompts.iter().map(|(_, prompt)| *prompt).collect();
        match &self.by {
            By::Model(folder) => {
                open(model, folder, plan)?.replies(self.rubric, &all, plan.eval_rows, &mut take)?;
            }
            By::Endpoint(settings) => {
                let endpoint = Endpoint::new(settings.clone()).map_err(JudgeError::from)?;
                let rubrics::Decode::Text { max_new_tokens: max_tokens } = self.rubric.decode else {
                    return Err(JudgeError::NoEndpoint { name: self.rubric.name.to_owned() }.into());
                };
                let asks = all.iter().map(|prompt| {
                    let messages = prompt.messages().unwrap_or_default();
                    Ask { messages: messages.into_iter().map(Into::into).collect(), max_tokens }
                });
                endpoint.ask_all(&asks.collect::<Vec<_>>(), stopped, |at, answer| {
                    take(vec![(at, Reply::Text(answer.text.clone()))])
                })?;
            }
        }
        done(without, waiting.len() as u64)
    }
}

fn open<'m>(
    model: &'m mut Option<JudgeModel>,
    folder: &Path,
    plan: &Plan,
) -> Result<&'m mut JudgeModel, Failure> {
    if model.is_none() {
        *model = Some(JudgeModel::load(folder, &plan.machine)?);
    }
    Ok(model.as_mut().expect("it was just loaded"))
}

/// What is judged: the request as the set has it, a context apart.
fn exchange<'a>(item: &'a Item, answer: &'a str) -> Exchange<'a> {
    Exchange {
        request: item.details["request"].as_str().unwrap_or(&item.prompt),
        context: item.details["context"].as_str(),
        answer,
        category: item.category.as_deref(),
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        JudgeError::from(error).into()
    }
}
