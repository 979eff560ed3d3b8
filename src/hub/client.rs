//! Asking a hub: addresses, token, redirects, answers.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::HubError;
use super::address::{encode, is_one, origin, redirected, shown};
use super::broken::{Broken, broken};
use super::certificates::root_certs;
use super::limits::{Limits, MOST_ETAG, MOST_HEADERS, MOST_HOPS, Paced};
use super::name::{Name, is_commit, plain};
use super::refusal::{Token, refusal, text};
use crate::catalog::did_you_mean;
use crate::folders;

/// A hub, and who asks it.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    pub endpoint: String,
    token: Option<Token>,
    pub limits: Limits,
}

/// A repository at a revision, as the hub describes it.
#[derive(Debug, Deserialize)]
pub struct Info {
    pub sha: String,
    #[serde(default)]
    pub siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
pub struct Sibling {
    #[serde(rename = "rfilename")]
    pub file: String,
}

/// What the hub says of a file before sending it.
#[derive(Debug)]
pub struct Head {
    pub url: String,
    /// The SHA-256 of a large file, the git hash of another.
    pub etag: String,
    pub size: u64,
}

impl Client {
    /// The hub of `HF_ENDPOINT`, with the token of `HF_TOKEN` or of the file that `hf auth login` writes.
    pub fn from_env(home: &Path) -> Result<Self, HubError> {
        let endpoint = super::env("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let file = super::env("HF_TOKEN_PATH");
        let file = file.map_or_else(|| home.join("token"), |written| folders::expanded(&written));
        let token = |text: &str, place: String| {
            let text = text.trim().to_owned();
            (!text.is_empty()).then_some(Token { text, place })
        };
        let given = super::env("HF_TOKEN").and_then(|text| token(&text, "`HF_TOKEN`".to_owned()));
        let kept = || token(&std::fs::read_to_string(&file).ok()?, format!("`{}`", file.display()));
        Ok(Self::new(&endpoint, given.or_else(kept), root_certs()?, Limits::default()))
    }

    /// The hub at this address.
    pub fn new(endpoint: &str, token: Option<Token>, root_certs: RootCerts, limits: Limits) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(root_certs).build())
            .user_agent(concat!("finetune/", env!("CARGO_PKG_VERSION")))
            // A compressed answer would hide the size and cannot be resumed; one that comes all the same is not unpacked.
            .accept_encoding("identity")
            .timeout_connect(Some(limits.connect))
            .timeout_recv_response(Some(limits.headers))
            .timeout_per_read(Some(limits.window))
            .max_response_header_size(MOST_HEADERS)
            // They are followed here, each looked at.
            .max_redirects(0)
            .build()
            .new_agent();
        Self { agent, endpoint: endpoint.trim_end_matches('/').to_owned(), token, limits }
    }

    /// That there is a hub to be asked, and nothing in the token that no question could hold.
    fn is_sane(&self) -> Result<(), HubError> {
        let endpoint = self.endpoint.clone();
        if !is_one(&endpoint) {
            return Err(HubError::BadEndpoint { endpoint });
        }
        let Some(Token { text, place }) = &self.token else { return Ok(()) };
        match text.chars().position(|c| !c.is_ascii_graphic()) {
            None => Ok(()),
            Some(at) => Err(HubError::BrokenToken {
                place: place.clone(),
                at: at + 1,
                n: text.chars().count(),
                endpoint,
            }),
        }
    }

    /// Commit and files of a repository at its revision.
    pub fn info(&self, name: &Name) -> Result<Info, HubError> {
        self.is_sane()?;
        let url = format!("{}/revision/{}", self.api(name), encode(&name.revision, ""));
        let info: Info = self.json(&url, name).map_err(|error| self.explain(error, name))?;
        match is_commit(&info.sha) {
            true => Ok(info),
            false => Err(HubError::BadAnswer { url, why: format!("`{}` is no commit", shown(&info.sha)) }),
        }
    }

