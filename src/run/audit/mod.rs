//! `finetune data audit`: every request of a file labelled by where its harm lies.
//!
//! Any judge will do, a model here or behind an endpoint. Replies are stored as they come, by what they depend on, so that a
//! stopped audit goes on; requests that a file has twice are asked about once.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::failure::Failure;
use super::judge::THINKING_TOKENS;
use super::judge::judge_model::JudgeModel;
use super::plan::judges::{By, RubricPlan};
use super::plan::sources::Sources;
use super::plan::{self, Options};
use super::session::store::Store;
use super::session::{Key, Session};
use crate::data::{self, Conversation, DataError, Format, Limits, Role};
use crate::device;
use crate::doing;
use crate::eval::Verdict;
use crate::eval::endpoint::ChatRequest;
use crate::eval::rubrics::{Decode, Exchange, HARM_KINDS, Prompt, Reply};
use crate::event::{Event, Listener};
use crate::recipe::{Compute, Field, Fields, Form, RubricJudge};
use crate::report::audit::Audit;
use crate::seed;
use crate::snapshot::digest::{Algorithm, of_files, of_json};
use crate::snapshot::writer::{file_at_once, write_json};

/// What is asked about which file, and whom.
#[derive(Debug, Clone)]
pub struct Asked {
    pub file: PathBuf,
    /// The field with the request, of a table of requests; else the file's form is found out.
    pub field: Option<String>,
    /// Ask about at most so many, drawn by [`Asked::seed`].
    pub limit: Option<usize>,
    pub seed: u64,
    /// Records of general data that the file is for.
    pub general: Option<usize>,
    /// Who labels; its rubric's name plays no part.
    pub judge: RubricJudge,
}

/// What the judge said of one request.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    /// The first record that asks it.
    line: usize,
    reply: Reply,
}

/// A request, with the key of what is said of it.
struct Request {
    line: usize,
    text: String,
    key: String,
}

/// Labels the file's requests; returns the counts and the folder with `audit.json` and `labels.jsonl`.
///
/// # Errors
///
/// Whatever is wrong with the file, the judge or the device; or the wish to stop.
pub fn audit<'a>(
    asked: &Asked,
    options: &Options,
    stop: &'a AtomicBool,
    watcher: &'a mut Listener<'a>,
    mut sources: Sources<'_>,
) -> Result<(Audit, PathBuf), Failure> {
    let _doing = doing::now(format!("labelling the requests of `{}`", asked.file.display()));
    let path = sources.find("FILE", &asked.file.display().to_string())?;
    let judge = RubricPlan::of(&HARM_KINDS, &asked.judge, &mut sources)?;
    let requests = requests(asked, &path, &judge.key)?;
    let digest = of_files(&[("file".to_owned(), path.clone())], Algorithm::Sha256)?;
    let key = Key::new(json!({
        "audited": digest, "judge": judge.key, "field": asked.field, "limit": asked.limit, "seed": asked.seed,
    }));
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = options.out.clone();
    let folder =
        folder.unwrap_or_else(|| Path::new("runs").join(format!("audit-{name}-{}", &key.digest[..8])));
    let mut session = Session::open(&folder, Some(&key), stop, watcher)?;
    for sentence in sources.traces.said {
        session.note(sentence)?;
    }
    let mut store: Store<Said> = Store::open(&folder.join("replies.jsonl"))?;
    let mut seen = HashSet::new();
    let missing: Vec<&Request> = requests
        .iter()
        .filter(|one| store.get(&one.key).is_none() && seen.insert(one.key.as_str()))
        .collect();
    if !missing.is_empty() {
        let reused = (requests.len() - missing.len()) as u64;
        session.stage("label requests", (missing.len() as u64, Some(reused)), |session| {
            ask(&judge, &missing, &mut store, options, session)
        })?;
    }
    let read = |one: &Request| {
        let said = store.get(&one.key).expect("every request was just asked about");
        let reading = HARM_KINDS.reading(std::slice::from_ref(&said.reply));
        ((reading.verdict == Verdict::Yes).then_some(reading.evidence), said.reply.clone())
    };
    let read: Vec<(Option<String>, Reply)> = requests.iter().map(read).collect();
    let line = |(one, (label, reply)): (&Request, &(Option<String>, Reply))| {
        let Reply::Text(reply) = reply else { unreachable!("a judge of texts replies with one") };
        json!({ "line": one.line, "label": label, "reply": reply }).to_string() + "\n"
    };
    let labels: String = requests.iter().zip(&read).map(line).collect();
    file_at_once(&folder.join("labels.jsonl"), labels.as_bytes())?;
    let labels: Vec<Option<String>> = read.into_iter().map(|(label, _)| label).collect();
    let audit = Audit::of(path.display().to_string(), judge.in_words(), &labels, asked.general);
    write_json(&folder.join("audit.json"), &json!(audit))?;
    Ok((audit, folder))
}

