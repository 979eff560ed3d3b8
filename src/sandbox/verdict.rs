//! What became of a program.

use std::fmt;
use std::time::Duration;

/// Whether a program passed its tests, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `check` returned, in a process that the program cannot reach.
    Passed,
    /// A test or the program raised an exception: its last line, `ValueError: no`; or the program ended by itself.
    Failed { message: String },
    /// Still running when its wall time was over.
    TimedOut { after: Duration },
    /// The kernel ended it: processor time, memory, a broken instruction.
    Killed { by: String },
    /// The sandbox or Python did not come up; says nothing about the program.
    NotStarted { message: String },
    /// The tests, or the machine, ended before there was a verdict; says nothing about the program.
    Undecided { message: String },
}

impl Verdict {
    pub fn passed(&self) -> bool {
        *self == Self::Passed
    }

    /// Whether it says something about the program.
    pub fn decides(&self) -> bool {
        !matches!(self, Self::NotStarted { .. } | Self::Undecided { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed { message } => write!(f, "failed: {message}"),
            Self::TimedOut { after } => write!(f, "timed out after {} s", after.as_secs_f64()),
            Self::Killed { by } => write!(f, "killed: {by}"),
            Self::NotStarted { message } => write!(f, "not started: {message}"),
            Self::Undecided { message } => write!(f, "undecided: {message}"),
        }
    }
}

/// A verdict and what came with it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The beginning of what was written to standard output and error, both processes in one.
    pub output: String,
    /// How many bytes more were written than `output` keeps.
    pub output_dropped_bytes: u64,
    /// Wall time since the program's first line ran; zero if it never did.
    pub elapsed: Duration,
}
