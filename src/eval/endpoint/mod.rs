//! A judge behind an OpenAI-compatible chat endpoint.
//!
//! Many questions are under way at once, on threads that wait; answers are handed over one by one as they come, so that
//! they can be stored, and returned in the order of the questions. What may pass (too many requests, a server's fault,
//! a broken connection) is tried again; anything else ends the whole: a run that lacks answers is not a run. Only a
//! question that the endpoint will not take by itself, too long or filtered, is an answer that says so.

mod error;
mod form;
mod limits;
mod patience;
#[cfg(test)]
mod server;
mod wire;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use chrono::Utc;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};

pub use self::error::EndpointError;
use self::form::Known;
use self::limits::{CONNECT, GARBAGE_TRIES, MOST_BYTES, MOST_HEADERS, MOST_REPLY};
pub use self::patience::Patience;
use self::patience::{dice, retry_after, sleep};
pub use self::wire::{Answer, ChatRequest, FinishReason, Message};
use self::wire::{Form, answer, body, complaint};

/// While nothing comes, it is looked this often whether to go on.
const STEP: Duration = Duration::from_millis(100);

/// Where a judge is, and how to ask it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address before `/chat/completions`.
    pub url: String,
    /// As the endpoint names it.
    pub model: String,
    /// The environment variable that holds the key; none for an endpoint without keys.
    pub key_variable: Option<String>,
    /// The model thinks before it answers, and takes `max_completion_tokens` and no temperature. Where that is not known,
    /// it is found out.
    pub thinks: bool,
    /// For one request, from its start to the last byte of its answer.
    pub timeout: Duration,
    pub patience: Patience,
    /// Requests under way at once.
    pub n_at_once: usize,
    pub root_certs: RootCerts,
}

impl Settings {
    /// An endpoint without key, with our defaults.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            model: model.into(),
            key_variable: None,
            thinks: false,
            // A large model may think for minutes about a page of rubric.
            timeout: Duration::from_mins(5),
            patience: Patience::default(),
            n_at_once: 8,
            root_certs: RootCerts::WebPki,
        }
    }
}

/// A chat endpoint that can be asked.
#[derive(Debug)]
pub struct Endpoint {
    agent: Agent,
    url: String,
    model: String,
    key: Option<Key>,
    known: Known,
    timeout: Duration,
    patience: Patience,
    n_at_once: usize,
    /// Replies that were cut and not told of yet.
    n_cut: AtomicUsize,
}

/// What must never be shown.
struct Key {
    text: String,
    variable: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key in `{}`", self.variable)
    }
}

/// One try that failed.
struct Failure {
    error: EndpointError,
    /// How often to try at most.
    tries: u32,
    /// The wait that the endpoint asks for.
    asked: Option<Duration>,
    /// The same is to be asked in another form, at once.
    reform: bool,
}

