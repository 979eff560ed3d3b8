//! One confined process: copied off by `clone`, confined, and only then Python.
//!
//! `std::process::Command` with `pre_exec` would do for Landlock and seccomp, but its child is not the first process of
//! a PID namespace, which is what takes all others with it. Re-executing our own program would tie the library to one
//! binary. So here is `fork` and `execve` by hand, with all names made before.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, kill_process, kill_process_group, set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::{CapabilitySets, Gid, Uid};

use super::landlock::Rules;
use super::limits::Limits;
use super::namespaces::{self, NOBODY, Root};
use super::syscall::{self, Exit, Pointers};

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

/// What lies behind the files that are handed over, in this order, until `execve`.
#[derive(Clone, Copy)]
enum Placed {
    Report,
    Go,
    Rules,
}

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
            #[expect(unsafe_code, reason = "see `Plan::confine`")]
            // SAFETY: this is the copy.
            unsafe {
                plan.confine(&go, &say);
            }
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
    pub fn look(&mut self) -> io::Result<Option<Exit>> {
        let ended = syscall::wait(self.pid, false)?;
        self.ended = ended.is_some();
        Ok(ended)
    }

    /// Kills it and all that it started, and waits until they are gone.
    pub fn end(&mut self) -> io::Result<Option<Exit>> {
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
    ///
    /// # Safety
    ///
    /// This is the copy that `clone` made: it has one thread, and no code but this uses its files.
    #[expect(unsafe_code, reason = "takes the process's whole table of files")]
    unsafe fn confine(&self, go: &OwnedFd, say: &OwnedFd) -> ! {
        let mut stage = Stage::Files;
        // SAFETY: the caller's.
        let error = unsafe { self.take_steps(&mut stage, go, say) };
        let error = error.err().unwrap_or_else(|| io::Error::from_raw_os_error(0));
        let [a, b, c, d] = error.raw_os_error().unwrap_or(0).to_ne_bytes();
        let said = [stage as u8, a, b, c, d];
        // Before the files are in place the report is where it was.
        let report = if stage == Stage::Files {
            say.as_fd()
        } else {
            // SAFETY: `place_files` has come through.
            unsafe { self.placed(Placed::Report) }
        };
        let _ = rustix::io::write(report, &said);
        syscall::exit_now()
    }

    /// # Safety
    ///
    /// As for [`Plan::confine`].
    #[expect(unsafe_code, reason = "see `Plan::confine`")]
    unsafe fn take_steps(&self, stage: &mut Stage, go: &OwnedFd, say: &OwnedFd) -> io::Result<()> {
        syscall::forget_signals();
        set_parent_process_death_signal(Some(Signal::KILL))?;
        setsid()?;
        umask(rustix::fs::Mode::from_raw_mode(0o022));
        // SAFETY: the caller's; from here on `go` and `say` are not used.
        unsafe { self.place_files(go, say) }?;

        *stage = Stage::Users;
        // SAFETY: `place_files` has come through.
        let go = unsafe { self.placed(Placed::Go) };
        if rustix::io::retry_on_intr(|| rustix::io::read(go, &mut [0]))? == 0 {
            return Err(rustix::io::Errno::SRCH.into());
        }

        *stage = Stage::Root;
        if let Some(root) = self.root {
            root.enter()?;
        }
        *stage = Stage::Limits;
        self.limits.set()?;

        *stage = Stage::Identity;
        self.become_powerless()?;
        // Who started us may have died while that was forgotten; until `execve` it holds its end.
        let mut polled = [PollFd::from_borrowed_fd(go, PollFlags::empty())];
        rustix::io::retry_on_intr(|| poll(&mut polled, Some(&Timespec::default())))?;
        if polled[0].revents().contains(PollFlags::HUP) {
            return Err(rustix::io::Errno::SRCH.into());
        }

        *stage = Stage::Landlock;
        if self.rules.is_some() {
            // SAFETY: `place_files` has come through.
            syscall::landlock_restrict(unsafe { self.placed(Placed::Rules) })?;
        }
        *stage = Stage::Seccomp;
        if let Some(filter) = self.filter {
            syscall::set_filter(filter)?;
        }
        *stage = Stage::Execute;
        Err(syscall::execve(self.executable, self.argv, self.envp))
    }

    /// Ours at 0, 1, 2 and so on; behind them, until `execve`, the report, the go and the rules. No other stays open.
    ///
    /// # Safety
    ///
    /// As for [`Plan::confine`]. Afterwards no file that was open before is used.
    #[expect(unsafe_code, reason = "see `Plan::confine`")]
    unsafe fn place_files(&self, go: &OwnedFd, say: &OwnedFd) -> io::Result<()> {
        let rules = self.rules.map_or(say.as_fd(), |rules| rules.ruleset.as_fd());
        let all = self.files.iter().copied().chain([say.as_fd(), go.as_fd(), rules]);
        // First to places that no target has.
        let mut places = [const { None }; MOST_FILES + 3];
        let mut n_places = 0;
        for (place, file) in places.iter_mut().zip(all) {
            *place = Some(rustix::io::fcntl_dupfd_cloexec(file, 64)?);
            n_places += 1;
        }
        for (target, place) in places.iter().flatten().enumerate() {
            // SAFETY: the caller's: what lies at these numbers is not used again.
            unsafe { syscall::duplicate(place.as_fd(), target as c_int, target >= self.files.len()) }?;
        }
        drop(places);
        // SAFETY: the caller's, and our own copies are closed.
        unsafe { syscall::close_from(n_places) };
        Ok(())
    }

    /// One of the files behind ours.
    ///
    /// # Safety
    ///
    /// [`Plan::place_files`] has come through, and `execve` has not.
    #[expect(unsafe_code, reason = "files whose owners did not come along into the copy")]
    unsafe fn placed(&self, file: Placed) -> BorrowedFd<'_> {
        // SAFETY: the caller says that it lies there, and nothing closes it.
        unsafe { BorrowedFd::borrow_raw(self.files.len() as c_int + file as c_int) }
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
