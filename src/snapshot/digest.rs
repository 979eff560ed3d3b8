//! Digests of files, of bytes and of JSON, and the cache that spares reading a file twice.
//!
//! A cached digest stands for a file's path, size, time and inode. What was changed just before it was read is not
//! remembered: within the clock's grain another change would leave the same marks.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{SnapshotError, files, writer};
use crate::folders;

/// How bytes become a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// What hubs and other programs compare.
    Sha256,
    /// The quick one.
    Blake3,
    /// The SHA-1 by which git, and so a hub, knows a small file.
    GitBlob,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
            Self::GitBlob => "git-blob",
        }
    }
}

/// The digest of a file in hexadecimal, as `sha256sum` and `b3sum` print it.
///
/// # Errors
///
/// The file cannot be read.
pub fn fresh(path: &Path, algorithm: Algorithm) -> Result<String, SnapshotError> {
    let unreadable = |source| SnapshotError::Unreadable { path: path.to_owned(), source };
    match algorithm {
        Algorithm::Blake3 => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_mmap_rayon(path).map_err(unreadable)?;
            Ok(hasher.finalize().to_hex().to_string())
        }
        Algorithm::Sha256 => read_into(Sha256::new(), path).map_err(unreadable),
        Algorithm::GitBlob => {
            let size = std::fs::metadata(path).map_err(unreadable)?.len();
            read_into(Sha1::new_with_prefix(format!("blob {size}\0")), path).map_err(unreadable)
        }
    }
}

