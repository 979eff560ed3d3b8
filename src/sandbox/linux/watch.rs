//! One run: start the program and the judge, or one process for both, let them talk, read what they say, end them.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde_json::json;

use super::super::{Outcome, Program, SandboxError, Verdict};
use super::child::{Child, Plan, Trouble, read_some};
use super::limits::Limits;
use super::message::cut;
use super::syscall::{Exit, Pointers};
use super::{Confined, RunError};

const PROGRAM: &str = concat!(
    include_str!("../python/wire.py"),
    include_str!("../python/settle.py"),
    include_str!("../python/program.py")
);
const JUDGE: &str = concat!(
    include_str!("../python/wire.py"),
    include_str!("../python/settle.py"),
    include_str!("../python/prelude.py"),
    include_str!("../python/judge.py")
);
const TOGETHER: &str = concat!(
    include_str!("../python/wire.py"),
    include_str!("../python/settle.py"),
    include_str!("../python/prelude.py"),
    include_str!("../python/together.py")
);

/// For two interpreters to come up on a busy machine.
const STARTUP: Duration = Duration::from_mins(1);
/// What is kept of a verdict.
const LONGEST_VERDICT: usize = 1 << 16;
/// For a program that closed its files to end by itself, so that we can say how.
const PARTING: Duration = Duration::from_millis(300);

impl From<SandboxError> for RunError {
    fn from(error: SandboxError) -> Self {
        Self::Error(error)
    }
}

impl From<Trouble> for RunError {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// What the judge says last.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Passed(bool),
    Failed(String),
    Gone(String),
}

pub(super) fn run(confined: &Confined, program: &Program) -> Result<Outcome, RunError> {
    let limits = confined.limits(program.timeout);
    let (output, output_in) = pipe()?;
    let (verdict, verdict_in) = pipe()?;
    let (requests, requests_in) = pipe()?;
    let (answers, answers_in) = pipe()?;
    let null = File::open("/dev/null").map_err(SandboxError::system("open `/dev/null`"))?;
    let path = &confined.python.path;
    let entry_point = program.entry_point;
    let last_filter = confined.last_filter();
    let job = job(&json!({
        "path": path, "guard": confined.is_guarded(), "last_filter": last_filter, "entry_point": entry_point,
        "source": program.source,
    }))?;
    let files = [
        null.as_fd(),
        output_in.as_fd(),
        output_in.as_fd(),
        requests.as_fd(),
        answers_in.as_fd(),
        job.as_fd(),
    ];
    let runner = start(confined, PROGRAM, &files, &limits)?;
    let job = self::job(&json!({
        "path": path, "guard": false, "last_filter": last_filter, "entry_point": entry_point,
        "prelude": program.prelude, "test": program.test, "hide": confined.root.is_none(),
    }))?;
    let files = [
        null.as_fd(),
        output_in.as_fd(),
        output_in.as_fd(),
        answers.as_fd(),
        requests_in.as_fd(),
        job.as_fd(),
        verdict_in.as_fd(),
    ];
    let judge = start(confined, JUDGE, &files, &limits)?;
    // Whoever waits for an end of these must be alone with it.
    drop((output_in, verdict_in, requests, requests_in, answers, answers_in));
    let ears = Ears::new(verdict, output, confined);
    let (guarded, timeout) = (confined.is_guarded(), program.timeout);
    let work = Work { runner, guarded, judge: Some(judge), nonce: None, ears, limits, timeout };
    Ok(work.finish().map_err(SandboxError::system("watch a confined process"))?)
}

/// The program and its tests in one process: a pass is a word that is made up for this run.
pub(super) fn run_together(confined: &Confined, program: &Program) -> Result<Outcome, RunError> {
    let limits = confined.limits(program.timeout);
    let (output, output_in) = pipe()?;
    let (verdict, verdict_in) = pipe()?;
    let null = File::open("/dev/null").map_err(SandboxError::system("open `/dev/null`"))?;
    let nonce = nonce().map_err(SandboxError::system("read `/dev/urandom`"))?;
    let job = job(&json!({
        "path": confined.python.path, "guard": confined.is_guarded(), "last_filter": confined.last_filter(),
        "entry_point": program.entry_point, "source": program.source, "prelude": program.prelude, "test": program.test, "nonce": nonce,
    }))?;
    let files = [null.as_fd(), output_in.as_fd(), output_in.as_fd(), job.as_fd(), verdict_in.as_fd()];
    let runner = start(confined, TOGETHER, &files, &limits)?;
    drop((output_in, verdict_in));
    let ears = Ears::new(verdict, output, confined);
    let (guarded, timeout) = (confined.is_guarded(), program.timeout);
    let work = Work { runner, guarded, judge: None, nonce: Some(nonce), ears, limits, timeout };
    Ok(work.finish().map_err(SandboxError::system("watch a confined process"))?)
}

fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn pipe() -> Result<(OwnedFd, OwnedFd), SandboxError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(SandboxError::system("make a pipe"))
}

/// A file without a name that holds what a process is told.
fn job(text: &serde_json::Value) -> Result<File, SandboxError> {
    let write = || {
        let mut file = tempfile::tempfile()?;
        file.write_all(text.to_string().as_bytes())?;
        file.rewind()?;
        io::Result::Ok(file)
    };
    write().map_err(SandboxError::system("write a temporary file"))
}

fn start(
    confined: &Confined,
    script: &str,
    files: &[BorrowedFd],
    limits: &Limits,
) -> Result<Child, RunError> {
    let c_string =
        |bytes: &[u8]| CString::new(bytes).expect("neither a path nor our scripts hold a zero byte");
    let executable = c_string(confined.python.executable.as_os_str().as_bytes());
    let script = c_string(script.as_bytes());
    // No user's modules, no compiled files written, and the same order of sets in every run.
    let argv = Pointers::to([&executable, c"-s", c"-B", c"-c", &script].map(AsRef::<CStr>::as_ref));
    let envp = Pointers::to([c"PYTHONHASHSEED=0"]);
    let plan = Plan {
        executable: &executable,
        argv: &argv,
        envp: &envp,
        files,
        limits,
        root: confined.root.as_ref(),
        user_namespace: confined.user_namespace,
        nobody: confined.nobody,
        rules: confined.rules.as_ref(),
        filter: confined.filter.as_deref(),
    };
    Ok(Child::start(&plan)?)
}

/// Processes at work.
struct Work {
    /// Holds the program.
    runner: Child,
    /// The runner's first process is a guard, which says with what signal the program ended.
    guarded: bool,
    /// None where the runner holds the tests as well.
    judge: Option<Child>,
    /// What the runner says of a program that passes, where there is no judge.
    nonce: Option<String>,
    ears: Ears,
    limits: Limits,
    timeout: Duration,
}

impl Work {
    fn finish(mut self) -> io::Result<Outcome> {
        let mut deadline = Instant::now() + STARTUP;
        let mut started = None;
        let over = loop {
            if !self.ears.listen(deadline)? {
                break true;
            }
            if started.is_none() && self.ears.has_line("\"started\"") {
                let now = Instant::now();
                started = Some(now);
                deadline = now + self.timeout;
            }
            if self.ears.verdict.is_none() {
                break false;
            }
        };
        let elapsed = started.map_or(Duration::ZERO, |started: Instant| started.elapsed());
        let word = self.last_word();
        let parted = match (&word, over) {
            (Some(Word::Gone(_)), false) => self.part()?,
            _ => None,
        };
        self.runner.end()?;
        let judge_ended = self.judge.as_mut().map(Child::end).transpose()?.flatten();
        self.ears.hear_the_rest()?;
        let killed = |ended: Option<Exit>| ended.and_then(|ended| self.killed_by(&ended));
        let verdict = match word {
            _ if over && started.is_some() => Verdict::TimedOut { after: self.timeout },
            _ if over => {
                Verdict::NotStarted { message: format!("Python was not up after {} s", STARTUP.as_secs()) }
            }
            Some(Word::Passed(true)) => Verdict::Passed,
            Some(Word::Passed(false)) | None if started.is_none() => {
                Verdict::NotStarted { message: self.ears.last_line_of_output() }
            }
            Some(Word::Failed(message)) => Verdict::Failed { message: cut(&message) },
            Some(Word::Gone(what)) => match killed(parted) {
                Some(verdict) => verdict,
                None if started.is_none() => Verdict::NotStarted { message: self.ears.last_line_of_output() },
                None => Verdict::Failed { message: cut(&format!("the program left its runner: {what}")) },
            },
            Some(Word::Passed(false)) | None => killed(judge_ended).unwrap_or_else(|| Verdict::Undecided {
                message: "the judge ended without a verdict".to_owned(),
            }),
        };
        let output = String::from_utf8_lossy(&self.ears.kept).into_owned();
        Ok(Outcome { verdict, output, output_dropped_bytes: self.ears.dropped_bytes, elapsed })
    }

