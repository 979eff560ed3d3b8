//! One confined process: copied off by `clone`, confined, and only then Python.
//!
//! `std::process::Command` with `pre_exec` would do for Landlock and seccomp, but its child is not the first process of
//! a PID namespace, which is what takes all others with it. Re-executing our own program would tie the library to one
//! binary. So here is `fork` and `execve` by hand, with all names made before.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::{CapabilitySets, Gid, Uid};

use super::landlock::Rules;
use super::limits::Limits;
use super::namespaces::{self, NOBODY, Root};
use super::syscall::{self, Ended, Pointers};

/// The most files that are handed over: standard ones, two for talking, the job, the verdict.
const MOST_FILES: usize = 8;

/// Everything about the process to be.
pub(super) struct Plan<'s> {
    pub executable: &'s CStr,
    pub argv: &'s Pointers<'s>,
    pub envp: &'s Pointers<'s>,
    /// What become files 0, 1, 2 and so on. All others are closed.
    pub files: &'s [BorrowedFd<'s>],
    pub limits: &'s Limits,
    /// The root of its namespaces, if it has its own.
    pub root: Option<&'s Root>,
    pub user_namespace: bool,
    /// Root becomes nobody.
    pub nobody: bool,
    pub rules: Option<&'s Rules>,
    pub filter: Option<&'s [libc::sock_filter]>,
}

/// How far a start came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Clone,
    Files,
    Users,
    Root,
    Limits,
    Identity,
    Landlock,
    Seccomp,
    Execute,
}

const STAGES: [Stage; 9] = [
    Stage::Clone,
    Stage::Files,
    Stage::Users,
    Stage::Root,
    Stage::Limits,
    Stage::Identity,
    Stage::Landlock,
    Stage::Seccomp,
    Stage::Execute,
];

/// A start that failed, and where.
#[derive(Debug)]
pub(super) struct Trouble {
    pub stage: Stage,
    pub source: io::Error,
}

/// A running process. Dropping it kills it, and all that it started.
pub(super) struct Child {
    pid: c_int,
    ended: bool,
}

impl Child {
    /// Starts Python; returns when it has been executed.
    pub fn start(plan: &Plan) -> Result<Self, Trouble> {
        let trouble = |stage| move |source: io::Error| Trouble { stage, source };
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from);
        let (go, say_go) = pipe().map_err(trouble(Stage::Files))?;
        let (report, say) = pipe().map_err(trouble(Stage::Files))?;
        let flags = if plan.root.is_some() { namespaces::flags(plan.user_namespace) } else { 0 };
        // No handler of ours may run in the copy.
        let signals = syscall::block_signals();
        #[expect(unsafe_code, reason = "see `syscall::clone`")]
        // SAFETY: the copy goes into `confine`, which keeps the rules and never returns.
        let cloned = unsafe { syscall::clone(flags) };
        if let Ok(None) = cloned {
            plan.confine(&go, &say);
        }
        syscall::restore_signals(&signals);
        let pid = cloned.map_err(trouble(Stage::Clone))?.expect("the copy has gone its way");
        let child = Self { pid, ended: false };
        drop((go, say));
        if plan.root.is_some() && plan.user_namespace {
            namespaces::map_users(pid, plan.nobody).map_err(trouble(Stage::Users))?;
        }
        // A copy that died already has said why.
        let _ = rustix::io::write(&say_go, b"g");
        let mut said = [0; 5];
        match read_some(&report, &mut said).map_err(trouble(Stage::Files))? {
            0 => Ok(child), // Closed by `execve`.
            _ => {
                let [stage, errno @ ..] = said;
                let stage = STAGES.get(usize::from(stage)).copied().unwrap_or(Stage::Execute);
                Err(Trouble { stage, source: io::Error::from_raw_os_error(i32::from_ne_bytes(errno)) })
            }
        }
    }

    /// How it ended, if it has.
    pub fn look(&mut self) -> io::Result<Option<Ended>> {
        let ended = syscall::wait(self.pid, false)?;
        self.ended = ended.is_some();
        Ok(ended)
    }

    /// Kills it and all that it started, and waits until they are gone.
    pub fn end(&mut self) -> io::Result<Option<Ended>> {
        if self.ended {
            return Ok(None);
        }
        if let Some(pid) = Pid::from_raw(self.pid) {
            // The first process of a PID namespace takes the others along; else they are in its group.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = kill_process(pid, Signal::KILL);
        }
        let ended = syscall::wait(self.pid, true)?;
        self.ended = true;
        Ok(ended)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Reads once, however often a signal comes between.
pub(super) fn read_some(file: &OwnedFd, bytes: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::read(file, &mut *bytes))?)
}

