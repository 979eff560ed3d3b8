//! Where the files that a recipe names are: beside the user, beside the recipe, in this program, or
//! on a hub.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::folders::{self, SETTINGS_BYTES};
use crate::hub::{self, Hub, Name, RepoKind, Wanted, is_commit};
use crate::run::failure::{Failure, SourceError};
use crate::snapshot::SnapshotError;
use crate::snapshot::digest::of_bytes;
use crate::snapshot::writer::{file_at_once, folder_at_once};

/// The files that shipped recipes use, compiled in.
const SHIPPED: &[(&str, &[u8])] = &[
    ("data/tiny/model/config.json", include_bytes!("../../../data/tiny/model/config.json")),
    (
        "data/tiny/model/generation_config.json",
        include_bytes!("../../../data/tiny/model/generation_config.json"),
    ),
    ("data/tiny/model/tokenizer.json", include_bytes!("../../../data/tiny/model/tokenizer.json")),
    (
        "data/tiny/model/tokenizer_config.json",
        include_bytes!("../../../data/tiny/model/tokenizer_config.json"),
    ),
    ("data/tiny/model/chat_template.jinja", include_bytes!("../../../data/tiny/model/chat_template.jinja")),
    ("data/tiny/model/model.safetensors", include_bytes!("../../../data/tiny/model/model.safetensors")),
    ("data/tiny/math-train.jsonl", include_bytes!("../../../data/tiny/math-train.jsonl")),
    ("data/tiny/math-valid.jsonl", include_bytes!("../../../data/tiny/math-valid.jsonl")),
    ("data/tiny/math-test.jsonl", include_bytes!("../../../data/tiny/math-test.jsonl")),
    ("data/tiny/harmful-test.csv", include_bytes!("../../../data/tiny/harmful-test.csv")),
    ("data/tiny/harmful-valid.csv", include_bytes!("../../../data/tiny/harmful-valid.csv")),
    ("data/tiny/harmful-target.csv", include_bytes!("../../../data/tiny/harmful-target.csv")),
    ("data/tiny/everyday.jsonl", include_bytes!("../../../data/tiny/everyday.jsonl")),
    ("data/tiny/sums.jsonl", include_bytes!("../../../data/tiny/sums.jsonl")),
    ("data/tiny/benign-test.csv", include_bytes!("../../../data/tiny/benign-test.csv")),
    ("data/tiny/benign-valid.csv", include_bytes!("../../../data/tiny/benign-valid.csv")),
    ("data/tiny/helpful.jsonl", include_bytes!("../../../data/tiny/helpful.jsonl")),
    ("data/tiny/helpful-valid.jsonl", include_bytes!("../../../data/tiny/helpful-valid.jsonl")),
    ("data/tiny/align.jsonl", include_bytes!("../../../data/tiny/align.jsonl")),
    ("data/tiny/derta.jsonl", include_bytes!("../../../data/tiny/derta.jsonl")),
    ("data/tiny/pairs.jsonl", include_bytes!("../../../data/tiny/pairs.jsonl")),
    ("data/tiny/align-valid.jsonl", include_bytes!("../../../data/tiny/align-valid.jsonl")),
];

/// Finds what a recipe names, and keeps which commits of the hub that was.
pub struct Sources<'a> {
    recipe: &'a str,
    /// The commits that a lock found with the recipe asks for.
    locked: BTreeMap<String, String>,
    /// The commits that were settled so far: `hf://org/name@revision` to its hash.
    known: BTreeMap<String, String>,
    pub traces: Traces,
    tell: &'a mut hub::Tell<'a>,
}

/// What looking for something left behind.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    /// The commits that are used: `hf://org/name@revision` to its hash.
    pub commits: BTreeMap<String, String>,
    /// What the user should know of what was found.
    pub said: Vec<String>,
    /// Every file and folder that was found.
    pub found: BTreeSet<PathBuf>,
    /// The same by the names that the recipe gives them.
    pub named: BTreeMap<String, PathBuf>,
}

