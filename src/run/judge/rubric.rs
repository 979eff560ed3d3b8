//! Judges that are models: asked once about each answer, their replies stored and read at any time.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::judge_model::JudgeModel;
use super::settle::{Assessor, Desk, Waiting};
use crate::eval::endpoint::{ChatRequest, Endpoint, FinishReason};
use crate::eval::rubrics::{self, Decode, Exchange, Prompt, Reading, Reply, Rubric};
use crate::eval::{Completion, Fault, Item, Judgement, Verdict};
use crate::generate::thinking;
use crate::run::failure::{Failure, JudgeError};
use crate::run::plan::judges::{By, RubricPlan};
use crate::snapshot::digest::of_json;
use crate::train::Machine;

/// What a judge said of one answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Consultation {
    item: String,
    replies: Vec<Reply>,
}

/// As the guide of `OpenAI` recommends to reserve for models that think; what is not used costs nothing.
pub const THINKING_TOKENS: usize = 25_000;

/// Endpoints that were asked, with what was learned of them: rubrics of one model learn it once.
pub(super) type Endpoints = Vec<(By, Endpoint)>;

/// A rubric at work; its model is loaded when it is needed.
pub(super) struct RubricJudge<'a> {
    plan: &'a RubricPlan,
    model: Option<JudgeModel>,
    /// It was said where a key goes.
    told: bool,
    endpoints: &'a mut Endpoints,
}

impl<'a> RubricJudge<'a> {
    pub fn new(plan: &'a RubricPlan, endpoints: &'a mut Endpoints) -> Self {
        Self { plan, told: false, model: None, endpoints }
    }

    fn endpoint(&mut self) -> Result<Option<&Endpoint>, Failure> {
        let Some(by) = &self.plan.by else { return Ok(None) };
        if self.endpoints.iter().all(|(other, _)| other != by) {
            let Some(endpoint) = by.endpoint()? else { return Ok(None) };
            self.endpoints.push((by.clone(), endpoint));
        }
        Ok(self.endpoints.iter().find(|(other, _)| other == by).map(|(_, endpoint)| endpoint))
    }

    fn model(&mut self, machine: &Machine) -> Result<Option<&JudgeModel>, Failure> {
        let Some(By::Model(folder)) = &self.plan.by else { return Ok(None) };
        if self.model.is_none() {
            self.model = Some(JudgeModel::load(folder, machine)?);
        }
        Ok(self.model.as_ref())
    }

    /// Asks the endpoint, and says what it turned out to want and how many replies never came to an answer.
    fn ask(
        &mut self,
        rubric: &Rubric,
        prompts: &[&Prompt],
        replies: &mut Replies<'_>,
        desk: &mut Desk<'_, '_, Consultation>,
    ) -> Result<(), Failure> {
        let Decode::Text { max_new_tokens: max_tokens } = rubric.decode else {
            return Err(JudgeError::NoEndpoint { name: rubric.name.to_owned() }.into());
        };
        // A limit that the recipe sets is that of thinking and answer together.
        let thinking_tokens = if self.plan.max_new_tokens.is_some() { 0 } else { THINKING_TOKENS };
        let asks = prompts.iter().map(|prompt| {
            let messages = prompt.messages().unwrap_or_default().into_iter().map(Into::into).collect();
            ChatRequest { messages, max_tokens, thinking_tokens }
        });
        let asks: Vec<ChatRequest> = asks.collect();
        let (stop, stopped) = (desk.session.stop(), desk.session.stopped());
        let check = || match stop.load(Ordering::Relaxed) {
            true => Err(Failure::from(stopped.clone())),
            false => Ok(()),
        };
        if let Some(By::Endpoint { url, key_variable: Some(variable), .. }) = &self.plan.by
            && !std::mem::replace(&mut self.told, true)
        {
            desk.session.note(format!("the key in `{variable}` goes to `{url}`"))?;
        }
        let endpoint = self.endpoint()?.expect("it was looked up before");
        let mut n_cut_off = 0;
        let asked = endpoint.ask_all(&asks, check, |at, answer| {
            let is_empty = thinking::answer_of(&answer.text).trim().is_empty();
            n_cut_off += usize::from(is_empty && answer.ended == FinishReason::Length);
            desk.put(replies.take(vec![(at, Reply::Text(answer.text.clone()))]))
        });
        if let Some(news) = endpoint.news() {
            desk.session.note(news)?;
        }
        if n_cut_off > 0 {
            let name = rubric.name;
            desk.session.note(format!(
                "{n_cut_off} of {} replies to `{name}` ended in their thinking, without a verdict: give the rubric more \
                 `max_new_tokens`",
                asks.len()
            ))?;
        }
        asked.map(|_| ())
    }

    /// The prompts about an answer, which some rubrics look at the beginning of.
    fn prompts(&mut self, waiting: &Waiting<'_>, machine: &Machine) -> Result<Vec<Prompt>, Failure> {
        let (rubric, text) = (self.plan.rubric, &waiting.answer.text);
        let clipped = match rubric.answer_tokens {
            Some(n) => self.model(machine)?.map(|model| model.clip(text, n)).transpose()?,
            None => None,
        };
        Ok((rubric.prompt)(&exchange(waiting.item, clipped.as_deref().unwrap_or(text))))
    }
}

