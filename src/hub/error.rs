//! Every way that a hub can fail us.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// Why a repository, or a file of one, cannot be had.
#[derive(Debug, Error, Diagnostic)]
pub enum HubError {
    #[error("`{name}` names no repository")]
    #[diagnostic(
        code(hub::bad_name),
        help(
            "write `org/model`, `org/model@revision`, `datasets/org/name` or `datasets/org/name@revision/FILE`"
        )
    )]
    BadName { name: String },
    #[error("`{name}` is not whole in the cache `{}`, and `HF_HUB_OFFLINE` forbids to ask the hub", cache.display())]
    #[diagnostic(code(hub::offline), help("{help}"))]
    Offline { name: String, cache: PathBuf, help: String },
    #[error("cannot reach `{url}`")]
    #[diagnostic(code(hub::unreachable), help("{help}"))]
    Unreachable { url: String, help: String, source: std::io::Error },
    #[error("the connection ends before `{url}` has answered, again and again")]
    #[diagnostic(
        code(hub::broke_off),
        help("does a proxy stand in between? the same command goes on with what is missing")
    )]
    BrokeOff { url: String, source: std::io::Error },
    #[error("`{url}` answers too slowly: {why}")]
    #[diagnostic(
        code(hub::slow),
        help(
            "does a proxy stand in between, or is the hub of `HF_ENDPOINT` busy? the same command goes on with what is missing"
        )
    )]
    Slow { url: String, why: String },
    #[error("`{url}` answers with more than {most}")]
    #[diagnostic(
        code(hub::too_much),
        help("no hub needs as much to list a million files: is `HF_ENDPOINT` right?")
    )]
    TooMuch { url: String, most: String },
    #[error("`HF_ENDPOINT` names `{endpoint}`, which is no address")]
    #[diagnostic(code(hub::bad_endpoint), help("write it as in `https://huggingface.co`, or unset it"))]
    BadEndpoint { endpoint: String },
    #[error("the token of {place} cannot be one: its character {at} of {n} is no letter, digit or sign")]
    #[diagnostic(
        code(hub::broken_token),
        help("copy it once more, in one piece, from `{endpoint}/settings/tokens`")
    )]
    BrokenToken { place: String, at: usize, n: usize, endpoint: String },
    #[error("the hub does not know the token of {place}, and answers nothing about `{name}`")]
    #[diagnostic(
        code(hub::bad_token),
        help(
            "make a token at `{endpoint}/settings/tokens` and put it in `HF_TOKEN`, or run `hf auth login`; public \
             repositories need none"
        )
    )]
    BadToken { name: String, place: String, endpoint: String },
    #[error("`{name}` is gated: its owners want their terms accepted first")]
    #[diagnostic(
        code(hub::gated),
        help("accept the terms at `{page}` (some owners answer days later), then {token}")
    )]
    Gated { name: String, page: String, token: String },
    #[error("the hub refuses `{name}` {whom}: {said}")]
    #[diagnostic(
        code(hub::forbidden),
        help(
            "a token needs the right to read this repository; `{endpoint}/settings/tokens` shows its rights"
        )
    )]
    Forbidden { name: String, whom: String, said: String, endpoint: String },
    #[error("`{name}` is neither a folder here nor a repository that `{endpoint}` shows {whom}")]
    #[diagnostic(code(hub::no_repository), help("{help}"))]
    NoRepository { name: String, endpoint: String, whom: &'static str, help: String },
    #[error("`{name}` has no revision `{revision}`")]
    #[diagnostic(code(hub::no_revision), help("{help}"))]
    NoRevision { name: String, revision: String, help: String },
    #[error("`{name}` has no {wanted}")]
    #[diagnostic(code(hub::no_file), help("{help}"))]
    NoFile { name: String, wanted: String, help: String },
    #[error("{found} files of `{name}` would be fetched, and {most} are the most")]
    #[diagnostic(
        code(hub::too_many_files),
        help("name fewer with a pattern, such as `datasets/org/name/data/train-*.jsonl`")
    )]
    TooManyFiles { name: String, found: usize, most: usize },
    #[error("the hub answers {status} to `{url}`")]
    #[diagnostic(code(hub::busy), help("try again later; the same command goes on with what is missing"))]
    Busy { url: String, status: u16 },
    #[error("`{url}` gives an answer that is not a hub's: {why}")]
    #[diagnostic(
        code(hub::bad_answer),
        help("is `HF_ENDPOINT` right, and does a proxy or a log-in page stand in between?")
    )]
    BadAnswer { url: String, why: String },
    #[error("the download of `{file}` broke off after {done} of {total} bytes, again and again")]
    #[diagnostic(code(hub::interrupted), help("the same command goes on from there"))]
    Interrupted { file: String, done: u64, total: u64, source: std::io::Error },
    #[error("`{file}` came with SHA-256 {found}, and the hub lists {expected}")]
    #[diagnostic(
        code(hub::wrong_digest),
        help("it was fetched twice and removed; a proxy may change files, or the mirror has another one")
    )]
    WrongDigest { file: String, found: String, expected: String },
    #[error("`{file}` needs {needed} MB on a disk that has {free} MB left")]
    #[diagnostic(code(hub::no_space), help("make room, or name a cache on another disk with `HF_HOME`"))]
    NoSpace { file: String, needed: u64, free: u64 },
    #[error("cannot write `{}`", path.display())]
    #[diagnostic(
        code(hub::unwritable),
        help(
            "check the rights and the space of the disk, or name another cache with `HF_HOME`; the same command goes on"
        )
    )]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("`SSL_CERT_FILE` names `{}`, which cannot be read as certificates", path.display())]
    #[diagnostic(
        code(hub::bad_certificates),
        help("it must be a PEM file; without it Mozilla's list is used")
    )]
    BadCertificates { path: PathBuf, source: std::io::Error },
}

impl HubError {
    /// What may be over a moment later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::BrokeOff { .. } | Self::Interrupted { .. })
    }
}
