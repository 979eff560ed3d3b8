//! A world of its own: namespaces, and a root folder that holds Python, four devices and an empty scratch folder.
//!
//! `namespaces(7)`, `user_namespaces(7)`, `pivot_root(2)`. The first process of a PID namespace takes all others with
//! it when it ends. There is no `/proc`: a program finds neither its own files and memory nor the machine's settings
//! there, which root could write even from a user namespace.

use std::ffi::{CString, c_int};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, open, symlinkat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::super::{Options, SandboxError};
use super::folder::Folder;
use super::interpreter::Interpreter;
use super::syscall;

/// Who the program is inside; outside it is nobody as well if root maps it, else the user that started us.
pub(super) const NOBODY: u32 = 65534;

const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

const READ_ONLY: u64 = 1; // `MOUNT_ATTR_RDONLY`, and so on from `linux/mount.h`.
const NO_SETUID: u64 = 2;
const NO_DEVICES: u64 = 4;

/// What `clone` is asked for.
pub(super) fn flags(user: bool) -> c_int {
    let most =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if user { most | libc::CLONE_NEWUSER } else { most }
}

/// Tells the kernel who is who in the user namespace of `pid`, from outside.
pub(super) fn map_users(pid: c_int, nobody: bool) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // As root: root mounts, then becomes nobody, who is nobody outside as well. Else: nobody inside is us outside.
    let map = |id: u32| match nobody {
        true => format!("0 {id} 1\n{NOBODY} {NOBODY} 1\n"),
        false => format!("{NOBODY} {id} 1\n"),
    };
    if !nobody {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    std::fs::write(format!("/proc/{pid}/gid_map"), map(gid))?;
    std::fs::write(format!("/proc/{pid}/uid_map"), map(uid))
}

/// One thing to do while the root folder is built, with every name made before.
enum Step {
    Folder(CString),
    File(CString),
    Link { target: CString, at: CString },
    Bind { from: CString, at: CString, attributes: u64 },
}

/// The plan of a root folder, carried out in each process that enters.
pub(super) struct Root {
    /// Where the new root lies for those who are inside.
    _folder: Folder,
    at: CString,
    scratch: CString,
    scratch_data: CString,
    steps: Vec<Step>,
}

impl Root {
    pub fn new(python: &Interpreter, options: &Options) -> Result<Self, SandboxError> {
        let folder = Folder::new().map_err(SandboxError::system("make a temporary folder"))?;
        let inside = |path: &Path| c_string(&folder.path().join(path.strip_prefix("/").unwrap_or(path)));
        let mut steps = Vec::new();
        let above = |path: &Path| {
            let mut above: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
            above.pop(); // The root itself is there.
            above.reverse();
            above.into_iter().map(|path| Step::Folder(inside(&path)))
        };
        let devices = DEVICES.iter().map(|device| PathBuf::from(*device)).filter(|device| device.exists());
        let python_files =
            python.readable.iter().map(|path| (path.clone(), READ_ONLY | NO_SETUID | NO_DEVICES));
        for (path, attributes) in python_files.chain(devices.map(|path| (path, READ_ONLY | NO_SETUID))) {
            steps.extend(above(&path));
            let at = inside(&path);
            steps.push(if path.is_dir() { Step::Folder(at.clone()) } else { Step::File(at.clone()) });
            steps.push(Step::Bind { from: c_string(&path), at, attributes });
        }
        for (at, target) in &python.links {
            steps.extend(above(at));
            steps.push(Step::Link { target: c_string(target), at: inside(at) });
        }
        steps.push(Step::Folder(inside(Path::new("/scratch"))));
        steps.push(Step::Link { target: c"/scratch".to_owned(), at: inside(Path::new("/tmp")) });
        let bytes = options.scratch_bytes;
        Ok(Self {
            at: c_string(folder.path()),
            scratch: inside(Path::new("/scratch")),
            scratch_data: CString::new(format!("size={bytes},nr_inodes=1024,mode=777")).unwrap_or_default(),
            steps,
            _folder: folder,
        })
    }

    /// Builds the root and moves there. Called between `clone` and `execve`: allocates nothing.
    pub fn enter(&self) -> io::Result<()> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let plain = MountFlags::NOSUID | MountFlags::NODEV;
        mount(c"tmpfs", &*self.at, c"tmpfs", plain, c"size=1m,mode=755")?;
        for step in &self.steps {
            step.take()?;
        }
        mount(c"tmpfs", &*self.scratch, c"tmpfs", plain | MountFlags::NOEXEC, &*self.scratch_data)?;
        syscall::mount_setattr(&self.at, READ_ONLY | NO_SETUID | NO_DEVICES, false)?;
        chdir(&*self.at)?;
        pivot_root(c".", c".")?; // The old root now lies over the new one.
        unmount(c".", UnmountFlags::DETACH)?;
        chdir(c"/scratch")?;
        Ok(())
    }
}

impl Step {
    fn take(&self) -> io::Result<()> {
        let done = match self {
            Self::Folder(at) => mkdirat(CWD, &**at, Mode::from_raw_mode(0o755)),
            Self::File(at) => {
                open(&**at, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))
                    .map(drop)
            }
            Self::Link { target, at } => symlinkat(&**target, CWD, &**at),
            Self::Bind { from, at, attributes } => {
                mount_bind_recursive(&**from, &**at)?;
                return syscall::mount_setattr(at, *attributes, true);
            }
        };
        match done {
            // Two paths share a folder, or one lies in a folder that is already bound: whole, and read-only.
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::ROFS) => Ok(()),
            done => Ok(done?),
        }
    }
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path that exists holds no zero byte")
}
