//! The Linux side: one process for the program and one for the judge, or one for both, each behind the protections
//! that work here.

mod child;
mod folder;
mod interpreter;
mod landlock;
mod limits;
mod message;
mod namespaces;
mod seccomp;
mod syscall;
mod watch;

use std::io;
use std::time::Duration;

use child::{Stage, Trouble};
use interpreter::Interpreter;
use landlock::Rules;
use limits::Limits;
use namespaces::Root;

use super::{Guard, Held, Options, Outcome, Program, Protection, SandboxError};

/// A program that passes wherever Python runs.
const PLAIN: Program<'static> = Program {
    source: "def answer(x):\n    return x",
    prelude: "",
    test: "def check(candidate):\n    assert candidate(42) == 42",
    entry_point: "answer",
    timeout: Duration::from_secs(20),
};

/// Python and what is put around it.
pub(super) struct Confined {
    python: Interpreter,
    options: Options,
    /// With a root of its own a process has namespaces.
    root: Option<Root>,
    user_namespace: bool,
    nobody: bool,
    rules: Option<Rules>,
    filter: Option<Vec<libc::sock_filter>>,
    /// What is not used, and why.
    absent: Vec<String>,
}

/// What a run can meet.
enum RunError {
    Trouble(Trouble),
    Error(SandboxError),
}

impl Confined {
    pub fn open(options: &Options) -> Result<(Self, Protection), SandboxError> {
        let wanted = |guard| !options.without.contains(&guard);
        let python = Interpreter::find(options.python.as_deref())?;
        let root = wanted(Guard::Namespaces).then(|| Root::new(&python, options)).transpose()?;
        let mut confined = Self {
            root,
            user_namespace: wanted(Guard::UserNamespace),
            nobody: is_root(),
            rules: None,
            filter: None,
            absent: Vec::new(),
            options: options.clone(),
            python,
        };
        match wanted(Guard::Seccomp) {
            true => {
                confined.filter = Some(seccomp::filter(confined.root.is_some()));
                if !confined.python.has_ctypes {
                    confined
                        .absent
                        .push("a ban on executing other programs (Python has no ctypes)".to_owned());
                }
            }
            false => confined.absent.push("seccomp (switched off)".to_owned()),
        }
        match confined.root {
            None => confined.leave_namespaces("switched off"),
            Some(_) if !confined.user_namespace => {
                confined.absent.push("user namespace (switched off)".to_owned());
            }
            Some(_) => {}
        }
        confined.settle()?;
        let protection = Protection {
            namespaces: confined.root.is_some(),
            user_namespace: confined.root.is_some() && confined.user_namespace,
            landlock: confined.rules.as_ref().map(|rules| rules.version),
            seccomp: confined.filter.is_some(),
            nobody: confined.nobody,
            absent: std::mem::take(&mut confined.absent),
        };
        Ok((confined, protection))
    }

    pub fn python_version(&self) -> &str {
        &self.python.version
    }

    pub fn run(&self, program: &Program, held: Held) -> Result<Outcome, SandboxError> {
        let ran = match held {
            Held::Apart => watch::run(self, program),
            Held::Together => watch::run_together(self, program),
        };
        match ran {
            Ok(outcome) => Ok(outcome),
            Err(RunError::Error(error)) => Err(error),
            Err(RunError::Trouble(trouble)) => {
                Err(SandboxError::System { what: "start a confined process", source: trouble.source })
            }
        }
    }

    /// Runs the program that passes wherever Python runs.
    pub fn run_plain(&self) -> Result<Outcome, SandboxError> {
        self.run(&PLAIN, Held::Apart)
    }

    /// Runs a plain program until it passes, each time with one protection less.
    fn settle(&mut self) -> Result<(), SandboxError> {
        loop {
            let trouble = match watch::run(self, &PLAIN) {
                Ok(outcome) if outcome.verdict.passed() => return Ok(()),
                Ok(outcome) => {
                    let words = outcome.output.lines().last().unwrap_or_default();
                    let what = format!("{} {words}", outcome.verdict);
                    Trouble { stage: Stage::Execute, source: io::Error::other(what) }
                }
                Err(RunError::Trouble(trouble)) => trouble,
                Err(RunError::Error(error)) => return Err(error),
            };
            self.do_without(trouble)?;
        }
    }

    /// Gives up the protection that is in the way.
    fn do_without(&mut self, trouble: Trouble) -> Result<(), SandboxError> {
        let why = trouble.source.to_string();
        match trouble.stage {
            Stage::Users | Stage::Identity | Stage::Execute if self.nobody => {
                self.nobody = false;
                self.absent.push(format!("user nobody ({why})"));
            }
            Stage::Clone | Stage::Users | Stage::Root
                if self.root.is_some() && self.user_namespace && is_root() =>
            {
                self.user_namespace = false;
                self.ask_for_nobody();
                self.absent.push(format!("user namespace ({why})"));
            }
            Stage::Clone | Stage::Users | Stage::Root | Stage::Execute if self.root.is_some() => {
                self.leave_namespaces(&why);
            }
            Stage::Landlock | Stage::Execute if self.rules.is_some() => {
                self.rules = None;
                self.absent.push(format!("Landlock ({why})"));
            }
            Stage::Seccomp | Stage::Execute if self.filter.is_some() => {
                self.filter = None;
                self.absent.push(format!("seccomp ({why})"));
            }
            Stage::Execute => {
                return Err(SandboxError::BadPython { path: self.python.executable.clone(), found: why });
            }
            _ => {
                return Err(SandboxError::System {
                    what: "start a confined process",
                    source: trouble.source,
                });
            }
        }
        Ok(())
    }

    /// Landlock comes in for the mount namespace, and the filter has more to refuse.
    fn leave_namespaces(&mut self, why: &str) {
        self.root = None;
        self.absent.retain(|absent| !absent.starts_with("user namespace"));
        self.absent.push(format!("namespaces ({why})"));
        self.ask_for_nobody();
        if self.filter.is_some() {
            self.filter = Some(seccomp::filter(false));
        }
        if self.options.without.contains(&Guard::Landlock) {
            self.absent.push("Landlock (switched off)".to_owned());
            return;
        }
        match Rules::new(&self.python) {
            Ok(rules) => self.rules = Some(rules),
            Err(error) => self.absent.push(format!("Landlock ({error})")),
        }
    }

    fn ask_for_nobody(&mut self) {
        self.nobody = is_root();
        self.absent.retain(|absent| !absent.starts_with("user nobody"));
    }

    /// What Python takes in when it is up, as text: instructions of eight bytes each.
    fn last_filter(&self) -> String {
        if self.filter.is_none() || !self.python.has_ctypes {
            return String::new();
        }
        let filter = seccomp::last_filter();
        let words = filter.iter().map(|instruction| {
            let [a, b] = instruction.code.to_ne_bytes();
            let [c, d, e, f] = instruction.k.to_ne_bytes();
            u64::from_be_bytes([a, b, instruction.jt, instruction.jf, c, d, e, f])
        });
        words.map(|word| format!("{word:016x}")).collect()
    }

    /// Whether a program runs under a first process of ours: without the filter it could forget that it is to die with
    /// us, and start others.
    fn is_guarded(&self) -> bool {
        self.root.is_some() && self.filter.is_none() && self.python.has_ctypes
    }

    fn limits(&self, timeout: Duration) -> Limits {
        let uid = if self.nobody { namespaces::NOBODY } else { rustix::process::geteuid().as_raw() };
        Limits::new(&self.options, timeout, uid)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