impl Plan<'_> {
    /// The life of the copy: allocates nothing, locks nothing, never returns.
    fn confine(&self, go: &OwnedFd, say: &OwnedFd) -> ! {
        let mut stage = Stage::Files;
        let n_files = self.files.len() as c_int;
        let error =
            self.take_steps(&mut stage, go, say).err().unwrap_or_else(|| io::Error::from_raw_os_error(0));
        let [a, b, c, d] = error.raw_os_error().unwrap_or(0).to_ne_bytes();
        // Before the files are in place the report is where it was.
        let said = [stage as u8, a, b, c, d];
        let place = if stage == Stage::Files { say.as_raw_fd() } else { n_files };
        let _ = rustix::io::write(syscall::borrow(place), &said);
        syscall::exit_now()
    }

    fn take_steps(&self, stage: &mut Stage, go: &OwnedFd, say: &OwnedFd) -> io::Result<()> {
        let n_files = self.files.len() as c_int;
        syscall::forget_signals();
        set_parent_process_death_signal(Some(Signal::KILL))?;
        setsid()?;
        umask(rustix::fs::Mode::from_raw_mode(0o022));
        self.place_files(go, say)?;

        *stage = Stage::Users;
        rustix::io::retry_on_intr(|| rustix::io::read(syscall::borrow(n_files + 1), &mut [0]))?;

        *stage = Stage::Root;
        if let Some(root) = self.root {
            root.enter()?;
        }
        *stage = Stage::Limits;
        self.limits.set()?;

        *stage = Stage::Identity;
        self.become_powerless()?;

        *stage = Stage::Landlock;
        if self.rules.is_some() {
            syscall::landlock_restrict(n_files + 2)?;
        }
        *stage = Stage::Seccomp;
        if let Some(filter) = self.filter {
            syscall::set_filter(filter)?;
        }
        *stage = Stage::Execute;
        Err(syscall::execve(self.executable, self.argv, self.envp))
    }

    /// Ours at 0, 1, 2 and so on; behind them, until `execve`, the report, the go and the rules. No other stays open.
    fn place_files(&self, go: &OwnedFd, say: &OwnedFd) -> io::Result<()> {
        let rules = self.rules.map_or(say.as_raw_fd(), |rules| rules.ruleset.as_raw_fd());
        let behind = [say.as_raw_fd(), go.as_raw_fd(), rules];
        let all = self.files.iter().map(AsRawFd::as_raw_fd).chain(behind);
        // First to places that no target has.
        let mut places = [0; MOST_FILES + 3];
        let mut n_places = 0;
        for (place, file) in places.iter_mut().zip(all) {
            *place = syscall::duplicate_above(file, 64)?;
            n_places += 1;
        }
        for (target, place) in places.iter().take(n_places).enumerate() {
            syscall::duplicate(*place, target as c_int, target >= self.files.len())?;
        }
        syscall::close_from(n_places as c_int);
        Ok(())
    }

    /// No capability, now or by executing something, and no way to be traced into one.
    fn become_powerless(&self) -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        syscall::empty_bounding_set();
        if self.nobody {
            rustix::thread::set_thread_groups(&[])?;
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        let none = rustix::thread::CapabilitySet::empty();
        rustix::thread::set_capabilities(
            None,
            CapabilitySets { effective: none, permitted: none, inheritable: none },
        )?;
        // Another identity forgets this.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    }
}
