//! The empty folder on which a root is mounted, and those that killed processes left.
//!
//! Whoever uses one holds a lock on it. The kernel takes the lock back when the process ends, however it ends: a folder
//! of ours without a lock is nobody's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, fstat, open, openat, statat, unlinkat};

const PREFIX: &str = "sandbox-";
/// Letters and digits behind it.
const N_RANDOM: usize = 6;

/// An empty folder of the machine, gone when this is dropped.
pub(super) struct Folder {
    folder: tempfile::TempDir,
    /// None where the file system has no locks: there nobody clears up either.
    _lock: Option<OwnedFd>,
}

impl Folder {
    /// Clears up what others left in the machine's temporary folder, and makes one there.
    pub fn new() -> io::Result<Self> {
        let place = std::env::temp_dir();
        clear_up(&place);
        loop {
            let folder = tempfile::Builder::new().prefix(PREFIX).rand_bytes(N_RANDOM).tempdir_in(&place)?;
            // Until it is locked another process may take it for a left one.
            let file = match open(folder.path(), FOLDER, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) => continue,
                opened => opened?,
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, folder.path()) => return Ok(Self { folder, _lock: Some(file) }),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(_) => return Ok(Self { folder, _lock: None }),
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn is_at(file: &OwnedFd, path: &Path) -> bool {
    let at = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    matches!((fstat(file), at), (Ok(file), Ok(at)) if (file.st_dev, file.st_ino) == (at.st_dev, at.st_ino))
}

/// Removes folders that bear our name, belong to this user, are empty and in nobody's use. Links are not followed, and
/// what cannot be removed stays.
fn clear_up(place: &Path) {
    let Ok(above) = open(place, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty()) else { return };
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(is_our_name) {
            continue;
        }
        let Ok(file) = openat(above.as_fd(), &name, FOLDER, Mode::empty()) else { continue };
        let is_own = fstat(&file).is_ok_and(|found| found.st_uid == rustix::process::geteuid().as_raw());
        if is_own && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Only an empty one is removed so.
            let _ = unlinkat(&above, &name, AtFlags::REMOVEDIR);
        }
    }
}

fn is_our_name(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.len() == N_RANDOM && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_processes_left_is_cleared_up_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for name in ["sandbox-left01", "sandbox-used01", "sandbox-full01", "sandbox-other", "other-abc123"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("sandbox-full01").join("file"), "").unwrap();
        std::fs::write(at("sandbox-file01"), "").unwrap();
        std::fs::create_dir(at("target")).unwrap();
        std::os::unix::fs::symlink(at("target"), at("sandbox-link01")).unwrap();
        let used = open(at("sandbox-used01"), FOLDER, Mode::empty()).unwrap();
        flock(&used, FlockOperation::NonBlockingLockExclusive).unwrap();
        clear_up(place.path());
        let names = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        let stay = ["other-abc123", "sandbox-file01", "sandbox-full01", "sandbox-link01", "sandbox-other"];
        assert_eq!(names, [&stay[..], &["sandbox-used01", "target"]].concat());
        drop(used);
        clear_up(place.path());
        assert!(!at("sandbox-used01").exists());
    }

    #[test]
    fn many_that_start_at_once_keep_their_folders() {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let folders: Vec<_> = (0..40).map(|_| Folder::new().unwrap()).collect();
                    assert!(folders.iter().all(|folder| folder.path().is_dir()));
                });
            }
        });
    }

    #[test]
    fn a_folder_in_use_is_locked_and_gone_afterwards() {
        let folder = Folder::new().unwrap();
        let path = folder.path().to_owned();
        let file = open(&path, FOLDER, Mode::empty()).unwrap();
        assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(folder);
        assert!(!path.exists());
    }
}
