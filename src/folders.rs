//! Where a user's own files lie, and how files that somebody else may have made are opened.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Opens a file to read; a pipe or a device, which may keep its reader waiting or never end, is refused.
///
/// # Errors
///
/// It cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = at_once(OpenOptions::new().read(true)).open(path)?;
    let kind = file.metadata()?.file_type();
    match (kind.is_file(), kind.is_dir()) {
        (true, _) => Ok(file),
        (false, true) => Err(io::ErrorKind::IsADirectory.into()),
        (false, false) => Err(io::Error::other("it is a pipe or a device, not a file")),
    }
}

/// To open a pipe that nobody writes to would wait for ever.
#[cfg(unix)]
fn at_once(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NONBLOCK)
}
#[cfg(not(unix))]
fn at_once(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// The bytes of a file that [`open`] opens.
///
/// # Errors
///
/// As there, and where it has more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A file may grow meanwhile, and one of the kernel's says that it is empty.
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("it has more than {most} bytes, which none of its kind has"))),
        false => Ok(bytes),
    }
}

/// The text of a file, as [`read`] reads it.
///
/// # Errors
///
/// As there, and where it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("byte {at} is not UTF-8"))
    })
}

/// The most bytes of a file of settings, of a recipe or of notes of this program.
pub const SETTINGS_BYTES: u64 = 64 << 20;

/// The user's cache by the XDG rules: `$XDG_CACHE_HOME`, or `.cache` in `$HOME`; a relative path counts as none.
pub fn cache() -> Option<PathBuf> {
    cache_of(|name| std::env::var_os(name))
}

/// This program's own part of the cache.
pub fn own_cache() -> Option<PathBuf> {
    Some(cache()?.join(env!("CARGO_PKG_NAME")))
}

/// Takes away what killed processes were writing in this program's cache; others may be writing there now.
pub fn sweep_own_cache() {
    // Nothing that is written there takes a minute.
    const LEFT: Duration = Duration::from_hours(1);
    let Some(own) = own_cache() else { return };
    for folder in ["", "samples", "questions", "data", "overlap", "apart"].map(|kind| own.join(kind)) {
        sweep(&folder, LEFT);
    }
}

/// Removes half-written files that were not touched for so long.
fn sweep(folder: &Path, left: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_half = entry.file_name().to_string_lossy().starts_with(".tmp");
        let about = entry.metadata().ok().filter(std::fs::Metadata::is_file);
        let age = about.and_then(|about| about.modified().ok()?.elapsed().ok());
        if is_half && age.is_some_and(|age| age >= left) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The path that settings write: `~` is the user's home, `$NAME` and `${NAME}` are variables, as Python's
/// `expandvars(expanduser(…))` has it. What is not set stays as it is written.
pub fn expanded(written: &str) -> PathBuf {
    expanded_with(written, |name| std::env::var(name).ok().filter(|value| !value.is_empty())).into()
}

fn expanded_with(written: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let home = || written.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let start = home().and_then(|rest| Some(format!("{}{rest}", variable("HOME")?.trim_end_matches('/'))));
    let text = start.unwrap_or_else(|| written.to_owned());
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, n) = match behind.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let n = behind.find(|c| !is_name(c)).unwrap_or(behind.len());
                (&behind[..n], n)
            }
        };
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..=at + n]),
        }
        rest = &behind[n..];
    }
    out + rest
}

fn cache_of(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(Path::new(".cache"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_what_is_too_long_are_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [&pipe, Path::new("/dev/zero")] {
            let error = read(path, 10).unwrap_err();
            assert_eq!(error.to_string(), "it is a pipe or a device, not a file");
        }
        assert_eq!(open(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let file = folder.path().join("file");
        std::fs::write(&file, "0123456789").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"0123456789");
        let error = read(&file, 9).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 9 bytes, which none of its kind has");
    }

    #[test]
    fn what_was_half_written_long_ago_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".tmpA1", "digests.json"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        sweep(folder.path(), Duration::from_hours(1));
        assert!(folder.path().join(".tmpA1").exists());
        sweep(folder.path(), Duration::ZERO);
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["digests.json"]);
    }

    #[test]
    fn the_cache_is_the_first_absolute_folder_of_the_two() {
        let cache = |xdg: Option<&str>, home: Option<&str>| {
            let variable = |name: &str| match name {
                "XDG_CACHE_HOME" => xdg.map(OsString::from),
                _ => home.map(OsString::from),
            };
            cache_of(variable).map(|path| path.display().to_string())
        };
        assert_eq!(cache(Some("/x"), Some("/h")).as_deref(), Some("/x"));
        for xdg in [None, Some(""), Some("x"), Some("~/x")] {
            assert_eq!(cache(xdg, Some("/h")).as_deref(), Some("/h/.cache"));
            assert_eq!(cache(xdg, Some("h")), None);
            assert_eq!(cache(xdg, None), None);
        }
    }

    #[test]
    fn a_home_and_variables_are_filled_in_as_python_does() {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/u/".to_owned()),
            "DATA" => Some("/data".to_owned()),
            _ => None,
        };
        for (written, expected) in [
            ("~", "/home/u"),
            ("~/x", "/home/u/x"),
            ("~other/x", "~other/x"),
            ("a/~/x", "a/~/x"),
            ("$DATA/x", "/data/x"),
            ("${DATA}x", "/datax"),
            ("$DATAx/$NONE/${NONE}/$", "$DATAx/$NONE/${NONE}/$"),
            ("a${DATA", "a${DATA"),
            ("$HOME/$DATA", "/home/u///data"),
            ("", ""),
        ] {
            assert_eq!(expanded_with(written, variable), expected, "{written}");
        }
    }
}