    /// What the hub says of one file.
    pub fn head(&self, name: &Name, commit: &str, file: &str) -> Result<Head, HubError> {
        let place = format!("{}/{}/resolve/{commit}", self.endpoint, name.repository());
        let url = format!("{place}/{}", encode(file, "/"));
        // A redirect that tells of the file that it leads to is the answer.
        let ends = |to: &str, headers: &HeaderMap| {
            text(headers, "x-linked-etag").is_some() || origin(to) != origin(&self.endpoint)
        };
        let answer = self.ask(&url, name, |url| self.agent.head(url), ends);
        let (url, answer) = answer.map_err(|error| self.explain(error, name))?;
        let text = |key: &str| text(answer.headers(), key);
        let etag = text("x-linked-etag").or(text("etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let length = text("content-length").filter(|_| answer.status().is_success());
        match text("x-linked-size").or(length).map(str::parse) {
            Some(Ok(size)) if plain(&etag) && etag.len() <= MOST_ETAG => Ok(Head { url, etag, size }),
            _ => {
                let why = "it lacks the file's ETag or size".to_owned();
                Err(HubError::BadAnswer { url: shown(&url), why })
            }
        }
    }

    /// The bytes of a file from `start` on, and where they begin: a hub may send all of it. They must keep a pace.
    pub fn get(&self, head: &Head, name: &Name, start: u64) -> Result<(u64, Paced<impl Read>), HubError> {
        let request = |url: &str| {
            let request = self.agent.get(url);
            if start > 0 { request.header("range", format!("bytes={start}-")) } else { request }
        };
        let (url, answer) = self.ask(&head.url, name, request, |_, _| false)?;
        let range = text(answer.headers(), "content-range");
        let is_asked = range.is_none_or(|range| range.starts_with(&format!("bytes {start}-")));
        let from = match answer.status().as_u16() {
            200 => 0,
            206 if is_asked => start,
            206 => {
                let why = format!("it was asked for bytes from {start} on and sends others");
                return Err(HubError::BadAnswer { url: shown(&url), why });
            }
            status => return Err(HubError::BadAnswer { url: shown(&url), why: format!("status {status}") }),
        };
        Ok((from, self.limits.paced(answer.into_body().into_reader())))
    }

    /// Asks and follows redirects but for those of which `ends` says, by where they lead and their headers, that they
    /// are the answer. The token goes to the hub alone.
    fn ask(
        &self,
        url: &str,
        name: &Name,
        request: impl Fn(&str) -> RequestBuilder<WithoutBody>,
        ends: impl Fn(&str, &HeaderMap) -> bool,
    ) -> Result<(String, Response<Body>), HubError> {
        let mut url = url.to_owned();
        for _ in 0..=MOST_HOPS {
            let token = self.token.as_ref().filter(|_| origin(&url) == origin(&self.endpoint));
            let request = match token {
                Some(token) => request(&url).header("authorization", format!("Bearer {}", token.text)),
                None => request(&url),
            };
            let answer = request.call().map_err(|error| self.broken(&url, name, error))?;
            if answer.status().as_u16() >= 400 {
                let answer = (answer.status(), answer.headers());
                return Err(refusal(answer, &url, name, &self.endpoint, token));
            }
            let location = text(answer.headers(), "location").filter(|_| answer.status().is_redirection());
            let Some(location) = location else { return Ok((url, answer)) };
            let to =
                redirected(&url, location).map_err(|why| HubError::BadAnswer { url: shown(&url), why })?;
            if ends(&to, answer.headers()) {
                return Ok((url, answer));
            }
            url = to;
        }
        let why = format!("it redirects more than {MOST_HOPS} times");
        Err(HubError::BadAnswer { url: shown(&url), why })
    }

    fn api(&self, name: &Name) -> String {
        format!("{}/api/{}/{}", self.endpoint, name.kind.plural(), name.id)
    }

    fn json<T: DeserializeOwned>(&self, url: &str, name: &Name) -> Result<T, HubError> {
        super::patiently(&self.limits, |_| {
            let request =
                |url: &str| self.agent.get(url).config().timeout_global(Some(self.limits.answer)).build();
            let (url, answer) = self.ask(url, name, request, |to, _| origin(to) != origin(&self.endpoint))?;
            if let Some(to) = text(answer.headers(), "location") {
                let why = format!("it redirects to `{}`, which is not the hub", shown(to));
                return Err(HubError::BadAnswer { url: shown(&url), why });
            }
            let is_page = text(answer.headers(), "content-type").is_some_and(|kind| kind.contains("html"));
            let bytes = answer.into_body().into_with_config().limit(self.limits.most_bytes).read_to_vec();
            let bytes = bytes.map_err(|error| self.broken(&url, name, error))?;
            serde_json::from_slice(&bytes).map_err(|error| {
                let why = if is_page { "a page for people".to_owned() } else { error.to_string() };
                HubError::BadAnswer { url: shown(&url), why }
            })
        })
    }

    /// What an exchange that came to nothing is told as.
    fn broken(&self, url: &str, name: &Name, error: ureq::Error) -> HubError {
        let url = shown(url);
        match broken(error) {
            Broken::Lost(source) => {
                let help = format!(
                    "`HTTPS_PROXY` names a proxy and `SSL_CERT_FILE` its certificates; without a network, {}",
                    super::elsewhere(name)
                );
                HubError::Unreachable { url, help, source }
            }
            Broken::Cut(source) => HubError::BrokeOff { url, source },
            Broken::Slow(which) => HubError::Slow { url, why: self.limits.slow(which) },
            Broken::TooMuch(most) => HubError::TooMuch { url, most },
            Broken::Wrong(why) => HubError::BadAnswer { url, why },
        }
    }

    /// Adds the nearest names that there are.
    fn explain(&self, error: HubError, name: &Name) -> HubError {
        match error {
            HubError::NoRevision { name: repository, revision, .. } => {
                let refs = self.json(&format!("{}/refs", self.api(name)), name);
                let Refs { branches, tags } = refs.unwrap_or_default();
                let names: Vec<String> = branches.into_iter().chain(tags).map(|found| found.name).collect();
                let help = did_you_mean(&revision, names.iter().map(String::as_str));
                HubError::NoRevision { name: repository, revision, help }
            }
            HubError::NoRepository { name: repository, endpoint, whom, .. } => {
                let org = name.id.split('/').next().unwrap_or_default();
                let url = format!("{endpoint}/api/{}?author={org}&limit=1000", name.kind.plural());
                let found: Vec<Listed> = self.json(&url, name).unwrap_or_default();
                let near = crate::catalog::nearest(&name.id, found.iter().map(|found| found.id.as_str()));
                let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? If not, "));
                let token = match &self.token {
                    None => "a private one needs a token in `HF_TOKEN` or from `hf auth login`".to_owned(),
                    Some(token) => {
                        format!("a private one needs a token that may read it, in {}", token.place)
                    }
                };
                HubError::NoRepository { name: repository, endpoint, whom, help: format!("{near}{token}") }
            }
            other => other,
        }
    }
}

#[derive(Default, Deserialize)]
struct Refs {
    branches: Vec<Ref>,
    tags: Vec<Ref>,
}

#[derive(Deserialize)]
struct Ref {
    name: String,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}
