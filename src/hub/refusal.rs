//! What each refusal of a hub means.

use ureq::http::{HeaderMap, StatusCode};

use super::HubError;
use super::address::{self, shown};
use super::name::Name;

/// Who asks, and where that was found.
#[derive(Debug)]
pub struct Token {
    pub text: String,
    pub place: String,
}

/// Characters of a hub's own words that are shown.
const SHOWN: usize = 300;

pub fn text<'a>(headers: &'a HeaderMap, key: &str) -> Option<&'a str> {
    headers.get(key).and_then(|value| value.to_str().ok())
}

/// What a status from 400 on means that `url` answers to who has this `token`.
pub fn refusal(
    (status, headers): (StatusCode, &HeaderMap),
    url: &str,
    name: &Name,
    endpoint: &str,
    token: Option<&Token>,
) -> HubError {
    let status = status.as_u16();
    if matches!(status, 408 | 429 | 500..) {
        return HubError::Busy { url: shown(url), status };
    }
    if address::origin(url) != address::origin(endpoint) {
        let why = format!("status {status}; `{endpoint}` redirects to it");
        return HubError::BadAnswer { url: shown(url), why };
    }
    let said = text(headers, "x-error-message").unwrap_or_default();
    let (endpoint, place) = (endpoint.to_owned(), token.map(|token| token.place.clone()));
    let repository = name.repository();
    match (status, text(headers, "x-error-code").unwrap_or_default(), place) {
        // What Hugging Face says of a token that it does not know.
        (401, _, Some(place)) if said.starts_with("Invalid") => {
            HubError::BadToken { name: repository, place, endpoint }
        }
        (_, "GatedRepo", place) => HubError::Gated {
            page: format!("{endpoint}/{repository}"),
            token: match place {
                None => format!(
                    "make a token at `{endpoint}/settings/tokens` and put it in `HF_TOKEN`, or run `hf auth login`"
                ),
                Some(place) => format!("run this again; the token of {place} must be of the same account"),
            },
            name: repository,
        },
        (_, "RevisionNotFound", _) => {
            HubError::NoRevision { name: repository, revision: name.revision.clone(), help: String::new() }
        }
        (_, "EntryNotFound", _) => HubError::NoFile {
            name: name.to_string(),
            wanted: format!("file at `{}`", shown(url)),
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
            whom: place.map_or("without a token".to_owned(), |place| format!("with the token of {place}")),
            said: if said.is_empty() { "403".to_owned() } else { said.chars().take(SHOWN).collect() },
            endpoint,
        },
        _ => HubError::BadAnswer { url: shown(url), why: format!("status {status}") },
    }
}
