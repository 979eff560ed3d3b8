//! System calls that no program under test needs, refused by the kernel.
//!
//! A list of what is forbidden, not of what is allowed: Python versions differ in what they need, and files, network
//! and processes have a second wall. Refused calls return `EPERM`. `seccomp(2)`; the filter is classic BPF.

use std::ffi::c_long;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, sock_filter,
};

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e; // `AUDIT_ARCH_X86_64`.
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7; // `AUDIT_ARCH_AARCH64`.

/// Forbidden always.
#[rustfmt::skip]
const NEVER: &[c_long] = &[
    // The network, and programs that listen on sockets of the machine. A pair of sockets stays allowed.
    libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen,
    // Others' memory and files.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_pidfd_open, libc::SYS_pidfd_getfd, libc::SYS_kcmp, libc::SYS_perf_event_open,
    // Memory that the limit on the address space does not see.
    libc::SYS_memfd_create, libc::SYS_memfd_secret,
    // The same by name, for all processes of the machine: a segment, a queue or a semaphore outlives its maker, and
    // those of others are reached by number, without being opened.
    libc::SYS_shmget, libc::SYS_shmat, libc::SYS_shmdt, libc::SYS_shmctl, libc::SYS_semget, libc::SYS_semop,
    libc::SYS_semtimedop, libc::SYS_semctl, libc::SYS_msgget, libc::SYS_msgsnd, libc::SYS_msgrcv, libc::SYS_msgctl,
    libc::SYS_mq_open, libc::SYS_mq_unlink, libc::SYS_mq_timedsend, libc::SYS_mq_timedreceive, libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
    // Namespaces, mounts, and what root could do.
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount,
    libc::SYS_fspick, libc::SYS_mount_setattr, libc::SYS_mknodat, libc::SYS_swapon, libc::SYS_swapoff,
    libc::SYS_reboot, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_settimeofday, libc::SYS_clock_settime,
    libc::SYS_adjtimex, libc::SYS_clock_adjtime, libc::SYS_acct, libc::SYS_quotactl, libc::SYS_syslog,
    libc::SYS_vhangup, libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at,
    // Parts of the kernel with a history.
    libc::SYS_bpf, libc::SYS_userfaultfd, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_personality,
    // What others do with files; a user has few of these, all processes together.
    libc::SYS_fanotify_init, libc::SYS_inotify_init1,
    // Who may do what: Landlock does not guard it.
    libc::SYS_fchmod, libc::SYS_fchmodat, 452, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_utimensat,
    libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_removexattr, libc::SYS_lremovexattr,
    libc::SYS_fremovexattr, 463, 466, 469,
    // The priority of others.
    libc::SYS_setpriority, libc::SYS_ioprio_set, libc::SYS_sched_setscheduler, libc::SYS_sched_setparam,
    libc::SYS_sched_setattr, libc::SYS_sched_setaffinity, libc::SYS_migrate_pages, libc::SYS_move_pages,
];

/// The same, where an architecture kept the older calls.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const NEVER_OLD: &[c_long] = &[
    libc::SYS_fork, libc::SYS_vfork, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime,
    libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_mknod, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt,
    libc::SYS_uselib, libc::SYS_inotify_init,
];
#[cfg(target_arch = "aarch64")]
const NEVER_OLD: &[c_long] = &[];

/// Signals, which in a PID namespace reach nobody else.
#[rustfmt::skip]
const SIGNALS: &[c_long] = &[
    libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
];

/// Changes to files, where no mount namespace keeps the machine's away. Opening for writing is looked at by its flags.
#[rustfmt::skip]
const WRITES: &[c_long] = &[
    libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_symlinkat,
    libc::SYS_truncate,
];
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const WRITES_OLD: &[c_long] = &[
    libc::SYS_creat, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename, libc::SYS_renameat,
    libc::SYS_link, libc::SYS_symlink,
];
#[cfg(target_arch = "aarch64")]
const WRITES_OLD: &[c_long] = &[libc::SYS_renameat];

const WRITING: u32 =
    (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND) as u32 | 0o20_000_000;

/// Commands by which a file sends its owner any signal, or makes others wait who open it: `F_SETOWN`, `F_SETSIG`,
/// `F_SETOWN_EX`, `F_SETLEASE`, `F_NOTIFY`.
const MESSENGERS: &[u32] = &[libc::F_SETOWN as u32, 10, 15, 1024, 1026];

/// Locks on files that others use: `F_SETLK` and `F_SETLKW`, each of a process and of an open file.
const LOCKS: &[u32] = &[libc::F_SETLK as u32, libc::F_SETLKW as u32, 37, 38];

/// Requests that Python makes, which ask and copy. Others type into terminals, own sockets, or change a file that was
/// only opened for reading: its flags, its seal against writing, a snapshot of its folder. `TCGETS`, `TIOCGWINSZ`,
/// `FIONREAD`, `FIONBIO`, `FIONCLEX`, `FIOCLEX`, `TCGETS2`, `FICLONE`.
const ASKING: &[u32] = &[0x5401, 0x5413, 0x541b, 0x5421, 0x5450, 0x5451, 0x802c_542a, 0x4004_9409];

const NEW_NAMESPACES: u32 = libc::CLONE_NEWUSER as u32
    | (libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS)
        as u32;

