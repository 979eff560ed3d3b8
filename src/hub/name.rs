//! What a repository is called: `[hf://][datasets/]org/name[@revision][/file]`.

use std::fmt;

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    Model,
    Dataset,
}

impl RepoKind {
    /// The word in addresses and in the cache.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// The recipe's key that names such a repository.
    pub fn key(self) -> &'static str {
        match self {
            Self::Model => "model.source",
            Self::Dataset => "data.source",
        }
    }
}

/// A repository at a revision; for data sets also which of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub kind: RepoKind,
    /// `org/name`.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A file or a pattern of files.
    pub file: Option<String>,
}

impl Name {
    /// Reads a name; `None` if it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("hf://").unwrap_or(text);
        let (kind, path) = match text.strip_prefix("datasets/") {
            Some(path) => (RepoKind::Dataset, path),
            None => (RepoKind::Model, text),
        };
        let (org, rest) = path.split_once('/')?;
        // A model has no file to name: slashes after `@` are its revision's, as in `refs/pr/1`.
        let (rest, file) = match rest.split_once('/') {
            Some((rest, file)) if kind == RepoKind::Dataset => (rest, Some(file.to_owned())),
            _ => (rest, None),
        };
        let (name, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let right = plain(org) && plain(name) && is_revision(revision);
        let right = right && file.as_ref().is_none_or(|file| inside(file));
        right.then(|| Self { kind, id: format!("{org}/{name}"), revision: revision.to_owned(), file })
    }

    /// The same repository at another revision.
    pub fn at(&self, revision: &str) -> Self {
        Self { revision: revision.to_owned(), ..self.clone() }
    }

    /// The file, if it is no pattern.
    pub fn one_file(&self) -> Option<&str> {
        self.file.as_deref().filter(|file| !file.contains(['*', '?', '[', '{']))
    }

    /// Repository and revision without the file: what a lock pins.
    pub fn pin(&self) -> String {
        format!("hf://{}@{}", self.repository(), self.revision)
    }

    /// The repository alone, as addresses have it.
    pub fn repository(&self) -> String {
        match self.kind {
            RepoKind::Model => self.id.clone(),
            RepoKind::Dataset => format!("datasets/{}", self.id),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        self.file.as_ref().map_or(Ok(()), |file| write!(f, "/{file}"))
    }
}

/// A word that the hub allows and that cannot leave a folder.
pub(super) fn plain(word: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !word.is_empty() && !word.starts_with('.') && word.chars().all(allowed)
}

/// A branch, a tag or a commit that cannot leave a folder.
pub fn is_revision(revision: &str) -> bool {
    revision.split('/').all(plain)
}

/// A path that stays in its folder.
pub(super) fn inside(path: &str) -> bool {
    !path.contains('\\') && path.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// A whole commit hash: what it names cannot move.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Name, RepoKind};

    #[test]
    fn names_read_and_print() {
        let read = |text: &str| Name::parse(text).map(|name| (name.kind, name.pin(), name.to_string()));
        let is = |kind, pin: &str, text: &str| Some((kind, pin.to_owned(), text.to_owned()));
        assert_eq!(read("a/b"), is(RepoKind::Model, "hf://a/b@main", "a/b"));
        assert_eq!(read("hf://a/b@refs/pr/1"), is(RepoKind::Model, "hf://a/b@refs/pr/1", "a/b@refs/pr/1"));
        let (pin, text) = ("hf://datasets/a/b@v1", "datasets/a/b@v1/c/*.jsonl");
        assert_eq!(read(&format!("hf://{text}")), is(RepoKind::Dataset, pin, text));
        for no in
            ["a", "a/b/c", "/a/b", "./a", "../a", "a/", "a/b@", "a/b@../c", "datasets/a/b/../c", "a b/c"]
        {
            assert_eq!(read(no), None, "{no}");
        }
    }
}