/// The last request of every conversation, or of those that are drawn.
fn requests(asked: &Asked, path: &Path, judge: &str) -> Result<Vec<Request>, Failure> {
    let format = match &asked.field {
        Some(field) => {
            let names = [(Field::Prompt, field.clone()), (Field::Completion, String::new())];
            Format::new(Form::PromptCompletion, &Fields::from(names))
        }
        None => Format::default(),
    };
    let all = data::read(path, &format, Limits::default())?.conversations;
    let all = match asked.limit.filter(|limit| *limit < all.len()) {
        Some(limit) => {
            let drawn = seed::drawn(all.len(), limit, asked.seed, "audit");
            seed::parted(all, &drawn).0
        }
        None => all,
    };
    let request = |one: &Conversation| {
        let last = one.messages.iter().rfind(|message| message.role == Role::User);
        last.map(|message| {
            let text = message.content.clone();
            let key = of_json(&json!([judge, HARM_KINDS.instrument, text]))[..32].to_owned();
            Request { line: one.line.number, text, key }
        })
    };
    let found: Vec<Request> = all.iter().filter_map(request).collect();
    match found.is_empty() {
        true => Err(DataError::Empty { path: path.to_owned() }.into()),
        false => Ok(found),
    }
}

/// Asks the judge about what is missing, and stores what it says.
fn ask(
    judge: &RubricPlan,
    missing: &[&Request],
    store: &mut Store<Said>,
    options: &Options,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let prompt = |one: &&Request| {
        let exchange = Exchange { request: &one.text, context: None, answer: "", category: None };
        (HARM_KINDS.prompt)(&exchange)
    };
    let prompts: Vec<Prompt> = missing.iter().flat_map(prompt).collect();
    let rubric = judge.as_asked();
    if let Some(By::Endpoint { url, key_variable: Some(variable), .. }) = &judge.by {
        session.note(format!("the key in `{variable}` goes to `{url}`"))?;
    }
    let mut n_done = 0;
    let stop = session.stop();
    let stopped = session.stopped();
    let mut put = |found: Vec<(usize, Reply)>| {
        n_done += found.len() as u64;
        let said = found.into_iter().map(|(at, reply)| {
            let one = missing[at];
            (one.key.clone(), Said { line: one.line, reply })
        });
        store.append(said)?;
        session.event(Event::Progress { done: n_done, remaining: None })?;
        Ok::<(), Failure>(())
    };
    let by = judge.by.as_ref().expect("who labels was just looked up");
    match (by, by.endpoint()?) {
        (_, Some(endpoint)) => {
            let Decode::Text { max_new_tokens: max_tokens } = rubric.decode else {
                unreachable!("it replies with a text")
            };
            let thinking_tokens = if judge.max_new_tokens.is_some() { 0 } else { THINKING_TOKENS };
            let request = |prompt: &Prompt| {
                let messages = prompt.messages().unwrap_or_default().into_iter().map(Into::into).collect();
                ChatRequest { messages, max_tokens, thinking_tokens }
            };
            let asks: Vec<ChatRequest> = prompts.iter().map(request).collect();
            let check = || match stop.load(Ordering::Relaxed) {
                true => Err(Failure::from(stopped.clone())),
                false => Ok(()),
            };
            let asked = endpoint
                .ask_all(&asks, check, |at, answer| put(vec![(at, Reply::Text(answer.text.clone()))]));
            if let Some(news) = endpoint.news() {
                session.note(news)?;
            }
            asked?;
        }
        (By::Model(folder), None) => {
            let opened = device::open(&options.device)?;
            let machine = plan::machine([Compute::Auto; 2], options, &opened);
            let model = JudgeModel::load(folder, &machine)?;
            let rows = options.eval_rows.unwrap_or(plan::rows(&opened));
            let all: Vec<&Prompt> = prompts.iter().collect();
            model.replies(&rubric, &all, (rows, stop), &mut put)?;
        }
        (By::Endpoint { .. }, None) => unreachable!("an endpoint is one"),
    }
    Ok(session.go_on()?)
}
