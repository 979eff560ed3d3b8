//! Asking a hub: addresses, token, redirects, and what each refusal means.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::HubError;
use super::name::{Name, is_commit, plain};
use crate::catalog::did_you_mean;
use crate::folders;

/// Long enough for a slow network, short enough for a person at a terminal.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that is silent for so long is dead.
const SILENCE: Duration = Duration::from_mins(1);
/// A list of files beyond this is not read.
const MOST_JSON: u64 = 1 << 28;

/// A hub, and who asks it.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    pub endpoint: String,
    token: Option<Token>,
}

/// Who asks, and where that was found.
#[derive(Debug)]
struct Token {
    text: String,
    place: String,
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
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(root_certs()?).build())
            .user_agent(concat!("finetune/", env!("CARGO_PKG_VERSION")))
            // A compressed answer would hide the size and cannot be resumed.
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .build()
            .new_agent();
        let endpoint = super::env("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let file = super::env("HF_TOKEN_PATH");
        let file = file.map_or_else(|| home.join("token"), |written| folders::expanded(&written));
        let given = super::env("HF_TOKEN")
            .map(|text| Token { text: text.trim().to_owned(), place: "`HF_TOKEN`".to_owned() });
        let kept = || {
            let text = std::fs::read_to_string(&file).ok()?.trim().to_owned();
            (!text.is_empty()).then(|| Token { text, place: format!("`{}`", file.display()) })
        };
        Ok(Self { agent, endpoint: endpoint.trim_end_matches('/').to_owned(), token: given.or_else(kept) })
    }

    /// Commit and files of a repository at its revision.
    pub fn info(&self, name: &Name) -> Result<Info, HubError> {
        let url = format!("{}/revision/{}", self.api(name), encode(&name.revision, ""));
        let info: Info = self.json(&url, name).map_err(|error| self.explain(error, name))?;
        match is_commit(&info.sha) {
            true => Ok(info),
            false => Err(HubError::BadAnswer { url, why: format!("`{}` is no commit", info.sha) }),
        }
    }

    /// What the hub says of one file.
    pub fn head(&self, name: &Name, commit: &str, file: &str) -> Result<Head, HubError> {
        let place = format!("{}/{}/resolve/{commit}", self.endpoint, name.repository());
        let url = format!("{place}/{}", encode(file, "/"));
        let answer = self.ask(&url, name, |url| self.agent.head(url));
        let (url, answer) = answer.map_err(|error| self.explain(error, name))?;
        let text = |key: &str| text(answer.headers(), key);
        let etag = text("x-linked-etag").or(text("etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let length = text("content-length").filter(|_| answer.status().is_success());
        match text("x-linked-size").or(length).map(str::parse) {
            Some(Ok(size)) if plain(&etag) => Ok(Head { url, etag, size }),
            _ => Err(HubError::BadAnswer { url, why: "it lacks the file's ETag or size".to_owned() }),
        }
    }

    /// The bytes of a file from `start` on; they begin at 0 if the answer says 200.
    ///
    /// The token stays with the hub: ureq drops it where a redirect leads away.
    pub fn get(&self, head: &Head, name: &Name, start: u64) -> Result<(StatusCode, impl Read), HubError> {
        let request = self.with_token(self.agent.get(&head.url));
        let request = if start > 0 { request.header("range", format!("bytes={start}-")) } else { request };
        let answer = self.settle(request.call(), &head.url, name)?;
        Ok((answer.status(), answer.into_body().into_reader()))
    }

    /// Asks and follows redirects within the hub, where the token may go too: renamed repositories, other
    /// addresses of a file. One that leads away, or says all of the file that it leads to, is the answer.
    fn ask(
        &self,
        url: &str,
        name: &Name,
        request: impl Fn(&str) -> RequestBuilder<WithoutBody>,
    ) -> Result<(String, Response<Body>), HubError> {
        let (mut url, own) = (url.to_owned(), origin(&self.endpoint));
        for _ in 0..5 {
            let request = request(&url).config().max_redirects(0).build();
            let answer = self.settle(self.with_token(request).call(), &url, name)?;
            let location = text(answer.headers(), "location").unwrap_or_default();
            let path = location.strip_prefix(own).unwrap_or(location);
            let told = text(answer.headers(), "x-linked-etag").is_some();
            if told || !path.starts_with('/') || path.starts_with("//") {
                return Ok((url, answer));
            }
            url = format!("{own}{path}");
        }
        Err(HubError::BadAnswer { url, why: "it redirects in a circle".to_owned() })
    }

    fn api(&self, name: &Name) -> String {
        format!("{}/api/{}/{}", self.endpoint, name.kind.plural(), name.id)
    }

    fn json<T: DeserializeOwned>(&self, url: &str, name: &Name) -> Result<T, HubError> {
        super::patiently(|_| {
            let (url, answer) = self.ask(url, name, |url| self.agent.get(url))?;
            let bytes = answer.into_body().into_with_config().limit(MOST_JSON).read_to_vec();
            let bytes = bytes.map_err(|error| unreachable(&url, name, error))?;
            serde_json::from_slice(&bytes)
                .map_err(|error| HubError::BadAnswer { url, why: error.to_string() })
        })
    }

    fn with_token(&self, request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.text)),
            None => request,
        }
    }

    /// An answer, or what its refusal means.
    fn settle(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
        url: &str,
        name: &Name,
    ) -> Result<Response<Body>, HubError> {
        let answer = answer.map_err(|error| unreachable(url, name, error))?;
        let status = answer.status().as_u16();
        if status < 400 {
            return Ok(answer);
        }
        let text = |key: &str| text(answer.headers(), key).unwrap_or_default();
        let (endpoint, place) = (self.endpoint.clone(), self.token.as_ref().map(|token| token.place.clone()));
        let repository = name.repository();
        Err(match (status, text("x-error-code"), place) {
            (_, "GatedRepo", place) => HubError::Gated {
                page: format!("{endpoint}/{repository}"),
                token: match place {
                    None => format!(
                        "make a token at `{endpoint}/settings/tokens` and put it in `HF_TOKEN`, or run `hf auth login`"
                    ),
                    Some(place) => {
                        format!("run this again; the token of {place} must be of the same account")
                    }
                },
                name: repository,
            },
            (_, "RevisionNotFound", _) => HubError::NoRevision {
                name: repository,
                revision: name.revision.clone(),
                help: String::new(),
            },
            (_, "EntryNotFound", _) => HubError::NoFile {
                name: name.to_string(),
                wanted: format!("file at `{url}`"),
                help: "was it renamed a moment ago? run this again".to_owned(),
            },
            (401 | 404, "RepoNotFound", place) | (404, _, place) | (401, _, place @ None) => {
                HubError::NoRepository {
                    name: repository,
                    endpoint,
                    whom: if place.is_some() { "to the owner of your token" } else { "without a token" },
                    help: String::new(),
                }
            }
            (401, _, Some(place)) => HubError::BadToken { name: repository, place, endpoint },
            (403, _, place) => HubError::Forbidden {
                name: repository,
                whom: place
                    .map_or("without a token".to_owned(), |place| format!("with the token of {place}")),
                said: if text("x-error-message").is_empty() { "403" } else { text("x-error-message") }
                    .to_owned(),
                endpoint,
            },
            (408 | 429 | 500.., ..) => HubError::Busy { url: url.to_owned(), status },
            _ => HubError::BadAnswer { url: url.to_owned(), why: format!("status {status}") },
        })
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

fn text<'a>(headers: &'a HeaderMap, key: &str) -> Option<&'a str> {
    headers.get(key).and_then(|value| value.to_str().ok())
}

