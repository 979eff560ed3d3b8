//! The run folder: where each stage writes, who may write there, and its logs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde_json::Value;
use thiserror::Error;

use crate::event::{Event, StepEvent};

/// Why a run folder cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum FolderError {
    #[error("cannot write in `{}`", folder.display())]
    #[diagnostic(
        code(run::unwritable),
        help("check its rights and the space on its disk, or name another with `--out`")
    )]
    Unwritable { folder: PathBuf, source: std::io::Error },
    #[error("process {pid} is working in `{}`", folder.display())]
    #[diagnostic(code(run::busy), help("wait for it, or name another folder with `--out`"))]
    Busy { folder: PathBuf, pid: String },
    #[error("run folder `{}` belongs to another run: {why}", folder.display())]
    #[diagnostic(
        code(run::other_run),
        help("name another folder with `--out`; merges and evaluations may change, what is trained may not")
    )]
    OtherRun { folder: PathBuf, why: String },
}

/// A run folder that this process holds.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held until the process ends.
    _lock: File,
}

impl Folder {
    /// Makes or opens a run folder and holds it; `key` is the digest of what is trained.
    ///
    /// # Errors
    ///
    /// Another process holds it, it belongs to another run, or the disk refuses.
    pub fn hold(path: &Path, key: &str) -> Result<Self, FolderError> {
        let unwritable = |source| FolderError::Unwritable { folder: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(unwritable)?;
        let lock = lock(path, path)?;
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.claim(key)?;
        folder.sweep();
        Ok(folder)
    }

    /// Takes away what a killed process was writing; nobody else can be writing here now.
    fn sweep(&self) {
        for folder in [self.path.clone(), self.train(), self.path.join("merged"), self.path.join("fisher")] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with(".new-") {
                    let _ = std::fs::remove_dir_all(entry.path());
                } else if name.starts_with(".tmp") {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Notes what is trained here, or checks the note.
    fn claim(&self, key: &str) -> Result<(), FolderError> {
        let unwritable = |source| FolderError::Unwritable { folder: self.path.clone(), source };
        let note = self.path.join("key");
        match std::fs::read_to_string(&note) {
            Ok(found) if found.trim() == key => Ok(()),
            Ok(_) => Err(FolderError::OtherRun {
                folder: self.path.clone(),
                why: "model, data, method or training differ".to_owned(),
            }),
            Err(_) => crate::snapshot::writer::file_at_once(&note, format!("{key}\n").as_bytes())
                .map_err(|error| unwritable(std::io::Error::other(error.to_string()))),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn train(&self) -> PathBuf {
        self.path.join("train")
    }

    /// Where a candidate's answers lie.
    pub fn eval(&self, candidate: &str) -> PathBuf {
        self.path.join("eval").join(file_name(candidate))
    }

    /// Where a merged model is written when asked for.
    pub fn merged(&self, merge: &str) -> PathBuf {
        self.path.join("merged").join(file_name(merge))
    }
}

/// A candidate's name as a file name every system takes.
fn file_name(name: &str) -> String {
    name.replace([':', ',', '/', '\\'], "_")
}

/// The file in a folder that the process working there holds; it has its pid.
pub const LOCK: &str = ".lock";

/// Holds `folder`, which errors call `place`, until the file that comes back is closed.
///
/// # Errors
///
/// Another process holds it, or the disk refuses.
pub fn lock(folder: &Path, place: &Path) -> Result<File, FolderError> {
    let unwritable = |source| FolderError::Unwritable { folder: place.to_owned(), source };
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(folder.join(LOCK));
    let mut file = file.map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(unwritable)?;
            return Err(FolderError::Busy { folder: place.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(unwritable(source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(unwritable)?;
    Ok(file)
}

/// `events.jsonl` and `metrics.csv`, one line a happening.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    events: File,
}

const METRICS_HEADER: &str =
    "step,epoch,loss,validation_loss,gradient_norm,learning_rate,trained_tokens,tokens,padding,elapsed_s\n";

impl Logs {
    /// Opens the logs of a run folder for appending.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn open(folder: &Folder) -> Result<Self, FolderError> {
        let path = folder.path().join("events.jsonl");
        let unwritable = |source| FolderError::Unwritable { folder: folder.path().to_owned(), source };
        let events = OpenOptions::new().create(true).append(true).open(path).map_err(unwritable)?;
        Ok(Self { folder: folder.path().to_owned(), events })
    }

    /// Writes one event down. Progress ticks are for the terminal only.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn write(&mut self, event: &Event) -> Result<(), FolderError> {
        let result = match event {
            Event::Progress { .. } | Event::Validating { .. } => Ok(()),
            _ => self.line(event).and_then(|()| self.metrics(event)),
        };
        result.map_err(|source| FolderError::Unwritable { folder: self.folder.clone(), source })
    }

    fn line(&mut self, event: &Event) -> std::io::Result<()> {
        let mut value = serde_json::to_value(event).expect("an event is plain data");
        if let Value::Object(map) = &mut value {
            let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            map.insert("time".to_owned(), Value::String(now));
        }
        self.events.write_all(format!("{value}\n").as_bytes())
    }

    fn metrics(&self, event: &Event) -> std::io::Result<()> {
        let path = self.folder.join("metrics.csv");
        let row = match event {
            Event::Step(step) => step_row(step),
            Event::Validation { step, loss, .. } => format!("{step},,,{loss},,,,,,\n"),
            // Steps after the checkpoint are made again: their rows would stand twice.
            Event::Resumed { step } => return keep_rows(&path, *step),
            _ => return Ok(()),
        };
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if file.metadata()?.len() == 0 {
            file.write_all(METRICS_HEADER.as_bytes())?;
        }
        file.write_all(row.as_bytes())
    }
}

fn step_row(step: &StepEvent) -> String {
    let StepEvent {
        step,
        epoch,
        loss,
        gradient_norm,
        learning_rate,
        trained_tokens,
        tokens,
        padding,
        elapsed_s,
        ..
    } = step;
    format!(
        "{step},{epoch},{loss},,{gradient_norm},{learning_rate},{trained_tokens},{tokens},{padding},{elapsed_s}\n"
    )
}

fn keep_rows(path: &Path, last: usize) -> std::io::Result<()> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(()) };
    let step = |line: &str| line.split(',').next().and_then(|step| step.parse::<usize>().ok());
    let kept = text.lines().filter(|line| step(line).is_none_or(|step| step <= last));
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    crate::snapshot::writer::file_at_once(path, kept.as_bytes())
        .map_err(|error| std::io::Error::other(error.to_string()))
}
