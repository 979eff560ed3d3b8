//! `--jobs`: the cells of a study on several devices of one machine, a process for each.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::again::start;
use super::{RunArgs, progress};
use crate::run::failure::{JobsFailed, Stopped, StudyError};
use crate::run::study::Study;
use crate::run::study::slurm::Start;
use crate::run::{Failure, failure};
use crate::snapshot::writer::no_links;

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(50);

/// Runs what is missing on `devices`: the bases, then the cells, then what merges cells.
///
/// # Errors
///
/// A process cannot be started or ended badly, or a stop was asked for; the others' cells are done.
pub(super) fn run(
    args: &RunArgs,
    study: &Study,
    devices: &[String],
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let start = start(args, None)?;
    let [alone, joint] = study.missing_names();
    if alone.is_empty() && joint.is_empty() {
        return Ok(());
    }
    let pool = Pool { start, study, stop, failed: Mutex::default() };
    pool.all(&devices[..1], vec![vec!["--bases".to_owned()]])?;
    for names in [alone, joint] {
        let words = names.into_iter().map(|name| vec!["--cell".to_owned(), name]).collect();
        pool.all(devices, words)?;
    }
    let failed = pool.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed.first() {
        None => Ok(()),
        Some((name, code)) => Err(JobsFailed { n: failed.len(), name: name.clone(), code: *code }.into()),
    }
}

/// Processes of this program on one study.
struct Pool<'a> {
    start: Start,
    study: &'a Study,
    stop: &'a AtomicBool,
    /// What ended badly, and how.
    failed: Mutex<Vec<(String, u8)>>,
}

impl Pool<'_> {
    /// Runs this program with each of `words`, one at a time on each device.
    fn all(&self, devices: &[String], words: Vec<Vec<String>>) -> Result<(), Failure> {
        let waiting = Mutex::new(VecDeque::from(words));
        let work = |device: &String| -> Result<(), Failure> {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(words) = next.filter(|_| !self.stop.load(Ordering::Relaxed)) else { return Ok(()) };
                self.one(device, &words)?;
            }
        };
        let ends: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
            let workers: Vec<_> = devices.iter().map(|device| scope.spawn(|| work(device))).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().expect("a worker only waits for a process"))
                .collect()
        });
        ends.into_iter().collect::<Result<(), Failure>>()?;
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Stopped { folder: self.study.folder.display().to_string() }.into()),
            false => Ok(()),
        }
    }

    fn one(&self, device: &str, words: &[String]) -> Result<(), Failure> {
        let name = words.last().map_or("", |word| word.trim_start_matches("--"));
        let log = self.log(name)?;
        progress::say(&format!("{name} on {device}"));
        let mut command = Command::new(&self.start.program);
        command.args(&self.start.words).args(words).arg("--device").arg(device);
        command.arg("--out").arg(&self.study.folder);
        let unstarted =
            |source: std::io::Error| StudyError::Start { what: name.to_owned(), why: source.to_string() };
        let copy = log.try_clone().map_err(unstarted)?;
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        // Ctrl-C is heard here, and told to each once: twice would end it at once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(unstarted)?;
        let mut told = false;
        let status: ExitStatus = loop {
            if let Some(status) = child.try_wait().map_err(unstarted)? {
                break status;
            }
            if self.stop.load(Ordering::Relaxed) && !told {
                told = true;
                tell(&child);
            }
            std::thread::sleep(LOOK);
        };
        let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(failure::UNEXPECTED);
        if code != 0 && !told {
            progress::say(&format!("{name} ended with {code}; its log has why"));
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), code));
        }
        Ok(())
    }

    /// The log of a process, which goes on where it was.
    fn log(&self, name: &str) -> Result<File, Failure> {
        let folder = self.study.folder.join("jobs");
        let unwritable = |source| crate::event::Unwritable { folder: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        let mut options = OpenOptions::new();
        let file = no_links(options.create(true).append(true)).open(folder.join(format!("{name}.log")));
        Ok(file.map_err(unwritable)?)
    }
}

/// Asks a process to save and stop.
#[cfg(unix)]
fn tell(child: &std::process::Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}
#[cfg(not(unix))]
fn tell(_child: &std::process::Child) {}
