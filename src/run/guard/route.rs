//! A guard in front of a model: harmful requests get the guard's safe answer, all others go to the model.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::json;

use super::score::{own_folder, word, write_lines};
use super::sentry::places;
use super::{Reply, Sentry, requests};
use crate::data::{Encoder, Message, Role};
use crate::device;
use crate::doing;
use crate::event::Listener;
use crate::generate::{Decoding, Generator, Query};
use crate::hub;
use crate::merge::Rounded;
use crate::model::Decoder;
use crate::recipe::{Field, Init, Recipe};
use crate::run::cast::numerics;
use crate::run::failure::Failure;
use crate::run::plan::guard::GuardPlan;
use crate::run::plan::named::{adapter_on, given_folder};
use crate::run::plan::sources::Sources;
use crate::run::plan::{self, Base, Model, Options, room};
use crate::run::session::Session;
use crate::run::session::store::Store;
use crate::snapshot::digest::of_json;
use crate::snapshot::{Dtypes, SharedWeights};
use crate::train::Machine;

/// Who stands in front of whom, and what is asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// A guard's folder, or that of the run that trained it.
    pub guard: String,
    /// A folder or a hub's id, and an adapter on it.
    pub model: String,
    pub adapter: Option<String>,
    /// A file of requests.
    pub file: Option<String>,
    pub fields: BTreeMap<Field, String>,
    /// Requests besides.
    pub prompts: Vec<String>,
    pub system: String,
    pub threshold: Option<f64>,
    pub max_new_tokens: usize,
    /// The most tokens of the guard's answers.
    pub guard_tokens: usize,
}

/// An answer, and who gave it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Routed {
    pub prompt: String,
    pub p_harm: f64,
    pub label: &'static str,
    /// `guard` or `model`.
    pub by: &'static str,
    pub answer: String,
}