/// The filter; `namespaces` says whether the program has a world of its own.
pub(super) fn filter(namespaces: bool) -> Vec<sock_filter> {
    let mut filter = Filter::default();
    filter.only_this_architecture();
    for call in NEVER.iter().chain(NEVER_OLD) {
        filter.refuse(*call, libc::EPERM);
    }
    // libc turns to the older call, whose flags can be seen, and to plain `openat`.
    filter.refuse(libc::SYS_clone3, libc::ENOSYS);
    filter.refuse(libc::SYS_openat2, libc::ENOSYS);
    // Threads, but no processes: nothing that could outlive the program.
    filter.look(libc::SYS_clone, 0, |flags| {
        flags.refuse_any(NEW_NAMESPACES);
        flags.refuse_without(libc::CLONE_THREAD as u32);
    });
    filter.look(libc::SYS_prlimit64, 0, |pid| pid.refuse_all_but(&[0]));
    // Whoever started us is followed into death.
    filter.look(libc::SYS_prctl, 0, |option| option.refuse_these(&[libc::PR_SET_PDEATHSIG as u32]));
    // One end of a pair can send a datagram to any socket of the machine, whatever it is connected to. `SOCK_RAW` is
    // `SOCK_DGRAM` here; the upper bits are flags.
    filter.look(libc::SYS_socketpair, 0, |family| {
        family.refuse_all_but(&[libc::AF_UNIX as u32]);
        family.load_argument(1);
        family.keep_bits(0xf);
        family.refuse_all_but(&[libc::SOCK_STREAM as u32, libc::SOCK_SEQPACKET as u32]);
    });
    filter.look(libc::SYS_fcntl, 1, |command| {
        command.refuse_these(MESSENGERS);
        if !namespaces {
            command.refuse_these(LOCKS);
        }
    });
    filter.look(libc::SYS_ioctl, 1, |request| request.refuse_all_but(ASKING));
    if !namespaces {
        filter.refuse(libc::SYS_flock, libc::EPERM);
        for call in SIGNALS.iter().chain(WRITES).chain(WRITES_OLD) {
            filter.refuse(*call, libc::EPERM);
        }
        filter.look(libc::SYS_openat, 2, |flags| flags.refuse_any(WRITING));
        #[cfg(target_arch = "x86_64")]
        filter.look(libc::SYS_open, 1, |flags| flags.refuse_any(WRITING));
    }
    filter.done()
}

/// The filter that is added when Python is up: no other program from then on. A thread that executes one is a process
/// whose parent's death nobody hears of.
pub(super) fn last_filter() -> Vec<sock_filter> {
    let mut filter = Filter::default();
    filter.only_this_architecture();
    filter.refuse(libc::SYS_execve, libc::EPERM);
    filter.refuse(libc::SYS_execveat, libc::EPERM);
    filter.done()
}

/// Instructions so far; the number of the call is loaded before each rule.
#[derive(Default)]
struct Filter(Vec<sock_filter>);

impl Filter {
    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) {
        self.0.push(sock_filter { code: code as u16, jt, jf, k });
    }

    fn load(&mut self, offset: u32) {
        self.push(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
    }

    fn fail(&mut self, errno: i32) {
        self.push(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | errno as u32);
    }

    /// 32-bit calls have other numbers, and so have the x32 ones, which count from 2³⁰.
    fn only_this_architecture(&mut self) {
        self.load(4);
        self.push(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCH);
        self.fail(libc::ENOSYS);
        self.load(0);
        self.push(BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x4000_0000);
        self.fail(libc::ENOSYS);
    }

    fn refuse(&mut self, call: c_long, errno: i32) {
        self.push(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call as u32);
        self.fail(errno);
    }

    /// Looks at the lower half of one argument of a call: those that are looked at are ints.
    fn look(&mut self, call: c_long, argument: u32, rules: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        inner.load_argument(argument);
        rules(&mut inner);
        inner.push(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
        self.push(BPF_JMP | BPF_JEQ | BPF_K, 0, inner.0.len() as u8, call as u32);
        self.0.append(&mut inner.0);
    }

    fn load_argument(&mut self, argument: u32) {
        self.load(16 + 8 * argument);
    }

    fn keep_bits(&mut self, bits: u32) {
        self.push(BPF_ALU | BPF_AND | BPF_K, 0, 0, bits);
    }

    fn refuse_any(&mut self, bits: u32) {
        self.push(BPF_JMP | BPF_JSET | BPF_K, 0, 1, bits);
        self.fail(libc::EPERM);
    }

    fn refuse_without(&mut self, bits: u32) {
        self.push(BPF_JMP | BPF_JSET | BPF_K, 1, 0, bits);
        self.fail(libc::EPERM);
    }

    fn refuse_these(&mut self, values: &[u32]) {
        for value in values {
            self.push(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, *value);
            self.fail(libc::EPERM);
        }
    }

    fn refuse_all_but(&mut self, values: &[u32]) {
        for (idx, value) in values.iter().enumerate() {
            self.push(BPF_JMP | BPF_JEQ | BPF_K, (values.len() - idx) as u8, 0, *value);
        }
        self.fail(libc::EPERM);
    }

    fn done(mut self) -> Vec<sock_filter> {
        self.push(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
        self.0
    }
}