impl Traces {
    /// Notes where the file or folder lies that is written `name`.
    pub fn note(&mut self, name: &str, path: &Path) {
        self.found.insert(path.to_owned());
        self.named.insert(name.to_owned(), path.to_owned());
    }
}

/// What holds a run's digests and commits.
pub const LOCK: &str = "recipe.lock";

impl<'a> Sources<'a> {
    /// Looks for a lock in the run folder, if that was named, and then beside the recipe.
    pub fn new(recipe: &'a str, out: Option<&Path>, tell: &'a mut hub::Tell<'a>) -> Self {
        let beside = Path::new(recipe).with_extension("lock");
        let mut locks = out.map(|out| out.join(LOCK)).into_iter().chain([beside]);
        let text = locks.find_map(|lock| folders::read_text(&lock, SETTINGS_BYTES).ok()).unwrap_or_default();
        let commit = |line: &str| {
            let (commit, name) = line.split_once("  ").filter(|(_, name)| name.starts_with("hf://"))?;
            let commit = Some(commit).filter(|commit| is_commit(commit))?;
            Some((name.to_owned(), commit.to_owned()))
        };
        let locked = text.lines().filter_map(commit).collect();
        Self { recipe, locked, known: BTreeMap::new(), traces: Traces::default(), tell }
    }

    /// Keeps a sentence that the user should read, once.
    pub fn say(&mut self, sentence: Option<String>) {
        let new = sentence.filter(|sentence| !self.traces.said.contains(sentence));
        self.traces.said.extend(new);
    }

    /// What `work` finds, and what that left behind, which [`Self::replay`] makes good for another plan.
    ///
    /// # Errors
    ///
    /// Whatever `work` returns.
    pub fn traced<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<(T, Traces), Failure> {
        let before = std::mem::take(&mut self.traces);
        let found = work(self);
        let traces = std::mem::replace(&mut self.traces, before);
        self.replay(&traces);
        Ok((found?, traces))
    }

    /// Makes good what another search left behind.
    pub fn replay(&mut self, traces: &Traces) {
        self.traces.commits.extend(traces.commits.clone());
        self.traces.found.extend(traces.found.iter().cloned());
        self.traces.named.extend(traces.named.clone());
        for sentence in &traces.said {
            self.say(Some(sentence.clone()));
        }
    }

    /// Finds the file that `key` names: seen from the current folder, from the recipe's, shipped, or a
    /// hub's.
    ///
    /// # Errors
    ///
    /// It is nowhere, or the hub does not give it.
    pub fn find(&mut self, key: &str, name: &str) -> Result<PathBuf, Failure> {
        if let Some(path) = self.here(name)? {
            self.traces.note(name, &path);
            return Ok(path);
        }
        let Some(asked) = Name::parse(name).filter(|asked| asked.kind == RepoKind::Dataset) else {
            return Err(not_found(key, name).into());
        };
        let Some(file) = asked.one_file() else {
            return Err(SourceError::WholeRepository { key: key.to_owned(), name: name.to_owned() }.into());
        };
        let path = self.fetch(&asked, Wanted::Data)?.join(file);
        self.traces.note(name, &path);
        Ok(path)
    }

    /// Finds the folder of the base; a hub's has no weights yet unless they were fetched before.
    ///
    /// # Errors
    ///
    /// As [`Sources::find`].
    pub fn model(&mut self, name: &str) -> Result<PathBuf, Failure> {
        let folder = match (self.here(name)?, of_hub(name)) {
            (Some(path), _) => path,
            (None, Some(asked)) => self.fetch(&asked, Wanted::Settings)?,
            (None, None) => return Err(not_found("model.source", name).into()),
        };
        self.traces.note(name, &folder);
        Ok(folder)
    }

