//! Models and data sets of a Hugging Face hub, through the cache that Python shares.
//!
//! A [`Name`] is a repository at a revision; [`Hub::cached`] finds it without a network and
//! [`Hub::fetch`] brings what is missing: blobs appear whole, under the name of their digest, and a
//! commit's folder links to them. A revision is noted when all that was wanted is there.
//!
//! The crate hf-hub is not used. 1.0 needs tokio, reqwest and hf-xet, and begins an interrupted file
//! anew; 0.5 resumes, but with a file that Python does not; neither checks a digest, knows
//! `HF_HUB_OFFLINE` or says why it was refused. What remains is ureq with rustls and the files here.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use globset::GlobBuilder;

mod address;
mod broken;
mod cache;
mod certificates;
mod client;
mod error;
mod limits;
mod name;
mod refusal;

pub use broken::{Broken, broken};
pub use certificates::root_certs;
pub use error::HubError;
pub use name::{Name, RepoKind, is_commit, is_revision};

use crate::catalog::did_you_mean;
use crate::folders;
use crate::snapshot::digest::{self, Algorithm};
use crate::snapshot::{SnapshotError, adapter, files, writer};
use cache::Cache;
use client::{Client, Head};
use limits::Limits;

/// Which files of a repository are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Configuration and tokenizer of a model.
    Settings,
    /// These and its weights.
    Model,
    /// The files of a data set that its name names, or all.
    Data,
}

/// Some bytes of a file have come.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    pub file: &'a str,
    pub done: u64,
    pub total: u64,
}

/// Whoever is told of transfers.
pub type Tell<'a> = dyn FnMut(Transfer) + 'a;

/// A repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub folder: PathBuf,
    pub commit: String,
}

/// A hub with its cache, as the environment says.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    cache: Cache,
    offline: bool,
}