fn unreachable(url: &str, name: &Name, error: ureq::Error) -> HubError {
    let help = format!(
        "`HTTPS_PROXY` names a proxy and `SSL_CERT_FILE` its certificates; without a network, {}",
        super::elsewhere(name)
    );
    HubError::Unreachable { url: url.to_owned(), help, source: error.into_io() }
}

/// Scheme and host of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |end| &url[..host + end])
}

/// Escapes what an address cannot hold, and slashes unless they are to be kept.
fn encode(text: &str, keep: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ if keep.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// The certificates that servers are trusted by: those of `SSL_CERT_FILE`, or Mozilla's.
///
/// # Errors
///
/// `SSL_CERT_FILE` names no certificates.
pub fn root_certs() -> Result<RootCerts, HubError> {
    match std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        Some(path) => certificates(Path::new(&path)),
        None => Ok(RootCerts::WebPki),
    }
}

/// The certificates of a site whose proxy signs with its own.
fn certificates(path: &Path) -> Result<RootCerts, HubError> {
    let bad = |source| HubError::BadCertificates { path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(bad)?;
    let items = parse_pem(&text).collect::<Result<Vec<_>, _>>().map_err(|error| bad(error.into_io()))?;
    let found: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    match found.is_empty() {
        true => Err(bad(io::Error::other("it has none"))),
        false => Ok(RootCerts::new_with_certs(&found)),
    }
}
