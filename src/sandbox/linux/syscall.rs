//! The system calls that `rustix` does not wrap. Those that only the copy of a process may make are unsafe.
//!
//! They are called between `clone` and `execve`, where only the thread that cloned exists: none allocates, locks or
//! panics.

use std::ffi::{CStr, c_char, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

fn checked(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Copies this process into new namespaces: `None` is the copy, a number the copy's id.
///
/// # Safety
///
/// The copy has one thread and memory as another thread may have left it: until `execve` it must not allocate, lock or
/// panic, and it must not return from the function that called this.
#[expect(unsafe_code, reason = "no safe function copies a process")]
pub(super) unsafe fn clone(flags: c_int) -> io::Result<Option<c_int>> {
    let flags = c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without a stack, thread storage or id addresses this is `fork`; the caller keeps the copy's rules.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok((pid != 0).then_some(pid as c_int))
}

/// Becomes another program; returns only what went wrong.
#[expect(unsafe_code, reason = "no safe function replaces the program without allocating")]
pub(super) fn execve(file: &CStr, argv: &Pointers, envp: &Pointers) -> io::Error {
    // SAFETY: a terminated path and two arrays of terminated strings that end in null, by `Pointers`.
    unsafe { libc::execve(file.as_ptr(), argv.0.as_ptr(), envp.0.as_ptr()) };
    io::Error::last_os_error()
}

/// A list of strings as C takes it, ending in null.
pub(super) struct Pointers<'s>(Vec<*const c_char>, std::marker::PhantomData<&'s CStr>);

impl<'s> Pointers<'s> {
    pub fn to(strings: impl IntoIterator<Item = &'s CStr>) -> Self {
        let pointers = strings.into_iter().map(CStr::as_ptr).chain([std::ptr::null()]);
        Self(pointers.collect(), std::marker::PhantomData)
    }
}

/// Ends this process without running anything that its parent registered.
#[expect(unsafe_code, reason = "`std::process::exit` runs handlers that belong to the parent")]
pub(super) fn exit_now() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(127) }
}

/// Holds all signals back from this thread; gives back what was held.
#[expect(unsafe_code, reason = "signal masks have no safe function")]
pub(super) fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets live here; `sigset_t` is plain numbers, all zeros valid.
    unsafe {
        let (mut all, mut before) = std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

#[expect(unsafe_code, reason = "signal masks have no safe function")]
pub(super) fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: reads one set, writes none.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// Every signal does again what it does by default, and none is held back.
#[expect(unsafe_code, reason = "signal handlers have no safe function")]
pub(super) fn forget_signals() {
    // SAFETY: a default action runs no code of this process, whose handlers (Rust's own, the stop signals') are only
    // no longer called; unknown numbers are refused by the kernel; the set lives here.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Makes `to` mean what `from` means, to be closed or not by `execve`.
///
/// # Safety
///
/// Nothing that still runs owns or borrows `to`, unless it wants the new meaning.
#[expect(unsafe_code, reason = "`rustix` wants to own the number that is written over")]
pub(super) unsafe fn duplicate(from: BorrowedFd, to: c_int, close_on_exec: bool) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: `from` is open, and the caller gives `to` away.
    checked(unsafe { libc::dup3(from.as_raw_fd(), to, flags) }.into()).map(drop)
}

/// Closes all files from this number on.
///
/// # Safety
///
/// Nothing that still runs uses or closes a file from this number on.
#[expect(
    unsafe_code,
    reason = "closes files that other code believes to own, in a process that has no other code"
)]
pub(super) unsafe fn close_from(first: c_int) {
    // SAFETY: the caller gives these files away.
    let closed = checked(unsafe {
        libc::syscall(libc::SYS_close_range, c_long::from(first), c_long::from(u32::MAX), 0)
    });
    if closed.is_err() {
        // Before Linux 5.9 one by one.
        for fd in first..65536 {
            // SAFETY: the caller gives these files away.
            unsafe { libc::close(fd) };
        }
    }
}