impl Hub {
    /// Reads `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and
    /// `SSL_CERT_FILE`, as Python's `huggingface_hub` does.
    ///
    /// # Errors
    ///
    /// `SSL_CERT_FILE` names no certificates.
    pub fn from_env() -> Result<Self, HubError> {
        let path = |name: &str| env(name).map(|written| folders::expanded(&written));
        let user = || folders::cache().unwrap_or_else(std::env::temp_dir);
        let home = path("HF_HOME").unwrap_or_else(|| user().join("huggingface"));
        let cache = path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub"));
        let offline = env("HF_HUB_OFFLINE").map(|value| value.to_lowercase());
        let offline = offline.is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.as_str()));
        Ok(Self { client: Client::from_env(&home)?, cache: Cache(cache), offline })
    }

    /// The hub at an address, asked without a token, with this folder for its cache.
    ///
    /// # Errors
    ///
    /// `SSL_CERT_FILE` names no certificates.
    pub fn at(endpoint: &str, cache: &Path) -> Result<Self, HubError> {
        let client = Client::new(endpoint, None, root_certs()?, Limits::default());
        Ok(Self { client, cache: Cache(cache.to_owned()), offline: false })
    }

    /// The repository in the cache, if all that is wanted is there.
    pub fn cached(&self, name: &Name, wanted: Wanted) -> Option<Fetched> {
        let commit = self.cache.commit(name)?;
        let folder = self.cache.snapshot(name, &commit);
        let has = |file: &str| folder.join(file).is_file();
        let whole = match (wanted, name.one_file()) {
            (Wanted::Settings, _) => has("config.json") && has("tokenizer.json"),
            (Wanted::Model, _) => {
                has("config.json") && has("tokenizer.json") && files::WeightFiles::open(&folder).is_ok()
            }
            (Wanted::Data, Some(file)) => has(file),
            (Wanted::Data, None) => folder.is_dir(),
        };
        whole.then_some(Fetched { folder, commit })
    }

    /// Asks the hub what the revision is now and brings what the cache lacks.
    ///
    /// # Errors
    ///
    /// The hub refuses, cannot be reached or lacks what is wanted, or the disk refuses.
    pub fn fetch(&self, name: &Name, wanted: Wanted, tell: &mut Tell<'_>) -> Result<Fetched, HubError> {
        if self.offline {
            return self.cached(name, wanted).ok_or_else(|| HubError::Offline {
                name: name.to_string(),
                cache: self.cache.0.clone(),
                help: elsewhere(name),
            });
        }
        let info = self.client.info(name)?;
        let all: Vec<&str> = info.siblings.iter().map(|sibling| sibling.file.as_str()).collect();
        let selected = select(name, wanted, &all)?;
        let (found, most) = (selected.len(), self.client.limits.most_files);
        if found > most {
            return Err(HubError::TooManyFiles { name: name.to_string(), found, most });
        }
        for file in selected {
            self.file(name, &info.sha, file, tell)?;
        }
        self.cache.note(name, &info.sha)?;
        Ok(Fetched { folder: self.cache.snapshot(name, &info.sha), commit: info.sha })
    }

    /// Brings one file of a commit.
    fn file(&self, name: &Name, commit: &str, file: &str, tell: &mut Tell<'_>) -> Result<(), HubError> {
        if !name::inside(file) {
            let why = format!("`{}` is no name of a file", address::shown(file));
            return Err(HubError::BadAnswer { url: self.client.endpoint.clone(), why });
        }
        if self.cache.snapshot(name, commit).join(file).exists() {
            return Ok(());
        }
        let head = patiently(&self.client.limits, |_| self.client.head(name, commit, file))?;
        let blob = self.cache.blob(name, &head.etag);
        let _turn = self.cache.turn(name, &head.etag)?;
        if !blob.exists() {
            self.blob(name, file, &head, &blob, tell)?;
        }
        self.cache.link(name, commit, file, &head.etag)
    }

    /// Brings the contents of a file, under its final name only when all of it is right.
    fn blob(
        &self,
        name: &Name,
        file: &str,
        head: &Head,
        blob: &Path,
        tell: &mut Tell<'_>,
    ) -> Result<(), HubError> {
        let part = PathBuf::from(format!("{}.incomplete", blob.display()));
        let unwritable = |source| HubError::Unwritable { path: part.clone(), source };
        fs::create_dir_all(writer::parent(blob)).map_err(unwritable)?;
        let have = fs::metadata(&part).map_or(0, |meta| meta.len());
        let needed = head.size.saturating_sub(have);
        if let Some(free) = writer::free_bytes(&part).filter(|free| *free < needed) {
            let file = file.to_owned();
            return Err(HubError::NoSpace {
                file,
                needed: needed.div_ceil(1_000_000),
                free: free / 1_000_000,
            });
        }
        let mut wrong = None;
        // What another program left, or a careless proxy sent, gets a second chance.
        for _ in 0..2 {
            patiently(&self.client.limits, |moved| self.bytes(name, file, head, &part, moved, tell))?;
            wrong = wrong_digest(file, head, &part).map_err(std::io::Error::other).map_err(unwritable)?;
            if wrong.is_none() {
                return fs::rename(&part, blob).map_err(unwritable);
            }
            fs::remove_file(&part).map_err(unwritable)?;
        }
        Err(wrong.expect("the loop ends at a wrong digest"))
    }

    /// Goes on with a file where it ends; says in `moved` whether it grew by more than a crumb.
    fn bytes(
        &self,
        name: &Name,
        file: &str,
        head: &Head,
        part: &Path,
        moved: &mut bool,
        tell: &mut Tell<'_>,
    ) -> Result<(), HubError> {
        let unwritable = |source| HubError::Unwritable { path: part.to_owned(), source };
        let cut =
            |done, source| HubError::Interrupted { file: file.to_owned(), done, total: head.size, source };
        let (limits, mut options) = (&self.client.limits, File::options());
        let out = writer::no_links(options.create(true).append(true)).open(part);
        let mut out = out.map_err(unwritable)?;
        let had = out.metadata().map_err(unwritable)?.len();
        // A file that is too long is another program's.
        let mut done = if had > head.size { 0 } else { had };
        out.set_len(done).map_err(unwritable)?;
        if done < head.size {
            let (start, body) = self.client.get(head, name, done).map_err(|error| match error {
                HubError::Unreachable { source, .. } | HubError::BrokeOff { source, .. } => cut(done, source),
                HubError::Slow { why, .. } => cut(done, std::io::Error::other(why)),
                other => other,
            })?;
            done = start;
            out.set_len(done).map_err(unwritable)?;
            let mut body = body.take(head.size - done);
            let mut buffer = vec![0; 1 << 20];
            while done < head.size {
                let n = match body.read(&mut buffer).map_err(|source| cut(done, limits.in_words(source)))? {
                    0 => return Err(cut(done, std::io::ErrorKind::UnexpectedEof.into())),
                    n => n,
                };
                out.write_all(&buffer[..n]).map_err(unwritable)?;
                done += n as u64;
                *moved = done >= had + limits.least_bytes;
                tell(Transfer { file, done, total: head.size });
            }
        }
        out.sync_all().map_err(unwritable)
    }
}