    /// Beside the tests a program can write where the verdict is written: only the nonce counts for it.
    fn last_word(&self) -> Option<Word> {
        let word = self.ears.last_word();
        let Some(nonce) = &self.nonce else { return word };
        if self.ears.has_line(nonce) {
            return Some(Word::Passed(true));
        }
        let failed = word.filter(|word| matches!(word, Word::Failed(_)));
        Some(failed.unwrap_or_else(|| Word::Gone("it ended".to_owned())))
    }

    /// How the program ended by itself, if it did.
    fn part(&mut self) -> io::Result<Option<Exit>> {
        let until = Instant::now() + PARTING;
        loop {
            let ended = self.runner.look()?;
            if ended.is_some() || Instant::now() > until {
                return Ok(ended);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn killed_by(&self, ended: &Exit) -> Option<Verdict> {
        let said = (self.guarded && ended.code > 0).then_some(ended.code);
        let signal = ended.signal.or(said)?;
        let limit = self.limits.cpu();
        if ended.cpu + Duration::from_millis(500) >= limit && [libc::SIGKILL, libc::SIGXCPU].contains(&signal)
        {
            let by = format!("used {} s of processor time", limit.as_secs());
            return Some(Verdict::Killed { by });
        }
        let by = match signal {
            // Not by us, nor by a limit of ours.
            libc::SIGKILL if said.is_none() => {
                let message = "SIGKILL, is the machine out of memory?".to_owned();
                return Some(Verdict::Undecided { message });
            }
            libc::SIGSEGV => "SIGSEGV".to_owned(),
            libc::SIGABRT => "SIGABRT".to_owned(),
            signal => format!("signal {signal}"),
        };
        Some(Verdict::Killed { by })
    }
}

/// What we hear: the judge's lines, and the output of both.
struct Ears {
    verdict: Option<OwnedFd>,
    heard: Vec<u8>,
    output: Option<OwnedFd>,
    kept: Vec<u8>,
    dropped_bytes: u64,
    keep: usize,
}

impl Ears {
    fn new(verdict: OwnedFd, output: OwnedFd, confined: &Confined) -> Self {
        Self {
            verdict: Some(verdict),
            heard: Vec::new(),
            output: Some(output),
            kept: Vec::new(),
            dropped_bytes: 0,
            keep: confined.options.output_bytes,
        }
    }

    /// Waits for the next words; false if the deadline was first.
    fn listen(&mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let [verdict, output] = self.wait(left)?;
        if output {
            self.hear_output()?;
        }
        if verdict && let Some(file) = &self.verdict {
            let mut bytes = [0; 4096];
            match read_some(file, &mut bytes)? {
                0 => self.verdict = None,
                // A judge says less; a program beside its tests can speak here as well, without an end.
                n_bytes => {
                    let n_kept = n_bytes.min(LONGEST_VERDICT.saturating_sub(self.heard.len()));
                    self.heard.extend_from_slice(&bytes[..n_kept]);
                }
            }
        }
        Ok(true)
    }

    /// Which of the two, verdict and output, has something.
    fn wait(&self, left: Duration) -> io::Result<[bool; 2]> {
        let files: Vec<_> = [&self.verdict, &self.output].into_iter().flatten().collect();
        let mut polled: Vec<_> = files.iter().map(|file| PollFd::new(file, PollFlags::IN)).collect();
        let time = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut polled, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|file| !file.revents().is_empty());
        Ok([&self.verdict, &self.output].map(|file| file.is_some() && ready.next() == Some(true)))
    }

    fn hear_output(&mut self) -> io::Result<()> {
        let Some(file) = &self.output else { return Ok(()) };
        let mut bytes = [0; 1 << 14];
        match read_some(file, &mut bytes)? {
            0 => self.output = None,
            n_bytes => {
                let n_kept = n_bytes.min(self.keep - self.kept.len());
                self.kept.extend_from_slice(&bytes[..n_kept]);
                self.dropped_bytes += (n_bytes - n_kept) as u64;
            }
        }
        Ok(())
    }

    /// Both processes are gone: what is left lies in the pipe.
    fn hear_the_rest(&mut self) -> io::Result<()> {
        self.verdict = None;
        while self.wait(Duration::ZERO)?[1] {
            self.hear_output()?;
        }
        Ok(())
    }

    fn has_line(&self, line: &str) -> bool {
        self.heard.split(|byte| *byte == b'\n').any(|heard| heard == line.as_bytes())
    }

    fn last_word(&self) -> Option<Word> {
        let lines = self.heard.split(|byte| *byte == b'\n').rev();
        lines.filter(|line| !line.is_empty()).find_map(|line| serde_json::from_slice(line).ok())
    }

    fn last_line_of_output(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        cut(text.lines().last().unwrap_or("Python says nothing"))
    }
}
