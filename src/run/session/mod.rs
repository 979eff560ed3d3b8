//! One sitting at a run folder: the folder held, what happens written down and shown, the wish to stop heard.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub mod folder;
mod logs;
pub mod store;
mod tensorboard;

pub use folder::{Folder, Key};

use super::failure::{Failure, FolderError, Stopped};
use crate::doing;
use crate::event::{Event, Listener, Remaining, Unwritable};
use logs::Logs;

/// A run folder in use. Every stage gets this one thing and what it works on.
pub struct Session<'a> {
    folder: Folder,
    logs: Logs,
    watcher: &'a mut Listener<'a>,
    stop: &'a AtomicBool,
    /// Whether answers of other runs may be taken over.
    shares: bool,
}

impl<'a> Session<'a> {
    /// Holds the folder at `path`, in which what `key` stands for is made; one that is looked at again has its
    /// key, whatever it is.
    ///
    /// # Errors
    ///
    /// Another process holds it, it belongs to another run, or the disk refuses.
    pub fn open(
        path: &Path,
        key: Option<&Key>,
        stop: &'a AtomicBool,
        watcher: &'a mut Listener<'a>,
    ) -> Result<Self, FolderError> {
        let folder = Folder::hold(path, key)?;
        Ok(Self { logs: Logs::open(&folder)?, folder, watcher, stop, shares: true })
    }

    /// The run folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Says whether answers of other runs may be taken over, and given to others; at first they may.
    pub fn share(&mut self, shares: bool) {
        self.shares = shares;
    }

    /// Whether answers of other runs may be taken over.
    pub fn shares(&self) -> bool {
        self.shares
    }

    /// Set when the work should stop.
    pub fn stop(&self) -> &'a AtomicBool {
        self.stop
    }

    /// Writes down and shows what happened.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn event(&mut self, event: Event) -> Result<(), Unwritable> {
        let written = self.logs.write(&event);
        (self.watcher)(event);
        written
    }

    /// Says something that the user should know.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub fn note(&mut self, text: String) -> Result<(), Unwritable> {
        self.event(Event::Note { text })
    }

    /// An error if the run was asked to stop.
    ///
    /// # Errors
    ///
    /// It was.
    pub fn go_on(&self) -> Result<(), Stopped> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(self.stopped()),
            false => Ok(()),
        }
    }

    /// What is said of a run that was stopped.
    pub fn stopped(&self) -> Stopped {
        Stopped { folder: self.folder.path().display().to_string() }
    }

    /// Tells how many of a stage's parts are done, and how long it will take from here.
    ///
    /// # Errors
    ///
    /// The disk refuses, or the run was asked to stop.
    pub fn advance(&mut self, done: u64, remaining: Option<Remaining>) -> Result<(), Failure> {
        self.event(Event::Progress { done, remaining })?;
        Ok(self.go_on()?)
    }

    /// Works in a folder inside, which this process holds for so long; what happens there is shown as what happens here.
    ///
    /// # Errors
    ///
    /// The folder cannot be held, or what `work` returns.
    pub fn within<T>(
        &mut self,
        folder: &Path,
        work: impl FnOnce(&mut Session<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let watcher = &mut *self.watcher;
        let mut watch = |event| watcher(event);
        let mut inside = Session::open(folder, None, self.stop, &mut watch)?;
        inside.share(self.shares);
        work(&mut inside)
    }

    /// A stage of `total` parts, besides those that were there already where they are counted: begun, worked on, over.
    ///
    /// # Errors
    ///
    /// Whatever `work` returns, or the disk refuses.
    pub fn stage<T>(
        &mut self,
        name: &str,
        (total, reused): (u64, Option<u64>),
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let _doing = doing::now(format!("in stage `{name}` of `{}`", self.folder.path().display()));
        self.event(Event::Stage { name: name.to_owned(), total, reused })?;
        let result = work(self)?;
        let elapsed_s = started.elapsed().as_secs_f64();
        self.event(Event::StageDone { name: name.to_owned(), elapsed_s })?;
        Ok(result)
    }
}