/// Whether the contents are what the hub lists: large files by their SHA-256, small ones by git's digest.
fn wrong_digest(file: &str, head: &Head, part: &Path) -> Result<Option<HubError>, SnapshotError> {
    let algorithm = match head.etag.len() {
        64 => Algorithm::Sha256,
        40 => Algorithm::GitBlob,
        _ => return Ok(None),
    };
    let found = digest::fresh(part, algorithm)?;
    let expected = head.etag.clone();
    Ok((found != expected).then(|| HubError::WrongDigest { file: file.to_owned(), found, expected }))
}

/// The files of a repository that are wanted.
fn select<'a>(name: &Name, wanted: Wanted, all: &[&'a str]) -> Result<Vec<&'a str>, HubError> {
    let layout = files::layout(|file| all.contains(&file));
    let settings = |file: &str| {
        let own = ["config.json", "adapter_config.json"];
        let index = layout == files::Layout::Sharded && file == files::INDEX;
        own.contains(&file) || index || writer::SIDE_FILES.contains(&file)
    };
    let weights = |file: &str| file == adapter::WEIGHTS || files::may_hold_weights(file, layout);
    let data = |file: &str| {
        let plain = file.trim_end_matches(".gz").trim_end_matches(".zst");
        DATA.iter().any(|end| plain.ends_with(end))
    };
    let pattern = match &name.file {
        Some(file) => {
            let glob = GlobBuilder::new(file).literal_separator(true).build();
            Some(glob.map_err(|_| HubError::BadName { name: name.to_string() })?.compile_matcher())
        }
        None => None,
    };
    let take = |file: &&str| match (wanted, &pattern) {
        (Wanted::Settings, _) => settings(file),
        (Wanted::Model, _) => settings(file) || weights(file),
        (Wanted::Data, Some(pattern)) => pattern.is_match(file),
        (Wanted::Data, None) => data(file),
    };
    let selected: Vec<&str> = all.iter().copied().filter(take).collect();
    let (what, there) = match (wanted, &name.file) {
        (Wanted::Settings, _) => ("`config.json`".to_owned(), selected.contains(&"config.json")),
        (Wanted::Model, _) => ("safetensors weights".to_owned(), all.iter().any(|file| weights(file))),
        (Wanted::Data, Some(file)) => (format!("file `{file}`"), !selected.is_empty()),
        (Wanted::Data, None) => (format!("file in {}", DATA.join(", ")), !selected.is_empty()),
    };
    if there {
        return Ok(selected);
    }
    let word = name.file.as_deref().unwrap_or_default();
    let mut help = did_you_mean(word, all.iter().copied().take(20));
    if all.len() > 20 {
        help += ", …";
    }
    if wanted == Wanted::Model {
        help += "; only safetensors weights are read, and some repositories have them on another revision";
    }
    Err(HubError::NoFile { name: name.repository(), wanted: what, help })
}

/// How the names of data files end, compressed or not.
const DATA: &[&str] = &[".json", ".jsonl", ".csv", ".tsv", ".parquet"];

/// Tries again what may pass, with growing pauses; an attempt that moves on starts the count anew.
fn patiently<T>(
    limits: &Limits,
    mut attempt: impl FnMut(&mut bool) -> Result<T, HubError>,
) -> Result<T, HubError> {
    let mut n_failed = 0;
    loop {
        let mut moved = false;
        match attempt(&mut moved) {
            Err(error) if error.may_pass() && (moved || n_failed < limits.retries) => {
                n_failed = if moved { 0 } else { n_failed };
                std::thread::sleep(limits.pause * 2_u32.pow(n_failed));
                n_failed += 1;
            }
            done => return done,
        }
    }
}

/// How to come by a repository without a network.
fn elsewhere(name: &Name) -> String {
    format!(
        "nothing here is called so; if it is a hub's, run `finetune fetch {name}` where there is a network, copy the folder that it prints to \
         this machine (`cp -rL`) and name that instead, in a recipe by `--set {}=PATH`",
        name.kind.key()
    )
}

/// A variable of the environment that says something.
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