impl Assessor for RubricJudge<'_> {
    type Finding = Consultation;

    fn file(&self, suite: &str) -> String {
        let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
        let instrument: String = self.plan.rubric.instrument.chars().map(plain).collect();
        format!("{suite}.{instrument}.judge.jsonl")
    }

    fn title(&self, candidate: &str, suite: &str) -> String {
        format!("{} judges {suite} of {candidate}", self.plan.rubric.name)
    }

    fn key(&self, item: &Item, answer: &Completion) -> Option<String> {
        let RubricPlan { rubric, key, .. } = self.plan;
        let decode = format!("{:?}{:?}", rubric.decode, rubric.answer_tokens);
        let prompt = [item.prompt.as_str(), answer.text.as_str()];
        Some(of_json(&json!([key, rubric.instrument, decode, prompt]))[..32].to_owned())
    }

    fn assess(
        &mut self,
        waiting: &[Waiting<'_>],
        desk: &mut Desk<'_, '_, Consultation>,
    ) -> Result<(), Failure> {
        let prompts = waiting.iter().map(|waiting| self.prompts(waiting, desk.machine));
        let prompts: Vec<Vec<Prompt>> = prompts.collect::<Result<_, _>>()?;
        let mut replies = Replies::new(waiting, &prompts);
        desk.put(replies.without())?;
        let all: Vec<&Prompt> = prompts.iter().flatten().collect();
        if all.is_empty() {
            return Ok(());
        }
        let rubric = self.plan.as_asked();
        if self.endpoint()?.is_some() {
            return self.ask(&rubric, &all, &mut replies, desk);
        }
        let pace = (desk.rows, desk.session.stop());
        let model = self.model(desk.machine)?.expect("who is no endpoint is a model");
        model.replies(&rubric, &all, pace, &mut |found| desk.put(replies.take(found)))?;
        Ok(desk.session.go_on()?)
    }

    fn judged(&mut self, findings: Vec<Vec<Option<Consultation>>>) -> Judgement {
        let rubric = self.plan.rubric;
        let read = |said: Option<Consultation>| {
            said.map(|said| rubric.reading(&said.replies).held_against(self.plan.threshold))
        };
        let readings: Vec<Vec<Option<Reading>>> =
            findings.into_iter().map(|samples| samples.into_iter().map(read).collect()).collect();
        let verdict = |reading: Option<&Reading>| reading.map_or(Verdict::Unscored, |r| r.verdict);
        let scores = |scale: &rubrics::Scale| {
            let name = scale.name.replace(' ', "_");
            (name, each(&readings, |reading| reading.and_then(|r| r.score)))
        };
        Judgement {
            name: rubric.name.to_owned(),
            asks: rubric.asks,
            fault: Fault::Judge,
            verdicts: each(&readings, verdict),
            scores: rubric.scale.as_ref().map(scores),
            off_form: matches!(rubric.decode, Decode::Text { .. })
                .then(|| each(&readings, |reading| reading.map(|r| r.off_form))),
            evidence: each(&readings, |reading| reading.map(|r| r.evidence.clone())),
            pooled: Vec::new(),
            trials: None,
        }
    }
}

/// What every reading says, by item and sample.
fn each<T>(readings: &[Vec<Option<Reading>>], of: impl Fn(Option<&Reading>) -> T + Copy) -> Vec<Vec<T>> {
    readings.iter().map(|samples| samples.iter().map(|reading| of(reading.as_ref())).collect()).collect()
}

/// Replies as they come, until every prompt about an answer has its own.
struct Replies<'a> {
    waiting: &'a [Waiting<'a>],
    /// The answer that each prompt is about, and its place among the prompts about it.
    of_prompt: Vec<(usize, usize)>,
    /// By answer.
    found: Vec<Vec<Option<Reply>>>,
}

impl<'a> Replies<'a> {
    fn new(waiting: &'a [Waiting<'a>], prompts: &[Vec<Prompt>]) -> Self {
        let of = |(at, prompts): (usize, &Vec<Prompt>)| (0..prompts.len()).map(move |nth| (at, nth));
        Self {
            waiting,
            of_prompt: prompts.iter().enumerate().flat_map(of).collect(),
            found: prompts.iter().map(|prompts| vec![None; prompts.len()]).collect(),
        }
    }

    fn said(&self, at: usize) -> Option<(usize, Consultation)> {
        let replies = self.found[at].iter().cloned().collect::<Option<Vec<_>>>()?;
        Some((at, Consultation { item: self.waiting[at].item.id.clone(), replies }))
    }

    /// Exchanges that the protocol does not cover: nothing is asked about them.
    fn without(&self) -> Vec<(usize, Consultation)> {
        (0..self.found.len()).filter(|at| self.found[*at].is_empty()).filter_map(|at| self.said(at)).collect()
    }

    /// Notes replies, by their prompts; answers that have all of theirs come back.
    fn take(&mut self, replies: Vec<(usize, Reply)>) -> Vec<(usize, Consultation)> {
        let mut done = Vec::new();
        for (prompt, reply) in replies {
            let (at, nth) = self.of_prompt[prompt];
            self.found[at][nth] = Some(reply);
            done.extend(self.said(at));
        }
        done
    }
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
