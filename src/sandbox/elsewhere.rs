//! Systems whose protections we do not know: nothing is run there.

use super::{Held, Options, Outcome, Program, Protection, SandboxError};

/// Never exists.
pub(super) enum Confined {}

impl Confined {
    pub fn open(_: &Options) -> Result<(Self, Protection), SandboxError> {
        Err(SandboxError::Unsupported { system: std::env::consts::OS })
    }

    pub fn python_version(&self) -> &str {
        match *self {}
    }

    pub fn run_plain(&self) -> Result<Outcome, SandboxError> {
        match *self {}
    }

    pub fn run(&self, _: &Program, _: Held) -> Result<Outcome, SandboxError> {
        match *self {}
    }
}