/// Sets `attributes` on the mount at `path`, and on all below it if asked.
#[expect(unsafe_code, reason = "`rustix` has no `mount_setattr`")]
pub(super) fn mount_setattr(path: &CStr, attributes: u64, recursive: bool) -> io::Result<()> {
    let set = [attributes, 0, 0, 0]; // `struct mount_attr`: to set, to clear, propagation, user namespace.
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: a terminated path, and a record of the size that is stated.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            set.as_ptr(),
            size_of_val(&set),
        )
    })
    .map(drop)
}

/// Gives up capabilities for good, as far as there are any.
#[expect(unsafe_code, reason = "one call for numbers that `rustix` does not know yet")]
pub(super) fn empty_bounding_set() {
    for capability in 0..64 {
        // SAFETY: only numbers; an unknown one, or no right to, is refused.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

/// Lets this filter decide over all system calls to come.
#[expect(unsafe_code, reason = "no safe function installs a filter")]
pub(super) fn set_filter(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the kernel copies `len` instructions and writes nothing.
    checked(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) }.into()).map(drop)
}

/// Version of Landlock in this kernel.
#[expect(unsafe_code, reason = "Landlock has no wrapper in libc")]
pub(super) fn landlock_version() -> io::Result<u32> {
    // SAFETY: by its documentation, null and zero ask for the version.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u64>(), 0_usize, 1_u32) };
    checked(version).map(|version| version as u32)
}

/// A set of rules over files, TCP and scopes, as a file descriptor that closes on exec.
#[expect(unsafe_code, reason = "Landlock has no wrapper in libc")]
pub(super) fn landlock_ruleset(handled: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: an array of the size that is stated; what comes back is ours alone.
    unsafe {
        let number = libc::SYS_landlock_create_ruleset;
        let fd = checked(libc::syscall(number, handled.as_ptr(), size_of_val(handled), 0_u32))?;
        Ok(OwnedFd::from_raw_fd(fd as c_int))
    }
}

/// Allows `access` to what is under `parent`.
#[expect(unsafe_code, reason = "Landlock has no wrapper in libc")]
pub(super) fn landlock_allow(ruleset: BorrowedFd, access: u64, parent: BorrowedFd) -> io::Result<()> {
    #[repr(C, packed)]
    struct PathBeneath(u64, c_int);
    let rule = PathBeneath(access, parent.as_raw_fd());
    let ruleset = ruleset.as_raw_fd();
    // SAFETY: both files are open; kind 1 is a record of 12 bytes, as it is laid out here.
    checked(unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset, 1, &raw const rule, 0_u32) })
        .map(drop)
}

/// Puts this thread under a set of rules, for good.
#[expect(unsafe_code, reason = "Landlock has no wrapper in libc")]
pub(super) fn landlock_restrict(ruleset: BorrowedFd) -> io::Result<()> {
    // SAFETY: the file is open, and the call takes nothing else.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) }).map(drop)
}

/// How a process ended, and the processor time that it used.
pub(super) struct Exit {
    pub signal: Option<c_int>,
    /// What it said when it ended by itself.
    pub code: c_int,
    pub cpu: Duration,
}

/// Waits for a child, or looks once whether it has ended.
#[expect(unsafe_code, reason = "the only call that tells the processor time of one child")]
pub(super) fn wait(pid: c_int, block: bool) -> io::Result<Option<Exit>> {
    let flags = if block { 0 } else { libc::WNOHANG };
    loop {
        let mut status = 0;
        // SAFETY: `rusage` is plain numbers, all zeros valid; both places live here.
        let (found, usage) = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            (libc::wait4(pid, &raw mut status, flags, &raw mut usage), usage)
        };
        match checked(found.into()) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                let time = |time: libc::timeval| {
                    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
                };
                let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
                let code = libc::WEXITSTATUS(status);
                return Ok(Some(Exit { signal, code, cpu: time(usage.ru_utime) + time(usage.ru_stime) }));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
