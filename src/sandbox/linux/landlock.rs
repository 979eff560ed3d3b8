//! Landlock: the kernel hides files from a process that asks for it, without any privilege.
//!
//! Only used where there is no mount namespace. Nothing is writable then, not even a scratch folder: no call could
//! bound what it would hold. Kernel documentation, "Landlock: unprivileged access control"; constants from
//! `linux/landlock.h`. Versions: 1 files, 2 renaming, 3 truncating, 4 TCP, 5 devices, 6 signals and sockets in scope.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};

use super::interpreter::Interpreter;
use super::syscall;

const EXECUTE: u64 = 1 << 0;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;

/// What a program may read beside Python, if it is there.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// The rules for one interpreter, ready for any number of processes.
pub(super) struct Rules {
    pub ruleset: OwnedFd,
    pub version: u32,
}

impl Rules {
    /// All rights that this kernel's version knows are taken, and reading the interpreter is given back.
    pub fn new(python: &Interpreter) -> io::Result<Self> {
        let version = syscall::landlock_version()?;
        let n_rights = match version {
            0 | 1 => 13,
            2 => 14,
            3 | 4 => 15,
            _ => 16,
        };
        let (files, tcp, scopes) = ((1 << n_rights) - 1, 0b11, 0b11);
        let handled = [files, tcp, scopes];
        let n_fields = match version {
            ..=3 => 1,
            4 | 5 => 2,
            _ => 3,
        };
        let ruleset = syscall::landlock_ruleset(&handled[..n_fields])?;
        let allow = |path: &std::path::Path| -> io::Result<()> {
            let rights = if path.is_dir() { EXECUTE | READ_FILE | READ_DIR } else { EXECUTE | READ_FILE };
            let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            syscall::landlock_allow(ruleset.as_fd(), rights, file.as_fd())
        };
        for path in &python.readable {
            allow(path)?;
        }
        for device in DEVICES.iter().map(std::path::Path::new).filter(|device| device.exists()) {
            allow(device)?;
        }
        Ok(Self { ruleset, version })
    }
}