fn read_into(mut hasher: impl Digest, path: &Path) -> std::io::Result<String> {
    let mut file = folders::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// As [`fresh`], from the user's cache if the file was read before and has not changed since.
///
/// # Errors
///
/// As there. A cache that cannot be read or written is done without.
pub fn known(path: &Path, algorithm: Algorithm) -> Result<String, SnapshotError> {
    CACHE.known(&[path], algorithm).map(|mut found| found.pop().expect("a path has a digest"))
}

/// The digest of each file by the label it is given, several at once, as [`known`] finds them.
///
/// # Errors
///
/// As there.
pub fn of_files(
    files: &[(String, PathBuf)],
    algorithm: Algorithm,
) -> Result<BTreeMap<String, String>, SnapshotError> {
    let paths: Vec<&Path> = files.iter().map(|(_, path)| path.as_path()).collect();
    let found = CACHE.known(&paths, algorithm)?;
    Ok(files.iter().map(|(label, _)| label.clone()).zip(found).collect())
}

/// Path, size, time and inode: a file that has all of these is the file that had them before.
///
/// # Errors
///
/// There is no such file.
pub fn identity(path: &Path) -> Result<String, SnapshotError> {
    Ok(format!("{} {}", path.display(), Marks::of(path)?.text))
}

/// The SHA-256 of some bytes.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of some JSON, for keys.
pub fn of_json(value: &Value) -> String {
    of_bytes(value.to_string().as_bytes())
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// What of a file changes when it does.
#[derive(PartialEq, Eq)]
struct Marks {
    /// Size, time and inode.
    text: String,
    changed: SystemTime,
}

impl Marks {
    fn of(path: &Path) -> Result<Self, SnapshotError> {
        let unreadable = |source| SnapshotError::Unreadable { path: path.to_owned(), source };
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        let changed = meta.modified().unwrap_or(UNIX_EPOCH);
        let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { text: format!("{} {} {}", meta.len(), since.as_nanos(), inode(&meta)), changed })
    }

    /// Whether another change would show. A time in the future says nothing.
    fn are_settled(&self) -> bool {
        SystemTime::now().duration_since(self.changed).is_ok_and(|age| age > GRAIN)
    }
}

/// File systems keep times to two seconds (FAT) or better.
const GRAIN: Duration = Duration::from_secs(2);

#[cfg(unix)]
fn inode(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}
#[cfg(not(unix))]
fn inode(_meta: &std::fs::Metadata) -> u64 {
    0
}

/// The user's: `digests.json` in this program's cache folder.
static CACHE: LazyLock<Cache> =
    LazyLock::new(|| Cache::new(folders::own_cache().map(|folder| folder.join("digests.json"))));

/// More entries than this are looked through for files that are gone.
const MANY: usize = 4000;

/// Algorithm and path to marks and digest: a file has one entry, however often it changes.
type Entries = BTreeMap<String, String>;

/// Digests of files, kept in a file that several processes may read and replace.
struct Cache {
    /// Without one, nothing is remembered.
    path: Option<PathBuf>,
    /// Read once, when it is first asked for.
    entries: Mutex<Option<Entries>>,
}

impl Cache {
    fn new(path: Option<PathBuf>) -> Self {
        Self { path, entries: Mutex::new(None) }
    }

    /// The digests of `paths` in their order; the files that are not known are read, several at once.
    fn known(&self, paths: &[&Path], algorithm: Algorithm) -> Result<Vec<String>, SnapshotError> {
        let one = |path: &&Path| {
            let marks = Marks::of(path)?;
            let key = format!("{} {}", algorithm.name(), absolute(path));
            if let Some(digest) = self.find(&key, &marks) {
                return Ok((digest, None));
            }
            let digest = fresh(path, algorithm)?;
            let is_sure = marks.are_settled() && Marks::of(path)? == marks;
            let entry = is_sure.then(|| (key, format!("{} {digest}", marks.text)));
            Ok((digest, entry))
        };
        let found: Vec<_> = paths.par_iter().map(one).collect::<Result<_, SnapshotError>>()?;
        let (digests, new): (Vec<String>, Vec<_>) = found.into_iter().unzip();
        self.remember(new.into_iter().flatten().collect());
        Ok(digests)
    }

    fn find(&self, key: &str, marks: &Marks) -> Option<String> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, digest) = entries.get_or_insert_with(|| self.stored()).get(key)?.rsplit_once(' ')?;
        (found == marks.text).then(|| digest.to_owned())
    }

    /// Adds to what the file holds by now: another process may have written since it was read.
    fn remember(&self, new: Entries) {
        let Some(path) = self.path.as_ref().filter(|_| !new.is_empty()) else { return };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.stored();
        all.extend(new);
        if all.len() > MANY {
            all.retain(|key, _| key.split_once(' ').is_some_and(|(_, path)| Path::new(path).exists()));
        }
        // A digest that is not remembered is computed again.
        let _ = writer::write_json(path, &serde_json::json!(all));
        *entries = Some(all);
    }

    /// What the file holds; nothing if it is absent or broken.
    fn stored(&self) -> Entries {
        self.path.as_ref().and_then(|path| files::read_json(path).ok()).unwrap_or_default()
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::Algorithm::{Blake3, GitBlob, Sha256};
    use super::*;

    const HELLO: [(Algorithm, &str); 3] = [
        (Sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        (Blake3, "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"),
        (GitBlob, "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"), // As `git hash-object` has it.
    ];

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// Writes a file that was changed `age_s` seconds ago.
        fn write(&self, name: &str, text: &str, age_s: u64) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            set_time(&path, SystemTime::now() - Duration::from_secs(age_s));
            path
        }

        /// The cache as a new process has it.
        fn cache(&self) -> Cache {
            Cache::new(Some(self.0.path().join("cache/digests.json")))
        }

        fn entries(&self) -> Entries {
            self.cache().stored()
        }
    }

    fn set_time(path: &Path, time: SystemTime) {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    fn one(cache: &Cache, path: &Path, algorithm: Algorithm) -> String {
        cache.known(&[path], algorithm).unwrap().remove(0)
    }

    /// Puts a mark in place of every remembered digest: whoever reads the file again does not find it.
    fn mark(fixture: &Fixture) {
        let path = fixture.0.path().join("cache/digests.json");
        let entries: Entries = fixture
            .entries()
            .into_iter()
            .map(|(key, value)| (key, format!("{} remembered", value.rsplit_once(' ').unwrap().0)))
            .collect();
        writer::write_json(&path, &serde_json::json!(entries)).unwrap();
    }

    #[test]
    fn a_file_is_read_once_by_each_algorithm() {
        let fixture = Fixture::new();
        let path = fixture.write("a", "hello", 60);
        for (algorithm, digest) in HELLO {
            assert_eq!(fresh(&path, algorithm).unwrap(), digest);
            assert_eq!(one(&fixture.cache(), &path, algorithm), digest);
        }
        assert_eq!(fixture.entries().len(), 3);
        mark(&fixture);
        for (algorithm, _) in HELLO {
            assert_eq!(one(&fixture.cache(), &path, algorithm), "remembered");
        }
        // A changed file is another, and takes the place of the one before.
        fixture.write("a", "hallo", 30);
        assert_ne!(one(&fixture.cache(), &path, Sha256), "remembered");
        assert_eq!(fixture.entries().len(), 3);
    }

    #[test]
    fn a_process_reads_the_cache_once_and_keeps_what_others_wrote() {
        let fixture = Fixture::new();
        let [a, b, c] = ["a", "b", "c"].map(|name| fixture.write(name, name, 60));
        let (first, second) = (fixture.cache(), fixture.cache());
        assert_eq!(first.known(&[&a, &b], Blake3).unwrap().len(), 2);
        one(&second, &c, Blake3);
        one(&first, &a, Blake3);
        assert_eq!(fixture.entries().len(), 3);
        std::fs::remove_dir_all(fixture.0.path().join("cache")).unwrap();
        one(&first, &b, Blake3);
        assert!(fixture.entries().is_empty());
    }

    #[test]
    fn what_was_changed_a_moment_ago_is_not_remembered() {
        let fixture = Fixture::new();
        for (name, age_s) in [("new", 0), ("young", 1)] {
            let path = fixture.write(name, "hello", age_s);
            assert_eq!(one(&fixture.cache(), &path, Sha256), HELLO[0].1);
        }
        let path = fixture.write("future", "hello", 0);
        set_time(&path, SystemTime::now() + Duration::from_mins(1));
        one(&fixture.cache(), &path, Sha256);
        assert!(fixture.entries().is_empty());
    }

    #[test]
    fn a_cache_that_is_broken_or_cannot_be_written_is_done_without() {
        let fixture = Fixture::new();
        let path = fixture.write("a", "hello", 60);
        std::fs::create_dir(fixture.0.path().join("cache")).unwrap();
        fixture.write("cache/digests.json", "{\"half", 0);
        assert_eq!(one(&fixture.cache(), &path, Sha256), HELLO[0].1);
        assert_eq!(fixture.entries().len(), 1);
        let below_a_file = Cache::new(Some(path.join("digests.json")));
        assert_eq!(one(&below_a_file, &path, Sha256), HELLO[0].1);
        assert_eq!(one(&Cache::new(None), &path, Sha256), HELLO[0].1);
        assert!(Cache::new(None).known(&[&fixture.0.path().join("nowhere")], Sha256).is_err());
    }

    #[test]
    fn a_full_cache_forgets_files_that_are_gone() {
        let fixture = Fixture::new();
        let path = fixture.write("a", "hello", 60);
        let gone: Entries =
            (0..MANY).map(|i| (format!("sha256 /nowhere/{i}"), "1 2 3 x".to_owned())).collect();
        let cache = fixture.cache();
        writer::write_json(cache.path.as_ref().unwrap(), &serde_json::json!(gone)).unwrap();
        one(&cache, &path, Sha256);
        assert_eq!(fixture.entries().len(), 1);
    }

    #[test]
    fn several_threads_leave_a_whole_file() {
        let fixture = Fixture::new();
        let paths: Vec<PathBuf> = (0..16).map(|i| fixture.write(&i.to_string(), "hello", 60)).collect();
        std::thread::scope(|scope| {
            for path in &paths {
                let fixture = &fixture;
                scope.spawn(move || assert_eq!(one(&fixture.cache(), path, Blake3), HELLO[1].1));
            }
        });
        assert!(!fixture.entries().is_empty());
    }

    #[test]
    fn labels_keep_their_digests_and_json_has_one_of_its_own() {
        let fixture = Fixture::new();
        let files = [("x".to_owned(), fixture.write("a", "hello", 0))];
        assert_eq!(of_files(&files, Sha256).unwrap()["x"], HELLO[0].1);
        assert_eq!(of_bytes(b"hello"), HELLO[0].1);
        assert_eq!(of_json(&Value::from("hello")), of_bytes(b"\"hello\""));
    }
}