/// Asks every request of whom the guard sends it to, and writes a line for each; returns them and where they are.
///
/// # Errors
///
/// Whatever is wrong with the guard, the model, the file or the device; or the wish to stop.
pub fn route<'a>(
    asked: &Asked,
    options: &Options,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
    tell: &mut hub::Tell<'_>,
) -> Result<(Vec<Routed>, PathBuf), Failure> {
    let _doing = doing::now(format!("asking `{}` behind the guard `{}`", asked.model, asked.guard));
    let mut sources = Sources::new("", options.out.as_deref(), tell);
    let mut texts = asked.prompts.clone();
    if let Some(file) = &asked.file {
        let path = sources.find("FILE", file)?;
        texts.extend(requests::read(&path, &asked.fields)?.into_iter().map(|one| one.text));
    }
    let plan = GuardPlan::open(&asked.guard, asked.threshold, asked.guard_tokens, &mut sources)?;
    let behind = Behind::open(asked, &mut sources)?;
    let opened = device::open(&options.device)?;
    let Recipe { train, eval, .. } = &behind.recipe;
    let machine = plan::machine([train.compute, eval.compute], options, &opened);
    room::check_weights(&behind.model.shape, None, 0, &machine)?;
    let folder = options.out.clone().unwrap_or_else(|| own_folder(&plan));
    let mut session = Session::open(&folder, None, stop, watcher)?;
    let rows = options.eval_rows.unwrap_or(plan::rows(&opened));
    let requests: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut sentry = Sentry::open(&plan, (&machine, rows), &folder)?;
    let p = sentry.probabilities(&requests, &mut session)?;
    let mut decided = places(&p, plan.threshold);
    let (stopped, passed) =
        (decided.remove(&true).unwrap_or_default(), decided.remove(&false).unwrap_or_default());
    let of = |places: &[usize]| places.iter().map(|nth| requests[*nth]).collect::<Vec<_>>();
    let mut answers: BTreeMap<usize, (&'static str, String)> = BTreeMap::new();
    for (nth, reply) in stopped.iter().zip(sentry.replies(&of(&stopped), true, &mut session)?) {
        answers.insert(*nth, ("guard", reply.text));
    }
    // The guard makes room for the model.
    drop(sentry);
    let mut store = Store::open(&folder.join("model.jsonl"))?;
    for (nth, reply) in
        passed.iter().zip(behind.ask(&of(&passed), asked, (&machine, rows), &mut store, &mut session)?)
    {
        answers.insert(*nth, ("model", reply.text));
    }
    let line = |(nth, (by, answer)): (usize, (&'static str, String))| Routed {
        prompt: texts[nth].clone(),
        p_harm: p[nth],
        label: word(p[nth] >= plan.threshold),
        by,
        answer,
    };
    let lines: Vec<Routed> = answers.into_iter().map(line).collect();
    let path = folder.join("route.jsonl");
    write_lines(&path, &lines)?;
    Ok((lines, path))
}

/// The model behind a guard.
struct Behind {
    recipe: Recipe,
    model: Model,
    weights: SharedWeights,
    dtypes: Dtypes,
    key: String,
}

impl Behind {
    fn open(asked: &Asked, sources: &mut Sources<'_>) -> Result<Self, Failure> {
        let source = json!(asked.model);
        let text = format!("name = \"route\"\n[model]\nsource = {source}\n[data]\nsource = \"none\"");
        let recipe = Recipe::parse(&text, "--model", &[])?;
        let model = Model::open(&recipe.model, &recipe.data, sources)?;
        let base = Base::open(&model, Init::Checkpoint, 0, sources)?;
        let (weights, key) = match &asked.adapter {
            Some(adapter) => adapter_on(&base, &given_folder(adapter, sources)?)?,
            None => (base.weights.clone(), base.key.clone()),
        };
        Ok(Self { recipe, model, weights, dtypes: base.dtypes, key })
    }

    /// The model's own answers, those stored read.
    fn ask(
        &self,
        requests: &[&str],
        asked: &Asked,
        (machine, rows): (&Machine, usize),
        store: &mut Store<Reply>,
        session: &mut Session<'_>,
    ) -> Result<Vec<Reply>, Failure> {
        let Model { tokenizer, template, shape, .. } = &self.model;
        let encoder = Encoder::new(tokenizer, template.as_ref(), &asked.system, self.recipe.data.loss_on)?;
        let prompt = |request: &&str| Ok(encoder.prompt(&[Message::new(Role::User, *request)], "")?);
        let prompts = requests.iter().map(prompt).collect::<Result<Vec<_>, Failure>>()?;
        let decoding =
            Decoding { stop_ids: encoder.stop_ids().to_vec(), ..Decoding::greedy(asked.max_new_tokens) };
        let own = numerics(&self.key, machine);
        let keys: Vec<String> =
            prompts.iter().map(|ids| of_json(&json!([own, ids, decoding]))[..32].to_owned()).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|nth| store.get(&keys[*nth]).is_none()).collect();
        if !missing.is_empty() {
            let reused = (keys.len() - missing.len()) as u64;
            session.stage("the model answers", (missing.len() as u64, Some(reused)), |session| {
                let weights = Rounded::new(self.weights.clone(), &self.dtypes);
                let decoder = Decoder::load(shape, &weights, &machine.device, machine.answers)?;
                let queries: Vec<Query<'_>> = missing.iter().map(|nth| Query::once(&prompts[*nth])).collect();
                let decode = |ids: &[u32]| tokenizer.decode(ids, true);
                let generator =
                    Generator { decoder: &decoder, decode: &decode, rows, stop: Some(session.stop()) };
                let mut done = 0;
                generator.complete(&queries, &decoding, |news| {
                    done += news.ended.len() as u64;
                    let line = |(nth, said): (usize, crate::generate::Completion)| {
                        let (n_tokens, finish) = (said.ids.len(), said.finish);
                        let reply = Reply { category: None, text: said.text, n_tokens, finish };
                        (keys[missing[nth]].clone(), reply)
                    };
                    store.append(news.ended.into_iter().map(line))?;
                    session.advance(done, None)
                })?;
                Ok(session.go_on()?)
            })?;
        }
        let reply = |key: &String| store.get(key).cloned().expect("everything was just asked");
        Ok(keys.iter().map(reply).collect())
    }
}