impl Endpoint {
    /// Reads the key; asks nothing yet.
    ///
    /// # Errors
    /// The address is none, the variable holds no key, or the key would travel in the open.
    pub fn new(settings: Settings) -> Result<Self, EndpointError> {
        let url = completions(&settings.url);
        let uri: Option<Uri> = url.parse().ok();
        let uri =
            uri.filter(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")));
        let uri = uri.ok_or(EndpointError::BadUrl { url: settings.url })?;
        let is_open = uri.scheme_str() == Some("http") && !is_loopback(&uri);
        if let Some(variable) = settings.key_variable.clone().filter(|_| is_open) {
            return Err(EndpointError::OpenKey { url, variable });
        }
        let key = settings.key_variable.map(|variable| {
            let text = std::env::var(&variable).unwrap_or_default().trim().to_owned();
            match !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
                true => Ok(Key { text, variable }),
                false => Err(EndpointError::NoKey { url: url.clone(), variable }),
            }
        });
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(settings.root_certs).build())
            .user_agent(concat!("finetune/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(settings.timeout))
            .max_response_header_size(MOST_HEADERS)
            // A question sent elsewhere would become a GET without it.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections_per_host(settings.n_at_once);
        // No proxy knows the way to this very machine.
        let agent = if is_loopback(&uri) { agent.proxy(None) } else { agent };
        Ok(Self {
            agent: agent.build().new_agent(),
            url,
            model: settings.model,
            key: key.transpose()?,
            known: Known::new(settings.thinks),
            timeout: settings.timeout,
            patience: settings.patience,
            n_at_once: settings.n_at_once.max(1),
            n_cut: AtomicUsize::new(0),
        })
    }

    /// What the endpoint turned out to want, and what of its replies was left out, in words, the first time that this
    /// is asked afterwards.
    pub fn news(&self) -> Option<String> {
        let cut = match self.n_cut.swap(0, Ordering::Relaxed) {
            0 => None,
            n => Some(format!(
                "gave {n} replies of more than {MOST_REPLY} bytes: what is behind them is neither read nor stored"
            )),
        };
        let news: Vec<String> = self.known.news().map(str::to_owned).into_iter().chain(cut).collect();
        (!news.is_empty()).then(|| format!("`{}` at {} {}", self.model, self.url, news.join("; it ")))
    }

    /// The answers to `asks`, in their order. Each is handed to `each` with its place as soon as it is there; `check` is
    /// called often, also while nothing comes.
    ///
    /// # Errors
    /// The first failure that trying again does not mend, or the first of `each` or `check`. Nothing is asked behind it;
    /// answers that are under way are still handed over.
    pub fn ask_all<E: From<EndpointError>>(
        &self,
        asks: &[ChatRequest],
        check: impl Fn() -> Result<(), E>,
        mut each: impl FnMut(usize, &Answer) -> Result<(), E>,
    ) -> Result<Vec<Answer>, E> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut answers: Vec<Option<Answer>> = vec![None; asks.len()];
        let mut failed = None;
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..self.n_at_once.min(asks.len()) {
                let (sender, next, stop) = (sender.clone(), &next, &stop);
                scope.spawn(move || self.work(asks, next, stop, &sender));
            }
            drop(sender);
            let mut take = |(idx, answer): (usize, Result<Answer, EndpointError>)| {
                let answer = answer?;
                each(idx, &answer)?;
                answers[idx] = Some(answer);
                Ok(())
            };
            loop {
                let taken = match receiver.recv_timeout(STEP) {
                    Ok(found) => take(found).and_then(|()| check()),
                    Err(RecvTimeoutError::Timeout) => check(),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if let Err(error) = taken {
                    stop.store(true, Ordering::Relaxed);
                    failed.get_or_insert(error);
                }
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(answers.into_iter().map(|found| found.expect("every question was asked")).collect()),
        }
    }

    /// The answer to one question.
    ///
    /// # Errors
    /// As [`Self::ask_all`].
    pub fn ask(&self, ask: &ChatRequest) -> Result<Answer, EndpointError> {
        let mut answers =
            self.ask_all(std::slice::from_ref(ask), || Ok(()), |_, _| Ok::<_, EndpointError>(()))?;
        Ok(answers.pop().expect("one question has one answer"))
    }

    /// What one thread does: question after question, until there are none or something fails.
    fn work(
        &self,
        asks: &[ChatRequest],
        next: &AtomicUsize,
        stop: &AtomicBool,
        sender: &Sender<(usize, Result<Answer, EndpointError>)>,
    ) {
        while !stop.load(Ordering::Relaxed) {
            let idx = next.fetch_add(1, Ordering::Relaxed);
            let Some(answer) = asks.get(idx).and_then(|ask| self.patiently(ask, stop)) else {
                return;
            };
            if answer.is_err() {
                // Before the answer is received, or this thread's next question would be under way.
                stop.store(true, Ordering::Relaxed);
            }
            if sender.send((idx, answer)).is_err() {
                return;
            }
        }
    }

    /// Tries until there is an answer or no hope; none if it was stopped while it waited.
    fn patiently(&self, ask: &ChatRequest, stop: &AtomicBool) -> Option<Result<Answer, EndpointError>> {
        let mut nth = 0;
        loop {
            let Failure { error, tries, asked, reform } = match self.once(ask, nth + 1) {
                Ok(answer) => return Some(Ok(answer)),
                Err(failure) => failure,
            };
            // Each form is given up once, so this ends.
            if reform {
                continue;
            }
            let wait = self.patience.wait(nth, asked, dice()).filter(|_| nth + 1 < tries);
            let Some(wait) = wait else {
                return Some(Err(error));
            };
            if !sleep(wait, stop) {
                return None;
            }
            nth += 1;
        }
    }

    /// One request.
    fn once(&self, ask: &ChatRequest, nth_try: u32) -> Result<Answer, Failure> {
        let url = self.url.clone();
        let request = self.agent.post(&url).header("content-type", "application/json");
        let request = match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {}", key.text)),
            None => request,
        };
        let broken = |error: ureq::Error| {
            let (error, tries) = limits::failure(error, &url, self.timeout, nth_try);
            Failure { error, tries, asked: None, reform: false }
        };
        let form = self.known.form();
        let response = request.send(body(&self.model, ask, form)).map_err(broken)?;
        let status = response.status().as_u16();
        let header = |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok());
        if let Some(to) = header("location").filter(|_| (300..400).contains(&status)) {
            let error = EndpointError::Moved { url, status, to: wire::shown(to) };
            return Err(Failure { error, tries: 1, asked: None, reform: false });
        }
        let asked = header("retry-after").and_then(|header| retry_after(header, Utc::now()));
        let bytes = response.into_body().into_with_config().limit(MOST_BYTES).read_to_vec();
        let bytes = bytes.map_err(broken)?;
        match status {
            200..300 => match answer(&bytes) {
                Ok(answer) => Ok(self.readable(answer)),
                Err(why) => {
                    let error = EndpointError::BadAnswer { url, why };
                    Err(Failure { error, tries: GARBAGE_TRIES, asked: None, reform: false })
                }
            },
            _ => self.refusal(status, &bytes, (nth_try, asked), form),
        }
    }

    /// As much of an answer as is read and stored.
    fn readable(&self, mut answer: Answer) -> Answer {
        if limits::cut(&mut answer.text) {
            answer.ended = FinishReason::Length;
            self.n_cut.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// What a status that is no success means.
    fn refusal(
        &self,
        status: u16,
        bytes: &[u8],
        (nth_try, asked): (u32, Option<Duration>),
        sent: Form,
    ) -> Result<Answer, Failure> {
        let complaint = complaint(bytes);
        if let Some(ended) = complaint.of_the_question().filter(|_| matches!(status, 400 | 413 | 422)) {
            let text = String::new();
            return Ok(Answer { text, ended, model: None, n_prompt_tokens: None, n_tokens: None });
        }
        let reform = matches!(status, 400 | 422) && self.known.learn(sent, &complaint);
        // Some endpoints repeat what they were sent.
        let said = match &self.key {
            Some(key) => complaint.said.replace(&key.text, "…"),
            None => complaint.said,
        };
        let (url, model) = (self.url.clone(), self.model.clone());
        let (error, tries) = match status {
            401 | 403 => (self.unauthorized(status, said), 1),
            404 => (EndpointError::NotFound { url, model, said }, 1),
            // A quota that is used up comes back with no wait.
            429 if complaint.code == "insufficient_quota" => {
                (EndpointError::Refused { url, status, said }, 1)
            }
            408 | 409 | 425 | 429 | 500.. => {
                (EndpointError::Busy { url, status, tries: nth_try, said }, u32::MAX)
            }
            _ => (EndpointError::Refused { url, status, said }, 1),
        };
        Err(Failure { error, tries, asked, reform })
    }

    fn unauthorized(&self, status: u16, said: String) -> EndpointError {
        let (whom, help) = match &self.key {
            Some(Key { variable, .. }) => (
                format!("to the key in `{variable}`"),
                format!(
                    "is the key in `{variable}` whole, of this endpoint, and may it use `{}`?",
                    self.model
                ),
            ),
            None => (
                "without a key".to_owned(),
                "put a key in an environment variable and name the variable".to_owned(),
            ),
        };
        EndpointError::Unauthorized { url: self.url.clone(), status, whom, said, help }
    }
}

/// The address that is asked; one that is given whole stays.
fn completions(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    match url.contains("/chat/completions") {
        true => url.to_owned(),
        false => format!("{url}/chat/completions"),
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests;
