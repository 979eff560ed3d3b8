//! What was found out, on disk: one line each, appended as they come, never written twice.
//!
//! A line carries a key: the digest of the weights, the prompt's tokens and the decoding. A line
//! with another key belongs to other settings and is left alone. Answers may be harmful text: the
//! files are readable by their owner only.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Unwritable;
use crate::folders;
use crate::snapshot::writer::no_links;

/// A store of one candidate's answers to one suite. Its file is open only while it is read or written: a study or a
/// landscape has more stores than a process may have open files.
#[derive(Debug)]
pub struct Store<T> {
    path: PathBuf,
    found: HashMap<String, T>,
}

#[derive(Serialize, serde::Deserialize)]
struct Line<T> {
    key: String,
    #[serde(flatten)]
    answer: T,
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// Opens a store and reads what is there. A last line that a killed process left half-written
    /// is taken away.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, Unwritable> {
        let unwritable = |source| Unwritable { folder: path.to_owned(), source };
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(unwritable)?;
        if !path.exists() {
            return Ok(Self { path: path.to_owned(), found: HashMap::new() });
        }
        let mut options = OpenOptions::new();
        let file = no_links(options.read(true).write(true)).open(path);
        let mut file = file.map_err(unwritable)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unwritable)?;
        let (found, whole) = lines(&bytes);
        file.set_len(whole as u64).map_err(unwritable)?;
        Ok(Self { path: path.to_owned(), found })
    }

    /// What a store has by now that may be another process'; nothing is touched. One that cannot be read
    /// has nothing.
    pub fn peek(path: &Path) -> Self {
        let (found, _) = lines(&folders::read(path, u64::MAX).unwrap_or_default());
        Self { path: path.to_owned(), found }
    }

    /// The answer with this key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.found.get(key)
    }

    /// Appends answers and sees them safely on disk.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn append(&mut self, answers: impl IntoIterator<Item = (String, T)>) -> Result<(), Unwritable> {
        let mut text = Vec::new();
        for (key, answer) in answers {
            let line = Line { key, answer };
            serde_json::to_writer(&mut text, &line).expect("an answer is plain data");
            text.push(b'\n');
            self.found.insert(line.key, line.answer);
        }
        if text.is_empty() {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let file = private(no_links(options.append(true).create(true))).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_data()));
        written.map_err(|source| Unwritable { folder: self.path.clone(), source })
    }
}

/// The lines that are whole, by their keys, and how many bytes they are.
fn lines<T: DeserializeOwned>(bytes: &[u8]) -> (HashMap<String, T>, usize) {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines = lines.filter_map(|line| serde_json::from_slice::<Line<T>>(line).ok());
    (lines.map(|line| (line.key, line.answer)).collect(), whole)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}
#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(test)]
mod tests {
    use super::Store;
    use std::collections::BTreeMap;

    type Answer = BTreeMap<String, String>;

    fn answer(text: &str) -> Answer {
        BTreeMap::from([("text".to_owned(), text.to_owned())])
    }

    #[test]
    fn a_half_written_line_is_lost_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/answers.jsonl");
        let mut answers = Store::open(&path).unwrap();
        answers.append([("1".to_owned(), answer("one")), ("2".to_owned(), answer("zwei\n"))]).unwrap();
        drop(answers);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"key\":\"3\",\"te");
        std::fs::write(&path, bytes).unwrap();

        let mut answers = Store::<Answer>::open(&path).unwrap();
        assert_eq!(answers.get("2"), Some(&answer("zwei\n")));
        assert!(answers.get("3").is_none());
        answers.append([("3".to_owned(), answer("drei"))]).unwrap();
        let answers = Store::<Answer>::open(&path).unwrap();
        assert!(["1", "2", "3"].iter().all(|key| answers.get(key).is_some()));
    }
}