    /// Brings the weights of a base that is a hub's.
    ///
    /// # Errors
    ///
    /// As [`Sources::find`].
    pub fn weights(&mut self, name: &str) -> Result<(), Failure> {
        match of_hub(name).filter(|asked| self.known.contains_key(&asked.pin())) {
            Some(asked) => self.fetch(&asked, Wanted::Model).map(drop),
            None => Ok(()),
        }
    }

    /// The repository in the cache: at the commit used before, else at the lock's, else as it is there.
    fn fetch(&mut self, asked: &Name, wanted: Wanted) -> Result<PathBuf, Failure> {
        let pin = asked.pin();
        let commit = self.known.get(&pin).or(self.locked.get(&pin));
        let name = commit.map_or(asked.clone(), |commit| asked.at(commit));
        let hub = Hub::from_env()?;
        let fetched = match hub.cached(&name, wanted) {
            Some(fetched) => fetched,
            None => hub.fetch(&name, wanted, self.tell)?,
        };
        self.known.insert(pin.clone(), fetched.commit.clone());
        self.traces.commits.insert(pin, fetched.commit);
        Ok(fetched.folder)
    }

    /// What is on this machine without a hub.
    fn here(&self, name: &str) -> Result<Option<PathBuf>, SourceError> {
        let here = folders::expanded(name);
        if here.exists() {
            return Ok(Some(here));
        }
        let beside = Path::new(self.recipe).parent().map(|folder| folder.join(name));
        if let Some(beside) = beside.filter(|path| path.exists()) {
            return Ok(Some(beside));
        }
        let is_shipped =
            SHIPPED.iter().any(|(path, _)| *path == name || path.starts_with(&format!("{name}/")));
        is_shipped.then(|| shipped(name)).transpose()
    }
}

/// Writes the commits and digests of a run, which a later one goes by.
///
/// # Errors
///
/// The disk refuses.
pub fn write_lock(
    folder: &Path,
    commits: &BTreeMap<String, String>,
    digests: &BTreeMap<String, String>,
) -> Result<(), SnapshotError> {
    let entries = commits.iter().chain(digests);
    let lock: String = entries.map(|(name, digest)| format!("{digest}  {name}\n")).collect();
    file_at_once(&folder.join(LOCK), lock.as_bytes())
}

/// The model of a hub that a name may mean.
pub fn of_hub(name: &str) -> Option<Name> {
    Name::parse(name).filter(|name| name.kind == RepoKind::Model)
}

fn not_found(key: &str, name: &str) -> SourceError {
    let help =
        format!("paths are relative to the current folder, then to the recipe's; or add `--set {key}=PATH`");
    SourceError::NotFound { key: key.to_owned(), name: name.to_owned(), help }
}

/// The shipped file or folder, unpacked once into the user's cache.
fn shipped(name: &str) -> Result<PathBuf, SourceError> {
    let all: Vec<&[u8]> = SHIPPED.iter().flat_map(|(path, bytes)| [path.as_bytes(), bytes]).collect();
    let digest = of_bytes(&all.concat());
    let cache = folders::own_cache().unwrap_or_else(|| std::env::temp_dir().join("finetune"));
    let folder = cache.join(format!("shipped-{}", &digest[..16]));
    if !folder.is_dir() {
        let unpacked = folder_at_once::<SnapshotError>(&folder, |folder| {
            for (path, bytes) in SHIPPED {
                let path = folder.join(path);
                let write = std::fs::create_dir_all(path.parent().unwrap_or(folder))
                    .and_then(|()| std::fs::write(&path, bytes));
                write.map_err(|source| SnapshotError::Unwritable { path, source })?;
            }
            Ok(())
        });
        // Another process may have been faster.
        if let (Err(source), false) = (unpacked, folder.is_dir()) {
            return Err(SourceError::Unpack { name: name.to_owned(), source });
        }
    }
    Ok(folder.join(name))
}
